//! What `xtask` and the VM's first process say to each other.
//!
//! One virtio-serial port carries everything as frames: a kind byte, a length (32 bits, little endian), the payload. A port has
//! no end of file and no second channel, so standard input, output and error, their ends, the window's size and the exit status
//! are all frames. Streams are raw bytes; everything else is JSON.
//!
//! The host leads: [`ToVm::Setup`], then any number of [`ToVm::Job`]s one after the other, then [`ToVm::PowerOff`]. The VM answers
//! [`ToHost::Ready`] or [`ToHost::Failed`], the job's output and then [`ToHost::Ended`]; nothing of a job follows its `Ended`.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port, as QEMU is told and as /sys/class/virtio-ports shows it.
pub const PORT_NAME: &str = "litebox.control";
/// Mount tag of the 9p share.
pub const SHARE_TAG: &str = "share";
/// Where the guest's root image is mounted in the VM.
pub const GUEST_ROOT: &str = "/guestroot";
/// Where the launcher finds images to run from.
pub const IMAGES_DIR: &str = "/images";
/// Where a shared folder is seen, natively and in a sandbox.
pub const SHARE_DIR: &str = "/mnt/share";
/// Where a job's own files are seen, natively and in a sandbox.
pub const FILES_DIR: &str = "/mnt/case";
/// Where the launcher and the tests' own programs are seen, natively and in a sandbox.
pub const TOOLS_DIR: &str = "/mnt/litebox";

/// A frame's payload is at most this long; longer ones are an error of the other side.
const MAX_PAYLOAD: usize = 64 << 20;
/// Kind byte and length.
const HEADER: usize = 5;

/// How the VM is prepared, once after boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// Load litebox.ko.
    pub module: bool,
    /// Mount the 9p share at [`SHARE_DIR`].
    pub share: bool,
}

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the guest's root, on the VM's kernel: what Linux does.
    Native,
    /// In a sandbox of litebox.ko, by way of the launcher.
    Sandbox,
}

/// A file that a job finds in [`FILES_DIR`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobFile {
    /// Name without a directory.
    pub name: String,
    /// Content.
    pub content: Vec<u8>,
    /// Whether it may be executed.
    pub executable: bool,
}

/// One program to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Program and arguments; a name without a slash is looked up in PATH.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Natively or in a sandbox.
    pub place: Place,
    /// Options for the launcher, before its `--`.
    pub launcher_options: Vec<String>,
    /// A terminal of this size instead of pipes.
    pub terminal: Option<WindowSize>,
    /// Kill the job after so many milliseconds.
    pub timeout_ms: Option<u64>,
    /// Files for [`FILES_DIR`].
    pub files: Vec<JobFile>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
    /// It was killed when its time was over.
    TimedOut,
    /// There is no such program.
    NotFound,
    /// The program was found, but could not be started.
    NotExecutable,
}

impl Ending {
    /// The status that a shell would show; 124 stands for a time-out, as timeout(1) has it.
    #[must_use]
    pub fn status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signalled(signal) => 128 + signal,
            Self::TimedOut => 124,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}

/// A message to the VM.
#[derive(Debug, Clone)]
pub enum ToVm {
    /// Prepare.
    Setup(Setup),
    /// Run a program.
    Job(Job),
    /// Bytes for the job's standard input.
    Stdin(Vec<u8>),
    /// The job's standard input has ended.
    StdinEnd,
    /// The terminal has a new size.
    Resize(WindowSize),
    /// Stop. With `true` the module is unloaded first, and a refusal is reported.
    PowerOff(bool),
}

/// A message from the VM.
#[derive(Debug, Clone)]
pub enum ToHost {
    /// Prepared; the kernel's release.
    Ready(String),
    /// The VM cannot do what was asked, and why.
    Failed(String),
    /// Bytes of the job's standard output, or of its terminal.
    Stdout(Vec<u8>),
    /// Bytes of the job's standard error.
    Stderr(Vec<u8>),
    /// The job has ended.
    Ended(Ending),
    /// The VM is alive; sent every second or two.
    Alive,
}

/// A message that travels in frames.
pub trait Message: Sized {
    /// Kind byte and payload.
    fn encode(&self) -> (u8, Vec<u8>);

    /// The message of a frame.
    ///
    /// # Errors
    /// An unknown kind, or a payload that is none of this kind.
    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self>;
}

impl Message for ToVm {
    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Setup(setup) => (b'S', json(setup)),
            Self::Job(job) => (b'J', json(job)),
            Self::Stdin(bytes) => (b'i', bytes.clone()),
            Self::StdinEnd => (b'e', Vec::new()),
            Self::Resize(size) => (b'w', json(size)),
            Self::PowerOff(unload) => (b'P', json(unload)),
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match kind {
            b'S' => Self::Setup(serde_json::from_slice(&payload)?),
            b'J' => Self::Job(serde_json::from_slice(&payload)?),
            b'i' => Self::Stdin(payload),
            b'e' => Self::StdinEnd,
            b'w' => Self::Resize(serde_json::from_slice(&payload)?),
            b'P' => Self::PowerOff(serde_json::from_slice(&payload)?),
            other => return Err(unknown(other)),
        })
    }
}

impl Message for ToHost {
    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Ready(release) => (b'R', json(release)),
            Self::Failed(reason) => (b'F', json(reason)),
            Self::Stdout(bytes) => (b'o', bytes.clone()),
            Self::Stderr(bytes) => (b'r', bytes.clone()),
            Self::Ended(ending) => (b'E', json(ending)),
            Self::Alive => (b'a', Vec::new()),
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match kind {
            b'R' => Self::Ready(serde_json::from_slice(&payload)?),
            b'F' => Self::Failed(serde_json::from_slice(&payload)?),
            b'o' => Self::Stdout(payload),
            b'r' => Self::Stderr(payload),
            b'E' => Self::Ended(serde_json::from_slice(&payload)?),
            b'a' => Self::Alive,
            other => return Err(unknown(other)),
        })
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structures with string keys always serialise")
}

fn unknown(kind: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unknown kind of frame: {kind:#x}"))
}

/// Writes one message as a frame.
///
/// # Errors
/// Those of the writer.
pub fn send(to: &mut impl Write, message: &impl Message) -> io::Result<()> {
    let (kind, payload) = message.encode();
    let length = u32::try_from(payload.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.push(kind);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&payload);
    to.write_all(&frame)?;
    to.flush()
}

/// Takes bytes as they come and gives whole messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if it has come in whole.
    ///
    /// # Errors
    /// What is no frame, or longer than any frame.
    pub fn take<M: Message>(&mut self) -> io::Result<Option<M>> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_PAYLOAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let payload = rest[..length].to_vec();
        self.buffer.drain(..HEADER + length);
        M::decode(kind, payload).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_out_whole_however_it_was_cut() {
        let mut wire = Vec::new();
        send(&mut wire, &ToHost::Stdout(b"\0\xff binary".to_vec())).unwrap();
        send(&mut wire, &ToHost::Ended(Ending::Signalled(11))).unwrap();
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for byte in wire {
            decoder.push(&[byte]);
            while let Some(message) = decoder.take::<ToHost>().unwrap() {
                seen.push(message);
            }
        }
        assert!(matches!(&seen[..], [ToHost::Stdout(out), ToHost::Ended(Ending::Signalled(11))] if out == b"\0\xff binary"));
    }

    #[test]
    fn an_unknown_kind_and_a_giant_frame_are_errors() {
        let mut decoder = Decoder::default();
        decoder.push(&[b'?', 0, 0, 0, 0]);
        decoder.take::<ToHost>().unwrap_err();
        let mut decoder = Decoder::default();
        decoder.push(&[b'o', 0xff, 0xff, 0xff, 0xff]);
        decoder.take::<ToHost>().unwrap_err();
    }

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(Ending::Signalled(9).status(), 137);
        assert_eq!(Ending::NotFound.status(), 127);
        assert_eq!(Ending::NotExecutable.status(), 126);
    }
}

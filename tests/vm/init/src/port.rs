//! The VM's end of the control port.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use litebox_vm_init::{Decoder, Message, PORT_NAME, ToVm, send};

/// Receives from the host.
#[derive(Debug)]
pub(crate) struct Port {
    file: File,
    decoder: Decoder,
}

/// Sends to the host, from any thread.
#[derive(Debug)]
pub(crate) struct Sender {
    file: Mutex<File>,
}

impl Port {
    /// Opens the port that has our name.
    pub(crate) fn open() -> Result<(Self, Sender), String> {
        let path = find()?;
        let open = OpenOptions::new().read(true).write(true).open(&path);
        let file = open.map_err(|error| format!("{}: {error}", path.display()))?;
        let writer = file.try_clone().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((Self { file, decoder: Decoder::default() }, Sender { file: Mutex::new(writer) }))
    }

    /// Waits for the next message.
    pub(crate) fn receive(&mut self) -> Result<ToVm, String> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            if let Some(message) = self.decoder.take().map_err(|error| error.to_string())? {
                return Ok(message);
            }
            match self.file.read(&mut chunk) {
                Ok(0) => return Err("the host has closed the control port".into()),
                Ok(count) => self.decoder.push(&chunk[..count]),
                Err(error) => return Err(format!("control port: {error}")),
            }
        }
    }
}

impl Sender {
    /// Sends one message; messages of several threads do not mix.
    pub(crate) fn send(&self, message: &impl Message) -> Result<(), String> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut *file, message).map_err(|error| format!("control port: {error}"))
    }
}

/// The device node of the port named [`PORT_NAME`].
fn find() -> Result<PathBuf, String> {
    let class = "/sys/class/virtio-ports";
    let entries = fs::read_dir(class).map_err(|error| format!("{class}: {error}"))?;
    for entry in entries.filter_map(Result::ok) {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == PORT_NAME {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    Err(format!("{class} has no port named {PORT_NAME}"))
}

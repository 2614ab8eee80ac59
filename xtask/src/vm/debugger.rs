//! The VM's memory, read and written from outside, by QEMU's debugger stub: no protection of the kernel's holds there.
//!
//! Each access is a connection of its own: the VM stands still from its beginning to its end, so no processor is in the middle of
//! an instruction that changes. Source: GDB manual, appendix E (remote serial protocol).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The stub's socket in a run's directory.
pub(super) const SOCKET: &str = "debugger";
/// After so long the stub does not answer any more.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first processor may be in ring 3 with page tables that hold no kernel; it will not stay there.
const TRIES_LIMIT: Duration = Duration::from_secs(10);

/// The way to a VM's memory.
#[derive(Debug, Clone)]
pub(crate) struct Debugger(PathBuf);

/// A VM that stands still. A debugger that goes without a word leaves it so; another one lets it go on.
#[derive(Debug)]
pub(crate) struct Stopped(#[expect(dead_code, reason = "its being open is what it is for")] UnixStream);

impl Debugger {
    pub(super) fn at(socket: PathBuf) -> Self {
        Self(socket)
    }

    /// Reads bytes at a kernel's address.
    ///
    /// # Errors
    /// An address where nothing is mapped, or a VM without a debugger.
    pub(crate) fn read(&self, address: u64, length: usize) -> Result<Vec<u8>> {
        let answer = self.ask(&format!("m{address:x},{length:x}"))?;
        let bytes: Option<Vec<u8>> =
            (0..length).map(|index| u8::from_str_radix(answer.get(2 * index..2 * index + 2)?, 16).ok()).collect();
        bytes.with_context(|| format!("QEMU answers `{answer}` instead of {length} bytes"))
    }

    /// Writes bytes at a kernel's address.
    ///
    /// # Errors
    /// As [`Debugger::read`].
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = self.ask(&format!("M{address:x},{:x}:{hexadecimal}", bytes.len()))?;
        ensure!(answer == "OK", "QEMU answers `{answer}`");
        Ok(())
    }

    /// Stops the VM, for as long as the result lives.
    ///
    /// # Errors
    /// A VM without a debugger.
    pub(crate) fn stop(&self) -> Result<Stopped> {
        let mut stream = self.connect()?;
        stream.write_all(&framed("?"))?;
        receive(&mut stream)?;
        Ok(Stopped(stream))
    }

    fn connect(&self) -> Result<UnixStream> {
        let stream = UnixStream::connect(&self.0).with_context(|| format!("cannot connect to {}", self.0.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Asks until the answer is no error.
    fn ask(&self, packet: &str) -> Result<String> {
        let end = Instant::now() + TRIES_LIMIT;
        loop {
            let answer = self.ask_once(packet)?;
            if !answer.starts_with('E') {
                return Ok(answer);
            }
            ensure!(Instant::now() < end, "QEMU answers `{answer}` to `{packet}`");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One connection: the packet, its answer, "go on".
    fn ask_once(&self, packet: &str) -> Result<String> {
        let mut stream = self.connect()?;
        stream.write_all(&framed(packet))?;
        let answer = receive(&mut stream)?;
        stream.write_all(b"+")?;
        stream.write_all(&framed("D"))?;
        ensure!(receive(&mut stream)? == "OK", "QEMU does not let the VM go on");
        Ok(answer)
    }
}

/// A packet as it is sent: with its sum.
fn framed(packet: &str) -> Vec<u8> {
    let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
    format!("${packet}#{sum:02x}").into_bytes()
}

/// The next packet; acknowledgements before it are passed over.
fn receive(stream: &mut impl Read) -> Result<String> {
    let mut text = String::new();
    let mut inside = false;
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).context("QEMU's debugger stub says nothing")?;
        match (inside, byte[0]) {
            (false, b'$') => inside = true,
            (false, b'-') => bail!("QEMU has not understood"),
            (true, b'#') => break,
            (true, other) => text.push(char::from(other)),
            (false, _) => {}
        }
    }
    let mut sum = [0; 2];
    stream.read_exact(&mut sum)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_framed_and_unframed() {
        assert_eq!(framed("OK"), b"$OK#9a");
        assert_eq!(receive(&mut &b"+$f30f1efa#00$rest"[..]).unwrap(), "f30f1efa");
        receive(&mut &b"-"[..]).unwrap_err();
        receive(&mut &b"+"[..]).unwrap_err();
    }
}

//! The kernel's log as it comes over the serial line: shown, kept, and searched for faults.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Error, anyhow};

/// After one of these in the log the VM is not to be trusted any more.
const FATAL: &[&str] = &["BUG:", "Oops", "Kernel panic", "panicked at"];
/// These make a run a failure, but it may go on to its end.
const GRAVE: &[&str] = &[
    "WARNING:",
    "INFO: ",
    "UBSAN",
    "ODEBUG",
    "refcount_t",
    "Invalid wait context",
    "bad unlock balance",
    "unreferenced object",
    "memory corruption",
];
/// Lines of the log that are shown with a failure.
const SHOWN_LINES: usize = 80;

/// The log of one VM.
#[derive(Debug)]
pub(crate) struct Console {
    path: PathBuf,
    offset: u64,
    text: String,
    searched: usize,
    echo: bool,
    fatal: Option<String>,
    grave: Option<String>,
}

impl Console {
    /// The log that QEMU writes to `path`; with `echo` it goes to standard error, too.
    pub(crate) fn new(path: PathBuf, echo: bool) -> Self {
        Self { path, offset: 0, text: String::new(), searched: 0, echo, fatal: None, grave: None }
    }

    /// Takes in what is new.
    pub(crate) fn read(&mut self) {
        let mut bytes = Vec::new();
        // No file yet is an empty log.
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() || bytes.is_empty() {
            return;
        }
        self.offset += bytes.len() as u64;
        let new = String::from_utf8_lossy(&bytes).replace('\r', "");
        if self.echo {
            eprint!("{new}");
        }
        self.text.push_str(&new);
        while let Some(length) = self.text[self.searched..].find('\n') {
            let line = self.text[self.searched..self.searched + length].to_owned();
            self.searched += length + 1;
            self.judge(&line);
        }
    }

    fn judge(&mut self, line: &str) {
        let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
        if self.fatal.is_none() && has(FATAL) {
            self.fatal = Some(line.to_owned());
        }
        if self.grave.is_none() && has(GRAVE) {
            self.grave = Some(line.to_owned());
        }
    }

    /// The first line that says that the kernel is broken.
    pub(crate) fn fatal_fault(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    /// The first line that reports any fault.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.grave.as_deref().or(self.fatal.as_deref())
    }

    /// An error with what QEMU had to say, and the log: from the first fault on, or the end of it.
    pub(crate) fn explain(&mut self, error: Error) -> Error {
        self.read();
        let lines: Vec<&str> = self.text.lines().collect();
        let fault = self.fault().and_then(|fault| lines.iter().position(|line| *line == fault));
        let from = fault.unwrap_or_else(|| lines.len().saturating_sub(SHOWN_LINES));
        let shown: String = lines[from..].iter().take(SHOWN_LINES).map(|line| format!("  | {line}\n")).collect();
        let qemu = fs::read_to_string(self.path.with_extension("qemu")).unwrap_or_default();
        let qemu: String = qemu.lines().map(|line| format!("  QEMU: {line}\n")).collect();
        anyhow!("{error:#}\n{qemu}  the VM's kernel log: {}\n{shown}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Console {
        let mut console = Console::new(PathBuf::new(), false);
        text.lines().for_each(|line| console.judge(line));
        console
    }

    #[test]
    fn faults_are_found_and_chatter_is_not() {
        assert!(of("[    1.0] BUG: kernel NULL pointer dereference, address: 0").fatal_fault().is_some());
        assert!(of("[    1.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1").fault().is_some());
        assert!(of("[    1.0] INFO: task sh:12 blocked for more than 120 seconds").fault().is_some());
        assert!(of("[    1.0] traps: a.out[9] general protection fault ip:40").fault().is_none());
    }
}

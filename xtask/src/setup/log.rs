//! A step's log: the output of every command that it runs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Lines of the log that go with an error.
const TAIL_LINES: usize = 15;

/// The log file of a step.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Starts a log anew.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write the log {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a command to its end, its output going into the log.
    ///
    /// # Errors
    /// A command that cannot be started, or fails.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<()> {
        writeln!(self.file, "+ {command:?}")?;
        command.stdin(Stdio::null()).stdout(self.file.try_clone()?).stderr(self.file.try_clone()?);
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command.status().with_context(|| format!("cannot start {program}"))?;
        if !status.success() {
            bail!("{program}: {status}");
        }
        Ok(())
    }

    /// The last lines, indented.
    pub(crate) fn tail(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines[from..].iter().map(|line| format!("  | {line}\n")).collect()
    }
}

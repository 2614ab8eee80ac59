//! What the user reads when something is wrong, and the status that the launcher ends with.
//!
//! A message has up to three lines: what failed; why; the cure. A crate that prints error chains would not make that form.

use std::num::NonZeroU32;
use std::process::ExitCode;

/// An exit status, as a shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u8);

impl Status {
    /// The sandbox could not be set up, or the module failed.
    pub(crate) const SETUP: Self = Self(125);
    /// The program was found and cannot be executed.
    pub(crate) const NOT_EXECUTABLE: Self = Self(126);
    /// The program was not found.
    pub(crate) const NOT_FOUND: Self = Self(127);

    /// A signal ended the program: 128 + its number.
    pub(crate) fn signalled(signal: NonZeroU32) -> Self {
        Self(u8::try_from(signal.get()).ok().and_then(|signal| signal.checked_add(128)).unwrap_or(u8::MAX))
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        status.0.into()
    }
}

/// Why there is no status of the program's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    why: Option<String>,
    cure: Option<String>,
    status: Status,
}

impl Failure {
    /// What failed, with the name of the thing.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: None, cure: None, status: Status::SETUP }
    }

    /// Why it failed.
    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// What to do about it.
    pub(crate) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// Another status than 125.
    pub(crate) fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// The message, without a final line end.
    pub(crate) fn message(&self) -> String {
        let mut message = format!("litebox-launch: {}", self.what);
        if let Some(why) = &self.why {
            message.push_str(&format!("\n  {why}"));
        }
        if let Some(cure) = &self.cure {
            message.push_str(&format!("\n  try: {cure}"));
        }
        message
    }

    /// What the launcher will end with.
    pub(crate) fn exit_status(&self) -> Status {
        self.status
    }

    /// Prints the message; returns the status.
    pub(crate) fn tell(&self) -> ExitCode {
        eprintln!("{}", self.message());
        self.exit_status().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_why_and_the_cure() {
        let failure = Failure::new("cannot open /dev/litebox: permission denied").why("because").cure("this");
        assert_eq!(failure.message(), "litebox-launch: cannot open /dev/litebox: permission denied\n  because\n  try: this");
        assert_eq!(Failure::new("a").message(), "litebox-launch: a");
    }

    #[test]
    fn signals_are_told_as_a_shell_tells_them() {
        let status = |signal| Status::signalled(NonZeroU32::new(signal).unwrap());
        assert_eq!((status(9), status(64), status(200)), (Status(137), Status(192), Status(255)));
    }
}

//! Text of a file in /proc. A guest can make it long, so it grows fallibly; it is charged to the sandbox when it is done.

use alloc::vec::Vec;
use core::fmt;
use litebox_core::errno;
use litebox_core::error::Result;

/// Text that is being written.
#[derive(Default)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    /// Appends what `args` make.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(crate) fn put(&mut self, args: fmt::Arguments<'_>) -> Result<()> {
        fmt::write(self, args).map_err(|_| errno!(NOMEM))
    }

    /// Appends bytes as they are.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.try_reserve(bytes.len()).map_err(|_| errno!(NOMEM))?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends bytes, those of `special` as a backslash and their octal number. Linux: `seq_escape`.
    ///
    /// # Errors
    /// `NOMEM`.
    pub(crate) fn escaped(&mut self, bytes: &[u8], special: &[u8]) -> Result<()> {
        bytes.iter().try_for_each(|byte| {
            if special.contains(byte) { self.put(format_args!("\\{byte:03o}")) } else { self.bytes(&[*byte]) }
        })
    }

    /// How long it is.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of it.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// What one `format_args!` makes.
///
/// # Errors
/// `NOMEM`.
pub(crate) fn line(args: fmt::Arguments<'_>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    text.put(args)?;
    Ok(text.finish())
}

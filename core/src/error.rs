//! Errors of core operations: an errno with the place and the reason it came from.
//!
//! Core names errors and knows no numbers; the ABI above gives them. A [`Site`] is static, so an error costs two words and
//! the reason can be shown by the trace long after the call.

/// What went wrong, by its POSIX name without the leading `E`. See errno(3).
///
/// An associated constant set in rustix's manner would need numbers; here the ABI owns those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each name is errno(3)'s, which says what it means")]
#[rustfmt::skip]
pub enum Errno {
    PERM, NOENT, SRCH, IO, NXIO, TOOBIG, NOEXEC, BADF, CHILD, AGAIN, NOMEM, ACCESS, FAULT, NOTBLK, BUSY, EXIST, XDEV, NODEV,
    NOTDIR, ISDIR, INVAL, NFILE, MFILE, NOTTY, TXTBSY, FBIG, NOSPC, SPIPE, ROFS, MLINK, PIPE, DOM, RANGE, DEADLK, NAMETOOLONG,
    NOLCK, NOSYS, NOTEMPTY, LOOP, NODATA, TIME, OVERFLOW, LIBBAD, NOTSOCK, DESTADDRREQ, OPNOTSUPP, AFNOSUPPORT, TIMEDOUT, STALE,
    MSGSIZE, PROTOTYPE, NOPROTOOPT, PROTONOSUPPORT, SOCKTNOSUPPORT, ADDRINUSE, CONNREFUSED, CONNRESET, ISCONN, NOTCONN, TOOMANYREFS,
    IDRM, NOMSG, UCLEAN,
}

/// Where and why an error was made; kept for the trace.
#[derive(Debug)]
pub struct Site {
    /// Source file.
    pub file: &'static str,
    /// Line in it, from 1.
    pub line: u32,
    /// The reason, in a few words; empty when the errno says it all.
    pub why: &'static str,
}

/// The error of a core operation.
#[derive(Clone, Copy, Debug)]
pub enum Error {
    /// The operation failed for this reason.
    Errno(Errno, &'static Site),
    /// A signal or a kill came before anything was done. Whether the call restarts or gives `EINTR` is the ABI's to say.
    Interrupted,
}

impl Error {
    /// The errno, or `None` if the operation was interrupted.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Errno(errno, _) => Some(*errno),
            Self::Interrupted => None,
        }
    }

    /// Whether this is the given errno.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        self.errno() == Some(errno)
    }
}

/// Result of a core operation.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Makes an [`Error`] that remembers its place: `errno!(NOENT)` or `errno!(NOENT, "parent is gone")`.
#[macro_export]
macro_rules! errno {
    ($name:ident) => {
        $crate::errno!($name, "")
    };
    ($name:ident, $why:literal) => {{
        static SITE: $crate::error::Site = $crate::error::Site { file: file!(), line: line!(), why: $why };
        $crate::error::Error::Errno($crate::error::Errno::$name, &SITE)
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_remembers_errno_reason_and_place() {
        let error = errno!(NOENT, "parent is gone");
        assert!(error.is(Errno::NOENT));
        let Error::Errno(_, site) = error else { panic!("not an errno: {error:?}") };
        assert_eq!(site.why, "parent is gone");
        assert!(site.file.ends_with("error.rs") && site.line > 0);
        assert_eq!(Error::Interrupted.errno(), None);
    }
}

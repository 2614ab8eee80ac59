//! A line for a call, in strace's manner, made from its row: nothing else knows a call's name or arguments.

use crate::args::ArgKind;
use crate::errno;
use crate::signal::Signal;
use crate::table::{Row, Support};
use core::fmt;
use litebox_core::error::{Error, Result};

/// `AT_FDCWD`.
const CWD: i32 = -100;

/// A call, shown as `openat(AT_FDCWD, 0x7f…, 0x0, 0o0)`.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its row, if Linux has one.
    pub row: Option<&'a Row>,
    /// Its number.
    pub number: u64,
    /// Its registers.
    pub raw: [u64; 6],
}

/// A call's result, shown as ` = 3` or ` = -1 ENOENT (why)`.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a>(pub &'a Result<u64>);

fn argument(f: &mut fmt::Formatter<'_>, kind: ArgKind, raw: u64) -> fmt::Result {
    let [a, b, c, d, ..] = raw.to_le_bytes();
    let int = i32::from_le_bytes([a, b, c, d]);
    match kind {
        ArgKind::Int => write!(f, "{int}"),
        ArgKind::Unsigned => write!(f, "{raw}"),
        ArgKind::Signed => write!(f, "{}", i64::from_le_bytes(raw.to_le_bytes())),
        ArgKind::Hex => write!(f, "{raw:#x}"),
        ArgKind::Octal => write!(f, "0{raw:o}"),
        ArgKind::Dir if int == CWD => f.write_str("AT_FDCWD"),
        ArgKind::Dir => write!(f, "{int}"),
        ArgKind::Address if raw == 0 => f.write_str("NULL"),
        ArgKind::Address => write!(f, "{raw:#x}"),
        ArgKind::Signal => match u64::try_from(int).ok().and_then(Signal::new) {
            Some(signal) => write!(f, "{signal:?}"),
            None => write!(f, "{int}"),
        },
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(row) = self.row else {
            return write!(f, "syscall_{}({:#x}, {:#x}, {:#x}, …)", self.number, self.raw[0], self.raw[1], self.raw[2]);
        };
        write!(f, "{}(", row.name)?;
        if row.args.is_empty() && matches!(row.support, Support::None(..)) {
            f.write_str("…")?;
        }
        for (at, (arg, raw)) in row.args.iter().zip(self.raw).enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            argument(f, arg.kind, raw)?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) if *value < 0x1_0000_0000 => write!(f, " = {value}"),
            Ok(value) => write!(f, " = {value:#x}"),
            Err(Error::Errno(errno, site)) if site.why.is_empty() => write!(f, " = -1 {}", errno::name(*errno)),
            Err(Error::Errno(errno, site)) => write!(f, " = -1 {} ({})", errno::name(*errno), site.why),
            Err(Error::Interrupted) => f.write_str(" = ? (interrupted)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::row;
    use litebox_core::errno;
    use std::format;

    fn shown(number: u64, raw: [u64; 6]) -> std::string::String {
        format!("{}", Call { row: row(number), number, raw })
    }

    #[test]
    fn lines_read_as_strace_s() {
        assert_eq!(shown(0, [3, 0x7f00, 10, 0, 0, 0]), "read(3, 0x7f00, 10)");
        assert_eq!(shown(257, [0xffff_ff9c, 0, 2, 0o644, 0, 0]), "openat(AT_FDCWD, NULL, 0x2, 0644)");
        assert_eq!(shown(62, [u64::MAX, 9, 0, 0, 0, 0]), "kill(-1, SIGKILL)");
        assert_eq!(shown(39, [1; 6]), "getpid()");
        assert_eq!(shown(298, [1; 6]), "perf_event_open(…)");
        assert_eq!(shown(1023, [1, 2, 3, 4, 5, 6]), "syscall_1023(0x1, 0x2, 0x3, …)");
        let refused = Err(errno!(NOENT, "parent is gone"));
        assert_eq!(format!("{}", Outcome(&refused)), " = -1 ENOENT (parent is gone)");
        assert_eq!(format!("{}", Outcome(&Ok(0x7f00_0000_0000))), " = 0x7f0000000000");
    }
}

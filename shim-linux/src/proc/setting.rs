//! Files of /proc/sys that root can write numbers or a text to.
//!
//! Owns: how numbers are read and shown, and what is refused. Not here: which there are (`sys`), what they do.
//! Invariant: a write changes all of its numbers, or none. Hostile input: every byte. Source: `proc_sys(5)`; Linux kernel/sysctl.c,
//! `proc_dointvec_minmax`, `proc_douintvec_minmax`, `proc_doulongvec_minmax`, `proc_dostring`.

use super::text::Text;
use crate::settings::Named;
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::limit::Limit;

/// Numbers that are written at once, at most.
const NUMBERS_MAX: usize = 4;
/// Longest text. Linux: `__NEW_UTS_LEN`; of what is longer the rest is cut.
const TEXT_MAX: usize = 64;
/// Longest number with its sign. Linux: `TMPBUFLEN`.
const DIGITS_MAX: usize = 22;

/// The bits of a number with a sign, as which it is kept.
fn bits(number: i64) -> u64 {
    u64::from_ne_bytes(number.to_ne_bytes())
}

/// What numbers there may be, and what is said of others.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// 32 bits with a sign within bounds; others are `INVAL`.
    Int(i32, i32),
    /// 32 bits without a sign within bounds; others are `INVAL`.
    Unsigned(u32, u32),
    /// 64 bits without a sign within bounds; others are `INVAL`.
    Long(u64, u64),
    /// Bytes of a pipe: a power of two of pages, to which it is rounded up. Of what is written 32 bits count.
    Pipe,
}

/// Where a number is.
pub(super) enum Place<P: Cpu> {
    /// A limit that is in force.
    Limit(fn(&Sandbox<P>) -> &Limit),
    /// Only kept, under its name, and what it is at first. Linux has a use for it that a sandbox has not.
    Kept(&'static str, i64),
}

impl<P: Cpu> Place<P> {
    fn get(&self, sandbox: &Sandbox<P>) -> u64 {
        match self {
            Self::Limit(limit) => limit(sandbox).get(),
            Self::Kept(name, first) => sandbox.shared().settings().kept(name).unwrap_or(bits(*first)),
        }
    }

    fn set(&self, sandbox: &Sandbox<P>, value: u64) {
        match self {
            Self::Limit(limit) => limit(sandbox).set(value),
            Self::Kept(name, _) => sandbox.shared().settings().keep(name, value),
        }
    }
}

impl Form {
    /// The value of a number that was written.
    fn check(self, is_negative: bool, number: u64) -> Result<u64> {
        let bad = errno!(INVAL, "out of bounds");
        match self {
            Self::Int(least, most) => {
                let number = i64::try_from(number).map_err(|_| bad)?;
                let number = if is_negative { number.checked_neg().ok_or(bad)? } else { number };
                let is_in = (i64::from(least)..=i64::from(most)).contains(&number);
                if is_in { Ok(bits(number)) } else { Err(bad) }
            }
            _ if is_negative => Err(bad),
            Self::Unsigned(least, most) if (u64::from(least)..=u64::from(most)).contains(&number) => Ok(number),
            Self::Long(least, most) if (least..=most).contains(&number) => Ok(number),
            Self::Unsigned(..) | Self::Long(..) => Err(bad),
            Self::Pipe => {
                let bytes = number & u64::from(u32::MAX);
                if bytes > 1 << 31 { Err(bad) } else { Ok(bytes.max(4096).next_power_of_two()) }
            }
        }
    }
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The first number of `text` with its sign, and what follows it.
///
/// # Errors
/// `INVAL`: there is none, or something else than space follows.
fn number(text: &[u8]) -> Result<(bool, u64, &[u8])> {
    let bad = || errno!(INVAL, "no number");
    let (is_negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    // As in C, a number says its base.
    let (base, digits) = match digits {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => (16u32, rest),
        [b'0', b'0'..=b'7', ..] => (8, digits),
        _ => (10, digits),
    };
    let value = |byte: &u8| char::from(*byte).to_digit(base);
    let len = digits.iter().take_while(|byte| value(byte).is_some()).count();
    let (digits, rest) = digits.split_at_checked(len).filter(|_| (1..=DIGITS_MAX).contains(&len)).ok_or_else(bad)?;
    if rest.first().is_some_and(|next| !is_space(next) && *next != 0) {
        return Err(bad());
    }
    let add = |sum: u64, byte: &u8| sum.checked_mul(base.into())?.checked_add(value(byte)?.into());
    Ok((is_negative, digits.iter().try_fold(0u64, add).ok_or_else(bad)?, rest))
}

/// Shows numbers.
///
/// # Errors
/// `NOMEM`.
pub(super) fn show<P: Cpu>(sandbox: &Sandbox<P>, form: Form, places: &[Place<P>]) -> Result<Vec<u8>> {
    let mut text = Text::default();
    for (index, place) in places.iter().enumerate() {
        let (gap, value) = (if index == 0 { "" } else { "\t" }, place.get(sandbox));
        match form {
            Form::Int(..) => text.put(format_args!("{gap}{}", i64::from_ne_bytes(value.to_ne_bytes())))?,
            Form::Unsigned(..) | Form::Long(..) | Form::Pipe => text.put(format_args!("{gap}{value}"))?,
        }
    }
    text.put(format_args!("\n"))?;
    Ok(text.finish())
}

/// Takes numbers, the first ones if there are fewer.
///
/// # Errors
/// `INVAL`: no number, or one out of bounds.
pub(super) fn accept<P: Cpu>(sandbox: &Sandbox<P>, form: Form, places: &[Place<P>], text: &[u8]) -> Result<()> {
    let (mut rest, mut values) = (text, [None; NUMBERS_MAX]);
    for (index, slot) in values.iter_mut().enumerate().take(places.len()) {
        let start = rest.iter().position(|byte| !is_space(byte)).unwrap_or(rest.len());
        rest = rest.get(start..).unwrap_or_default();
        if rest.is_empty() {
            if index == 0 {
                return Err(errno!(INVAL, "no number"));
            }
            break;
        }
        let (is_negative, value, after) = number(rest)?;
        *slot = Some(form.check(is_negative, value)?);
        rest = after;
    }
    for (place, value) in places.iter().zip(values) {
        if let Some(value) = value {
            place.set(sandbox, value);
        }
    }
    Ok(())
}

/// Takes a text: a first line.
///
/// # Errors
/// `NOMEM`.
pub(super) fn accept_text<P: Cpu>(sandbox: &Sandbox<P>, which: Named, text: &[u8]) -> Result<()> {
    let line = text.split(|byte| matches!(byte, b'\n' | 0)).next().unwrap_or_default();
    sandbox.set_name(which, line.get(..TEXT_MAX).unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    #[test]
    fn numbers_are_read_as_linux_reads_them() {
        let value = |text: &'static [u8]| number(text).map(|(is_negative, value, rest)| (is_negative, value, rest.len()));
        assert_eq!(value(b"17\n").unwrap(), (false, 17, 1));
        assert_eq!(value(b"-1 2").unwrap(), (true, 1, 2));
        assert_eq!(
            (value(b"0x10").unwrap(), value(b"010").unwrap(), value(b"0").unwrap()),
            ((false, 16, 0), (false, 8, 0), (false, 0, 0))
        );
        for bad in [&b""[..], b"-", b"x", b"1x", b"1-", b"+1", b"99999999999999999999999"] {
            assert!(number(bad).is_err_and(|error| error.is(Errno::INVAL)));
        }
    }

    #[test]
    fn each_form_has_its_bounds() {
        assert_eq!(Form::Int(-1, 5).check(true, 1).unwrap(), u64::MAX);
        for (form, is_negative, number) in [
            (Form::Int(0, 5), false, 6),
            (Form::Unsigned(1, 5), false, 6),
            (Form::Unsigned(1, 5), true, 1),
            (Form::Long(0, 5), true, 1),
            (Form::Long(0, 5), false, 6),
            (Form::Pipe, false, (1 << 31) + 1),
        ] {
            assert!(form.check(is_negative, number).unwrap_err().is(Errno::INVAL), "{form:?} {number}");
        }
        assert_eq!((Form::Pipe.check(false, 0).unwrap(), Form::Pipe.check(false, 4097).unwrap()), (4096, 8192));
    }
}

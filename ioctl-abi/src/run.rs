//! `RUN`: which program, with which arguments, where.
//!
//! The structure gives lengths and counts; the strings lie in one buffer of the caller's, which a kernel copies once.

use crate::request::{HostObject, UserBytes, exactly};
use crate::{Bad, PATH_BYTES_MAX, RUN_BYTES_MAX, wire};

/// `RUN`: turns the calling thread into the first thread of the guest. On success it returns to ring 3 as the guest and never
/// comes back; on failure nothing has changed, and the caller may try another program.
///
/// `EINVAL` if nothing is mounted at `/`; otherwise execve(2)'s: `ENOENT`, `EACCES`, `ENOEXEC`, `ELOOP`, `E2BIG`, `ENOMEM`….
/// The caller has one thread and no rseq area, robust list, `clear_child_tid` or alternate stack left, else `EINVAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What the caller made the request on. On success it is closed in the caller, so that no guest holds its own sandbox and the
    /// launcher's close is the last. `EBADF` if it is not this device.
    pub device: HostObject,
    /// Where the strings lie, and their bytes in all: at most [`RUN_BYTES_MAX`].
    pub text: UserBytes,
    /// User and group that the guest begins as; neither is `u32::MAX`.
    pub ids: [u32; 2],
    /// Bytes of each part, NULs counted; their sum is the text's length.
    program_len: u32,
    cwd_len: u32,
    args_len: u32,
    env_len: u32,
    argc: u32,
    envc: u32,
}

/// The strings of a [`Run`], in a kernel's copy of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunText<'a> {
    /// The program: a path in the guest, absolute or from `cwd`.
    pub program: &'a [u8],
    /// The working directory, absolute.
    pub cwd: &'a [u8],
    /// Arguments, the program's name first.
    pub args: Strings<'a>,
    /// Environment.
    pub env: Strings<'a>,
}

impl Run {
    /// From a copy of the caller's bytes. Copy [`Run::text`] next, then call [`Run::strings`].
    ///
    /// # Errors
    /// [`Bad::Size`], [`Bad::Range`] for no user or group, [`Bad::Path`] for an empty path, [`Bad::Strings`] for no arguments or more strings than
    /// bytes, [`Bad::TooBig`] past a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let wire: wire::Run = exactly(bytes)?;
        let ids = [wire.uid, wire.gid];
        if ids.contains(&u32::MAX) {
            return Err(Bad::Range);
        }
        let wire::Run { device, text, program_len, cwd_len, args_len, env_len, argc, envc, .. } = wire;
        for len in [program_len, cwd_len] {
            // One byte is the NUL.
            match len.checked_sub(1) {
                None | Some(0) => return Err(Bad::Path),
                Some(1..=PATH_BYTES_MAX) => {}
                Some(_) => return Err(Bad::TooBig),
            }
        }
        // Each string has at least its NUL.
        if argc == 0 || argc > args_len || envc > env_len || (envc == 0 && env_len != 0) {
            return Err(Bad::Strings);
        }
        let len = [program_len, cwd_len, args_len, env_len]
            .into_iter()
            .try_fold(0_u32, u32::checked_add)
            .filter(|len| *len <= RUN_BYTES_MAX)
            .ok_or(Bad::TooBig)?;
        let (device, text) = (HostObject(device), UserBytes { addr: text, len });
        Ok(Self { device, text, ids, program_len, cwd_len, args_len, env_len, argc, envc })
    }

    /// Finds the strings in `text`, the copy of [`Run::text`]. Costs one pass over it.
    ///
    /// # Errors
    /// [`Bad::Size`] if `text` has another length, [`Bad::Path`], [`Bad::Strings`].
    pub fn strings<'a>(&self, text: &'a [u8]) -> Result<RunText<'a>, Bad> {
        let (program, rest) = part(text, self.program_len)?;
        let (cwd, rest) = part(rest, self.cwd_len)?;
        let (args, rest) = part(rest, self.args_len)?;
        let (env, rest) = part(rest, self.env_len)?;
        if !rest.is_empty() {
            return Err(Bad::Size);
        }
        let program = path(program)?;
        let cwd = guest_path(path(cwd)?)?;
        Ok(RunText { program, cwd, args: Strings::counted(args, self.argc)?, env: Strings::counted(env, self.envc)? })
    }

    /// The request for strings that lie at `addr`, and whose parts have these lengths and counts. Parts are as [`Run::strings`]
    /// will find them: the launcher packs, then asks this; a decode of the result checks the rest.
    #[must_use]
    pub const fn encode(device: HostObject, addr: u64, lens: [u32; 4], counts: [u32; 2]) -> wire::Run {
        let [program_len, cwd_len, args_len, env_len] = lens;
        let [argc, envc] = counts;
        wire::Run { device: device.0, text: addr, program_len, cwd_len, args_len, env_len, argc, envc, uid: 0, gid: 0 }
    }
}

/// Splits `len` bytes off.
fn part(text: &[u8], len: u32) -> Result<(&[u8], &[u8]), Bad> {
    usize::try_from(len).ok().and_then(|len| text.split_at_checked(len)).ok_or(Bad::Size)
}

/// A path and its NUL, the only one.
fn path(bytes: &[u8]) -> Result<&[u8], Bad> {
    match bytes.split_last() {
        Some((0, path)) if !path.is_empty() && !path.contains(&0) => Ok(path),
        _ => Err(Bad::Path),
    }
}

/// Checks a guest path that a launcher gave: absolute, at most [`PATH_BYTES_MAX`], no NUL, no `..`.
///
/// # Errors
/// [`Bad::Path`], [`Bad::TooBig`].
pub fn guest_path(path: &[u8]) -> Result<&[u8], Bad> {
    if u32::try_from(path.len()).map_or(true, |len| len > PATH_BYTES_MAX) {
        return Err(Bad::TooBig);
    }
    let bad = path.first() != Some(&b'/') || path.contains(&0) || path.split(|byte| *byte == b'/').any(|name| name == b"..");
    if bad { Err(Bad::Path) } else { Ok(path) }
}

/// Strings one behind another, each ended by NUL; iterates over them without it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Strings<'a> {
    /// Empty, or ends with NUL.
    bytes: &'a [u8],
    /// NULs in `bytes`.
    count: u32,
}

impl<'a> Strings<'a> {
    /// Checks that `bytes` are `count` strings.
    fn counted(bytes: &'a [u8], count: u32) -> Result<Self, Bad> {
        let ended = bytes.last().is_none_or(|last| *last == 0);
        let found = bytes.iter().filter(|byte| **byte == 0).count();
        if ended && u32::try_from(found) == Ok(count) { Ok(Self { bytes, count }) } else { Err(Bad::Strings) }
    }

    /// All of them as they lie, NULs included: what a guest's stack wants.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let at = self.bytes.iter().position(|byte| *byte == 0)?;
        let (string, rest) = self.bytes.split_at_checked(at)?;
        self.bytes = rest.split_first().map_or(&[], |(_nul, rest)| rest);
        self.count = self.count.saturating_sub(1);
        Some(string)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        (count, Some(count))
    }
}

impl ExactSizeIterator for Strings<'_> {}

impl core::fmt::Debug for Strings<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.map(<[u8]>::escape_ascii)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    const TEXT: &[u8] = b"/bin/sh\0/\0sh\0-c\0\0A=1\0";
    const WIRE: wire::Run = wire::Run {
        device: 3,
        text: 0x1001,
        program_len: 8,
        cwd_len: 2,
        args_len: 7,
        env_len: 4,
        argc: 3,
        envc: 1,
        uid: 0,
        gid: 0,
    };

    fn decode(wire: wire::Run, text: &[u8]) -> Result<RunText<'_>, Bad> {
        Run::decode(wire.as_bytes())?.strings(text)
    }

    #[test]
    fn strings_are_found() {
        assert_eq!(Run::decode(WIRE.as_bytes()).unwrap().device, HostObject(3));
        assert_eq!(Run::decode(WIRE.as_bytes()).unwrap().text, UserBytes { addr: 0x1001, len: 21 });
        assert_eq!(WIRE, Run::encode(HostObject(3), 0x1001, [8, 2, 7, 4], [3, 1]));
        let text = decode(WIRE, TEXT).unwrap();
        assert_eq!((text.program, text.cwd), (&b"/bin/sh"[..], &b"/"[..]));
        assert!(text.args.eq([&b"sh"[..], b"-c", b""]) && text.env.eq([&b"A=1"[..]]));
        assert_eq!((text.args.len(), text.args.as_bytes()), (3, &b"sh\0-c\0\0"[..]));
        assert_eq!(text.args.skip(2).size_hint(), (1, Some(1)));
        let none = decode(wire::Run { env_len: 0, envc: 0, ..WIRE }, &TEXT[..17]).unwrap();
        assert_eq!((none.env.len(), none.env.into_iter().next()), (0, None));
    }

    #[test]
    fn short_long_and_unaligned() {
        let mut room = [0xff; 72];
        for offset in 0..8 {
            room[offset..offset + 48].copy_from_slice(WIRE.as_bytes());
            for len in 0..60 {
                let decoded = Run::decode(&room[offset..offset + len]);
                assert_eq!(decoded.is_ok(), len == 48, "{len} bytes at {offset}");
            }
        }
        let run = Run::decode(WIRE.as_bytes()).unwrap();
        for len in 0..TEXT.len() {
            assert_eq!(run.strings(&TEXT[..len]), Err(Bad::Size));
        }
        assert_eq!(run.strings(b"/bin/sh\0/\0sh\0-c\0\0A=1\0\0"), Err(Bad::Size));
    }

    #[test]
    fn lengths_that_overflow_or_pass_the_limit() {
        let max = u32::MAX;
        assert_eq!(decode(wire::Run { args_len: max, ..WIRE }, TEXT), Err(Bad::TooBig));
        assert_eq!(decode(wire::Run { args_len: max, env_len: max - 8, ..WIRE }, TEXT), Err(Bad::TooBig));
        assert_eq!(decode(wire::Run { args_len: RUN_BYTES_MAX - 13, ..WIRE }, TEXT), Err(Bad::TooBig));
        assert!(Run::decode(wire::Run { args_len: RUN_BYTES_MAX - 14, ..WIRE }.as_bytes()).is_ok());
        for len in [PATH_BYTES_MAX + 2, max] {
            assert_eq!(decode(wire::Run { program_len: len, ..WIRE }, TEXT), Err(Bad::TooBig));
            assert_eq!(decode(wire::Run { cwd_len: len, ..WIRE }, TEXT), Err(Bad::TooBig));
        }
        assert_eq!(Bad::TooBig.errno(), 7);
    }

    #[test]
    fn counts_must_match() {
        for wire in [
            wire::Run { argc: 0, ..WIRE },
            wire::Run { argc: 2, ..WIRE },
            wire::Run { argc: 4, ..WIRE },
            wire::Run { argc: u32::MAX, ..WIRE },
            wire::Run { envc: 0, ..WIRE },
            wire::Run { envc: 2, ..WIRE },
            wire::Run { envc: u32::MAX, ..WIRE },
            wire::Run { args_len: 0, argc: 0, env_len: 11, envc: 4, ..WIRE },
        ] {
            assert_eq!(decode(wire, TEXT), Err(Bad::Strings), "{wire:?}");
        }
        assert_eq!(decode(WIRE, b"/bin/sh\0/\0sh\0-c\0\0A=1!"), Err(Bad::Strings), "no NUL at the end");
        assert_eq!(decode(WIRE, b"/bin/sh\0/\0sh\0-c\0!A=1\0"), Err(Bad::Strings), "no NUL between arguments and environment");
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        for text in [&b"/bin/s\0\0/\0sh\0-c\0\0A=1\0"[..], b"/bin/sh!/\0sh\0-c\0\0A=1\0", b"/bin/sh\0.\0sh\0-c\0\0A=1\0"] {
            assert_eq!(decode(WIRE, text), Err(Bad::Path));
        }
        assert_eq!(decode(wire::Run { program_len: 0, ..WIRE }, TEXT), Err(Bad::Path));
        assert_eq!(decode(wire::Run { cwd_len: 1, ..WIRE }, TEXT), Err(Bad::Path));
        assert_eq!(decode(wire::Run { gid: u32::MAX, ..WIRE }, TEXT), Err(Bad::Range));
        for good in [&b"/"[..], b"/a/..b/c..", b"//a/./b"] {
            assert_eq!(guest_path(good), Ok(good));
        }
        for bad in [&b""[..], b"a", b"/..", b"/a/../b", b"/a\0"] {
            assert_eq!(guest_path(bad), Err(Bad::Path));
        }
        assert_eq!(guest_path(&[b'/'; 4096]), Err(Bad::TooBig));
        assert!(guest_path(&[b'/'; 4095]).is_ok());
    }

    #[test]
    fn any_bytes_give_an_answer() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for _ in 0..100_000 {
            let mut wire = WIRE;
            let mut text = [0; 21];
            text.copy_from_slice(TEXT);
            for _ in 0..next() % 3 {
                let (at, value) = (next() as usize % 48, next() as u8);
                wire.as_mut_bytes()[at] = value;
            }
            for _ in 0..next() % 3 {
                let (at, value) = (next() as usize % 21, if next() % 2 == 0 { 0 } else { b'.' });
                text[at] = value;
            }
            if let Ok(found) = decode(wire, &text) {
                assert_eq!(found.args.len(), found.args.count());
                assert_eq!(found.env.len(), found.env.count());
            }
        }
    }
}

//! `#!` scripts. Source: execve(2); Linux `fs/binfmt_script.c` `load_script`.

use litebox_core::errno;
use litebox_core::error::Result;

/// How much of a file decides what it is: `BINPRM_BUF_SIZE`.
pub const PREFIX_BYTES: usize = 256;
/// How many interpreters may be scripts themselves before it is `LOOP`.
pub const MAX_DEPTH: usize = 5;

/// The first line of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script<'a> {
    /// Path of the interpreter, without NUL; empty if the line's first byte that is no blank is a NUL.
    pub interpreter: &'a [u8],
    /// The rest of the line as one argument, if there is any.
    pub argument: Option<&'a [u8]>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn skip_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        if !is_blank(*first) {
            break;
        }
        bytes = rest;
    }
    bytes
}

fn drop_blanks_at_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes {
        if !is_blank(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

impl<'a> Script<'a> {
    /// Parses a prefix that starts with `#!`.
    ///
    /// # Errors
    /// `NOEXEC`: no interpreter, or its path goes on past the prefix.
    pub fn parse(prefix: &'a [u8; PREFIX_BYTES]) -> Result<Self> {
        let whole = prefix.get(2..).unwrap_or_default();
        let line = match until_nul(whole).iter().position(|byte| *byte == b'\n') {
            Some(end) => whole.get(..end).unwrap_or_default(),
            None => {
                // No end of line: the path must at least end within the prefix, else what is here is a part of it.
                if !skip_blanks(whole).iter().any(|byte| is_blank(*byte) || *byte == 0) {
                    return Err(errno!(NOEXEC, "the interpreter's path is cut off"));
                }
                // The last byte gives its place to a NUL in Linux, so that an argument loses it.
                whole.split_last().map_or(whole, |(_, rest)| rest)
            }
        };
        // Blanks before a NUL stay: the line's end is the new line's, or the prefix's.
        let line = skip_blanks(drop_blanks_at_end(line));
        if line.is_empty() {
            return Err(errno!(NOEXEC, "the script names no interpreter"));
        }
        let end = line.iter().position(|byte| is_blank(*byte) || *byte == 0).unwrap_or(line.len());
        let (interpreter, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
        let argument = match rest.first() {
            Some(separator) if is_blank(*separator) => Some(until_nul(skip_blanks(rest))),
            _ => None,
        };
        Ok(Self { interpreter, argument })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;
    use std::vec::Vec;

    fn prefix(text: &[u8]) -> [u8; PREFIX_BYTES] {
        let mut prefix = [0; PREFIX_BYTES];
        for (to, from) in prefix.iter_mut().zip(text) {
            *to = *from;
        }
        prefix
    }

    fn parsed(text: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        match Script::parse(&prefix(text)) {
            Ok(script) => Some((script.interpreter.to_vec(), script.argument.map(<[u8]>::to_vec))),
            Err(error) => {
                assert!(error.is(Errno::NOEXEC));
                None
            }
        }
    }

    #[test]
    fn lines_are_split_as_linux_does() {
        let sh = b"/bin/sh".to_vec();
        assert_eq!(parsed(b"#!/bin/sh\n"), Some((sh.clone(), None)));
        assert_eq!(parsed(b"#! \t/bin/sh  \n"), Some((sh.clone(), None)));
        assert_eq!(parsed(b"#!/bin/sh -e  -x \nrest"), Some((sh.clone(), Some(b"-e  -x".to_vec()))));
        assert_eq!(parsed(b"#!/bin/sh"), Some((sh.clone(), None)), "a file that ends there");
        assert_eq!(parsed(b"#!/bin/sh\0-x\n"), Some((sh, None)), "NUL ends the line");
        assert_eq!(parsed(b"#!/bin/sh "), Some((b"/bin/sh".to_vec(), Some(Vec::new()))), "a blank, then the file's end");
        assert_eq!(parsed(b"#!\n"), None);
        assert_eq!(parsed(b"#!   \n/bin/sh"), None);
        assert_eq!(parsed(b"#! \0x\n"), Some((Vec::new(), None)), "a NUL, where the path would begin");
        assert_eq!(parsed(b"#!"), Some((Vec::new(), None)), "as is the one behind a file's end");
    }

    #[test]
    fn a_path_that_is_cut_off_is_refused_but_a_cut_argument_is_not() {
        let mut long = b"#!".to_vec();
        long.resize(PREFIX_BYTES, b'a');
        assert_eq!(parsed(&long), None);
        long[10] = b' ';
        assert_eq!(parsed(&long), Some((b"aaaaaaaa".to_vec(), Some([b'a'; 244].to_vec()))));
        let blank = [b"#!".to_vec(), [b' '; 300].to_vec()].concat();
        assert_eq!(parsed(&blank), None);
    }
}

//! First lines of scripts: what is accepted has an interpreter and at most one argument, both parts of the line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use litebox_core::error::Errno;
use litebox_shim_linux::elf::{Format, PREFIX_BYTES};

fuzz_target!(|bytes: &[u8]| {
    let mut prefix = [0; PREFIX_BYTES];
    for (to, from) in prefix.iter_mut().zip(bytes) {
        *to = *from;
    }
    match Format::of(&prefix) {
        Ok(Format::Script(script)) => {
            assert!(!script.interpreter.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | 0)));
            // It may be empty: blanks, then no end of line.
            assert!(script.argument.is_none_or(|argument| !argument.iter().any(|byte| matches!(byte, b'\n' | 0))));
        }
        Ok(Format::Elf) => assert_eq!(&prefix[..4], b"\x7fELF"),
        Err(error) => assert!(error.is(Errno::NOEXEC), "not an errno of Linux here: {error:?}"),
    }
});

//! Programs: what a file's first bytes ask for, and the stack on which a program starts.
//!
//! Owns: which file is a program ([`Plan`], [`Script`]), where its parts go, the initial stack ([`Stack`]). Not here: opening
//! files, address spaces; the caller maps what a plan says. Hostile input: every byte of the file; the limits of argument lists.
//! Invariants: pure; no allocation larger than the file's own program headers or the argument limit; no loop longer than 1,170.
//! Sources: execve(2), elf(5); Linux `fs/binfmt_elf.c`, `fs/binfmt_script.c`, `fs/exec.c`. Tests: each file's, and `mutants` below.

mod plan;
mod script;
mod stack;

pub use plan::{Image, Kind, Plan, Segment, StackRights};
pub use script::{MAX_DEPTH, PREFIX_BYTES, Script};
pub use stack::{Aux, STACK_STRING_MAX, Stack, StackLimits};

use litebox_core::errno;
use litebox_core::error::Result;

/// What a file's first [`PREFIX_BYTES`] say it is.
#[derive(Debug)]
pub enum Format<'a> {
    /// A script; run its interpreter.
    Script(Script<'a>),
    /// An ELF file, to be planned with [`Plan::of_program`].
    Elf,
}

impl<'a> Format<'a> {
    /// Looks at a file's first bytes; `prefix` is what could be read of [`PREFIX_BYTES`], zero-filled.
    ///
    /// # Errors
    /// `NOEXEC`: neither, or a script whose first line names no interpreter.
    pub fn of(prefix: &'a [u8; PREFIX_BYTES]) -> Result<Self> {
        if prefix.starts_with(b"#!") {
            return Script::parse(prefix).map(Self::Script);
        }
        if prefix.starts_with(&elf::abi::ELFMAGIC) {
            return Ok(Self::Elf);
        }
        Err(errno!(NOEXEC, "neither ELF nor a script"))
    }
}

#[cfg(test)]
mod mutants;

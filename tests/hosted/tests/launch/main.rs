//! Starting a sandbox's first program, and what it finds in /dev and /proc: without a guest instruction, by what is in memory.

mod elf;
mod errors;
mod host;
mod places;
mod proc;
mod start;

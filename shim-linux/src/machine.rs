//! The machine that a sandbox's programs see: its size, its names, who watches it.
//!
//! Invariant: fixed when the sandbox is made, so nothing here is locked. Sources: uname(2), `proc_sys_kernel(5)`, random(4).

use crate::processors::Processors;
use crate::signal::Cpu;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use litebox_core::fs::host::HostFile;
use litebox_core::fs::inode::Blocking;
use litebox_core::platform::Platform;

/// `sysname` of uname(2).
pub const SYSTEM: &str = "Linux";
/// `nodename`, unless its launcher says.
pub const HOST: &str = "litebox";
/// `release`: that of the Linux whose manners it has.
pub const RELEASE: &str = "6.12.0-litebox";
/// `version`.
pub const VERSION: &str = "#1 SMP litebox";
/// `machine`.
pub const PROCESSOR: &str = "x86_64";
/// `domainname`.
pub const DOMAIN: &str = "(none)";

/// How many tasks a sandbox has room for unless its launcher says.
const TASKS: u32 = 4096;
/// Longest line of a trace; what is behind it is cut.
const LINE_MAX: usize = 1024;

/// What a sandbox's launcher says of it, and what is made up once for it.
pub struct Machine<P: Platform> {
    /// How many bytes of memory programs see.
    pub memory: u64,
    /// How many tasks it has room for.
    pub tasks: u32,
    /// The processors that programs see: those of whoever made it.
    pub processors: Processors,
    /// Its name.
    pub host: String,
    trace: Option<Arc<dyn HostFile<P>>>,
    boot_id: [u8; 16],
}

impl<P: Platform> fmt::Debug for Machine<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("memory", &self.memory).field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

impl<P: Cpu> Machine<P> {
    /// A machine with `memory` bytes; `tasks` is how many tasks it has room for, if not as many as usual, and `trace` is where each
    /// call is written to, if it is.
    #[must_use]
    pub fn new(memory: u64, tasks: Option<u32>, trace: Option<Arc<dyn HostFile<P>>>) -> Self {
        let mut boot_id = [0; 16];
        P::fill_random(&mut boot_id);
        Self { memory, tasks: tasks.unwrap_or(TASKS), processors: P::processors(), host: String::from(HOST), trace, boot_id }
    }

    /// The same with another name, if there is one.
    #[must_use]
    pub fn named(self, host: Option<&str>) -> Self {
        Self { host: host.map_or_else(|| self.host.clone(), String::from), ..self }
    }

    /// Whether every call is traced.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// Sixteen random bytes that stay the same while it is there.
    #[must_use]
    pub fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }
}

impl<P: Cpu> Machine<P> {
    /// Writes one line to the trace, if there is one. A trace that cannot be written to loses lines and stops nobody.
    pub(crate) fn trace(&self, line: fmt::Arguments<'_>) {
        let Some(file) = &self.trace else { return };
        let mut text = Line(Vec::new());
        if text.0.try_reserve_exact(LINE_MAX).is_err() {
            return;
        }
        // A line that is too long ends early, by an error.
        let _ = text.write_fmt(line);
        text.0.push(b'\n');
        let mut rest = text.0.as_slice();
        while let Ok(written @ 1..) = file.write(0, rest, Blocking::Yes) {
            rest = rest.get(written..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
        }
    }
}

/// A line of bounded length.
struct Line(Vec<u8>);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_MAX.saturating_sub(self.0.len()).saturating_sub(1);
        let part = text.as_bytes().get(..room).unwrap_or(text.as_bytes());
        self.0.extend_from_slice(part);
        if part.len() < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

//! Files about the machine: memory, time, load.
//!
//! Sources: `proc_meminfo(5)`, `proc_stat(5)`, `proc_uptime(5)`, `proc_loadavg(5)`; Linux fs/proc/meminfo.c, stat.c.

use super::text::{Text, line};
use crate::signal::Cpu;
use crate::task::{Condition, Sandbox};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use litebox_core::error::Result;

/// Clock ticks of 10 ms, the unit of times in /proc.
pub(super) fn ticks(time: Duration) -> u64 {
    time.as_secs().saturating_mul(100).saturating_add(u64::from(time.subsec_millis() / 10))
}

/// `/proc/meminfo`. All that is used counts as anonymous memory: the sandbox's book does not say for what.
pub(super) fn meminfo<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    let total = sandbox.memory() >> 10;
    let used = (sandbox.quota().used() >> 10).min(total);
    let free = total.saturating_sub(used);
    let rows: [(&str, u64); 26] = [
        ("MemTotal:", total),
        ("MemFree:", free),
        ("MemAvailable:", free),
        ("Buffers:", 0),
        ("Cached:", 0),
        ("SwapCached:", 0),
        ("Active:", used),
        ("Inactive:", 0),
        ("Active(anon):", used),
        ("Inactive(anon):", 0),
        ("Active(file):", 0),
        ("Inactive(file):", 0),
        ("Unevictable:", 0),
        ("Mlocked:", 0),
        ("SwapTotal:", 0),
        ("SwapFree:", 0),
        ("Dirty:", 0),
        ("Writeback:", 0),
        ("AnonPages:", used),
        ("Mapped:", 0),
        ("Shmem:", 0),
        ("Slab:", 0),
        ("KernelStack:", 0),
        ("PageTables:", 0),
        ("CommitLimit:", total),
        ("Committed_AS:", used),
    ];
    let mut text = Text::default();
    for (name, kib) in rows {
        text.put(format_args!("{name:<16}{kib:>8} kB\n"))?;
    }
    Ok(text.finish())
}

/// Time that the processors had nothing to do for the sandbox, since it began: what its programs have not used.
fn idle<P: Cpu>(sandbox: &Sandbox<P>, used: Duration) -> Duration {
    sandbox.uptime().saturating_mul(sandbox.machine().processors.count()).saturating_sub(used)
}

/// `/proc/uptime`: since the sandbox began.
pub(super) fn uptime<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    let [up, idle] =
        [sandbox.uptime(), idle(sandbox, sandbox.used().time())].map(|time| (time.as_secs(), time.subsec_millis() / 10));
    line(format_args!("{}.{:02} {}.{:02}\n", up.0, up.1, idle.0, idle.1))
}

/// Tasks that may run: all that do not wait for job control or their parents, since nobody says which ones sleep.
fn alive<P: Cpu>(sandbox: &Sandbox<P>) -> u64 {
    let (mut count, mut from) = (0u64, 0u32);
    while let Some(process) = sandbox.next_process(from) {
        if process.condition() == Condition::Alive {
            count = count.saturating_add(1);
        }
        from = process.pid().saturating_add(1);
    }
    count
}

/// `/proc/loadavg`.
pub(super) fn loadavg<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    line(format_args!("0.00 0.00 0.00 1/{} {}\n", sandbox.task_count(), sandbox.last_id()))
}

/// `/proc/stat`.
pub(super) fn stat<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    let used = sandbox.used();
    let times = [used.user, used.system, idle(sandbox, used.time())].map(ticks);
    // Nobody says which processor it was.
    let count = u64::from(sandbox.machine().processors.count().max(1));
    let each = times.map(|time| time.checked_div(count).unwrap_or(0));
    let born = P::realtime().saturating_sub(sandbox.uptime()).as_secs();
    let mut text = Text::default();
    let mut row = |name: fmt::Arguments<'_>, [user, system, idle]: [u64; 3]| {
        text.put(format_args!("{name} {user} 0 {system} {idle} 0 0 0 0 0 0\n"))
    };
    row(format_args!("cpu "), times)?;
    for number in sandbox.machine().processors.numbers() {
        row(format_args!("cpu{number}"), each)?;
    }
    text.put(format_args!(
        "intr 0\nctxt 0\nbtime {born}\nprocesses {}\nprocs_running {}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
        sandbox.last_id(),
        alive(sandbox),
    ))?;
    Ok(text.finish())
}

/// `/proc/vmstat`: what of it a sandbox knows.
pub(super) fn vmstat<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    let total = sandbox.memory() >> 12;
    let used = (sandbox.quota().used() >> 12).min(total);
    line(format_args!("nr_free_pages {}\nnr_anon_pages {used}\npgfault 0\npgmajfault 0\n", total.saturating_sub(used)))
}

/// Random bytes as a UUID of version 4. See RFC 4122.
pub(super) fn uuid(bytes: [u8; 16]) -> Result<Vec<u8>> {
    let version = 0x4000_u128 << 64;
    let variant = 0x8000_u128 << 48;
    let number = u128::from_be_bytes(bytes) & !(0xf000_u128 << 64) & !(0xc000_u128 << 48) | version | variant;
    let part = |shift: u32, mask: u128| (number >> shift) & mask;
    line(format_args!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}\n",
        part(96, 0xffff_ffff),
        part(80, 0xffff),
        part(64, 0xffff),
        part(48, 0xffff),
        part(0, 0xffff_ffff_ffff)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_its_version() {
        assert_eq!(uuid([0xff; 16]).unwrap(), b"ffffffff-ffff-4fff-bfff-ffffffffffff\n");
        assert_eq!(uuid([0; 16]).unwrap(), b"00000000-0000-4000-8000-000000000000\n");
    }
}

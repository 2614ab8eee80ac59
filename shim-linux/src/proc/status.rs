//! A process in numbers: state, relations, memory, signals, limits.
//!
//! Sources: `proc_pid_stat(5)`, `proc_pid_status(5)`, `proc_pid_statm(5)`, `proc_pid_limits(5)`, `proc_pid_comm(5)`,
//! `proc_pid_oom_score_adj(5)`; Linux fs/proc/array.c, fs/proc/base.c.

use super::Who;
use super::maps::{Sizes, sizes};
use super::system::ticks;
use super::text::{Text, line};
use crate::calls::terminal;
use crate::processors::{List, Mask};
use crate::signal::{Activity, Cpu, Handler, SigSet, Signal};
use crate::task::{Condition, Process};
use crate::usage::Usage;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::Fd;

/// The task's name, or the last one of a process that has none.
fn name<P: Cpu>(who: &Who<P>) -> Result<[u8; 16]> {
    Ok(match who.task()? {
        Some(task) => task.name(),
        None => who.process()?.last_name(),
    })
}

/// A name without what follows its NUL.
fn trimmed(name: &[u8; 16]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// `comm`: the task's name.
pub(super) fn comm<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    Ok([trimmed(&name(who)?), b"\n"].concat())
}

/// Names the task.
pub(super) fn set_comm<P: Cpu>(who: &Who<P>, bytes: &[u8]) -> Result<()> {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().take(15).zip(bytes) {
        *to = *from;
    }
    who.task()?.ok_or(errno!(SRCH))?.set_name(name);
    Ok(())
}

/// `oom_score_adj`: what it is asked to be taken for when memory is short.
pub(super) fn oom_score_adj<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let adjust = who.process()?.with(|state| state.tuning.oom_score_adj);
    line(format_args!("{adjust}\n"))
}

/// Sets it. Who is no superuser cannot go below 0.
pub(super) fn set_oom_score_adj<P: Cpu>(who: &Who<P>, bytes: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(bytes.trim_ascii()).ok();
    let adjust = text.and_then(|text| text.parse::<i16>().ok()).filter(|adjust| (-1000..=1000).contains(adjust));
    let adjust = adjust.ok_or(errno!(INVAL, "no number from -1000 to 1000"))?;
    who.process()?.with(|state| {
        if adjust < 0 && !state.capabilities.effective.contains(Capabilities::SYS_RESOURCE) {
            return Err(errno!(ACCESS, "only the superuser may go below 0"));
        }
        state.tuning.oom_score_adj = adjust;
        Ok(())
    })
}

/// `oom_adj`: the same on an older scale.
pub(super) fn oom_adj<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let adjust = who.process()?.with(|state| state.tuning.oom_score_adj);
    line(format_args!("{}\n", if adjust == 1000 { 15 } else { i32::from(adjust).saturating_mul(17) / 1000 }))
}

/// A number that was written, in the base that it says, up to `most`.
fn written(bytes: &[u8], most: u64) -> Result<u64> {
    let bad = errno!(INVAL, "no number");
    let text = core::str::from_utf8(bytes.trim_ascii()).map_err(|_| bad)?;
    let number = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8),
        None => text.parse(),
    };
    number.ok().filter(|number| *number <= most).ok_or(bad)
}

/// Areas that a core file has, unless a process says. Linux: `MMF_DUMP_FILTER_DEFAULT`.
const CORE_FILTER: u32 = 0x33;

/// `coredump_filter`: which areas a core file would have.
pub(super) fn core_filter<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let filter = who.process()?.with(|state| state.tuning.core_filter).unwrap_or(CORE_FILTER);
    line(format_args!("{filter:08x}\n"))
}

/// Sets it.
pub(super) fn set_core_filter<P: Cpu>(who: &Who<P>, bytes: &[u8]) -> Result<()> {
    let filter = u32::try_from(written(bytes, u32::MAX.into())?).unwrap_or_default() & 0x1ff;
    who.process()?.with(|state| state.tuning.core_filter = Some(filter));
    Ok(())
}

/// `timerslack_ns`: nanoseconds by which its timers may be late.
pub(super) fn timer_slack<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let slack = who.process()?.with(|state| state.tuning.timer_slack).get();
    line(format_args!("{slack}\n"))
}

/// Sets it; 0 is as usual.
pub(super) fn set_timer_slack<P: Cpu>(who: &Who<P>, bytes: &[u8]) -> Result<()> {
    let slack = written(bytes, u64::MAX)?;
    who.process()?.with(|state| state.tuning.timer_slack.set(slack));
    Ok(())
}

/// `personality`: how it differs from a usual program.
pub(super) fn personality<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let persona = who.process()?.with(|state| state.tuning.personality);
    line(format_args!("{persona:08x}\n"))
}

/// Letter and word of what it looks like.
fn condition<P: Cpu>(who: &Who<P>, process: &Process<P>) -> (char, &'static str) {
    let task = who.task().ok().flatten();
    if task.as_ref().is_some_and(|task| task.is_halted()) {
        return ('t', "tracing stop");
    }
    match process.condition() {
        // Init waits for its children, without a task.
        Condition::Alive if process.task_count() == 0 => ('S', "sleeping"),
        // One that is about to begin or to end has no carrier.
        Condition::Alive => match task.and_then(|task| task.with_carrier(P::activity)) {
            Some(Activity::Running) | None => ('R', "running"),
            Some(Activity::Sleeping) => ('S', "sleeping"),
            Some(Activity::Blocked) => ('D', "disk sleep"),
        },
        Condition::Stopped => ('T', "stopped"),
        Condition::Zombie => ('Z', "zombie"),
    }
}

/// Sets of signals: waiting for the task, for the process, blocked, ignored, caught.
struct Signals {
    own: SigSet,
    shared: SigSet,
    blocked: SigSet,
    ignored: SigSet,
    caught: SigSet,
}

fn signals<P: Cpu>(who: &Who<P>) -> Result<Signals> {
    let process = who.process()?;
    let task = who.task()?;
    let with = |wanted: fn(Handler) -> bool| {
        process.with_actions(|actions| {
            let all = (0..64u32).filter(|bit| {
                Signal::new(u64::from(*bit).saturating_add(1)).is_some_and(|signal| wanted(actions.get(signal).handler()))
            });
            SigSet::from_bits(all.fold(0, |bits, bit| bits | 1 << bit))
        })
    };
    Ok(Signals {
        own: task.as_ref().map_or(SigSet::EMPTY, |task| task.pending()),
        shared: process.pending(),
        blocked: task.map_or(SigSet::EMPTY, |task| task.mask()),
        ignored: with(|handler| handler == Handler::Ignore),
        caught: with(|handler| matches!(handler, Handler::Function(_))),
    })
}

/// What the task has used, or all of the process.
fn used<P: Cpu>(who: &Who<P>) -> Result<Usage> {
    let task = if who.tid.is_some() { who.task()? } else { None };
    Ok(match task {
        Some(task) => task.used(),
        None => who.process()?.used(),
    })
}

/// `stat`: one line of numbers.
pub(super) fn stat<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let process = who.process()?;
    let (group, session, nice, policy, rss_limit) = process.with(|state| {
        let limit = state.limit(raw::RLIMIT_RSS).map_or(u64::MAX, |limit| limit.soft);
        (state.group, state.session, state.tuning.nice, state.tuning.policy, limit)
    });
    let sizes = sizes(who)?;
    let signals = signals(who)?;
    // The first 31 only, as there is `status` for all.
    let [own, blocked, ignored, caught] =
        [signals.own, signals.blocked, signals.ignored, signals.caught].map(|set| set.bits() & 0x7fff_ffff);
    let started = ticks(who.sandbox()?.uptime().saturating_sub(process.running().age()));
    let exec = process.running().get();
    let (arguments, environment, stack) = exec.map_or(((0, 0), (0, 0), 0), |exec| (exec.arguments, exec.environment, exec.stack));
    let (code, data) = (sizes.code_range, sizes.data_range);

    let mut text = Text::default();
    text.put(format_args!("{} (", who.tid.unwrap_or(who.pid)))?;
    text.bytes(trimmed(&name(who)?))?;
    // 0 and -1 are no terminal, and nobody in its foreground.
    let (device, foreground) = process.terminal().map_or((0, -1), |pair| {
        let group = pair.control().group.unwrap_or(0);
        (terminal::device_number(terminal::device(&pair)), i32::try_from(group).unwrap_or(0))
    });
    let (letter, parent) = (condition(who, &process).0, process.parent());
    // Flags, faults and processor time of itself and its children.
    let (used, children) = (used(who)?, process.children_resources().usage);
    text.put(format_args!(") {letter} {parent} {group} {session} {device} {foreground} 4194304"))?;
    text.put(format_args!(" {} {}", used.minor_faults, children.minor_faults))?;
    text.put(format_args!(" {} {}", used.major_faults, children.major_faults))?;
    for time in [used.user, used.system, children.user, children.system] {
        text.put(format_args!(" {}", ticks(time)))?;
    }
    text.put(format_args!(
        " {} {nice} {} 0 {started} {} {} {rss_limit}",
        i16::from(nice).saturating_add(20),
        process.task_count(),
        sizes.all,
        sizes.resident >> 12
    ))?;
    // Stack pointer and instruction are not shown.
    text.put(format_args!(" {} {} {stack} 0 0 {own} {blocked} {ignored} {caught}", code.0, code.1))?;
    // Where it sleeps, swap, signal at its end, processor, scheduling, delays, guests.
    text.put(format_args!(" 0 0 0 17 0 0 {policy} 0 0 0"))?;
    text.put(format_args!(
        " {} {} {} {} {} {} {} 0\n",
        data.0, data.1, sizes.heap, arguments.0, arguments.1, environment.0, environment.1
    ))?;
    Ok(text.finish())
}

/// `statm`: memory, in pages.
pub(super) fn statm<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let sizes = sizes(who)?;
    let [all, resident, program, data] =
        [sizes.all, sizes.resident, sizes.program, sizes.data.saturating_add(sizes.stack)].map(|bytes| bytes >> 12);
    line(format_args!("{all} {resident} 0 {program} 0 {data} 0\n"))
}

/// `status`: the same and more with names.
pub(super) fn status<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let process = who.process()?;
    let mut text = Text::default();
    text.bytes(b"Name:\t")?;
    for byte in trimmed(&name(who)?) {
        match byte {
            b'\n' => text.bytes(b"\\n")?,
            b'\\' => text.bytes(b"\\\\")?,
            byte => text.bytes(&[*byte])?,
        }
    }
    let (letter, word) = condition(who, &process);
    let (pid, tid) = (who.pid, who.tid.unwrap_or(who.pid));
    text.put(format_args!(
        "\nUmask:\t{:04o}\nState:\t{letter} ({word})\nTgid:\t{pid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{}\nTracerPid:\t{}\n",
        process.fs().umask.bits(),
        process.parent(),
        process.sandbox().tracer_of(tid)
    ))?;
    let (ids, groups, group, session) =
        process.with(|state| (state.ids, alloc::sync::Arc::clone(&state.supplementary), state.group, state.session));
    for (name, [real, effective, saved]) in [("Uid", ids.users), ("Gid", ids.groups)] {
        text.put(format_args!("{name}:\t{real}\t{effective}\t{saved}\t{effective}\n"))?;
    }
    text.put(format_args!("FDSize:\t{}\nGroups:\t", slots(&process)))?;
    for (index, gid) in groups.iter().enumerate() {
        text.put(format_args!("{}{}", if index == 0 { "" } else { " " }, gid.0))?;
    }
    text.put(format_args!(" \nNStgid:\t{pid}\nNSpid:\t{tid}\nNSpgid:\t{group}\nNSsid:\t{session}\nKthread:\t0\n"))?;
    if process.condition() != Condition::Zombie {
        memory(&mut text, &sizes(who)?)?;
    }
    text.put(format_args!("Threads:\t{}\nSigQ:\t0/{}\n", process.task_count(), pending_limit(&process)))?;
    let signals = signals(who)?;
    let sets = [
        ("SigPnd", signals.own),
        ("ShdPnd", signals.shared),
        ("SigBlk", signals.blocked),
        ("SigIgn", signals.ignored),
        ("SigCgt", signals.caught),
    ];
    sets.iter().try_for_each(|(name, set)| text.put(format_args!("{name}:\t{:016x}\n", set.bits())))?;
    let may = process.with(|state| state.capabilities);
    let sets = [
        ("CapInh", may.inheritable),
        ("CapPrm", may.permitted),
        ("CapEff", may.effective),
        ("CapBnd", may.bounding),
        ("CapAmb", may.ambient),
    ];
    sets.iter().try_for_each(|(name, set)| text.put(format_args!("{name}:\t{:016x}\n", set.bits())))?;
    let no_new_privs = u32::from(process.with(|state| state.tuning.no_new_privs));
    let mode = who.task()?.map(|task| task.seccomp()).unwrap_or_default();
    let (number, count) = (mode.number(), mode.count());
    text.put(format_args!("NoNewPrivs:\t{no_new_privs}\nSeccomp:\t{number}\nSeccomp_filters:\t{count}\n"))?;
    let all = process.sandbox().machine().processors;
    let allowed = who.task()?.and_then(|task| task.with_carrier(P::affinity)).map_or(all, |allowed| allowed.intersection(&all));
    let mask = Mask { set: &allowed, highest: all.numbers().last().unwrap_or(0) };
    text.put(format_args!("Cpus_allowed:\t{mask}\nCpus_allowed_list:\t{}\n", List(&allowed)))?;
    text.bytes(b"Mems_allowed:\t1\nMems_allowed_list:\t0\n")?;
    // Those of the task, also where the rest is about the process.
    let switches = who.task()?.map(|task| task.used()).unwrap_or_default();
    let (voluntary, involuntary) = (switches.voluntary, switches.involuntary);
    text.put(format_args!("voluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{involuntary}\n"))?;
    Ok(text.finish())
}

/// The lines about memory. The peak of what is mapped is not kept, so it is what is now; nothing is pinned, swapped or shared by name.
fn memory(text: &mut Text, sizes: &Sizes) -> Result<()> {
    let rows = [
        ("VmPeak", sizes.all),
        ("VmSize", sizes.all),
        ("VmLck", sizes.locked),
        ("VmPin", 0),
        ("VmHWM", sizes.most_resident),
        ("VmRSS", sizes.resident),
        ("RssAnon", sizes.resident),
        ("RssFile", 0),
        ("RssShmem", 0),
        ("VmData", sizes.data),
        ("VmStk", sizes.stack),
        ("VmExe", sizes.program),
        ("VmLib", sizes.code.saturating_sub(sizes.program)),
        ("VmPTE", 0),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    rows.iter().try_for_each(|(name, bytes)| text.put(format_args!("{name}:\t{:>8} kB\n", bytes >> 10)))?;
    text.bytes(b"CoreDumping:\t0\nTHP_enabled:\t0\nuntag_mask:\t0xffffffffffffffff\n")
}

/// Descriptors that its table has room for, as Linux would have grown it: a power of two, at least 64.
fn slots<P: Cpu>(process: &Process<P>) -> u32 {
    let files = process.files();
    let mut end = 0u32;
    while let Some(Fd(fd)) = files.next_open(Fd(end)) {
        end = fd.saturating_add(1);
    }
    end.max(64).checked_next_power_of_two().unwrap_or(u32::MAX)
}

fn pending_limit<P: Cpu>(process: &Process<P>) -> u64 {
    process.with(|state| state.limit(raw::RLIMIT_SIGPENDING)).map_or(u64::MAX, |limit| limit.soft)
}

/// Names and units of the limits, by their number.
#[rustfmt::skip]
const LIMITS: [(&str, &str); crate::task::LIMITS] = [
    ("Max cpu time", "seconds"), ("Max file size", "bytes"), ("Max data size", "bytes"), ("Max stack size", "bytes"),
    ("Max core file size", "bytes"), ("Max resident set", "bytes"), ("Max processes", "processes"), ("Max open files", "files"),
    ("Max locked memory", "bytes"), ("Max address space", "bytes"), ("Max file locks", "locks"),
    ("Max pending signals", "signals"), ("Max msgqueue size", "bytes"), ("Max nice priority", ""),
    ("Max realtime priority", ""), ("Max realtime timeout", "us"),
];

/// One limit, padded.
struct Amount(u64);

impl core::fmt::Display for Amount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.0 == u64::MAX { f.pad("unlimited") } else { core::fmt::Display::fmt(&self.0, f) }
    }
}

/// `limits`.
pub(super) fn limits<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let limits = who.process()?.with(|state| state.limits);
    let mut text = Text::default();
    text.put(format_args!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units"))?;
    for ((name, unit), limit) in LIMITS.iter().zip(limits) {
        text.put(format_args!("{name:<25} {:<20} {:<20} ", Amount(limit.soft), Amount(limit.hard)))?;
        if !unit.is_empty() {
            text.put(format_args!("{unit:<10}"))?;
        }
        text.bytes(b"\n")?;
    }
    Ok(text.finish())
}

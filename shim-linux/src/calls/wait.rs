//! wait4(2), waitid(2).

use super::{pidfd, put, usage as resources};
use crate::args::{Fd, Flags, Int, Pid, Ptr};
use crate::signal::{Cpu, Signal};
use crate::task::{Kind, Report, Task, Wanted, Which};
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::types::OFlags;
use litebox_core::mm::GuestAddr;

/// Options that both calls take.
const COMMON: u32 = raw::WNOHANG | raw::WCONTINUED | raw::__WNOTHREAD | raw::__WCLONE | raw::__WALL;

fn wanted(which: Which, options: u32) -> Wanted {
    let has = |option: u32| options & option != 0;
    let kind = match (has(raw::__WALL), has(raw::__WCLONE)) {
        (true, _) => Kind::Both,
        (false, true) => Kind::Clones,
        (false, false) => Kind::Ordinary,
    };
    Wanted {
        which,
        kind,
        ended: has(raw::WEXITED),
        stopped: has(raw::WSTOPPED),
        continued: has(raw::WCONTINUED),
        keep: has(raw::WNOWAIT),
        own: has(raw::__WNOTHREAD),
    }
}

fn wait<P: Cpu>(task: &Task<P>, which: Which, options: u32) -> Result<Option<Report>> {
    let wanted = wanted(which, options);
    if options & raw::WNOHANG != 0 { task.look_for_child(&wanted) } else { task.wait_for_child(&wanted).map(Some) }
}

fn own_group<P: Cpu>(task: &Task<P>) -> Which {
    Which::Group(task.process().with(|state| state.group))
}

pub(crate) fn wait4<P: Cpu>(task: &mut Task<P>, pid: Pid, status: Ptr, options: Flags, usage: Ptr) -> Result<u32> {
    if options.0 & !(COMMON | raw::WUNTRACED) != 0 {
        return Err(errno!(INVAL, "unknown options"));
    }
    let which = match (u32::try_from(pid.0), pid.0.checked_neg()) {
        (Ok(0), _) => own_group(task),
        (Ok(pid), _) => Which::Process(pid),
        (Err(_), Some(1)) => Which::All,
        (Err(_), Some(group)) => Which::Group(group.unsigned_abs()),
        (Err(_), None) => return Err(errno!(SRCH, "a group without a number")),
    };
    let Some(report) = wait(task, which, options.0 | raw::WEXITED)? else { return Ok(0) };
    if status.0 != GuestAddr::default() {
        put::<P, 4>(status.0, &report.word)?;
    }
    resources::write::<P>(usage, &report.used)?;
    Ok(report.pid)
}

pub(crate) fn waitid<P: Cpu>(task: &mut Task<P>, which: Int, id: Pid, info: Ptr, options: Flags, usage: Ptr) -> Result<()> {
    let news = raw::WEXITED | raw::WSTOPPED | raw::WCONTINUED;
    if options.0 & !(COMMON | news | raw::WNOWAIT) != 0 || options.0 & news == 0 {
        return Err(errno!(INVAL, "unknown options, or nothing to wait for"));
    }
    let number = u32::try_from(id.0).map_err(|_| errno!(INVAL, "no such id"));
    let which = match u32::try_from(which.0) {
        Ok(raw::P_ALL) => Which::All,
        Ok(raw::P_PID) => match number? {
            0 => return Err(errno!(INVAL, "no such id")),
            pid => Which::Process(pid),
        },
        Ok(raw::P_PGID) => match number? {
            0 => own_group(task),
            group => Which::Group(group),
        },
        Ok(raw::P_PIDFD) => {
            number?;
            return wait_by_descriptor(task, Fd(id.0), options, info, usage);
        }
        _ => return Err(errno!(INVAL, "which?")),
    };
    let report = wait(task, which, options.0)?;
    tell::<P>(report, info, usage)
}

/// waitid(2) for the process that a descriptor is of; one that does not block gives `AGAIN` instead.
fn wait_by_descriptor<P: Cpu>(task: &Task<P>, fd: Fd, options: Flags, info: Ptr, usage: Ptr) -> Result<()> {
    let (process, status) = pidfd::process(task, fd)?;
    if !task.sandbox().knows(&process) {
        return Err(errno!(CHILD, "it was reaped"));
    }
    let waits = options.0 & raw::WNOHANG == 0;
    let deaf = if waits && status.contains(OFlags::NONBLOCK) { raw::WNOHANG } else { 0 };
    let report = wait(task, Which::Process(process.pid()), options.0 | deaf)?;
    if report.is_none() && deaf != 0 {
        return Err(errno!(AGAIN, "the descriptor does not block"));
    }
    tell::<P>(report, info, usage)
}

/// Stores what waitid(2) found.
fn tell<P: Cpu>(report: Option<Report>, info: Ptr, usage: Ptr) -> Result<()> {
    if let Some(report) = &report {
        resources::write::<P>(usage, &report.used)?;
    }
    if info.0 == GuestAddr::default() {
        return Ok(());
    }
    // Linux stores these fields and leaves the rest of the structure as it is.
    let fields = match report {
        Some(report) => {
            let signal = i32::try_from(Signal::CHLD.number()).unwrap_or_default();
            let int = |number: u32| i32::from_le_bytes(number.to_le_bytes());
            ([signal, 0, report.code], [int(report.pid), int(report.uid), report.status])
        }
        None => ([0; 3], [0; 3]),
    };
    put::<P, 12>(info.0, &fields.0)?;
    put::<P, 12>(info.0.plus(16)?, &fields.1)
}

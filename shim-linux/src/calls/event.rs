//! `eventfd(2)`, `timerfd_create(2)`, `signalfd(2)`, `epoll_create(2)`, `epoll_ctl(2)`, `epoll_wait(2)`,
//! inotify(7).

use super::files::{descriptor_flags, file, install, number, open_file, open_flags, path, with_dir};
use super::poll::{Patience, bits, mask, timeout, wanted};
use super::sigwait::{wait_until, with_mask};
use super::time::decode;
use super::{put, take};
use crate::args::{Count, DirFd, Fd, Flags, Int, Len, Path, Ptr};
use crate::notify::{self, Inotify};
use crate::signal::{Cpu, SigSet};
use crate::task::{SignalFd, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::event::epoll::{Asked, Epoll, Event, Trigger};
use litebox_core::event::eventfd::{EventFd, Take};
use litebox_core::event::timerfd::{TimerFd, WhichClock};
use litebox_core::fs::fd_table::Fd as Number;
use litebox_core::fs::file::File;
use litebox_core::fs::path::Resolve;
use litebox_core::fs::types::{Access, OFlags};
use litebox_core::mm::{GuestAddr, user};
use litebox_core::time::Setting;

/// Gives a new file a number; of `flags` counts whether exec closes it.
fn give<P: Cpu>(task: &Task<P>, file: Arc<File<P>>, flags: OFlags) -> Result<u32> {
    install(task, file, descriptor_flags(flags), Number(0))
}

pub(crate) fn eventfd2<P: Cpu>(task: &mut Task<P>, count: Count, flags: Flags) -> Result<u32> {
    if flags.0 & !(raw::EFD_SEMAPHORE | raw::EFD_CLOEXEC | raw::EFD_NONBLOCK) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let take = if flags.0 & raw::EFD_SEMAPHORE == 0 { Take::All } else { Take::One };
    let flags = open_flags(flags.0);
    let id = task.sandbox().shared().new_inode();
    give(task, EventFd::open(count.0, take, id, flags & OFlags::NONBLOCK), flags)
}

pub(crate) fn eventfd<P: Cpu>(task: &mut Task<P>, count: Count) -> Result<u32> {
    eventfd2(task, count, Flags(0))
}

pub(crate) fn signalfd4<P: Cpu>(task: &mut Task<P>, fd: Fd, mask: Ptr, size: Len, flags: Flags) -> Result<u32> {
    if flags.0 & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 || size.0 != 8 {
        return Err(errno!(INVAL, "unknown flags, or a set of another size"));
    }
    let wanted = SigSet::from_bits(take::<P, u64, 8>(mask.0)?).blockable();
    if fd.0 != -1 {
        SignalFd::change(&*open_file(task, fd)?, wanted)?;
        return Ok(number(fd.0).0);
    }
    let flags = open_flags(flags.0);
    give(task, SignalFd::open(task.process(), wanted, flags & OFlags::NONBLOCK), flags)
}

pub(crate) fn signalfd<P: Cpu>(task: &mut Task<P>, fd: Fd, mask: Ptr, size: Len) -> Result<u32> {
    signalfd4(task, fd, mask, size, Flags(0))
}

pub(crate) fn timerfd_create<P: Cpu>(task: &mut Task<P>, clock: Int, flags: Flags) -> Result<u32> {
    if flags.0 & !(raw::TFD_CLOEXEC | raw::TFD_NONBLOCK) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let clock = match u32::try_from(clock.0) {
        Ok(raw::CLOCK_REALTIME) => WhichClock::Real,
        Ok(raw::CLOCK_MONOTONIC | raw::CLOCK_BOOTTIME) => WhichClock::Monotonic,
        Ok(raw::CLOCK_REALTIME_ALARM | raw::CLOCK_BOOTTIME_ALARM) => return Err(errno!(PERM, "nothing here wakes the machine")),
        _ => return Err(errno!(INVAL, "no such clock")),
    };
    let flags = open_flags(flags.0);
    let shared = task.sandbox().shared();
    let file = TimerFd::open(shared.timers(), clock, shared.new_inode(), flags & OFlags::NONBLOCK);
    give(task, file, flags)
}

/// `struct itimerspec`: the time between two expiries, then the first one, or what is left of it.
type Wire = [i64; 4];

const _: () = assert!(size_of::<Wire>() == size_of::<raw::__kernel_itimerspec>());

/// A setting as a program reads it.
/// Stores what is left of a setting at `now` of its clock, and its interval.
pub(super) fn put_setting<P: Cpu>(at: GuestAddr, setting: Setting, now: Duration) -> Result<()> {
    let left = setting.left(now);
    let pair = |time: Duration| [i64::try_from(time.as_secs()).unwrap_or(i64::MAX), i64::from(time.subsec_nanos())];
    let ([every, every_nanos], [left, left_nanos]) = (pair(setting.every), pair(left));
    put::<P, 32>(at, &[every, every_nanos, left, left_nanos])
}

/// The first expiry and the interval that a program gives.
pub(super) fn take_times<P: Cpu>(at: GuestAddr) -> Result<(Duration, Duration)> {
    let [every, every_nanos, value, nanos] = take::<P, Wire, 32>(at)?;
    Ok((decode([value, nanos])?, decode([every, every_nanos])?))
}

/// A setting as a program gives it, on the monotonic clock; an absolute time is one of `clock`.
pub(super) fn setting<P: Cpu>((first, every): (Duration, Duration), is_absolute: bool, clock: WhichClock) -> Setting {
    let now = P::monotonic();
    let at = match (is_absolute, clock) {
        (false, _) => now.saturating_add(first),
        (true, WhichClock::Monotonic) => first,
        (true, WhichClock::Real) => now.saturating_add(first).saturating_sub(P::realtime()),
    };
    Setting { at: (!first.is_zero()).then_some(at), every }
}

pub(crate) fn timerfd_settime<P: Cpu>(task: &mut Task<P>, fd: Fd, flags: Flags, new: Ptr, old: Ptr) -> Result<()> {
    if flags.0 & !(raw::TFD_TIMER_ABSTIME | raw::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let timer = TimerFd::of(&*open_file(task, fd)?)?;
    let new = setting::<P>(take_times::<P>(new.0)?, flags.0 & raw::TFD_TIMER_ABSTIME != 0, timer.clock());
    let before = timer.set(new)?;
    if old.0 == GuestAddr::default() { Ok(()) } else { put_setting::<P>(old.0, before, P::monotonic()) }
}

pub(crate) fn timerfd_gettime<P: Cpu>(task: &mut Task<P>, fd: Fd, now: Ptr) -> Result<()> {
    let timer = TimerFd::of(&*open_file(task, fd)?)?;
    put_setting::<P>(now.0, timer.get(), P::monotonic())
}

pub(crate) fn epoll_create1<P: Cpu>(task: &mut Task<P>, flags: Flags) -> Result<u32> {
    if flags.0 & !raw::EPOLL_CLOEXEC != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let id = task.sandbox().shared().new_inode();
    give(task, Epoll::open(task.sandbox().quota(), id, OFlags::empty()), open_flags(flags.0))
}

pub(crate) fn epoll_create<P: Cpu>(task: &mut Task<P>, size: Int) -> Result<u32> {
    if size.0 <= 0 { Err(errno!(INVAL, "no size")) } else { epoll_create1(task, Flags(0)) }
}

/// `struct epoll_event`, packed: events, then data.
const EVENT: usize = 12;
const _: () = assert!(EVENT == size_of::<raw::epoll_event>());

/// What a program asks of a member.
fn asked(bytes: [u8; EVENT], is_new: bool) -> Result<Asked> {
    let [a, b, c, d, data @ ..] = bytes;
    let bits = u32::from_le_bytes([a, b, c, d]);
    let is_exclusive = bits & raw::EPOLLEXCLUSIVE != 0;
    let with_exclusive = raw::EPOLLIN | raw::EPOLLOUT | raw::EPOLLERR | raw::EPOLLHUP | raw::EPOLLWAKEUP | raw::EPOLLET;
    if is_exclusive && (!is_new || bits & !(with_exclusive | raw::EPOLLEXCLUSIVE) != 0) {
        return Err(errno!(INVAL, "not together with EPOLLEXCLUSIVE"));
    }
    let trigger = match (bits & raw::EPOLLONESHOT != 0, bits & raw::EPOLLET != 0) {
        (true, _) => Trigger::Once,
        (false, true) => Trigger::Edge,
        (false, false) => Trigger::Level,
    };
    Ok(Asked { events: wanted(bits), bits, trigger, is_exclusive, data: u64::from_le_bytes(data) })
}

pub(crate) fn epoll_ctl<P: Cpu>(task: &mut Task<P>, epfd: Fd, op: Int, fd: Fd, event: Ptr) -> Result<()> {
    let op = u32::try_from(op.0).map_err(|_| errno!(INVAL, "no such operation"))?;
    let event = if op == raw::EPOLL_CTL_DEL { [0; EVENT] } else { take::<P, [u8; EVENT], EVENT>(event.0)? };
    let (set, file) = (open_file(task, epfd)?, open_file(task, fd)?);
    let set = Epoll::of(&set).ok_or(errno!(INVAL, "no epoll descriptor"))?;
    let fd = number(fd.0).0;
    match op {
        raw::EPOLL_CTL_ADD => set.add(fd, &file, asked(event, true)?, task.sandbox().shared().nesting()),
        raw::EPOLL_CTL_MOD => set.modify(fd, &file, asked(event, false)?),
        raw::EPOLL_CTL_DEL => set.remove(fd, &file),
        _ => Err(errno!(INVAL, "no such operation")),
    }
}

/// Events that one wait gives at most: a longer list takes another call, as in Linux on a small buffer.
const EVENTS_MAX: usize = 1024;

fn wait_for<P: Cpu>(task: &Task<P>, fd: Fd, events: Ptr, max: Int, patience: Patience) -> Result<usize> {
    let most = usize::try_from(max.0).ok().filter(|max| *max > 0).ok_or(errno!(INVAL, "no room"))?.min(EVENTS_MAX);
    let set = Epoll::of(&*file(task, fd)?).ok_or(errno!(INVAL, "no epoll descriptor"))?;
    let mut list = Vec::new();
    list.try_reserve_exact(most.saturating_mul(EVENT)).map_err(|_| errno!(NOMEM))?;
    let mut sink = |event: Event| {
        list.extend_from_slice(&bits(event.ready, event.bits).to_le_bytes());
        list.extend_from_slice(&event.data.to_le_bytes());
    };
    if !set.try_wait(most, &mut sink) {
        if task.is_wanted() {
            return Err(Error::Interrupted);
        }
        if patience != Patience::None {
            wait_until(task, patience.deadline(), |until| set.wait(most, until, &mut sink))?;
        }
    }
    user::write_all::<P>(events.0, &list)?;
    Ok(list.len() / EVENT)
}

pub(crate) fn epoll_wait<P: Cpu>(task: &mut Task<P>, fd: Fd, events: Ptr, max: Int, at: Int) -> Result<usize> {
    wait_for(task, fd, events, max, Patience::millis::<P>(at))
}

fn wait_masked<P: Cpu>(
    task: &mut Task<P>,
    (fd, events, max): (Fd, Ptr, Int),
    patience: Patience,
    mask: Option<SigSet>,
) -> Result<usize> {
    with_mask(task, mask, |task| wait_for(task, fd, events, max, patience))
}

pub(crate) fn epoll_pwait<P: Cpu>(
    task: &mut Task<P>,
    fd: Fd,
    events: Ptr,
    max: Int,
    at: Int,
    set: Ptr,
    size: Len,
) -> Result<usize> {
    let mask = mask::<P>(set.0, size.0)?;
    wait_masked(task, (fd, events, max), Patience::millis::<P>(at), mask)
}

pub(crate) fn epoll_pwait2<P: Cpu>(
    task: &mut Task<P>,
    fd: Fd,
    events: Ptr,
    max: Int,
    at: Ptr,
    set: Ptr,
    size: Len,
) -> Result<usize> {
    let patience = timeout::<P>(at.0)?;
    let mask = mask::<P>(set.0, size.0)?;
    wait_masked(task, (fd, events, max), patience, mask)
}

pub(crate) fn inotify_init1<P: Cpu>(task: &mut Task<P>, flags: Flags) -> Result<u32> {
    if flags.0 & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let flags = open_flags(flags.0);
    let (id, fs) = (task.sandbox().shared().new_inode(), task.fs());
    let file = Inotify::open(task.sandbox(), fs.namespace.watches(), id, flags & OFlags::NONBLOCK);
    give(task, file, flags)
}

pub(crate) fn inotify_init<P: Cpu>(task: &mut Task<P>) -> Result<u32> {
    inotify_init1(task, Flags(0))
}

pub(crate) fn inotify_add_watch<P: Cpu>(task: &mut Task<P>, fd: Fd, name: Path, mask: Flags) -> Result<u32> {
    let both = raw::IN_MASK_ADD | raw::IN_MASK_CREATE;
    if notify::asked(mask.0).is_empty() || mask.0 & both == both {
        return Err(errno!(INVAL, "nothing to watch, or flags that exclude each other"));
    }
    let set = Inotify::of(&*open_file(task, fd)?)?;
    let mut how = Resolve::empty();
    how.set(Resolve::FOLLOW, mask.0 & raw::IN_DONT_FOLLOW == 0);
    how.set(Resolve::DIRECTORY, mask.0 & raw::IN_ONLYDIR != 0);
    let name = path::<P>(name)?;
    let inode = with_dir(task, DirFd(raw::AT_FDCWD), &name, |at| {
        let place = at.resolve(&name, how)?;
        at.may(&place, Access::READ)?;
        Ok(place.inode().id())
    })?;
    set.watch(inode, mask.0)
}

pub(crate) fn inotify_rm_watch<P: Cpu>(task: &mut Task<P>, fd: Fd, watch: Int) -> Result<()> {
    let set = Inotify::of(&*open_file(task, fd)?)?;
    set.unwatch(u32::try_from(watch.0).map_err(|_| errno!(INVAL, "no such watch"))?)
}

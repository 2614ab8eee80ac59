//! seccomp(2), and what prctl(2) has of it. What filters say of a call is followed in `crate::watched`.

use super::{put, take};
use crate::args::{Count, Flags, Ptr};
use crate::seccomp::{Filter, Instruction, MOST, Mode, Program, action};
use crate::signal::Cpu;
use crate::task::Task;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, user};
use zerocopy::FromBytes;

/// Operations and flags, by linux/seccomp.h.
const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const GET_NOTIF_SIZES: u32 = 3;
const TSYNC: u32 = 1;
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const NEW_LISTENER: u32 = 1 << 3;
const TSYNC_ESRCH: u32 = 1 << 4;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;
const KNOWN: u32 = TSYNC | LOG | SPEC_ALLOW | NEW_LISTENER | TSYNC_ESRCH | WAIT_KILLABLE_RECV;
/// Bytes of `struct seccomp_notif`, `struct seccomp_notif_resp`, `struct seccomp_data`.
const SIZES: [u16; 3] = [80, 24, 64];
/// Bytes of `struct sock_filter`.
const INSTRUCTION_BYTES: usize = size_of::<Instruction>();
/// What a filter is charged beside its instructions.
const FILTER_BYTES: u64 = 128;

pub(crate) fn seccomp<P: Cpu>(task: &mut Task<P>, operation: Count, flags: Flags, args: Ptr) -> Result<u32> {
    match operation.0 {
        SET_MODE_STRICT if flags.0 == 0 && args.0.get() == 0 => set_strict(task).map(|()| 0),
        SET_MODE_FILTER => set_filter(task, flags.0, args.0),
        GET_ACTION_AVAIL if flags.0 == 0 => {
            let asked = take::<P, u32, 4>(args.0)?;
            if action::ALL.contains(&asked) { Ok(0) } else { Err(errno!(OPNOTSUPP, "no such action")) }
        }
        GET_NOTIF_SIZES if flags.0 == 0 => put::<P, 6>(args.0, &SIZES).map(|()| 0),
        _ => Err(errno!(INVAL, "no such operation, or flags that it does not have")),
    }
}

/// From now on only a few calls are allowed.
pub(super) fn set_strict<P: Cpu>(task: &Task<P>) -> Result<()> {
    if task.shared().seccomp().number() > 1 {
        return Err(errno!(INVAL, "it has filters"));
    }
    task.shared().set_seccomp(Mode::Strict);
    Ok(())
}

/// Adds a filter; a thread's id if that keeps all from having it.
pub(super) fn set_filter<P: Cpu>(task: &Task<P>, flags: u32, args: GuestAddr) -> Result<u32> {
    let has = |flag: u32| flags & flag != 0;
    if flags & !KNOWN != 0
        || (has(TSYNC) && has(NEW_LISTENER) && !has(TSYNC_ESRCH))
        || (has(WAIT_KILLABLE_RECV) && !has(NEW_LISTENER))
    {
        return Err(errno!(INVAL, "unknown flags, or such that do not go together"));
    }
    if has(NEW_LISTENER) {
        return Err(errno!(INVAL, "nobody is notified of calls"));
    }
    let [len, at] = take::<P, [u64; 2], 16>(args)?;
    let len = usize::try_from(len & 0xffff).unwrap_or_default();
    if len == 0 || len > MOST {
        return Err(errno!(INVAL, "a filter of no length, or too long"));
    }
    if !task.process().with(|state| state.tuning.no_new_privs) && !task.credentials().can(Capabilities::SYS_ADMIN) {
        return Err(errno!(ACCESS, "new privileges are possible"));
    }
    let bytes = len.saturating_mul(INSTRUCTION_BYTES);
    let charge = task.sandbox().quota().charge(FILTER_BYTES.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)))?;
    let mut all = super::zeros::<Instruction>(len)?;
    let mut raw = super::zeros::<u8>(bytes)?;
    user::read_exact::<P>(GuestAddr::new(at), &mut raw)?;
    for (instruction, bytes) in all.iter_mut().zip(raw.chunks_exact(INSTRUCTION_BYTES)) {
        *instruction = Instruction::read_from_bytes(bytes).map_err(|_| errno!(FAULT))?;
    }
    let program = Program::new(all)?;
    let now = task.shared().seccomp();
    if now.number() == 1 {
        return Err(errno!(INVAL, "it is strict"));
    }
    let mode = Mode::Filters(Filter::new(program, now.filter().cloned(), charge)?);
    if has(TSYNC) {
        if let Some(thread) = task.process().set_seccomp(task.tid(), &now, &mode) {
            return if has(TSYNC_ESRCH) { Err(errno!(SRCH, "a thread has other filters")) } else { Ok(thread) };
        }
    } else {
        task.shared().set_seccomp(mode);
    }
    Ok(0)
}

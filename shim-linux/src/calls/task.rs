//! `arch_prctl(2)`, `set_tid_address(2)`, exit(2), personality(2), getrandom(2).

use super::put;
use crate::args::{Flags, Int, Len, Ptr};
use crate::signal::Cpu;
use crate::task::{After, End, Task};
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GUEST_END, GuestAddr, UserOut, user};

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;

/// A base that ring 3 may have: one that no guest can map would let an instruction reach past its memory.
fn base(addr: GuestAddr) -> Result<u64> {
    if addr.get() < GUEST_END { Ok(addr.get()) } else { Err(errno!(PERM, "a base outside of the guest")) }
}

pub(crate) fn arch_prctl<P: Cpu>(_task: &mut Task<P>, option: Int, addr: Ptr) -> Result<()> {
    match option.0 {
        ARCH_SET_FS => P::set_fs_base(base(addr.0)?),
        ARCH_SET_GS => P::set_gs_base(base(addr.0)?),
        ARCH_GET_FS => put::<P, 8>(addr.0, &P::fs_base())?,
        ARCH_GET_GS => put::<P, 8>(addr.0, &P::gs_base())?,
        _ => return Err(errno!(INVAL, "unknown option")),
    }
    Ok(())
}

pub(crate) fn set_tid_address<P: Cpu>(task: &mut Task<P>, tid: Ptr) -> Result<u32> {
    task.clear_tid = tid.0;
    Ok(task.tid())
}

pub(crate) fn set_robust_list<P: Cpu>(task: &mut Task<P>, head: Ptr, len: Len) -> Result<()> {
    if len.0 != 24 {
        return Err(errno!(INVAL, "a robust list of another size"));
    }
    task.shared().set_robust_list(head.0);
    Ok(())
}

/// What a parent sees of a status: its low byte.
fn status(status: Int) -> u8 {
    let [low, ..] = status.0.to_le_bytes();
    low
}

pub(crate) fn exit<P: Cpu>(task: &mut Task<P>, code: Int) -> Result<()> {
    task.after = After::End(End::Task(status(code)));
    Ok(())
}

pub(crate) fn exit_group<P: Cpu>(task: &mut Task<P>, code: Int) -> Result<()> {
    task.after = After::End(End::Process(status(code)));
    Ok(())
}

pub(crate) fn personality<P: Cpu>(task: &mut Task<P>, persona: Flags) -> Result<u32> {
    Ok(task.process().with(|state| {
        let now = &mut state.tuning.personality;
        // All ones only asks.
        let next = if persona.0 == u32::MAX { *now } else { persona.0 };
        core::mem::replace(now, next)
    }))
}

pub(crate) fn getrandom<P: Cpu>(task: &mut Task<P>, buf: Ptr, len: Len, flags: Flags) -> Result<usize> {
    let both = raw::GRND_RANDOM | raw::GRND_INSECURE;
    if flags.0 & !(both | raw::GRND_NONBLOCK) != 0 || flags.0 & both == both {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let len = usize::try_from(len.0).unwrap_or(user::MAX_IO).min(user::MAX_IO);
    let mut writer = UserOut::new(buf.0, len).writer::<P>();
    let mut bytes = [0; 256];
    while writer.left() > 0 {
        // Looked at once a page, as Linux does.
        if writer.done() > 0 && writer.done() % 4096 == 0 && task.is_wanted() {
            break;
        }
        let chunk = bytes.len().min(writer.left());
        let Some(chunk) = bytes.get_mut(..chunk) else { break };
        P::fill_random(chunk);
        match writer.write(chunk) {
            Ok(written) if written == chunk.len() => {}
            Err(error) if writer.done() == 0 => return Err(error),
            Ok(_) | Err(_) => break,
        }
    }
    Ok(writer.done())
}

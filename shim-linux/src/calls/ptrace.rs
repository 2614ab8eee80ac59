//! ptrace(2): requests and their structures. What they do is in `task::ptrace`.
//!
//! Errors come in the order of Linux kernel/ptrace.c and arch/x86/kernel/ptrace.c.

use super::{put, take};
use crate::args::{Offset, Pid, Ptr, Word};
use crate::signal::{Cpu, Info, SigSet, Signal};
use crate::task::{AtCall, Options, Task, Tracee, UserWord, WORDS, Watch};
use linux_raw_sys::general;
use linux_raw_sys::ptrace as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{GuestAddr, user};

/// Bytes of `siginfo_t`.
const INFO_BYTES: usize = 128;
/// Bytes of a signal set.
const SET_BYTES: u64 = 8;
/// Bytes of `struct user_fpregs_struct`: the legacy area.
const LEGACY_BYTES: usize = 512;
/// Kinds of register sets. Linux: uapi/linux/elf.h.
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;
/// `AUDIT_ARCH_X86_64`.
pub(crate) const ARCH: u32 = 0xc000_003e;

/// The signal in a request's last argument.
fn signal(data: u64) -> Result<Option<Signal>> {
    match data {
        0 => Ok(None),
        number => Signal::new(number).map(Some).ok_or(errno!(IO, "no such signal")),
    }
}

fn options(data: u64, unknown: litebox_core::error::Error) -> Result<Options> {
    u32::try_from(data).ok().and_then(Options::from_bits).ok_or(unknown)
}

pub(crate) fn ptrace<P: Cpu>(task: &mut Task<P>, request: Offset, pid: Pid, addr: Ptr, data: Word) -> Result<u64> {
    let request = u32::try_from(request.0).unwrap_or(u32::MAX);
    if request == raw::PTRACE_TRACEME {
        return task.trace_me().map(|()| 0);
    }
    let tid = u32::try_from(pid.0).ok().filter(|tid| *tid != 0).ok_or(errno!(SRCH))?;
    match request {
        raw::PTRACE_ATTACH => return task.attach(tid, None).map(|()| 0),
        raw::PTRACE_SEIZE => {
            task.sandbox().process_of(tid).ok_or(errno!(SRCH))?;
            if addr.0.get() != 0 {
                return Err(errno!(IO, "an address"));
            }
            let options = options(data.0, errno!(IO, "unknown options"))?;
            return task.attach(tid, Some(options)).map(|()| 0);
        }
        _ => {}
    }
    let tracee = task.tracee(tid)?;
    match request {
        raw::PTRACE_KILL => {
            tracee.kill();
            return Ok(0);
        }
        raw::PTRACE_INTERRUPT if tracee.is_seized() => {
            tracee.interrupt();
            return Ok(0);
        }
        raw::PTRACE_INTERRUPT => return Err(errno!(IO, "not seized")),
        _ => tracee.check_stopped()?,
    }
    let pace = match request {
        raw::PTRACE_CONT => Some(Watch::empty()),
        raw::PTRACE_SYSCALL => Some(Watch::CALLS),
        raw::PTRACE_SINGLESTEP => Some(Watch::STEP),
        raw::PTRACE_SYSEMU => Some(Watch::EMULATED),
        raw::PTRACE_SYSEMU_SINGLESTEP => Some(Watch::EMULATED | Watch::STEP),
        _ => None,
    };
    if let Some(pace) = pace {
        return tracee.go_on(pace, signal(data.0)?).map(|()| 0);
    }
    match request {
        raw::PTRACE_DETACH => {
            let signal = signal(data.0)?;
            task.detach(&tracee, signal);
            Ok(0)
        }
        raw::PTRACE_LISTEN if tracee.is_seized() => tracee.listen().map(|()| 0),
        raw::PTRACE_GET_SYSCALL_INFO => call_info(&tracee, addr.0.get(), data),
        raw::PTRACE_PEEKSIGINFO => peek_infos(&tracee, addr, data),
        _ => look_or_change(&tracee, request, addr, data).map(|()| 0),
    }
}

/// Requests that read or change something and give 0.
fn look_or_change<P: Cpu>(tracee: &Tracee<P>, request: u32, addr: Ptr, data: Word) -> Result<()> {
    let at = GuestAddr::new(data.0);
    match request {
        raw::PTRACE_PEEKTEXT | raw::PTRACE_PEEKDATA => {
            let mut word = [0; 8];
            match tracee.memory()?.peek(addr.0, &mut word) {
                Ok(8) => put::<P, 8>(at, &word),
                _ => Err(errno!(IO, "nothing is there")),
            }
        }
        raw::PTRACE_POKETEXT | raw::PTRACE_POKEDATA => match tracee.memory()?.poke(addr.0, &data.0.to_le_bytes()) {
            Ok(8) => Ok(()),
            _ => Err(errno!(IO, "nothing is there")),
        },
        raw::PTRACE_PEEKUSR => {
            let word = match UserWord::at(addr.0.get())? {
                UserWord::Register(index) => tracee.registers()?.get(index),
                UserWord::Debug(number) => tracee.debug(number),
                UserWord::Nothing => 0,
            };
            put::<P, 8>(at, &word)
        }
        raw::PTRACE_POKEUSR => match UserWord::at(addr.0.get())? {
            UserWord::Register(index) => tracee.set_registers([(index, data.0)].into_iter()),
            UserWord::Debug(number) => tracee.set_debug(number, data.0),
            UserWord::Nothing => Err(errno!(IO, "it cannot be changed")),
        },
        raw::PTRACE_GETREGS => put::<P, { WORDS * 8 }>(at, &tracee.registers()?),
        raw::PTRACE_SETREGS => {
            let words = take::<P, [u64; WORDS], { WORDS * 8 }>(at)?;
            tracee.set_registers(words.into_iter().enumerate())
        }
        raw::PTRACE_GETFPREGS => user::write_all::<P>(at, &tracee.image(LEGACY_BYTES)?),
        raw::PTRACE_SETFPREGS => {
            let bytes = take::<P, [u8; LEGACY_BYTES], LEGACY_BYTES>(at)?;
            set_legacy(tracee, &bytes)
        }
        raw::PTRACE_GETREGSET | raw::PTRACE_SETREGSET => register_set(tracee, request == raw::PTRACE_SETREGSET, addr.0.get(), at),
        raw::PTRACE_GETSIGINFO => put::<P, INFO_BYTES>(at, &tracee.info()?.encode()),
        raw::PTRACE_SETSIGINFO => {
            let bytes = take::<P, [u8; INFO_BYTES], INFO_BYTES>(at)?;
            let old = tracee.info()?;
            let [a, b, c, d, ..] = bytes;
            let signal = Signal::new(u32::from_le_bytes([a, b, c, d]).into()).unwrap_or(old.signal);
            tracee.set_info(Info::decode(signal, &bytes))
        }
        raw::PTRACE_GETSIGMASK | raw::PTRACE_SETSIGMASK if addr.0.get() != SET_BYTES => {
            Err(errno!(INVAL, "a set of another size"))
        }
        raw::PTRACE_GETSIGMASK => put::<P, 8>(at, &tracee.mask()?.bits()),
        raw::PTRACE_SETSIGMASK => tracee.set_mask(SigSet::from_bits(take::<P, u64, 8>(at)?)),
        raw::PTRACE_SETOPTIONS | raw::PTRACE_OLDSETOPTIONS => {
            let options = options(data.0, errno!(INVAL, "unknown options"))?;
            if options.contains(Options::SUSPEND_SECCOMP) {
                return Err(errno!(PERM, "filters are not suspended"));
            }
            tracee.set_options(options);
            Ok(())
        }
        raw::PTRACE_GETEVENTMSG => put::<P, 8>(at, &tracee.message()),
        // With the roles of address and data that arch_prctl(2) has.
        raw::PTRACE_ARCH_PRCTL => base(tracee, data.0, addr.0),
        _ => Err(errno!(IO, "no such request")),
    }
}

/// Operations of `arch_prctl(2)`. Linux: asm/prctl.h.
const SET_GS: u64 = 0x1001;
const SET_FS: u64 = 0x1002;
const GET_FS: u64 = 0x1003;
const GET_GS: u64 = 0x1004;
/// The bases among the registers.
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;

fn base<P: Cpu>(tracee: &Tracee<P>, operation: u64, value: GuestAddr) -> Result<()> {
    let set = |index: usize| tracee.set_registers([(index, value.get())].into_iter()).map_err(|_| errno!(PERM, "no such base"));
    match operation {
        SET_FS => set(FS_BASE),
        SET_GS => set(GS_BASE),
        GET_FS => put::<P, 8>(value, &tracee.registers()?.fs_base),
        GET_GS => put::<P, 8>(value, &tracee.registers()?.gs_base),
        _ => Err(errno!(INVAL, "no such operation")),
    }
}

fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Places in an image, and the components of its first part. See Intel's manual, volume 1, 13.4.
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// What a mask of zero means.
const MXCSR_MASK_DEFAULT: u32 = 0xffbf;
const STATE_END: usize = 416;
const PRESENT: usize = 512;
const X87_AND_SSE: u64 = 3;

fn check_mxcsr(image: &[u8], new: &[u8]) -> Result<()> {
    let known = match half(image, MXCSR_MASK) {
        0 => MXCSR_MASK_DEFAULT,
        mask => mask,
    };
    if half(new, MXCSR) & !known == 0 { Ok(()) } else { Err(errno!(INVAL, "reserved bits of MXCSR")) }
}

fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Sets x87 and SSE state; the rest stays.
fn set_legacy<P: Cpu>(tracee: &Tracee<P>, bytes: &[u8]) -> Result<()> {
    tracee.change_image(|image| {
        check_mxcsr(image, bytes)?;
        let mask = half(image, MXCSR_MASK).to_le_bytes();
        copy(image, bytes.get(..STATE_END).unwrap_or_default());
        copy(image.get_mut(MXCSR_MASK..).unwrap_or_default(), &mask);
        let present = word(image, PRESENT) | X87_AND_SSE;
        copy(image.get_mut(PRESENT..).unwrap_or_default(), &present.to_le_bytes());
        Ok(())
    })
}

/// Sets the whole state. Linux: `copy_uabi_to_xstate`.
fn set_whole<P: Cpu>(tracee: &Tracee<P>, bytes: &[u8]) -> Result<()> {
    tracee.change_image(|image| {
        check_mxcsr(image, bytes)?;
        let reserved_is_zero = (PRESENT.saturating_add(8)..PRESENT.saturating_add(64)).step_by(8).all(|at| word(bytes, at) == 0);
        if word(bytes, PRESENT) & !P::fpu_features() != 0 || !reserved_is_zero {
            return Err(errno!(INVAL, "components that there are not"));
        }
        let mask = half(image, MXCSR_MASK).to_le_bytes();
        copy(image, bytes);
        copy(image.get_mut(MXCSR_MASK..).unwrap_or_default(), &mask);
        Ok(())
    })
}

/// `PTRACE_GETREGSET`, `PTRACE_SETREGSET`: a part of a set, by an `iovec` whose length becomes that of the part.
fn register_set<P: Cpu>(tracee: &Tracee<P>, sets: bool, kind: u64, iov: GuestAddr) -> Result<()> {
    let [base, len] = take::<P, [u64; 2], 16>(iov)?;
    let whole = match kind {
        NT_PRSTATUS => WORDS.saturating_mul(8),
        NT_PRFPREG => LEGACY_BYTES,
        NT_X86_XSTATE => P::fpu_bytes(),
        _ => return Err(errno!(INVAL, "no such set")),
    };
    if len & 7 != 0 {
        return Err(errno!(INVAL, "no whole words"));
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(whole);
    let at = GuestAddr::new(base);
    if sets {
        let mut bytes = super::zeros::<u8>(len)?;
        user::read_exact::<P>(at, &mut bytes)?;
        match kind {
            NT_PRSTATUS => {
                let words = (0..len >> 3).map(|index| (index, word(&bytes, index.saturating_mul(8))));
                tracee.set_registers(words)?;
            }
            // As in Linux, not in parts.
            _ if len != whole => {
                return Err(if kind == NT_PRFPREG { errno!(INVAL) } else { errno!(FAULT, "a part of the state") });
            }
            NT_PRFPREG => set_legacy(tracee, &bytes)?,
            _ => set_whole(tracee, &bytes)?,
        }
    } else if kind == NT_PRSTATUS {
        let registers = tracee.registers()?;
        user::write_all::<P>(at, zerocopy::IntoBytes::as_bytes(&registers).get(..len).unwrap_or_default())?;
    } else {
        user::write_all::<P>(at, &tracee.image(len)?)?;
    }
    put::<P, 8>(iov.plus(8)?, &u64::try_from(len).unwrap_or_default())
}

/// `PTRACE_PEEKSIGINFO`: signals that wait; how many were copied.
fn peek_infos<P: Cpu>(tracee: &Tracee<P>, addr: Ptr, data: Word) -> Result<u64> {
    let [first, rest] = take::<P, [u64; 2], 16>(addr.0)?;
    let [a, b, c, d, e, f, g, h] = rest.to_le_bytes();
    let (flags, count) = (u32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]));
    if flags & !raw::PTRACE_PEEKSIGINFO_SHARED != 0 || count < 0 {
        return Err(errno!(INVAL, "unknown flags, or a negative count"));
    }
    let mut at = GuestAddr::new(data.0);
    let mut done = 0;
    for index in 0..u64::from(count.unsigned_abs()) {
        let Some(info) = first.checked_add(index).and_then(|index| tracee.waiting(index, flags != 0)) else { break };
        match put::<P, INFO_BYTES>(at, &info.encode()) {
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
            Ok(()) => done = index.saturating_add(1),
        }
        at = at.plus(INFO_BYTES as u64)?;
    }
    Ok(done)
}

/// Bytes of `struct ptrace_syscall_info`, and how many of them mean something at which stop.
const CALL_INFO_BYTES: usize = size_of::<raw::ptrace_syscall_info>();
const CALL_INFO_COMMON: usize = 24;
const CALL_INFO_ENTRY: usize = 80;
const CALL_INFO_EXIT: usize = 33;
const CALL_INFO_SECCOMP: usize = 84;

/// `PTRACE_GET_SYSCALL_INFO`: how many bytes there are, of which at most `room` are copied.
fn call_info<P: Cpu>(tracee: &Tracee<P>, room: u64, data: Word) -> Result<u64> {
    let (at, regs) = tracee.at_call()?;
    let mut bytes = [0; CALL_INFO_BYTES];
    let mut place = |at: usize, value: &[u8]| copy(bytes.get_mut(at..).unwrap_or_default(), value);
    place(4, &ARCH.to_le_bytes());
    place(8, &regs.ip.to_le_bytes());
    place(16, &regs.sp.to_le_bytes());
    let mut call = |kind: u32| {
        place(0, &kind.to_le_bytes());
        let [a, b, c, d, e, f] = regs.args();
        for (index, word) in [regs.number(), a, b, c, d, e, f].into_iter().enumerate() {
            place(CALL_INFO_COMMON.saturating_add(index.saturating_mul(8)), &word.to_le_bytes());
        }
    };
    // The kind is one byte, and the architecture follows behind three of padding.
    let len = match at {
        AtCall::No => CALL_INFO_COMMON,
        AtCall::Entry => {
            call(raw::PTRACE_SYSCALL_INFO_ENTRY);
            CALL_INFO_ENTRY
        }
        AtCall::Exit => {
            place(0, &raw::PTRACE_SYSCALL_INFO_EXIT.to_le_bytes());
            place(CALL_INFO_COMMON, &regs.ax.to_le_bytes());
            let is_error = (1..=4095).contains(&0u64.wrapping_sub(regs.ax));
            place(CALL_INFO_COMMON.saturating_add(8), &[u8::from(is_error)]);
            CALL_INFO_EXIT
        }
        AtCall::Seccomp(word) => {
            call(raw::PTRACE_SYSCALL_INFO_SECCOMP);
            place(CALL_INFO_ENTRY, &word.to_le_bytes());
            CALL_INFO_SECCOMP
        }
    };
    let copied = usize::try_from(room).unwrap_or(usize::MAX).min(len);
    user::write_all::<P>(GuestAddr::new(data.0), bytes.get(..copied).unwrap_or_default())?;
    Ok(u64::try_from(len).unwrap_or_default())
}

const _: () = assert!(size_of::<general::siginfo_t>() == INFO_BYTES);

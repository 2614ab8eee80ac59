//! Putting a program into a fresh address space: exec's last part, and how a sandbox's first program starts.
//!
//! Not here: finding and opening files, reading their plans ([`crate::elf`]), the registers' other state: the caller resets FPU and
//! segment bases. Invariant: the address space is new and nobody else runs in it, so that what is mapped in steps is seen whole.
//! Hostile input: what a plan took over from its file. Sources: execve(2); Linux `fs/binfmt_elf.c`.

use crate::elf::{Aux, Kind, Plan, Segment, Stack, StackLimits, StackRights};
use crate::regs::Regs;
use crate::signal::{Cpu, MIN_SIGNAL_STACK};
use alloc::sync::Arc;
use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{
    AddressSpace, Backing, GUEST_END, GuestAddr, MapFlags, MapRequest, MapSource, PAGE_SHIFT, PAGE_SIZE, PageRange, Place, Prot,
    round_up,
};

/// Where programs that can be moved start, before randomisation: two thirds of the address space, as Linux has it.
const MOVABLE_BASE: u64 = 0x5555_5555_4000;
/// Random pages added to it.
const MOVABLE_PAGES: u64 = 1 << 28;
/// Random pages between the end of the data and the heap.
const HEAP_PAGES: u64 = 1 << 13;
/// Random pages above the stack.
const STACK_PAGES: u64 = 1 << 11;
/// Stack that is there at the start, beside what arguments take; it grows from there.
const STACK_START: u64 = 128 * 1024;

/// A file to map and what it asks for.
#[derive(Debug)]
pub struct Part<'a, P: Cpu> {
    /// What its headers say.
    pub plan: &'a Plan,
    /// Its pages.
    pub pages: Arc<dyn MapSource<P>>,
}

/// What a program is started with.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Its path, for `AT_EXECFN`.
    pub path: &'a [u8],
    /// Arguments.
    pub args: &'a [&'a [u8]],
    /// Environment.
    pub env: &'a [&'a [u8]],
    /// Real and effective user, real and effective group.
    pub ids: [u32; 4],
    /// Limits of the stack.
    pub limits: StackLimits,
}

/// A started program, for the registers and for /proc.
#[derive(Debug)]
pub struct Started {
    /// Registers of the first instruction.
    pub regs: Regs,
    /// First and last address of the argument strings.
    pub arguments: (u64, u64),
    /// First and last address of the environment strings.
    pub environment: (u64, u64),
    /// The auxiliary vector as it lies on the stack.
    pub auxv: Vec<u8>,
}

/// A random number below `end`, a power of two.
fn random<P: Cpu>(end: u64) -> u64 {
    let mut bytes = [0; 8];
    P::fill_random(&mut bytes);
    u64::from_le_bytes(bytes) & end.saturating_sub(1)
}

fn random_pages<P: Cpu>(pages: u64) -> u64 {
    random::<P>(pages).saturating_mul(PAGE_SIZE)
}

/// Maps `program`, and its `interpreter` if it has one, into `mm`, and builds the stack.
///
/// # Errors
/// `NOMEM`, `TOOBIG`, `INVAL`; after one of them the address space is of no use.
pub fn load<P: Cpu>(
    mm: &AddressSpace<P>,
    program: &Part<'_, P>,
    interpreter: Option<&Part<'_, P>>,
    start: &Start<'_>,
) -> Result<Started> {
    mm.set_stack_limit(start.limits.stack);
    let bias = program.plan.bias_at(MOVABLE_BASE.saturating_add(random_pages::<P>(MOVABLE_PAGES)))?;
    map(mm, program, bias)?;
    let heap = program.plan.data_end().wrapping_add(bias).saturating_add(random_pages::<P>(HEAP_PAGES));
    mm.set_heap(GuestAddr::new(heap));

    let entry = program.plan.entry.wrapping_add(bias);
    let (base, first) = match interpreter {
        Some(part) => {
            let bias = bias_for(mm, part.plan)?;
            map(mm, part, bias)?;
            let base = part.plan.span().map_or(0, |(low, _)| low.wrapping_add(bias));
            (base, part.plan.entry.wrapping_add(bias))
        }
        None => (0, entry),
    };
    let vdso = P::vdso().map_or(Ok(0), |vdso| vdso.map(mm))?;
    if first >= GUEST_END {
        return Err(errno!(INVAL, "the program starts outside of what a guest can map"));
    }

    let headers_at = match program.plan.headers_at {
        0 => 0,
        at => at.wrapping_add(bias),
    };
    let mut seed = [0; 16];
    P::fill_random(&mut seed);
    let fpu = u64::try_from(P::fpu_bytes()).unwrap_or_default();
    let [.., features] = P::cpuid(1, 0);
    let aux = Aux {
        vdso,
        hwcap: u64::from(features),
        hwcap2: 2,
        headers_at,
        header_count: u64::from(program.plan.header_count),
        base,
        entry,
        ids: start.ids,
        min_signal_stack: MIN_SIGNAL_STACK.max(fpu.saturating_add(1024)),
        random: seed,
        gap: u16::try_from(random::<P>(1 << 13)).unwrap_or_default(),
    };
    let top = GUEST_END.saturating_sub(PAGE_SIZE).saturating_sub(random_pages::<P>(STACK_PAGES));
    let stack = Stack::build(top, start.path, start.args, start.env, &aux, start.limits)?;
    put_stack(mm, top, &stack, program.plan.stack)?;
    let auxv = stack.bytes.get(stack.vector.clone()).unwrap_or_default().to_vec();
    Ok(Started { regs: Regs::start(first, stack.pointer), arguments: stack.arguments, environment: stack.environment, auxv })
}

/// A bias that puts a movable file where other mappings go.
fn bias_for<P: Cpu>(mm: &AddressSpace<P>, plan: &Plan) -> Result<u64> {
    let Some((low, high)) = plan.span() else { return Ok(0) };
    if plan.kind == Kind::Fixed {
        return Ok(0);
    }
    // Room to align in; only the place is wanted, so it is given back at once.
    let slack = plan.align.saturating_sub(PAGE_SIZE);
    let len = high.saturating_sub(low).checked_add(slack).ok_or(errno!(NOMEM, "no room for the interpreter"))?;
    let at = mm.map(MapRequest::anonymous(len, Prot::empty()))?;
    mm.unmap(PageRange::new(at, len)?)?;
    plan.bias_at(at.get().saturating_add(slack))
}

fn map<P: Cpu>(mm: &AddressSpace<P>, part: &Part<'_, P>, bias: u64) -> Result<()> {
    part.plan.segments.iter().try_for_each(|segment| map_segment(mm, segment, &part.pages, bias))
}

fn map_segment<P: Cpu>(mm: &AddressSpace<P>, segment: &Segment, pages: &Arc<dyn MapSource<P>>, bias: u64) -> Result<()> {
    let moved = |addr: u64| GuestAddr::new(addr.wrapping_add(bias));
    if segment.file_bytes > 0 {
        let backing = Backing::Source { source: Arc::clone(pages), index: segment.file_start >> PAGE_SHIFT };
        let request = MapRequest::anonymous(segment.file_bytes, segment.prot).at(Place::Fixed(moved(segment.start)));
        mm.map(MapRequest { backing, ..request })?;
    }
    let mut zeros = segment.start;
    if segment.file_bytes > 0 {
        zeros = round_up(segment.zero_from).ok_or(errno!(INVAL))?;
        let tail = zeros.min(segment.end).saturating_sub(segment.zero_from);
        // As in Linux, a segment that cannot be written keeps what the file has behind its end.
        if tail > 0 && segment.prot.contains(Prot::WRITE) {
            let whole = zeros.saturating_sub(segment.zero_from);
            const NONE: &[u8] = &[0; 4096];
            let bytes = usize::try_from(whole).ok().and_then(|len| NONE.get(..len)).unwrap_or_default();
            write(mm, moved(segment.zero_from), bytes)?;
        }
    }
    let end = round_up(segment.end).ok_or(errno!(INVAL))?;
    if zeros < end {
        let len = end.saturating_sub(zeros);
        // What can never be there: Linux's overcommit heuristic.
        if len > mm.quota().limit() {
            return Err(errno!(NOMEM, "the program asks for more memory than there is"));
        }
        mm.map(MapRequest::anonymous(len, segment.zero_prot()).at(Place::Fixed(moved(zeros))))?;
    }
    Ok(())
}

fn put_stack<P: Cpu>(mm: &AddressSpace<P>, top: u64, stack: &Stack, rights: StackRights) -> Result<()> {
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, rights == StackRights::Executable);
    let low = stack.pointer.saturating_sub(STACK_START) & !PAGE_SIZE.saturating_sub(1);
    let request = MapRequest::anonymous(top.saturating_sub(low), prot).at(Place::Fixed(GuestAddr::new(low)));
    mm.map(MapRequest { flags: MapFlags::GROWS_DOWN, ..request })?;
    write(mm, GuestAddr::new(stack.pointer), &stack.bytes)
}

/// Writes all of `bytes`.
fn write<P: Cpu>(mm: &AddressSpace<P>, addr: GuestAddr, bytes: &[u8]) -> Result<()> {
    if mm.poke(addr, bytes)? == bytes.len() { Ok(()) } else { Err(errno!(NOMEM, "no page for the program")) }
}

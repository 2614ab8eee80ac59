//! A process's memory: what is mapped, and the strings that it was started with.
//!
//! Sources: `proc_pid_maps(5)`, `proc_pid_cmdline(5)`, `proc_pid_environ(5)`, `proc_pid_auxv(5)`; Linux `fs/proc/task_mmu.c`
//! `show_map_vma`, fs/proc/base.c `get_mm_cmdline`. Hostile input: the strings, which the program may have overwritten.

use super::Who;
use super::text::Text;
use crate::exec::Exec;
use crate::signal::Cpu;
use alloc::sync::Arc;
use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::mm::{AddressSpace, Area, AreaKind, Backing, GuestAddr, MapFlags, PAGE_BYTES, PAGE_SHIFT, Prot, SourceName};

/// Column at which the path begins, after a blank.
pub(super) const PATH_AT: usize = 72;
/// Most bytes of strings that are shown; more than a program can be started with.
const STRINGS_MAX: u64 = 8 << 20;

/// A program and its memory.
pub(super) type Loaded<P> = (Arc<Exec<P>>, Arc<AddressSpace<P>>);

/// What the process runs; `None` for a zombie, which has no memory.
pub(super) fn memory<P: Cpu>(who: &Who<P>) -> Result<Option<Loaded<P>>> {
    let exec = who.process()?.running().get();
    Ok(exec.and_then(|exec| exec.mm.upgrade().map(|mm| (exec, mm))))
}

/// `maps`.
pub(super) fn maps<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    let Some((exec, mm)) = memory(who)? else { return Ok(Vec::new()) };
    mm.vmas().try_for_each(|area| head(&mut text, &exec, &area))?;
    Ok(text.finish())
}

/// The line of one area.
pub(super) fn head<P: Cpu>(text: &mut Text, exec: &Exec<P>, area: &Area<P>) -> Result<()> {
    let letter = |has: bool, letter: char| if has { letter } else { '-' };
    {
        let (start, end) = (area.range.start().get(), area.range.end().get());
        let from = text.len();
        let (name, offset) = match &area.backing {
            Backing::Anonymous => (SourceName::default(), 0),
            Backing::Source { source, index } => (source.name(), index << PAGE_SHIFT),
        };
        text.put(format_args!(
            "{start:08x}-{end:08x} {}{}{}{} {offset:08x} {:02x}:{:02x} {} ",
            letter(area.prot.contains(Prot::READ), 'r'),
            letter(area.prot.contains(Prot::WRITE), 'w'),
            letter(area.prot.contains(Prot::EXEC), 'x'),
            if area.flags.contains(MapFlags::SHARED) { 's' } else { 'p' },
            name.device >> 32,
            name.device & 0xffff_ffff,
            name.inode,
        ))?;
        let own = match area.kind {
            AreaKind::Heap => &b"[heap]"[..],
            AreaKind::Stack if area.range.contains(GuestAddr::new(exec.stack)) => b"[stack]",
            AreaKind::Plain | AreaKind::Stack => b"",
        };
        let path = if matches!(area.backing, Backing::Anonymous) { own } else { &name.path };
        if !path.is_empty() {
            while text.len().saturating_sub(from) < PATH_AT {
                text.bytes(b" ")?;
            }
            text.bytes(b" ")?;
            text.escaped(path, b"\n")?;
        }
        text.bytes(b"\n")
    }
}

/// The bytes from `start` to `end`, or as many of them as can be read.
fn bytes<P: Cpu>(mm: &AddressSpace<P>, start: u64, end: u64) -> Result<Vec<u8>> {
    let len = end.saturating_sub(start).min(STRINGS_MAX);
    let len = usize::try_from(len).map_err(|_| errno!(NOMEM))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| errno!(NOMEM))?;
    bytes.resize(len, 0);
    let read = mm.peek(GuestAddr::new(start), &mut bytes).unwrap_or(0);
    bytes.truncate(read);
    Ok(bytes)
}

/// `cmdline`: the arguments with their NULs, or what the program wrote over them.
pub(super) fn cmdline<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let Some((exec, mm)) = memory(who)? else { return Ok(Vec::new()) };
    let (start, end) = exec.arguments;
    let arguments = bytes(&mm, start, end)?;
    if arguments.last().is_none_or(|last| *last == 0) {
        return Ok(arguments);
    }
    // The last NUL is gone: the program keeps one string here, which may go on into the environment. See setproctitle(3).
    let page = u64::try_from(PAGE_BYTES).unwrap_or_default();
    let mut title = bytes(&mm, start, exec.environment.1.min(start.saturating_add(page)))?;
    let len = title.iter().position(|byte| *byte == 0).map_or(title.len(), |at| at.saturating_add(1));
    title.truncate(len);
    Ok(title)
}

/// `environ`: the environment that it was started with.
pub(super) fn environ<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let Some((exec, mm)) = memory(who)? else { return Ok(Vec::new()) };
    bytes(&mm, exec.environment.0, exec.environment.1)
}

/// `auxv`: the auxiliary vector that it was started with.
pub(super) fn auxv<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    Ok(memory(who)?.map_or_else(Vec::new, |(exec, _)| exec.auxv.to_vec()))
}

/// Bytes of a process's memory by what they are for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    /// All that is mapped.
    pub(super) all: u64,
    /// What is in memory.
    pub(super) resident: u64,
    /// The most that was in memory.
    pub(super) most_resident: u64,
    /// What is locked there.
    pub(super) locked: u64,
    /// Private and writable, but no stack.
    pub(super) data: u64,
    /// Stacks that grow.
    pub(super) stack: u64,
    /// Executable and not writable.
    pub(super) code: u64,
    /// What of that is the program's own.
    pub(super) program: u64,
    /// First and last address of the program's code.
    pub(super) code_range: (u64, u64),
    /// First and last address of its data.
    pub(super) data_range: (u64, u64),
    /// Where the heap begins.
    pub(super) heap: u64,
}

/// Makes `range` reach over the area from `start` to `end`.
fn extend(range: &mut (u64, u64), start: u64, end: u64) {
    *range = if *range == (0, 0) { (start, end) } else { (range.0, end) };
}

/// Adds them up; zeros for a zombie. Linux: `vm_stat_account`, `task_mem`.
pub(super) fn sizes<P: Cpu>(who: &Who<P>) -> Result<Sizes> {
    let Some((exec, mm)) = memory(who)? else { return Ok(Sizes::default()) };
    let (resident, most_resident) = (mm.resident_pages() << PAGE_SHIFT, mm.most_pages() << PAGE_SHIFT);
    let mut sizes = Sizes { resident, most_resident, locked: mm.locked_bytes(None), heap: mm.heap().0.get(), ..Sizes::default() };
    let file = litebox_core::fs::map::inode_owner(exec.place.inode());
    for area in mm.vmas() {
        let bytes = area.range.bytes();
        let (start, end) = (area.range.start().get(), area.range.end().get());
        let add = |size: &mut u64| *size = size.saturating_add(bytes);
        let is_program = matches!(&area.backing, Backing::Source { source, .. } if source.owner() == file);
        add(&mut sizes.all);
        if area.flags.contains(MapFlags::GROWS_DOWN) {
            add(&mut sizes.stack);
        } else if area.prot.contains(Prot::WRITE) {
            if !area.flags.contains(MapFlags::SHARED) {
                add(&mut sizes.data);
            }
            if is_program {
                extend(&mut sizes.data_range, start, end);
            }
        } else if area.prot.contains(Prot::EXEC) {
            add(&mut sizes.code);
            if is_program {
                add(&mut sizes.program);
                extend(&mut sizes.code_range, start, end);
            }
        }
    }
    Ok(sizes)
}

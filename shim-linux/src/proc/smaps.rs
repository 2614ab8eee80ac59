//! A process's memory by areas and by pages.
//!
//! What is known of a page is whether it is in memory and whether it is the process's own: an own one counts as private and written
//! to, one of a file as shared and clean. Sources: `proc_pid_smaps(5)`, `proc_pid_pagemap(5)`; Linux `fs/proc/task_mmu.c`.

use super::maps::{PATH_AT, head, memory};
use super::text::Text;
use super::{Who, maps::Loaded};
use crate::signal::Cpu;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::inode::{FileOps, IoCx, OpsRef};
use litebox_core::fs::io::IoDst;
use litebox_core::mm::{AddressSpace, Area, Backing, GuestAddr, MapFlags, PAGE_SHIFT, PAGE_SIZE, PageRange, Prot};

/// Pages in memory: own ones, and those of files.
type Count = [u64; 2];

fn count<P: Cpu>(mm: &AddressSpace<P>, area: &Area<P>) -> Count {
    let mut count = [0u64; 2];
    mm.each_resident(area.range, |_, is_own| {
        let [own, shown] = &mut count;
        let slot = if is_own { own } else { shown };
        *slot = slot.saturating_add(1);
    });
    count
}

/// Whether its pages stay.
fn is_locked(area: &Area<impl Cpu>) -> bool {
    area.flags.intersects(MapFlags::LOCKED | MapFlags::LOCKED_ON_FAULT)
}

/// The lines on pages, from `Rss` on; `locked` of them stay. `parts` splits the proportional sum by what the memory is.
fn pages(text: &mut Text, [own, shown]: Count, locked: u64, parts: Option<[u64; 3]>) -> Result<()> {
    let all = own.saturating_add(shown);
    let mut row = |name: &str, pages: u64| text.put(format_args!("{name:<16}{:>8} kB\n", pages.saturating_mul(4)));
    row("Rss:", all)?;
    row("Pss:", all)?;
    row("Pss_Dirty:", own)?;
    for (name, part) in ["Pss_Anon:", "Pss_File:", "Pss_Shmem:"].iter().zip(parts.into_iter().flatten()) {
        row(name, part)?;
    }
    let rows =
        [("Shared_Clean:", shown), ("Shared_Dirty:", 0), ("Private_Clean:", 0), ("Private_Dirty:", own), ("Referenced:", all)];
    rows.iter().try_for_each(|(name, pages)| row(name, *pages))?;
    row("Anonymous:", own)?;
    let rest = ["KSM:", "LazyFree:", "AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:"];
    rest.iter().chain(&["Shared_Hugetlb:", "Private_Hugetlb:", "Swap:", "SwapPss:"]).try_for_each(|name| row(name, 0))?;
    row("Locked:", locked)
}

/// The letters of an area's flags.
fn flags(area: &Area<impl Cpu>) -> impl Iterator<Item = &'static str> {
    let is_shared = area.flags.contains(MapFlags::SHARED);
    let is_writable = area.prot.contains(Prot::WRITE);
    [
        (area.prot.contains(Prot::READ), "rd "),
        (is_writable, "wr "),
        (area.prot.contains(Prot::EXEC), "ex "),
        (is_shared, "sh "),
        (area.max_prot.contains(Prot::READ), "mr "),
        (area.max_prot.contains(Prot::WRITE), "mw "),
        (area.max_prot.contains(Prot::EXEC), "me "),
        (is_shared, "ms "),
        (area.flags.contains(MapFlags::GROWS_DOWN), "gd "),
        (area.flags.contains(MapFlags::LOCKED), "lo "),
        (area.flags.contains(MapFlags::LOCKED_ON_FAULT), "lf "),
        (is_writable && !is_shared, "ac "),
        (area.flags.contains(MapFlags::DONT_FORK), "dc "),
        (area.flags.contains(MapFlags::WIPE_ON_FORK), "wf "),
        (area.flags.contains(MapFlags::SEALED), "sl "),
    ]
    .into_iter()
    .filter_map(|(has, letters)| has.then_some(letters))
}

/// `smaps`.
pub(super) fn smaps<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let Some((exec, mm)) = memory(who)? else { return Ok(Vec::new()) };
    let mut text = Text::default();
    for area in mm.vmas() {
        head(&mut text, &exec, &area)?;
        let size = area.range.bytes() >> 10;
        text.put(format_args!("Size:           {size:>8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"))?;
        let count = count(&mm, &area);
        let [own, shown] = count;
        pages(&mut text, count, if is_locked(&area) { own.saturating_add(shown) } else { 0 }, None)?;
        text.bytes(b"THPeligible:           0\nVmFlags: ")?;
        flags(&area).try_for_each(|letters| text.bytes(letters.as_bytes()))?;
        text.bytes(b"\n")?;
    }
    Ok(text.finish())
}

/// `smaps_rollup`: the same in one sum.
pub(super) fn rollup<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let loaded: Option<Loaded<P>> = memory(who)?;
    let (_, mm) = loaded.ok_or(errno!(SRCH, "it has no memory"))?;
    let (mut sum, mut parts, mut range, mut locked) = ([0u64; 2], [0u64; 3], None::<(u64, u64)>, 0u64);
    for area in mm.vmas() {
        let [own, shown] = count(&mm, &area);
        for (total, more) in sum.iter_mut().zip([own, shown]) {
            *total = total.saturating_add(more);
        }
        if is_locked(&area) {
            locked = locked.saturating_add(own).saturating_add(shown);
        }
        let is_shmem = area.flags.contains(MapFlags::SHARED)
            && matches!(&area.backing, Backing::Source { source, .. } if source.name().path.starts_with(b"/dev/zero"));
        let [anonymous, file, shmem] = &mut parts;
        *anonymous = anonymous.saturating_add(own);
        let slot = if is_shmem { shmem } else { file };
        *slot = slot.saturating_add(shown);
        let start = range.map_or(area.range.start().get(), |(start, _)| start);
        range = Some((start, area.range.end().get()));
    }
    let (start, end) = range.unwrap_or_default();
    let mut text = Text::default();
    text.put(format_args!("{start:08x}-{end:08x} ---p 00000000 00:00 0"))?;
    while text.len() < PATH_AT.saturating_add(1) {
        text.bytes(b" ")?;
    }
    text.bytes(b"[rollup]\n")?;
    pages(&mut text, sum, locked, Some(parts))?;
    Ok(text.finish())
}

/// `clear_refs`: nobody keeps which pages were used, so that there is nothing to forget.
///
/// # Errors
/// `INVAL`: no number from 1 to 5.
pub(super) fn clear<P: Cpu>(who: &Who<P>, bytes: &[u8]) -> Result<()> {
    who.process()?;
    match bytes.trim_ascii() {
        [b'1'..=b'5'] => Ok(()),
        _ => Err(errno!(INVAL, "nothing that could be forgotten")),
    }
}

/// Bits of an entry of `pagemap`.
const PRESENT: u64 = 1 << 63;
const OF_FILE: u64 = 1 << 61;
/// Bytes of an entry.
const ENTRY: u64 = 8;
/// Entries that are made at once.
const ENTRIES: usize = 128;

struct PageMap<P: Cpu>(Weak<AddressSpace<P>>);

impl<P: Cpu> fmt::Debug for PageMap<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageMap")
    }
}

/// Opens `pagemap`: a word for each page, without the frames' numbers, which only a host's administrator sees.
///
/// # Errors
/// `SRCH`: the process has ended.
pub(super) fn pagemap<P: Cpu>(who: &Who<P>) -> Result<OpsRef<P>> {
    let exec = who.process()?.running().get().ok_or(errno!(SRCH, "it has ended"))?;
    Ok(Arc::new(PageMap(Weak::clone(&exec.mm))))
}

impl<P: Cpu> FileOps<P> for PageMap<P> {
    fn read_at(&self, offset: u64, dst: &mut IoDst<'_, P>, _cx: IoCx) -> Result<usize> {
        let Some(mm) = self.0.upgrade() else { return Ok(0) };
        if offset % ENTRY != 0 || dst.remaining() % 8 != 0 {
            return Err(errno!(INVAL, "no whole entries"));
        }
        let (start, mut page) = (dst.done(), offset / ENTRY);
        while dst.remaining() > 0 && !dst.faulted() {
            let room = dst.remaining() / 8;
            let (mut words, len) = ([0u64; ENTRIES], room.min(ENTRIES));
            let bytes = u64::try_from(len).unwrap_or(0).saturating_mul(PAGE_SIZE);
            // What lies past a guest's addresses has no entries.
            let addr = page.checked_mul(PAGE_SIZE).map(GuestAddr::new);
            let Some(Ok(range)) = addr.map(|addr| PageRange::new(addr, bytes)) else { break };
            mm.each_resident(range, |found, is_own| {
                let index = usize::try_from(found.saturating_sub(range.start().get() >> PAGE_SHIFT)).unwrap_or(usize::MAX);
                if let Some(word) = words.get_mut(index) {
                    *word = PRESENT | if is_own { 0 } else { OF_FILE };
                }
            });
            for word in words.get(..len).unwrap_or_default() {
                dst.put(&word.to_le_bytes());
            }
            page = page.saturating_add(u64::try_from(len).unwrap_or(0));
        }
        dst.outcome(start)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn size(&self) -> Result<u64> {
        Err(errno!(INVAL, "memory has no end to go to"))
    }
}

//! mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), mincore(2), brk(2), `remap_file_pages(2)`.

use super::files::file;
use super::lock::{fill_new, has_room, may_lock};
use crate::args::{Fd, Int, Len, Ptr, Word};
use crate::signal::Cpu;
use crate::task::Task;
use linux_raw_sys::general as raw;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::map::{FileSource, MapAccess};
use litebox_core::fs::types::OFlags;
use litebox_core::mm::{
    Access, AddressSpace, Advice, Backing, GuestAddr, MapFlags, MapRequest, PAGE_SHIFT, PAGE_SIZE, PageRange, Place, Prot,
    RemapPlace, SharedMemory, round_up, user,
};

/// What a shared mapping of a file whose flags are looked at may be asked for. Linux: `LEGACY_MAP_MASK`, and no `MAP_SYNC` here.
const VALIDATED: u64 = (raw::MAP_TYPE
    | raw::MAP_FIXED
    | raw::MAP_ANONYMOUS
    | raw::MAP_GROWSDOWN
    | raw::MAP_DENYWRITE
    | raw::MAP_EXECUTABLE
    | raw::MAP_UNINITIALIZED
    | raw::MAP_LOCKED
    | raw::MAP_NORESERVE
    | raw::MAP_POPULATE
    | raw::MAP_NONBLOCK
    | raw::MAP_STACK
    | raw::MAP_HUGETLB
    | raw::MAP_FIXED_NOREPLACE
    | MAP_32BIT) as u64;
/// Below 2 GiB, of x86's `asm/mman.h`.
const MAP_32BIT: u32 = 0x40;

/// Rights from `PROT_*`; unknown bits are ignored by mmap and refused by mprotect.
fn prot(bits: u64) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, bits & u64::from(raw::PROT_READ) != 0);
    prot.set(Prot::WRITE, bits & u64::from(raw::PROT_WRITE) != 0);
    prot.set(Prot::EXEC, bits & u64::from(raw::PROT_EXEC) != 0);
    prot
}

fn has(flags: u64, flag: u32) -> bool {
    flags & u64::from(flag) != 0
}

pub(crate) fn mmap<P: Cpu>(
    task: &mut Task<P>,
    addr: Ptr,
    length: Len,
    rights: Word,
    flags: Word,
    fd: Fd,
    offset: Word,
) -> Result<GuestAddr> {
    let flags = flags.0;
    if offset.0 & PAGE_SIZE.wrapping_sub(1) != 0 {
        return Err(errno!(INVAL, "the offset is no page boundary"));
    }
    let file = if has(flags, raw::MAP_ANONYMOUS) { None } else { Some(file(task, fd)?) };
    if length.0 == 0 {
        return Err(errno!(INVAL, "the length is 0"));
    }
    if file.is_none() && has(flags, raw::MAP_HUGETLB) {
        return Err(errno!(NOMEM, "no huge pages are reserved"));
    }
    let place = if has(flags, raw::MAP_FIXED_NOREPLACE) {
        Place::FixedNoReplace(addr.0)
    } else if has(flags, raw::MAP_FIXED) {
        Place::Fixed(addr.0)
    } else if has(flags, MAP_32BIT) && addr.0 == GuestAddr::default() {
        Place::Low
    } else {
        Place::Anywhere(addr.0.page_start())
    };
    let mut kept = MapFlags::empty();
    kept.set(MapFlags::GROWS_DOWN, has(flags, raw::MAP_GROWSDOWN));
    kept.set(MapFlags::LOCKED, has(flags, raw::MAP_LOCKED));
    if has(flags, raw::MAP_LOCKED) && !may_lock(task) {
        return Err(errno!(PERM, "no memory may be locked"));
    }
    let is_locked = has(flags, raw::MAP_LOCKED) || task.mm().locks_new();
    if is_locked && !has_room(task, length.0) {
        return Err(errno!(AGAIN, "past the limit of locked memory"));
    }
    let shared = match flags & u64::from(raw::MAP_TYPE) {
        kind if kind == u64::from(raw::MAP_PRIVATE) => false,
        kind if kind == u64::from(raw::MAP_SHARED) => true,
        kind if kind == u64::from(raw::MAP_SHARED_VALIDATE) => {
            if file.is_some() && flags & !VALIDATED != 0 {
                return Err(errno!(OPNOTSUPP, "a flag that must not be overlooked"));
            }
            true
        }
        _ => return Err(errno!(INVAL, "neither private nor shared")),
    };
    kept.set(MapFlags::SHARED, shared);
    let rights = prot(rights.0);
    let mut max_prot = Prot::all();
    let access = match (shared, rights.contains(Prot::WRITE)) {
        (false, _) => MapAccess::Private,
        (true, true) => MapAccess::SharedWritable,
        (true, false) => MapAccess::SharedReadOnly,
    };
    let file = match file {
        Some(file) if file.ops().maps_zeros() => {
            if shared && !file.flags().contains(OFlags::WRITE) {
                max_prot = max_prot.difference(Prot::WRITE);
            }
            FileSource::check(&file, access).map(|()| None)?
        }
        file => file,
    };
    let backing = match file {
        None if shared => Backing::Source { source: SharedMemory::new(task.sandbox().quota(), length.0)?, index: 0 },
        None => Backing::Anonymous,
        Some(file) => {
            // A file without a name below the root has none in /proc either.
            let path = task.fs().path_of(file.place()).unwrap_or_default();
            let source = FileSource::new(&file, path, access)?;
            if shared && !source.may_write() {
                max_prot = max_prot.difference(Prot::WRITE);
            }
            Backing::Source { source, index: offset.0 >> PAGE_SHIFT }
        }
    };
    let request = MapRequest { place, flags: kept, backing, max_prot, ..MapRequest::anonymous(length.0, rights) };
    let at = task.mm().map(request)?;
    if is_locked {
        fill_new(task, at, length.0);
    }
    if has(flags, raw::MAP_POPULATE) && !rights.is_empty() {
        if let Ok(range) = PageRange::new(at, length.0) {
            let access = if rights.contains(Prot::WRITE) { Access::Write } else { Access::Read };
            // Populating is a wish: the mapping stands without it.
            let _ = task.mm().populate(range, access);
        }
    }
    Ok(at)
}

/// What munmap and its kin make of a range: one outside of what can be mapped is `INVAL`.
fn range(addr: GuestAddr, len: u64) -> Result<PageRange> {
    PageRange::new(addr, len).map_err(|_| errno!(INVAL, "no range of pages"))
}

pub(crate) fn munmap<P: Cpu>(task: &mut Task<P>, addr: Ptr, length: Len) -> Result<()> {
    task.mm().unmap(range(addr.0, length.0)?)
}

pub(crate) fn mprotect<P: Cpu>(task: &mut Task<P>, addr: Ptr, len: Len, rights: Word) -> Result<()> {
    let known =
        u64::from(raw::PROT_READ | raw::PROT_WRITE | raw::PROT_EXEC | raw::PROT_SEM | raw::PROT_GROWSDOWN | raw::PROT_GROWSUP);
    if rights.0 & !known != 0 || !addr.0.is_page_start() {
        return Err(errno!(INVAL, "unknown rights or no page boundary"));
    }
    if len.0 == 0 {
        return Ok(());
    }
    let mut range = PageRange::new(addr.0, len.0)?;
    if has(rights.0, raw::PROT_GROWSUP) {
        return Err(errno!(INVAL, "no stack grows up here"));
    }
    if has(rights.0, raw::PROT_GROWSDOWN) {
        let area = task.mm().area_after(range.start()).filter(|area| area.range.start() < range.end());
        let area = area.ok_or(errno!(NOMEM, "a page is not mapped"))?;
        if !area.flags.contains(MapFlags::GROWS_DOWN) {
            return Err(errno!(INVAL, "no stack that grows"));
        }
        range = PageRange::between(area.range.start(), range.end()).ok_or(errno!(INVAL))?;
    }
    task.mm().protect(range, prot(rights.0))
}

pub(crate) fn brk<P: Cpu>(task: &mut Task<P>, addr: Ptr) -> Result<GuestAddr> {
    let (_, old) = task.mm().heap();
    let grown = addr.0.since(old).unwrap_or(0);
    let is_locked = grown > 0 && task.mm().locks_new();
    if is_locked && !has_room(task, grown) {
        return Ok(old);
    }
    let new = task.mm().brk(addr.0);
    let pages = old.page_up().zip(new.page_up()).filter(|_| is_locked);
    if let Some(more) = pages.and_then(|(from, to)| PageRange::between(from, to)) {
        fill_new(task, more.start(), more.bytes());
    }
    Ok(new)
}

pub(crate) fn mremap<P: Cpu>(
    task: &mut Task<P>,
    old: Ptr,
    old_size: Len,
    new_size: Len,
    flags: Word,
    new: Ptr,
) -> Result<GuestAddr> {
    let known = raw::MREMAP_MAYMOVE | raw::MREMAP_FIXED | raw::MREMAP_DONTUNMAP;
    let flags = u32::try_from(flags.0).ok().filter(|flags| flags & !known == 0).ok_or(errno!(INVAL, "unknown flags"))?;
    let has = |flag| flags & flag != 0;
    if (has(raw::MREMAP_FIXED) || has(raw::MREMAP_DONTUNMAP)) && !has(raw::MREMAP_MAYMOVE) {
        return Err(errno!(INVAL, "flags that do not go together"));
    }
    if has(raw::MREMAP_DONTUNMAP) && round_up(old_size.0) != round_up(new_size.0) {
        return Err(errno!(INVAL, "what stays has the old size"));
    }
    if (has(raw::MREMAP_FIXED) || has(raw::MREMAP_DONTUNMAP)) && !new.0.is_page_start() {
        return Err(errno!(INVAL, "the new place is no page boundary"));
    }
    if new_size.0 == 0 {
        return Err(errno!(INVAL, "the new length is 0"));
    }
    let to = has(raw::MREMAP_FIXED).then_some(new.0);
    if old_size.0 == 0 && old.0.is_page_start() && has(raw::MREMAP_MAYMOVE) {
        return task.mm().map_again(old.0, new_size.0, to);
    }
    let old = PageRange::new(old.0, old_size.0).map_err(|error| {
        if old_size.0 == 0 || !old.0.is_page_start() { error } else { errno!(FAULT, "nothing can be mapped there") }
    })?;
    let grown = new_size.0.saturating_sub(old.bytes());
    let is_locked = grown > 0 && task.mm().locked_bytes(Some(old)) > 0;
    if is_locked && !has_room(task, grown) {
        return Err(errno!(AGAIN, "past the limit of locked memory"));
    }
    let at = match to {
        _ if has(raw::MREMAP_DONTUNMAP) => task.mm().remap_leaving(old, to)?,
        Some(to) => task.mm().remap(old, new_size.0, RemapPlace::Fixed(to))?,
        None if has(raw::MREMAP_MAYMOVE) => task.mm().remap(old, new_size.0, RemapPlace::Move)?,
        None => task.mm().remap(old, new_size.0, RemapPlace::Stay)?,
    };
    if is_locked {
        fill_new(task, at, new_size.0);
    }
    Ok(at)
}

pub(crate) fn madvise<P: Cpu>(task: &mut Task<P>, addr: Ptr, length: Len, advice: Int) -> Result<()> {
    advise(task.mm(), addr, length, advice)
}

/// The same for the memory of any process.
pub(super) fn advise<P: Cpu>(mm: &AddressSpace<P>, addr: Ptr, length: Len, advice: Int) -> Result<()> {
    let advice = match u32::try_from(advice.0).map_err(|_| errno!(INVAL, "unknown advice"))? {
        raw::MADV_DONTNEED => Advice::DontNeed,
        raw::MADV_DONTNEED_LOCKED => Advice::DontNeedLocked,
        raw::MADV_FREE => Advice::Free,
        raw::MADV_WILLNEED => Advice::WillNeed,
        raw::MADV_POPULATE_READ => Advice::PopulateRead,
        raw::MADV_POPULATE_WRITE => Advice::PopulateWrite,
        raw::MADV_DONTFORK => Advice::DontFork,
        raw::MADV_DOFORK => Advice::DoFork,
        raw::MADV_WIPEONFORK => Advice::WipeOnFork,
        raw::MADV_KEEPONFORK => Advice::KeepOnFork,
        raw::MADV_NORMAL | raw::MADV_RANDOM | raw::MADV_SEQUENTIAL | raw::MADV_HUGEPAGE | raw::MADV_NOHUGEPAGE => Advice::Normal,
        raw::MADV_MERGEABLE | raw::MADV_UNMERGEABLE | raw::MADV_DONTDUMP | raw::MADV_DODUMP => Advice::Normal,
        raw::MADV_COLD | raw::MADV_PAGEOUT => Advice::PageOut,
        _ => return Err(errno!(INVAL, "unknown advice")),
    };
    if length.0 == 0 && addr.0.is_page_start() {
        return Ok(());
    }
    mm.advise(PageRange::new(addr.0, length.0)?, advice)
}

pub(crate) fn mincore<P: Cpu>(task: &mut Task<P>, addr: Ptr, length: Len, vec: Ptr) -> Result<()> {
    if !addr.0.is_page_start() {
        return Err(errno!(INVAL, "no page boundary"));
    }
    if length.0 == 0 {
        return Ok(());
    }
    let range = PageRange::new(addr.0, length.0)?;
    let mut out = vec.0;
    let mut from = range.start();
    // A chunk at a time: no lock is held while the guest's memory is written, and no buffer has the guest's size.
    while let Some(rest) = PageRange::between(from, range.end()) {
        let chunk = PageRange::new(from, rest.bytes().min(CHUNK.saturating_mul(PAGE_SIZE)))?;
        let mut bytes = [0u8; 512];
        let mut slots = bytes.iter_mut();
        task.mm().mincore(chunk, |present| {
            if let Some(slot) = slots.next() {
                *slot = u8::from(present);
            }
        })?;
        let count = usize::try_from(chunk.count()).unwrap_or_default();
        user::write_all::<P>(out, bytes.get(..count).unwrap_or_default())?;
        out = out.plus(chunk.count())?;
        from = chunk.end();
    }
    Ok(())
}

/// Pages that `mincore` looks at in one go.
const CHUNK: u64 = 512;

/// Shows other pages of a shared mapping's file in a part of it. Linux makes mappings of their own of it, too.
pub(crate) fn remap_file_pages<P: Cpu>(
    task: &mut Task<P>,
    addr: Ptr,
    size: Len,
    rights: Word,
    offset: Word,
    _flags: Word,
) -> Result<()> {
    if rights.0 != 0 {
        return Err(errno!(INVAL, "rights that are not 0"));
    }
    let range = PageRange::new(addr.0.page_start(), size.0 & !PAGE_SIZE.wrapping_sub(1)).map_err(|_| errno!(INVAL))?;
    let area = task.mm().area_after(range.start()).filter(|area| area.range.start() <= range.start());
    let area = area.filter(|area| area.range.end() >= range.end()).ok_or(errno!(INVAL, "not within one mapping"))?;
    let Backing::Source { source, .. } = area.backing else { return Err(errno!(INVAL, "no file is mapped there")) };
    if !area.flags.contains(MapFlags::SHARED) {
        return Err(errno!(INVAL, "a private mapping"));
    }
    let request = MapRequest {
        place: Place::Fixed(range.start()),
        flags: area.flags,
        backing: Backing::Source { source, index: offset.0 },
        max_prot: area.max_prot,
        ..MapRequest::anonymous(range.bytes(), area.prot)
    };
    task.mm().map(request).map(drop)
}

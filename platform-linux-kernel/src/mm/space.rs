// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The host's side of one guest address space: a file with an inode of its own, mapped over a carrier's whole user half.
//!
//! The mapping is made of page-frame entries (VM_PFNMAP) whose rights are per entry: the one VMA has no VM_EXEC, and an entry may
//! be executable all the same (`access_error` looks at the entry's NX bit only). Several host mms may map the same file; zaps
//! go through the inode's mapping and reach all.
//! Invariants: file offset == address. Never turn a present NX entry into an executable one: zap first, or another processor's
//! stale entry faults. `pfn_mkwrite` never returns 0: `finish_mkwrite_fault` would race with a write-protecting fork.
//! Locks: none here; whoever calls `insert` and `zap` holds the address space's own. Sources: Linux mm/memory.c.

use super::fault;
use super::frame::Frame;
use crate::bases::USER_END;
use crate::carrier;
use crate::host::LinuxKernel;
use crate::sys;
use alloc::sync::Arc as Shared;
use core::ffi::c_void;
use core::iter::Peekable;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::SetOnce;
use kernel::sync::aref::ARef;
use litebox_core::mm::{Access, AddressSpace};
use litebox_core::quota::{Charge, Quota};

/// The guest's user half: page 0 to 15 stay unmapped, as vm.mmap_min_addr has it.
pub(crate) const START: usize = 0x1_0000;
const LENGTH: usize = USER_END as usize - START;

/// Rights of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

impl Rights {
    /// The page-table bits.
    fn protection(self) -> sys::pgprot_t {
        /// _PAGE_DIRTY: a writable entry starts dirty, which saves the processor a write of its own.
        const DIRTY: usize = 1 << 6;
        let mut flags = sys::VM_SHARED;
        for (has, flag) in [(self.read, sys::VM_READ), (self.write, sys::VM_WRITE), (self.execute, sys::VM_EXEC)] {
            if has {
                flags |= flag;
            }
        }
        // SAFETY: A pure function of the flags.
        let mut protection = unsafe { sys::vm_get_page_prot(flags) };
        if self.write {
            protection.pgprot |= DIRTY;
        }
        protection
    }
}

/// An address space's file, made when the first carrier maps it.
pub(crate) struct Space {
    file: SetOnce<ARef<File>>,
    /// What it has of an older address space is charged to it.
    kept: SetOnce<Charge>,
    /// How often entries were taken away: hardware guests look at it before they enter, and flush when it has changed.
    changes: AtomicU64,
    /// How many hardware guests may be in ring 3 now, by these page tables or by what their processors remember of them.
    inside: AtomicUsize,
}

/// The page tables of a host mm whose address space has ended: none has an entry, and the mm maps the file still.
///
/// The next address space of that mm takes the file over: emptying the whole user half and mapping another file costs more than
/// most programs' faults, because the host walks every table up to its root.
pub(crate) struct Kept {
    file: ARef<File>,
    /// What they are charged.
    bytes: u64,
}

impl Kept {
    /// More are not worth it: the host walks them at its mm's end.
    const BYTES_MOST: u64 = 64 * sys::PAGE_SIZE as u64;

    /// What can be kept of `mm`, which the caller drops before anybody else gets it: nobody but the current task's mm maps it.
    pub(crate) fn of(mm: &AddressSpace<LinuxKernel>) -> Option<Self> {
        // SAFETY: A carrier has a user mm, and keeps it while it runs.
        let host = unsafe { (*carrier::task()).mm };
        // SAFETY: As above; the kernel changes the word by atomic operations, and for our mappings only when a guest faults.
        let bytes = unsafe { (&raw const (*host).__bindgen_anon_1.pgtables_bytes.counter).read_volatile() };
        let bytes = u64::try_from(bytes).ok().filter(|bytes| *bytes <= Self::BYTES_MOST)?;
        let space = mm.host();
        let file = space.file.as_ref().filter(|_| space.is_mapped_once())?;
        Some(Self { file: file.clone(), bytes })
    }
}

/// What `set_entry` is given for each page-table slot.
struct Batch<I: Iterator> {
    /// What is still to be set, ascending.
    entries: Peekable<I>,
    /// The page-table bits of the last rights that were asked for: there are seldom others.
    last: Option<(Rights, sys::pgprot_t)>,
    /// Whether an entry was there already.
    met: bool,
}

/// What came of [`Space::insert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// All entries are there now.
    All,
    /// Some places had entries, which were left as they are.
    SomeWereThere,
    /// The host has no memory for a table.
    NoMemory,
}

impl<I: Iterator> Batch<I> {
    fn protection(&mut self, rights: Rights) -> sys::pgprot_t {
        match self.last {
            Some((last, protection)) if last == rights => protection,
            _ => self.last.insert((rights, rights.protection())).1,
        }
    }
}

impl core::fmt::Debug for Space {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Space")
    }
}

impl Space {
    /// A new, empty address space.
    pub(crate) fn new() -> Self {
        Self { file: SetOnce::new(), kept: SetOnce::new(), changes: AtomicU64::new(0), inside: AtomicUsize::new(0) }
    }

    /// Whether no carrier has had it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.file.as_ref().is_none()
    }

    /// Its file, which keeps the module for as long as it lives.
    ///
    /// # Errors
    /// ENOMEM, ENFILE; EAGAIN if another task makes it just now.
    pub(crate) fn file(&self) -> Result<&File> {
        if self.file.as_ref().is_none() {
            // The first one stays.
            let _ = self.file.populate(Self::make_file()?);
        }
        self.file.as_ref().map(|file| &**file).ok_or(EAGAIN)
    }

    /// Takes over the file of an older address space, and the mm that maps it, if no carrier has this one yet; its tables are charged to
    /// `quota`. False if that cannot be.
    pub(crate) fn take_over(&self, kept: &Kept, quota: &Shared<Quota>) -> bool {
        let Ok(charge) = quota.charge(kept.bytes) else { return false };
        self.file.populate(kept.file.clone()) && self.kept.populate(charge)
    }

    fn make_file() -> Result<ARef<File>> {
        // SAFETY: The name and the operations are static; there is no private data.
        let file = unsafe {
            sys::anon_inode_create_getfile(
                c"[litebox-mm]".as_ptr().cast(),
                &raw const FILE_OPERATIONS.0,
                core::ptr::null_mut(),
                sys::O_RDWR as i32,
                core::ptr::null(),
            )
        };
        let file = NonNull::new(kernel::error::from_err_ptr(file)?).ok_or(ENOMEM)?;
        // SAFETY: A new file with one reference, which is ours; it is never accessed by file position.
        Ok(unsafe { ARef::from_raw(file.cast()) })
    }

    /// Empties the current task's user half and maps this address space over it.
    ///
    /// # Errors
    /// Those of munmap(2) and mmap(2); the user half may be empty then, and the task must not return to it.
    pub(crate) fn replace_current(&self) -> Result {
        let file = self.file()?;
        // SAFETY: The current task's own memory, to which it will not return: the caller installs a guest, or kills it.
        kernel::error::to_result(unsafe { sys::vm_munmap(0, USER_END as usize) })?;
        let flags = sys::MAP_FLAGS;
        let protection = sys::PROT_RW;
        // SAFETY: A live file. No VM_EXEC: entries carry that right themselves.
        let at = unsafe { sys::vm_mmap(file.as_ptr(), START, LENGTH, protection, flags, START) };
        if at == START { Ok(()) } else { Err(Error::from_errno(at as i32)) }
    }

    /// Sets `entries`, ascending and within the `length` bytes from `first` on, in the current task's page tables, where there are
    /// none. The caller holds the address space's lock and keeps the frames.
    pub(crate) fn insert<'a, I>(&self, first: usize, length: usize, entries: I) -> Inserted
    where
        I: Iterator<Item = (usize, &'a Frame, Rights)>,
    {
        let mut batch = Batch { entries: entries.peekable(), last: None, met: false };
        // SAFETY: A carrier has a user mm, and keeps it while it runs.
        let mm = unsafe { (*carrier::task()).mm };
        // SAFETY:
        // - The range lies in our mapping of this mm: entries come from a fault or from the address space below USER_END, and the
        //   mapping is there for the carrier's life. The mapping cannot go meanwhile: faults hold the VMA, and only this
        //   task unmaps.
        // - `set_entry` expects a `Batch` of these entries, which outlives this synchronous call.
        let result = unsafe { sys::apply_to_page_range(mm, first, length, Some(set_entry::<'a, I>), (&raw mut batch).cast()) };
        match (result, batch.met) {
            (0, false) => Inserted::All,
            (0, true) => Inserted::SomeWereThere,
            _ => Inserted::NoMemory,
        }
    }

    /// Whether one mm maps this address space: entries of others need not be thought of then. A second one does not come to have
    /// entries while the caller holds the address space's lock.
    pub(crate) fn is_mapped_once(&self) -> bool {
        let Some(file) = self.file.as_ref() else { return false };
        // SAFETY: A live file has a mapping.
        let mapping = unsafe { (*file.as_ptr()).f_mapping };
        // The kernel counts the mappings of a file that are shared and may be written; ours all are. They leave the count after their
        // entries have gone, in a mm where nobody runs any more.
        // SAFETY: A live mapping; the kernel changes the word by atomic operations.
        unsafe { (&raw const (*mapping).i_mmap_writable.counter).read_volatile() == 1 }
    }

    /// Removes every entry in the range, in every mm that maps this address space; no processor can use one afterwards.
    pub(crate) fn zap(&self, start: usize, length: usize) {
        // Without a file nobody has ever had an entry.
        let Some(file) = self.file.as_ref() else { return };
        // SAFETY: A live file has a mapping.
        let mapping = unsafe { (*file.as_ptr()).f_mapping };
        let (Ok(start), Ok(length)) = (i64::try_from(start), i64::try_from(length)) else {
            return;
        };
        // SAFETY: A live mapping; the range is any range of offsets.
        unsafe { sys::unmap_mapping_range(mapping, start, length, 1) };
        // The host's flush does not reach a hardware guest. One that has looked at the count before is inside, and thrown out.
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.inside.load(Ordering::SeqCst) != 0 {
            // SAFETY: Task context, interrupts on; no spinlock is held.
            unsafe { sys::litebox_interrupt_processors() };
        }
    }

    /// How often entries were taken away.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Notes that a hardware guest is about to enter, or has come out and looks at the count before it enters again.
    pub(crate) fn note_inside(&self, is_inside: bool) {
        if is_inside {
            self.inside.fetch_add(1, Ordering::SeqCst);
        } else {
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether `file` is this address space's.
    fn is(&self, file: *const sys::file) -> bool {
        self.file.as_ref().is_some_and(|own| core::ptr::eq(own.as_ptr(), file))
    }
}

/// Sets one page-table slot, under the table's lock.
///
/// # Safety
/// Called by `apply_to_page_range` with a [`Batch`] of `I`.
unsafe extern "C" fn set_entry<'a, I>(slot: *mut sys::pte_t, addr: usize, batch: *mut c_void) -> i32
where
    I: Iterator<Item = (usize, &'a Frame, Rights)>,
{
    // SAFETY: Contract; nobody else has it during the walk.
    let batch = unsafe { &mut *batch.cast::<Batch<I>>() };
    let Some((_, frame, rights)) = batch.entries.next_if(|(at, ..)| *at == addr) else {
        return 0;
    };
    let protection = batch.protection(rights);
    // SAFETY: `slot` is a page-table slot whose lock the caller holds.
    if unsafe { sys::litebox_pte_none(slot) } {
        // SAFETY: As above. The frame is kept by whoever inserts until it is zapped (the contract of `insert`).
        unsafe { sys::litebox_set_pte(slot, frame.page(), protection) };
    } else {
        batch.met = true;
    }
    0
}

/// Answers a fault in a mapping of a space's file.
///
/// # Safety
/// `vmf` is a fault that the kernel is handling.
unsafe fn answer(vmf: *mut sys::vm_fault) -> sys::vm_fault_t {
    // SAFETY: Contract.
    let (flags, addr, vma) = unsafe { ((*vmf).flags, (*vmf).__bindgen_anon_1.address, (*vmf).__bindgen_anon_1.vma) };
    // SAFETY: The faulting VMA is locked against changes.
    let file = unsafe { (*vma).vm_file };
    let Some(guest) = carrier::current() else {
        return sys::vm_fault_reason_VM_FAULT_SIGBUS;
    };
    if flags & sys::fault_flag_FAULT_FLAG_REMOTE != 0 || !guest.space().is_some_and(|space| space.is(file)) {
        return sys::vm_fault_reason_VM_FAULT_SIGBUS;
    }
    let access = if flags & sys::fault_flag_FAULT_FLAG_INSTRUCTION != 0 {
        Access::Exec
    } else if flags & sys::fault_flag_FAULT_FLAG_WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    };
    fault::on_fault(&guest, addr, access)
}

/// # Safety
/// Called by the kernel for an absent entry.
unsafe extern "C" fn on_absent(vmf: *mut sys::vm_fault) -> sys::vm_fault_t {
    // SAFETY: Contract.
    unsafe { answer(vmf) }
}

/// # Safety
/// Called by the kernel for a write to a present read-only entry.
unsafe extern "C" fn on_read_only(vmf: *mut sys::vm_fault) -> sys::vm_fault_t {
    // SAFETY: Contract.
    unsafe { answer(vmf) }
}

/// Maps nothing. That there is such a function makes the kernel call `fault` under the VMA's own lock instead of the mm's.
///
/// # Safety
/// Called by the kernel.
unsafe extern "C" fn on_map_pages(_vmf: *mut sys::vm_fault, _start: usize, _end: usize) -> sys::vm_fault_t {
    0
}

/// # Safety
/// Called by the kernel with a VMA that is being set up.
unsafe extern "C" fn on_mmap(_file: *mut sys::file, vma: *mut sys::vm_area_struct) -> i32 {
    // SAFETY: Contract: not yet visible to anyone else, so the flags may be written without its lock.
    let flags = unsafe { &mut (*vma).__bindgen_anon_2.vm_flags };
    *flags |= sys::VM_PFNMAP | sys::VM_IO | sys::VM_DONTCOPY | sys::VM_DONTEXPAND | sys::VM_DONTDUMP;
    // SAFETY: As above.
    unsafe { (*vma).vm_ops = &raw const VM_OPERATIONS.0 };
    0
}

/// The operations of the mapping.
struct VmOperations(sys::vm_operations_struct);
// SAFETY: Never written; the kernel reads it from any thread.
unsafe impl Sync for VmOperations {}

static VM_OPERATIONS: VmOperations = VmOperations(sys::vm_operations_struct {
    fault: Some(on_absent),
    pfn_mkwrite: Some(on_read_only),
    map_pages: Some(on_map_pages),
    ..pin_init::zeroed()
});

/// The operations, with a pointer to the module.
struct FileOperations(sys::file_operations);
// SAFETY: Never written; the kernel reads it from any thread.
unsafe impl Sync for FileOperations {}

static FILE_OPERATIONS: FileOperations = FileOperations(sys::file_operations {
    owner: kernel::module::this_module::<crate::LocalModule>().as_ptr(),
    mmap: Some(on_mmap),
    ..pin_init::zeroed()
});

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The processors' virtualisation, while a sandbox uses it.
//!
//! Owns: what each processor needs of memory, what all guests share (maps of ports and registers, the page of descriptors, the stub), and the
//! state of the host's that turns processors on and off. There is one engine at a time; sandboxes have a [`Lease`], and the last one's
//! end gives the processors back.
//! Invariants: a processor's `on` is set while its EFER.SVME is ours. Its tags and pages are used on that processor alone, with interrupts
//! off or by the host's hot-plug thread, when no guest is there.
//! Locks: `ENGINE`, a mutex, in CONFIGURE and at a sandbox's end; it is outermost, and the host's hot-plug lock is taken under it.
//! Sources: Linux kernel/cpu.c, drivers/base/syscore.c.

use super::stub;
use crate::mm::frame::{Frame, SIZE};
use crate::sys;
use alloc::sync::{Arc as Shared, Weak};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use kernel::prelude::*;
use litebox_trap_hw::gdt;
use litebox_trap_hw::svm::asid::Tags;
use litebox_trap_hw::svm::cpu::{self, Capabilities, Refused};
use litebox_trap_hw::svm::guest::{IO_MAP_BYTES, MSR_MAP_BYTES, Maps};

/// CR4.OSXSAVE.
const OSXSAVE: u64 = 1 << 18;

kernel::sync::global_lock! {
    // SAFETY: `init` is called when the module is loaded.
    unsafe(uninit) static ENGINE: Mutex<Weak<Engine>> = Weak::new();
}

/// The engine that the processors' callbacks are about; null while there is none.
static ACTIVE: AtomicPtr<Engine> = AtomicPtr::new(ptr::null_mut());

/// Makes the lock. Called once, when the module is loaded.
pub(crate) fn init() {
    // SAFETY: The module's load is the only caller.
    unsafe { ENGINE.init() };
}

/// A sandbox's part in the engine.
pub(crate) struct Lease(Option<Shared<Engine>>);

impl Lease {
    /// Takes one; the first turns the processors on.
    ///
    /// # Errors
    /// ENODEV: the processor cannot, or firmware forbids it. EBUSY: somebody else uses it. ENOMEM.
    pub(crate) fn take() -> Result<Self> {
        let mut engine = ENGINE.lock();
        if let Some(running) = engine.upgrade() {
            return Ok(Self(Some(running)));
        }
        let started = Engine::start()?;
        *engine = Shared::downgrade(&started);
        Ok(Self(Some(started)))
    }

    /// The engine.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.0.as_deref()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Under the lock: another engine begins when the processors have been given back.
        let mut engine = ENGINE.lock();
        drop(self.0.take());
        if engine.strong_count() == 0 {
            // What is left of it is the count.
            *engine = Weak::new();
        }
    }
}

/// What one processor has.
pub(super) struct Cpu {
    /// Whether it can have guests.
    on: AtomicBool,
    /// Where VMRUN keeps the host's state.
    save: Frame,
    /// Where the host's segments are meanwhile.
    segments: Frame,
    tags: UnsafeCell<Tags>,
}

// SAFETY: The tags are used as the module's invariants say; the rest is shared safely.
unsafe impl Sync for Cpu {}

impl Cpu {
    /// Whether guests may enter. Interrupts are off, so that it stays so until they are on.
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Physical address of the page for the host's segments.
    pub(super) fn segments(&self) -> u64 {
        physical(&self.segments)
    }

    /// Its tags.
    ///
    /// # Safety
    /// This is the current processor and interrupts are off, as long as the borrow is used; there is one at a time.
    #[expect(clippy::mut_from_ref, reason = "the contract")]
    pub(super) unsafe fn tags(&self) -> &mut Tags {
        // SAFETY: Contract.
        unsafe { &mut *self.tags.get() }
    }
}

/// The engine.
pub(crate) struct Engine {
    /// The host's number of the state that watches processors; negative while they are not watched.
    state: i32,
    cpus: KVec<Cpu>,
    capabilities: Capabilities,
    maps: Maps,
    /// The top table's entry that leads to the descriptors.
    descriptors: u64,
    stub: Frame,
    _map_pages: Run,
    _tables: [Frame; gdt::TABLES],
    _descriptors: Frame,
}

impl Engine {
    /// Turns the processors on.
    fn start() -> Result<Shared<Self>> {
        let capabilities = cpu::capabilities().map_err(refused)?;
        // SAFETY: Ring 0.
        if unsafe { cpu::cr4() } & OSXSAVE == 0 {
            pr_err!("the hardware trap needs XSAVE\n");
            return Err(ENODEV);
        }
        let map_pages = Run::of_ones()?;
        let io = physical_of(map_pages.first);
        let maps = Maps { io, msr: io.saturating_add(IO_MAP_BYTES as u64) };
        let descriptors = frame()?;
        for (at, descriptor) in (0..).step_by(8).zip(gdt::DESCRIPTORS) {
            descriptors.write(at, &descriptor.to_le_bytes());
        }
        let tables = [frame()?, frame()?, frame()?];
        let [level1, level2, level3] = &tables;
        let put = |table: &Frame, level, entry: u64| table.write(gdt::index(level).saturating_mul(8), &entry.to_le_bytes());
        put(level1, 1, gdt::leaf(physical(&descriptors)));
        put(level2, 2, gdt::link(physical(level1)));
        put(level3, 3, gdt::link(physical(level2)));
        let top = gdt::link(physical(level3));
        let mut engine = Shared::new(Self {
            state: -1,
            cpus: cpus(capabilities)?,
            capabilities,
            maps,
            descriptors: top,
            stub: stub::page().ok_or(ENOMEM)?,
            _map_pages: map_pages,
            _tables: tables,
            _descriptors: descriptors,
        });
        ACTIVE.store(Shared::as_ptr(&engine).cast_mut(), Ordering::Release);
        // SAFETY: Task context that may sleep. Both look at `ACTIVE`, which outlives the state: `drop` takes that away first.
        let state = unsafe { sys::litebox_watch_processors(Some(on), Some(off)) };
        if state < 0 {
            ACTIVE.store(ptr::null_mut(), Ordering::Release);
            if state == EBUSY.to_errno() {
                pr_info!("the hardware trap cannot be used: another hypervisor, such as kvm_amd, has the processors' SVM\n");
            }
            return Err(Error::from_errno(state));
        }
        // Nobody else has it yet but the callbacks, which do not look at this field.
        if let Some(engine) = Shared::get_mut(&mut engine) {
            engine.state = state;
        }
        SLEEP.watch();
        Ok(engine)
    }

    /// What the processor of this number has.
    pub(super) fn cpu(&self, number: u32) -> Option<&Cpu> {
        self.cpus.get(number as usize)
    }

    /// Physical addresses of the maps.
    pub(super) fn maps(&self) -> Maps {
        self.maps
    }

    /// The last entry of every guest's top table.
    pub(super) fn descriptors(&self) -> u64 {
        self.descriptors
    }

    /// Whether the translations of one tag can be flushed.
    pub(super) fn flushes_by_tag(&self) -> bool {
        self.capabilities.flush_by_tag
    }

    /// The stub's page.
    pub(super) fn stub(&self) -> &Frame {
        &self.stub
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.state >= 0 {
            SLEEP.forget();
            // SAFETY: Task context that may sleep. `off` is called on every processor that is on.
            unsafe { sys::litebox_forget_processors(self.state) };
            ACTIVE.store(ptr::null_mut(), Ordering::Release);
        }
    }
}

/// A processor's share for each that may come.
fn cpus(capabilities: Capabilities) -> Result<KVec<Cpu>> {
    // SAFETY: Reads a constant of the boot.
    let count = unsafe { sys::litebox_processors_end() };
    let mut cpus = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for _ in 0..count {
        let tags = UnsafeCell::new(Tags::new(capabilities.tags));
        cpus.push(Cpu { on: AtomicBool::new(false), save: frame()?, segments: frame()?, tags }, GFP_KERNEL)?;
    }
    Ok(cpus)
}

fn frame() -> Result<Frame> {
    Frame::zeroed().ok_or(ENOMEM)
}

/// Where the processor sees a frame, encrypted if the host's memory is.
pub(super) fn physical(frame: &Frame) -> u64 {
    // SAFETY: The frame's page exists.
    unsafe { sys::litebox_physical(frame.page()) }
}

fn physical_of(page: NonNull<sys::page>) -> u64 {
    // SAFETY: The page exists.
    unsafe { sys::litebox_physical(page.as_ptr()) }
}

fn refused(why: Refused) -> Error {
    match why {
        Refused::Busy => EBUSY,
        Refused::Absent | Refused::Locked => ENODEV,
    }
}

/// The current processor's share of the engine that is starting or running.
fn current_cpu(number: u32) -> Option<&'static Cpu> {
    let engine = NonNull::new(ACTIVE.load(Ordering::Acquire))?;
    // SAFETY: The callbacks' state exists only while the engine does, and they do not keep the borrow.
    unsafe { engine.as_ref() }.cpu(number)
}

/// Turns the current processor on; called by the host on each, now or when it comes.
unsafe extern "C" fn on(number: u32) -> i32 {
    let Some(cpu) = current_cpu(number) else { return ENODEV.to_errno() };
    // SAFETY: Ring 0, on the processor that this thread is bound to; the page is this processor's.
    match unsafe { cpu::enable(physical(&cpu.save)) } {
        Ok(_capabilities) => {
            // SAFETY: No guest is on this processor before `on` is set, and this thread is bound to it.
            unsafe { cpu.tags() }.start_over();
            cpu.on.store(true, Ordering::Relaxed);
            0
        }
        Err(why) => refused(why).to_errno(),
    }
}

/// Turns the current processor off; called by the host on each, when it goes or in the end.
unsafe extern "C" fn off(number: u32) -> i32 {
    if let Some(cpu) = current_cpu(number) {
        // A guest's section has this processor to itself, so none is under way, and the next one will find it off.
        if cpu.on.swap(false, Ordering::Relaxed) {
            // SAFETY: `on` has succeeded here; no guest is.
            unsafe { cpu::disable() };
        }
    }
    0
}

/// Pages side by side.
struct Run {
    first: NonNull<sys::page>,
}

// SAFETY: The pages are nobody's but the owner's.
unsafe impl Send for Run {}
// SAFETY: As above; they are not written after `of_ones`.
unsafe impl Sync for Run {}

impl Run {
    /// As many as both maps need: 2 to this power.
    const ORDER: u32 = 3;

    /// Pages of ones.
    ///
    /// # Errors
    /// ENOMEM.
    fn of_ones() -> Result<Self> {
        const { assert!(IO_MAP_BYTES + MSR_MAP_BYTES <= SIZE << Self::ORDER) };
        // SAFETY: Task context.
        let first = NonNull::new(unsafe { sys::litebox_alloc_pages(sys::GFP_KERNEL, Self::ORDER) }).ok_or(ENOMEM)?;
        // SAFETY: Pages of normal memory, which have an address.
        let bytes = unsafe { sys::litebox_page_address(first.as_ptr()) }.cast::<u8>();
        // SAFETY: As many bytes as were allocated, which nobody else knows.
        unsafe { bytes.write_bytes(0xff, SIZE << Self::ORDER) };
        Ok(Self { first })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // SAFETY: Allocated by `of_ones` with this order; no guest uses the maps any more.
        unsafe { sys::litebox_free_pages(self.first.as_ptr(), Self::ORDER) };
    }
}

/// Has the boot processor, which no hot-plug state visits, told again after a sleep of the machine's.
struct Sleep(UnsafeCell<sys::syscore>);

// SAFETY: Changed by `watch` and `forget`, under `ENGINE`, through the host, which has a lock of its own.
unsafe impl Sync for Sleep {}

static SLEEP: Sleep = Sleep(UnsafeCell::new(sys::syscore { ops: &raw const SLEEP_OPERATIONS.0, ..pin_init::zeroed() }));

/// The operations.
struct SleepOperations(sys::syscore_ops);
// SAFETY: Never written; the kernel reads it from any thread.
unsafe impl Sync for SleepOperations {}

static SLEEP_OPERATIONS: SleepOperations = SleepOperations(sys::syscore_ops { resume: Some(after_sleep), ..pin_init::zeroed() });

impl Sleep {
    fn watch(&self) {
        // SAFETY: Static, and not in the host's list: one engine at a time.
        unsafe { sys::register_syscore(self.0.get()) };
    }

    fn forget(&self) {
        // SAFETY: In the list since `watch`.
        unsafe { sys::unregister_syscore(self.0.get()) };
    }
}

/// Called by the host on the boot processor, interrupts off, before any task runs.
unsafe extern "C" fn after_sleep(_data: *mut c_void) {
    let mut node = 0;
    // SAFETY: Reads this processor's number.
    let number = unsafe { sys::litebox_processor(&raw mut node) };
    if let Some(cpu) = current_cpu(number).filter(|cpu| cpu.is_on()) {
        // SAFETY: Ring 0, and `on` has succeeded here with this page.
        unsafe { cpu::resume(physical(&cpu.save)) };
        // SAFETY: This processor, interrupts off.
        unsafe { cpu.tags() }.start_over();
    }
}

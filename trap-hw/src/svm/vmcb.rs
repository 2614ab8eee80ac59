//! The virtual machine control block: one page that tells the processor what to intercept and holds the state that VMRUN switches.
//!
//! Plain memory of fixed layout. The processor reads and writes it in VMRUN, VMLOAD and VMSAVE only, by its physical address.
//! Source: APM vol. 2, appendix B, tables B-1 and B-2.

use core::mem::offset_of;

/// What the processor is told, and how it came out. APM table B-1.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Control {
    /// Which events and instructions come out: see [`super::intercept`].
    pub intercepts: [u32; 6],
    reserved_018: [u8; 0x3c - 0x18],
    /// Filter of `pause`.
    pub pause_threshold: u16,
    /// Its counter.
    pub pause_count: u16,
    /// Physical address of the map of ports, 12 KiB.
    pub io_map: u64,
    /// Physical address of the map of model-specific registers, 8 KiB.
    pub msr_map: u64,
    /// Added to the time stamp counter.
    pub tsc_offset: u64,
    /// Tag of its translations; not 0, which is the host's.
    pub asid: u32,
    /// What VMRUN flushes: see [`Flush`].
    pub flush: u32,
    /// Virtual interrupts.
    pub interrupt_control: u64,
    /// Interrupt shadow.
    pub interrupt_state: u64,
    /// Why it came out: see [`super::exit`].
    pub exit_code: u64,
    /// More about it.
    pub exit_info: [u64; 2],
    /// The event that was being delivered.
    pub exit_event: u64,
    /// Bit 0: nested paging.
    pub nested_control: u64,
    reserved_098: [u8; 0x10],
    /// Event to be delivered.
    pub event: u64,
    /// Physical address of the nested tables.
    pub nested_root: u64,
    /// Virtualised last-branch records, VMLOAD and VMSAVE.
    pub misc_control: u64,
    /// Which parts have not changed since this processor entered with them last; 0: all may have.
    pub clean: u64,
    /// Address of the next instruction, on some exits.
    pub next_ip: u64,
    /// Bytes of the instruction, on some exits.
    pub instruction: [u8; 16],
    reserved_0e0: [u8; 0x400 - 0xe0],
}

/// A segment register with what the processor knows of its descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Bits 40 to 47 and 52 to 55 of the descriptor, packed.
    pub attributes: u16,
    /// Limit in bytes.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

/// The guest's state. APM table B-2.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "each field is the register of that name")]
pub struct Save {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub gdtr: Segment,
    pub ldtr: Segment,
    pub idtr: Segment,
    pub tr: Segment,
    reserved_0a0: [u8; 0xcb - 0xa0],
    /// The ring.
    pub cpl: u8,
    reserved_0cc: [u8; 4],
    pub efer: u64,
    reserved_0d8: [u8; 0x148 - 0xd8],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    reserved_180: [u8; 0x1d8 - 0x180],
    pub rsp: u64,
    pub s_cet: u64,
    pub ssp: u64,
    pub isst_addr: u64,
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    reserved_248: [u8; 0x268 - 0x248],
    /// Page attributes, with nested paging.
    pub pat: u64,
    pub debug_control: u64,
    pub last_branch: [u64; 4],
    reserved_298: [u8; 0xc00 - 0x298],
}

/// The page.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
pub struct Vmcb {
    /// What the processor is told.
    pub control: Control,
    /// The guest's state.
    pub save: Save,
}

/// The page's bytes.
pub const BYTES: usize = 4096;

const _: () = {
    assert!(size_of::<Control>() == 0x400 && size_of::<Save>() == 0xc00 && size_of::<Vmcb>() == BYTES);
    assert!(offset_of!(Control, pause_threshold) == 0x3c && offset_of!(Control, io_map) == 0x40);
    assert!(offset_of!(Control, msr_map) == 0x48 && offset_of!(Control, tsc_offset) == 0x50);
    assert!(offset_of!(Control, asid) == 0x58 && offset_of!(Control, flush) == 0x5c);
    assert!(offset_of!(Control, interrupt_control) == 0x60 && offset_of!(Control, interrupt_state) == 0x68);
    assert!(offset_of!(Control, exit_code) == 0x70 && offset_of!(Control, exit_info) == 0x78);
    assert!(offset_of!(Control, exit_event) == 0x88 && offset_of!(Control, nested_control) == 0x90);
    assert!(offset_of!(Control, event) == 0xa8 && offset_of!(Control, nested_root) == 0xb0);
    assert!(offset_of!(Control, misc_control) == 0xb8 && offset_of!(Control, clean) == 0xc0);
    assert!(offset_of!(Control, next_ip) == 0xc8 && offset_of!(Control, instruction) == 0xd0);
    assert!(offset_of!(Save, gdtr) == 0x60 && offset_of!(Save, tr) == 0x90 && offset_of!(Save, cpl) == 0xcb);
    assert!(offset_of!(Save, efer) == 0xd0 && offset_of!(Save, cr4) == 0x148 && offset_of!(Save, cr0) == 0x158);
    assert!(offset_of!(Save, dr7) == 0x160 && offset_of!(Save, rflags) == 0x170 && offset_of!(Save, rip) == 0x178);
    assert!(offset_of!(Save, rsp) == 0x1d8 && offset_of!(Save, rax) == 0x1f8 && offset_of!(Save, star) == 0x200);
    assert!(offset_of!(Save, kernel_gs_base) == 0x220 && offset_of!(Save, sysenter_eip) == 0x238);
    assert!(offset_of!(Save, cr2) == 0x240 && offset_of!(Save, pat) == 0x268 && offset_of!(Save, debug_control) == 0x270);
};

/// What VMRUN does to translations. APM vol. 2, 15.16.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Flush {
    /// Nothing.
    Nothing = 0,
    /// Forgets all of every guest and the host's.
    Everything = 1,
    /// Forgets this tag's. Needs the feature.
    Tag = 3,
}

//! The control block of a guest that has ring 3 and nothing else.
//!
//! Invariants: it is entered in ring 3 with flat segments, and has no table through which it could get elsewhere: no task state (a port's
//! permission is looked for at its limit, 0), no interrupt descriptors, no local descriptors; `syscall` is off, so that it raises an
//! invalid opcode; no event is ever injected. With the host's task register, the processor would look for a port's bit at the
//! host's address, and a fault would tell the guest's kernel half of it.
//! Sources: APM vol. 2, 15.5.1 (what VMRUN checks), 15.15 (clean bits), 15.21.1 (virtual interrupt masking).

use super::intercept;
use super::vmcb::{Flush, Segment, Vmcb};
use crate::gdt;
use crate::registers::Registers;

/// CR0: PE MP ET NE WP AM PG.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
/// CR4 of every guest: PAE OSFXSR OSXMMEXCPT.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// CR4 of a guest whose host has them: UMIP FSGSBASE OSXSAVE. Not PKE, CET, LA57, PGE, PCIDE, TSD, PCE.
const CR4_AS_HOST: u64 = 1 << 11 | 1 << 16 | 1 << 18;
/// EFER: LME LMA NXE SVME. Not SCE.
const EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12;
/// EFER's SVME, which VMRUN wants.
const EFER_SVME: u64 = 1 << 12;
const DR6: u64 = 0xffff_0ff0;
const DR7: u64 = 0x400;
/// Page attributes as they are after a reset; not looked at without nested paging.
const PAT: u64 = 0x0007_0406_0007_0406;
/// `interrupt_control`: the host's interrupt flag, not the guest's, lets interrupts in.
const INTERRUPT_MASKING: u64 = 1 << 24;
/// Flags that a guest may have: CF PF AF ZF SF TF DF OF RF AC ID.
const FLAGS_FREE: u64 = 0x25_0dd5;
/// Always: bit 1, and interrupts.
const FLAGS_ALWAYS: u64 = 0x202;
/// Selectors as Linux's.
const CODE: u16 = 0x33;
const CODE_32: u16 = 0x23;
const DATA: u16 = 0x2b;
/// S, DPL 3, present, read and accessed; long and 4 KiB units; see `gdt`.
const CODE_ATTRIBUTES: u16 = 0xafb;
const CODE_32_ATTRIBUTES: u16 = 0xcfb;
const DATA_ATTRIBUTES: u16 = 0xcf3;
/// A busy 64-bit task state segment.
const TASK_ATTRIBUTES: u16 = 0x8b;
const LDT_ATTRIBUTES: u16 = 0x82;

/// Physical addresses of what all guests share: both maps are all ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// The map of ports, 12 KiB.
    pub io: u64,
    /// The map of model-specific registers, 8 KiB.
    pub msr: u64,
}

/// Bytes of both maps.
pub const IO_MAP_BYTES: usize = 12 << 10;
/// See [`IO_MAP_BYTES`].
pub const MSR_MAP_BYTES: usize = 8 << 10;

/// The code segment of a selector: 64-bit unless it is the 32-bit one.
fn code(selector: u64) -> Segment {
    let (selector, attributes) =
        if selector == u64::from(CODE_32) { (CODE_32, CODE_32_ATTRIBUTES) } else { (CODE, CODE_ATTRIBUTES) };
    Segment { selector, attributes, limit: u32::MAX, base: 0 }
}

impl Vmcb {
    /// Makes it, zeroed before, that of a new guest, whose top table is at `root`. `host_cr4` says which features the host has turned on.
    pub fn make_guest(&mut self, maps: Maps, root: u64, host_cr4: u64) {
        let control = &mut self.control;
        control.intercepts = intercept::WORDS;
        control.io_map = maps.io;
        control.msr_map = maps.msr;
        control.interrupt_control = INTERRUPT_MASKING;

        let save = &mut self.save;
        let data = Segment { selector: 0, attributes: DATA_ATTRIBUTES, limit: u32::MAX, base: 0 };
        save.cs = code(CODE.into());
        save.ss = Segment { selector: DATA, ..data };
        (save.ds, save.es, save.fs, save.gs) = (data, data, data, data);
        save.gdtr = Segment { base: gdt::ADDRESS, limit: gdt::LIMIT, ..Segment::default() };
        save.ldtr = Segment { attributes: LDT_ATTRIBUTES, ..Segment::default() };
        save.tr = Segment { attributes: TASK_ATTRIBUTES, ..Segment::default() };
        save.cpl = 3;
        save.efer = EFER;
        save.cr0 = CR0;
        save.cr3 = root;
        save.cr4 = CR4 | host_cr4 & CR4_AS_HOST;
        save.dr6 = DR6;
        save.dr7 = DR7;
        save.rflags = FLAGS_ALWAYS;
        save.pat = PAT;
    }

    /// Takes the guest's registers for the next entry.
    pub fn load(&mut self, regs: &Registers) {
        let save = &mut self.save;
        (save.rax, save.rip, save.rsp) = (regs.ax, regs.ip, regs.sp);
        save.rflags = regs.flags & FLAGS_FREE | FLAGS_ALWAYS;
        if u64::from(save.cs.selector) != regs.cs {
            save.cs = code(regs.cs);
            self.control.clean = 0;
        }
        // An instruction was stepped over, or a handler's first is next: neither is in a shadow.
        self.control.interrupt_state = 0;
    }

    /// Gives the registers with which the guest came out.
    pub fn store(&self, regs: &mut Registers) {
        let save = &self.save;
        (regs.ax, regs.ip, regs.sp, regs.flags) = (save.rax, save.rip, save.rsp, save.rflags);
        (regs.cs, regs.ss) = (save.cs.selector.into(), save.ss.selector.into());
    }

    /// Says whether anything but the registers that VMRUN always loads has changed since this processor entered with the block last. Then,
    /// and when another one did, it must not use what it remembers.
    pub fn set_changed(&mut self, has_changed: bool) {
        /// Intercepts, maps, tag, priorities, nested paging, control and debug registers, descriptor tables, segments, CR2.
        const CLEAN: u64 = 0x3ff;
        self.control.clean = if has_changed { 0 } else { CLEAN };
    }

    /// What VMRUN is to flush, once.
    pub fn set_flush(&mut self, flush: Flush) {
        self.control.flush = flush as u32;
    }

    /// The first rule that it breaks: those of VMRUN, and those that make it ring 3's alone.
    ///
    /// # Errors
    /// The rule.
    pub fn check(&self) -> Result<(), &'static str> {
        let (control, save) = (&self.control, &self.save);
        let high = |word: u64| word >> 32 != 0;
        let long = save.efer & 1 << 8 != 0 && save.cr0 & 1 << 31 != 0;
        let rules = [
            (save.efer & EFER_SVME != 0, "EFER.SVME is set"),
            (save.cr0 & 1 << 30 != 0 || save.cr0 & 1 << 29 == 0, "CR0.NW is not set without CR0.CD"),
            (!high(save.cr0) && !high(save.dr6) && !high(save.dr7), "upper halves of CR0, DR6 and DR7 are 0"),
            (!long || save.cr4 & 1 << 5 != 0 && save.cr0 & 1 != 0, "long mode has CR4.PAE and CR0.PE"),
            (save.cs.attributes & 0x600 != 0x600, "CS is not both 64-bit and 32-bit"),
            (control.intercepts[4] & 1 != 0, "VMRUN is intercepted"),
            (control.asid != 0, "the tag is not the host's"),
            (save.cpl == 3 && save.ss.attributes >> 5 & 3 == 3 && save.cs.attributes >> 5 & 3 == 3, "it is in ring 3"),
            (save.efer & 1 == 0, "EFER.SCE is not set"),
            (save.rflags & 0x3000 == 0 && save.rflags & FLAGS_ALWAYS == FLAGS_ALWAYS, "no I/O privilege, interrupts on"),
            (save.tr.limit == 0 && save.idtr.limit == 0 && save.ldtr.limit == 0, "it has no tables of a kernel"),
            (control.event == 0, "no event is injected"),
            ((control.io_map | control.msr_map) & 0xfff == 0, "the maps are aligned"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A guest's block as it is before an entry.
    pub(in super::super) fn example() -> Vmcb {
        // SAFETY: Plain words, of which zero is a value.
        let mut vmcb: Vmcb = unsafe { core::mem::zeroed() };
        vmcb.make_guest(Maps { io: 0x1000, msr: 0x4000 }, 0x8000, u64::MAX);
        vmcb.control.asid = 1;
        vmcb
    }

    #[test]
    fn a_new_guest_breaks_no_rule() {
        assert_eq!(example().check(), Ok(()));
    }

    #[test]
    fn each_broken_rule_is_found() {
        let breaks: [fn(&mut Vmcb); 12] = [
            |v| v.save.efer = 0xd00 & !EFER_SVME,
            |v| v.save.cr0 |= 1 << 32,
            |v| v.save.cr0 |= 1 << 29,
            |v| v.save.cr4 = 0,
            |v| v.control.intercepts[4] = 0,
            |v| v.control.asid = 0,
            |v| v.save.cpl = 0,
            |v| v.save.ss.attributes = 0xc93,
            |v| v.save.efer |= 1,
            |v| v.save.rflags |= 0x3000,
            |v| v.save.tr.limit = 0x67,
            |v| v.control.event = 1 << 31,
        ];
        for (at, spoil) in breaks.into_iter().enumerate() {
            let mut vmcb = example();
            spoil(&mut vmcb);
            assert!(vmcb.check().is_err(), "{at}");
        }
    }

    #[test]
    fn a_guest_has_the_host_s_user_features_and_no_others() {
        let vmcb = example();
        let without = [4, 6, 7, 12, 17, 22, 23].map(|bit| vmcb.save.cr4 >> bit & 1);
        assert_eq!(without, [0; 7], "PSE MCE PGE LA57 PCIDE PKE CET");
        assert_eq!([11, 16, 18].map(|bit| vmcb.save.cr4 >> bit & 1), [1; 3], "UMIP FSGSBASE OSXSAVE");
    }

    #[test]
    fn registers_go_in_and_out_and_flags_are_ring_3_s() {
        let mut vmcb = example();
        let regs = Registers { ax: 1, ip: 2, sp: 3, flags: u64::MAX, ..Registers::default() };
        vmcb.load(&regs);
        assert_eq!(vmcb.check(), Ok(()));
        assert_eq!(vmcb.save.rflags & 0x1_0000_7000, 0, "no nested task, no I/O privilege");
        let mut out = Registers { bx: 7, ..Registers::default() };
        vmcb.store(&mut out);
        assert_eq!((out.ax, out.ip, out.sp, out.bx, out.flags), (1, 2, 3, 7, vmcb.save.rflags));
        assert_eq!((out.cs, out.ss), (0x33, 0x2b));
    }

    #[test]
    fn a_guest_may_be_in_32_bit_code_and_in_no_other() {
        let mut vmcb = example();
        for (asked, selector, attributes) in
            [(0x23, 0x23, 0xcfb), (0x33, 0x33, 0xafb), (0x10, 0x33, 0xafb), (u64::MAX, 0x33, 0xafb)]
        {
            vmcb.set_changed(false);
            vmcb.load(&Registers { cs: asked, ..Registers::default() });
            assert_eq!((vmcb.save.cs.selector, vmcb.save.cs.attributes, vmcb.check()), (selector, attributes, Ok(())));
        }
        vmcb.load(&Registers { cs: 0x23, ..Registers::default() });
        assert_eq!(vmcb.control.clean, 0, "a segment has changed");
        let mut out = Registers::default();
        vmcb.store(&mut out);
        assert_eq!(out.cs, 0x23);
    }
}

//! `/proc/cpuinfo`: the processors that a sandbox shows, as `CPUID` describes the one that answers.
//!
//! Source: `proc_cpuinfo(5)`; Linux arch/x86/kernel/cpu/proc.c, arch/x86/include/asm/cpufeatures.h; Intel's manual, volume 2,
//! `CPUID`.

use super::text::Text;
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::vec::Vec;
use litebox_core::error::Result;

/// Names of the bits of one register of one leaf, from bit 0; empty for those that Linux does not show.
type Bits = (u32, u32, usize, [&'static str; 32]);

/// In Linux's order. A register is 0 for `EAX` to 3 for `EDX`.
#[rustfmt::skip]
const FLAGS: [Bits; 7] = [
    (1, 0, 3, ["fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge", "mca", "cmov", "pat",
        "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe"]),
    (0x8000_0001, 0, 3, ["", "", "", "", "", "", "", "", "", "", "", "syscall", "", "", "", "", "", "", "", "mp", "nx", "", "mmxext",
        "", "", "fxsr_opt", "pdpe1gb", "rdtscp", "", "lm", "3dnowext", "3dnow"]),
    (1, 0, 2, ["pni", "pclmulqdq", "dtes64", "monitor", "ds_cpl", "vmx", "smx", "est", "tm2", "ssse3", "cid", "sdbg", "fma", "cx16",
        "xtpr", "pdcm", "", "pcid", "dca", "sse4_1", "sse4_2", "x2apic", "movbe", "popcnt", "tsc_deadline_timer", "aes", "xsave",
        "", "avx", "f16c", "rdrand", "hypervisor"]),
    (0x8000_0001, 0, 2, ["lahf_lm", "cmp_legacy", "svm", "extapic", "cr8_legacy", "abm", "sse4a", "misalignsse", "3dnowprefetch",
        "osvw", "ibs", "xop", "skinit", "wdt", "", "lwp", "fma4", "tce", "", "nodeid_msr", "", "tbm", "topoext", "perfctr_core",
        "perfctr_nb", "", "bpext", "ptsc", "perfctr_llc", "mwaitx", "", ""]),
    (7, 0, 1, ["fsgsbase", "tsc_adjust", "sgx", "bmi1", "hle", "avx2", "", "smep", "bmi2", "erms", "invpcid", "rtm", "cqm", "", "mpx",
        "rdt_a", "avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", "", "clflushopt", "clwb", "intel_pt", "avx512pf",
        "avx512er", "avx512cd", "sha_ni", "avx512bw", "avx512vl"]),
    (7, 0, 2, ["", "avx512vbmi", "umip", "pku", "ospke", "waitpkg", "avx512_vbmi2", "", "gfni", "vaes", "vpclmulqdq", "avx512_vnni",
        "avx512_bitalg", "tme", "avx512_vpopcntdq", "", "la57", "", "", "", "", "", "rdpid", "", "bus_lock_detect", "cldemote", "",
        "movdiri", "movdir64b", "enqcmd", "sgx_lc", ""]),
    (7, 0, 3, ["", "", "avx512_4vnniw", "avx512_4fmaps", "fsrm", "", "", "", "avx512_vp2intersect", "", "md_clear", "", "", "",
        "serialize", "", "tsxldtrk", "", "pconfig", "arch_lbr", "ibt", "", "amx_bf16", "avx512_fp16", "amx_tile", "amx_int8", "", "",
        "flush_l1d", "arch_capabilities", "", ""]),
];

/// One register of a leaf; 0 for a leaf above the processor's last, which it would answer with another one's.
fn register<P: Cpu>(leaf: u32, subleaf: u32, which: usize) -> u32 {
    let [last, ..] = P::cpuid(leaf & 0x8000_0000, 0);
    if leaf > last {
        return 0;
    }
    P::cpuid(leaf, subleaf).get(which).copied().unwrap_or_default()
}

/// Text that registers hold, up to its NUL.
fn string(text: &mut Text, registers: &[u32]) -> Result<()> {
    let bytes = registers.iter().flat_map(|register| register.to_le_bytes()).take_while(|byte| *byte != 0);
    let bytes: Vec<u8> = bytes.filter(|byte| byte.is_ascii_graphic() || *byte == b' ').collect();
    text.bytes(bytes.trim_ascii())
}

/// `/proc/cpuinfo`.
pub(super) fn cpuinfo<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    let processors = &sandbox.machine().processors;
    for number in processors.numbers() {
        processor::<P>(&mut text, number, processors.count())?;
    }
    Ok(text.finish())
}

/// One of `count` processors.
fn processor<P: Cpu>(text: &mut Text, number: u32, count: u32) -> Result<()> {
    let [last, b, c, d] = P::cpuid(0, 0);
    text.put(format_args!("processor\t: {number}\nvendor_id\t: "))?;
    string(text, &[b, d, c])?;
    let signature = register::<P>(1, 0, 0);
    let field = |shift: u32, mask: u32| (signature >> shift) & mask;
    let family = match field(8, 0xf) {
        0xf => field(20, 0xff).saturating_add(0xf),
        family => family,
    };
    let model = if family >= 6 { field(16, 0xf) << 4 | field(4, 0xf) } else { field(4, 0xf) };
    text.put(format_args!("\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: "))?;
    let mut name = Vec::new();
    for leaf in 0x8000_0002..=0x8000_0004 {
        name.extend((0..4).map(|which| register::<P>(leaf, 0, which)));
    }
    string(text, &name)?;
    text.put(format_args!(
        "\nstepping\t: {}\nphysical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {number}\ncpu cores\t: {count}\napicid\t\t: {number}\ninitial apicid\t: {number}\n\
         fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {last}\nwp\t\t: yes\nflags\t\t:",
        field(0, 0xf)
    ))?;
    for (leaf, subleaf, which, names) in FLAGS {
        let bits = register::<P>(leaf, subleaf, which);
        for (bit, name) in (0..32u32).zip(names) {
            if !name.is_empty() && bits >> bit & 1 == 1 {
                text.put(format_args!(" {name}"))?;
            }
        }
    }
    let line = (register::<P>(1, 0, 1) >> 8 & 0xff).saturating_mul(8);
    let sizes = register::<P>(0x8000_0008, 0, 0);
    text.put(format_args!(
        "\nbugs\t\t:\nclflush size\t: {line}\ncache_alignment\t: {line}\naddress sizes\t: {} bits physical, {} bits virtual\n\
         power management:\n\n",
        sizes & 0xff,
        sizes >> 8 & 0xff
    ))
}

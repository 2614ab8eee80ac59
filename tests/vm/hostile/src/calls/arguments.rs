//! What is passed to each call: addresses at every border, numbers at every end. Nothing that would end the guest itself.

use super::fire::SCRATCH;

/// Calls that no argument keeps from ending or stopping the guest: `rt_sigreturn`, `pause`, `fork`, `vfork`, `exit`,
/// `exit_group`. (fork and vfork would go on, twice.)
pub(crate) const NEVER: &[u64] = &[15, 34, 57, 58, 60, 231];

/// Values for all six arguments at once.
const ALL_THE_SAME: &[u64] = &[
    0,
    1,
    2,
    u64::MAX,
    i64::MIN as u64,
    i64::MAX as u64,
    u32::MAX as u64,
    0x7fff_ffff,
    // The last page of a guest, the first address that is none, a hole, the kernel's half, its text.
    0x7fff_ffff_e000,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_8100_0000,
    SCRATCH,
    SCRATCH + 4095,
];

/// Pointers into the kernel with lengths that are plausible, in the places where calls have them.
const MIXED: &[[u64; 6]] = &[
    [9, 0xffff_8880_0000_0000, 4096, 0, 0, 0],
    [0xffff_8880_0000_0000, 4096, 0, 0, 0, 0],
    [9, SCRATCH, u64::MAX, u64::MAX, SCRATCH, SCRATCH],
    [9, 0x5401, 0xffff_ffff_8100_0000, 8, 0xffff_8880_0000_0000, 8],
];

/// Calls that wait without end, or end or maim the guest, with certain values; these get none of [`MIXED`] either.
const SPARED: &[(u64, Is)] = &[
    // Without descriptors and without a time, select, pselect6 and ppoll wait for ever.
    (23, is_small),
    (270, is_small),
    (271, is_small),
    // And poll waits for as long as an address is long.
    (7, |_| false),
    // clone makes a child when the lower half of its flags is few; clone3 when they are in memory.
    (56, |value| value != u64::MAX),
    (435, |value| value.cast_signed() >= 0),
    // flock waits for another descriptor of the same file, which the guest has as well.
    (73, is_small),
    // msgrcv waits at the queue that msgget has made; an identifier has 32 bits.
    (70, |value| is_small(value & 0xffff_ffff)),
    // kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal: to the guest itself.
    (62, is_small),
    (200, is_small),
    (234, is_small),
    (129, is_small),
    (297, is_small),
    // alarm would ring.
    (37, |value| value != 0),
    // mmap, mprotect, munmap, mremap, madvise, remap_file_pages: of memory that the guest has.
    (9, is_scratch),
    (10, is_scratch),
    (11, is_scratch),
    (25, is_scratch),
    (28, is_scratch),
    (216, is_scratch),
    // seccomp's strict mode, and prctl's.
    (317, |value| value == 0),
    // close_range, of the report.
    (436, is_small),
];

/// What a value is.
type Is = fn(u64) -> bool;

fn is_small(value: u64) -> bool {
    value < 64
}

fn is_scratch(value: u64) -> bool {
    value & !0xfff == SCRATCH
}

/// The arguments for a number of the guest's own ABI, or for a number of another.
pub(super) fn all(native: Option<u64>) -> Vec<[u64; 6]> {
    let Some(number) = native else {
        // Nothing is decoded there, so a few must do; and many numbers times many faults take time.
        return vec![[0; 6], [u64::MAX; 6], [SCRATCH; 6]];
    };
    let spares = |value: u64| SPARED.iter().any(|(spared, is)| *spared == number && is(value));
    let same = ALL_THE_SAME.iter().filter(|value| !spares(**value)).map(|value| [*value; 6]);
    let is_spared = SPARED.iter().any(|(spared, _)| *spared == number);
    let mixed = MIXED.iter().filter(|_| !is_spared && !TAKES_THE_REPORT.contains(&number)).copied();
    same.chain(mixed).collect()
}

/// close, dup2, dup3, and what writes or makes wait on the report: with the report's number as first argument.
const TAKES_THE_REPORT: &[u64] = &[3, 1, 18, 20, 33, 292, 296, 328, 72];

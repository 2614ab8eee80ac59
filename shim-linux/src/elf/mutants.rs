//! Hostile headers: a well-made file, and thousands of broken ones from a fixed seed.

use super::*;
use litebox_core::error::{Errno, Error};
use litebox_core::mm::{GUEST_END, PAGE_SIZE, Prot};
use std::vec::Vec;

/// `SplitMix64`, for a sequence that is the same everywhere.
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// One program header: type, flags, offset, address, bytes in the file, bytes in memory, alignment.
type Header = (u32, u32, u64, u64, u64, u64, u64);

fn file(e_type: u16, headers: &[Header]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend(e_type.to_le_bytes());
    bytes.extend(62u16.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(0x1040u64.to_le_bytes());
    bytes.extend(64u64.to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend(64u16.to_le_bytes());
    bytes.extend(56u16.to_le_bytes());
    bytes.extend(u16::try_from(headers.len()).unwrap().to_le_bytes());
    bytes.resize(64, 0);
    for (kind, flags, offset, addr, in_file, in_memory, align) in headers {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for word in [offset, addr, addr, in_file, in_memory, align] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.resize(0x3000, 0);
    bytes[0x800..0x800 + 12].copy_from_slice(b"/lib/ld.so\0\0");
    bytes
}

const DYN: u16 = 3;
const EXEC: u16 = 2;

fn well_made() -> Vec<u8> {
    file(
        DYN,
        &[
            (6, 4, 64, 64, 0x118, 0x118, 8),
            (3, 4, 0x800, 0x800, 11, 11, 1),
            (1, 5, 0, 0, 0x1800, 0x1800, 0x1000),
            (1, 6, 0x2010, 0x3010, 0x100, 0x2000, 0x20_0000),
            (0x6474_e551, 6, 0, 0, 0, 0, 16),
        ],
    )
}

fn refused(bytes: &[u8]) -> Option<Errno> {
    Plan::of_program(bytes).err().and_then(|error| error.errno())
}

fn with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = well_made();
    change(&mut bytes);
    bytes
}

#[test]
fn a_well_made_file_is_planned() {
    let bytes = well_made();
    let plan = Plan::of_program(&bytes[..]).unwrap();
    assert_eq!((plan.kind, plan.entry, plan.align, plan.headers_at), (Kind::Movable, 0x1040, 0x20_0000, 64));
    assert_eq!((plan.interpreter.as_deref(), plan.stack), (Some(&b"/lib/ld.so"[..]), StackRights::ReadWrite));
    assert_eq!(plan.span(), Some((0, 0x6000)));
    let data = Segment {
        start: 0x3000,
        file_start: 0x2000,
        file_bytes: 0x110,
        zero_from: 0x3110,
        end: 0x5010,
        prot: Prot::READ | Prot::WRITE,
    };
    assert_eq!(plan.segments[1], data);
    assert_eq!(plan.bias_at(0x5555_5555_5000).unwrap(), 0x5555_5540_0000);
    assert!(plan.bias_at(GUEST_END - 4096).is_err() || plan.align > PAGE_SIZE);
    assert!(plan.bias_at(u64::MAX).unwrap_err().is(Errno::NOMEM));
}

#[test]
fn each_broken_header_gives_the_errno_of_linux() {
    assert_eq!(refused(b""), Some(Errno::NOEXEC));
    assert_eq!(refused(b"\x7fELF"), Some(Errno::NOEXEC));
    assert_eq!(refused(&with(|b| b[18] = 3)), Some(Errno::NOEXEC), "machine");
    assert_eq!(refused(&with(|b| b[16] = 1)), Some(Errno::NOEXEC), "relocatable");
    assert_eq!(refused(&with(|b| b[54] = 32)), Some(Errno::NOEXEC), "entry size");
    assert_eq!(refused(&with(|b| b[56] = 0)), Some(Errno::NOEXEC), "no headers");
    assert_eq!(refused(&with(|b| b[57] = 0xff)), Some(Errno::NOEXEC), "too many");
    assert_eq!(refused(&with(|b| b[39] = 0x80)), Some(Errno::NOEXEC), "negative offset");
    assert_eq!(refused(&with(|b| b[32..40].copy_from_slice(&i64::MAX.to_le_bytes()))), Some(Errno::NOEXEC), "last offset");
    assert_eq!(refused(&with(|b| b.truncate(100))), Some(Errno::NOEXEC), "cut off");
    assert_eq!(refused(&with(|b| b.truncate(0x804))), Some(Errno::IO), "path cut off");
    assert_eq!(refused(&with(|b| b[0x80a] = b'x')), Some(Errno::NOEXEC), "path without end");
    let load = |offset, addr, in_file, in_memory| file(EXEC, &[(1, 5, offset, addr, in_file, in_memory, 0x1000)]);
    assert_eq!(refused(&load(0, 0x40_0000, 0x200, 0x100)), Some(Errno::INVAL), "larger in the file");
    assert_eq!(refused(&load(1, 0x40_0000, 0x100, 0x100)), Some(Errno::INVAL), "at odds");
    assert_eq!(refused(&load(0, u64::MAX - 0xfff, 0x100, 0x2000)), Some(Errno::INVAL), "wraps around");
    assert_eq!(refused(&load(0, 0x40_0000, 0x100, u64::MAX)), Some(Errno::INVAL), "huge");
    assert_eq!(refused(&load(0, 0x40_0000, 0x100, 0x100)), None);
    assert_eq!(refused(&file(DYN, &[(1, 5, 0, 0, 0, 0, 0)])), Some(Errno::INVAL), "nothing to map");
    assert_eq!(refused(&file(DYN, &[(1, 5, 0, 0, 0, 0, 0), (1, 6, 0, 0x2000, 0, 0, 0)])), None, "nothing, over two pages");
    assert_eq!(refused(&file(DYN, &[(0, 0, 0, 0, 0, 0, 0)])), None, "starts, and faults");
}

/// A file whose reads fail behind its header, as those past the last offset do.
struct Unreadable<'a>(&'a [u8]);

impl Image for Unreadable<'_> {
    fn read_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        if offset == 0 { self.0.read_at(0, dst) } else { Err(litebox_core::errno!(INVAL)) }
    }
}

#[test]
fn program_headers_that_cannot_be_read_are_malformed() {
    let bytes = well_made();
    let errno = |plan: Result<Plan>| plan.err().and_then(|error| error.errno());
    assert_eq!(errno(Plan::of_program(&Unreadable(&bytes))), Some(Errno::NOEXEC));
    assert_eq!(errno(Plan::of_interpreter(&Unreadable(&bytes))), Some(Errno::LIBBAD));
}

#[test]
fn an_interpreter_gives_errnos_of_its_own() {
    let of = |bytes: &[u8]| Plan::of_interpreter(bytes).err().and_then(|error| error.errno());
    assert_eq!(of(b"\x7fELF"), Some(Errno::IO));
    assert_eq!(of(&with(|b| b[0] = 0)), Some(Errno::LIBBAD));
    assert_eq!(of(&with(|b| b[18] = 3)), Some(Errno::LIBBAD));
    assert_eq!(of(&with(|b| b[0x80a] = b'x')), None, "its own PT_INTERP is not looked at");
}

/// What every accepted plan promises, whatever the file said.
fn check(plan: &Plan) {
    assert!(plan.segments.len() <= 1170 && plan.align.is_power_of_two() && plan.align >= PAGE_SIZE);
    assert!(plan.interpreter.as_ref().is_none_or(|path| path.len() < 4096 && !path.contains(&0)));
    for segment in &plan.segments {
        assert_eq!((segment.start % PAGE_SIZE, segment.file_start % PAGE_SIZE), (0, 0));
        assert!(segment.start <= segment.zero_from && segment.zero_from <= segment.end && segment.end <= GUEST_END);
        assert!(segment.file_bytes == 0 || segment.start + segment.file_bytes == segment.zero_from);
    }
    if let (Some((low, high)), Ok(bias)) = (plan.span(), plan.bias_at(0x5555_5555_5000)) {
        assert!(low.wrapping_add(bias) < GUEST_END && high.wrapping_add(bias) <= GUEST_END);
        assert_eq!(bias % PAGE_SIZE, 0);
    }
}

#[test]
fn thousands_of_mutants_are_refused_or_planned_and_nothing_else() {
    const EDGES: [u64; 12] =
        [0, 1, 2, 0xfff, 0x1000, 0x7fff_ffff, 0xffff_ffff, GUEST_END, 1 << 47, i64::MAX as u64, 1 << 63, u64::MAX];
    let mut seed = Seed(0x1173_b0c5);
    let (mut planned, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = well_made();
        for _ in 0..=seed.below(4) {
            let at = seed.below(64 + 5 * 56);
            match seed.below(4) {
                0 => bytes[at] ^= 1 << seed.below(8),
                1 => bytes[at] = u8::try_from(seed.below(256)).unwrap(),
                2 => {
                    let at = 64 + seed.below(5) * 56 + 8 * seed.below(7);
                    bytes[at..at + 8].copy_from_slice(&EDGES[seed.below(EDGES.len())].to_le_bytes());
                }
                _ => {
                    let at = seed.below(39) * 8;
                    bytes[at..at + 8].copy_from_slice(&seed.next().to_le_bytes());
                }
            }
        }
        if seed.below(16) == 0 {
            bytes.truncate(seed.below(0x900));
        }
        for plan in [Plan::of_program(&bytes[..]), Plan::of_interpreter(&bytes[..])] {
            match plan {
                Ok(plan) => {
                    check(&plan);
                    planned += 1;
                }
                Err(Error::Errno(Errno::NOEXEC | Errno::INVAL | Errno::IO | Errno::LIBBAD, _)) => refused += 1,
                Err(error) => panic!("not an errno of Linux here: {error:?}"),
            }
        }
    }
    assert!(planned > 1_000 && refused > 1_000, "the mutants test both ways: {planned} planned, {refused} refused");
}

//! Filter programs: classic BPF as seccomp(2) takes it, checked once and then interpreted.
//!
//! Invariant: a [`Program`] that was made ends: jumps go forwards only, within it, its last instruction returns, and it loads only
//! from the call's data and from words that it has stored before. Hostile input: every instruction.
//! Sources: Linux net/core/filter.c (`bpf_check_classic`, `check_load_and_stores`), kernel/seccomp.c (`seccomp_check_filter`).

use alloc::vec::Vec;
use litebox_core::errno;
use litebox_core::error::Result;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Most instructions. Linux: `BPF_MAXINSNS`.
pub(crate) const MOST: usize = 4096;
/// Words of scratch memory. Linux: `BPF_MEMWORDS`.
const WORDS: usize = 16;
/// Bytes of `struct seccomp_data`.
const DATA_BYTES: u32 = 64;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// Codes, as Linux's header `bpf_common.h` makes them.
mod code {
    pub(super) const LD_ABS: u16 = 0x20;
    pub(super) const LD_LEN: u16 = 0x80;
    pub(super) const LD_IMM: u16 = 0x00;
    pub(super) const LD_MEM: u16 = 0x60;
    pub(super) const LDX_LEN: u16 = 0x81;
    pub(super) const LDX_IMM: u16 = 0x01;
    pub(super) const LDX_MEM: u16 = 0x61;
    pub(super) const ST: u16 = 0x02;
    pub(super) const STX: u16 = 0x03;
    pub(super) const NEG: u16 = 0x84;
    pub(super) const JA: u16 = 0x05;
    pub(super) const RET_K: u16 = 0x06;
    pub(super) const RET_A: u16 = 0x16;
    pub(super) const TAX: u16 = 0x07;
    pub(super) const TXA: u16 = 0x87;
    /// Classes of arithmetic and of jumps, without the operation.
    pub(super) const ALU: u16 = 0x04;
    pub(super) const JMP: u16 = 0x05;
    /// The operand is X, not the constant.
    pub(super) const X: u16 = 0x08;
    /// Operations.
    pub(super) const ADD: u16 = 0x00;
    pub(super) const SUB: u16 = 0x10;
    pub(super) const MUL: u16 = 0x20;
    pub(super) const DIV: u16 = 0x30;
    pub(super) const OR: u16 = 0x40;
    pub(super) const AND: u16 = 0x50;
    pub(super) const LSH: u16 = 0x60;
    pub(super) const RSH: u16 = 0x70;
    pub(super) const XOR: u16 = 0xa0;
    pub(super) const EQ: u16 = 0x10;
    pub(super) const GT: u16 = 0x20;
    pub(super) const GE: u16 = 0x30;
    pub(super) const SET: u16 = 0x40;
}

/// The call that a program looks at: `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    words: [u32; 16],
}

impl Data {
    /// Of call `number` with `args`, after whose instruction is `ip`.
    pub(crate) fn new(number: u32, arch: u32, ip: u64, args: [u64; 6]) -> Self {
        let [a, b, c, d, e, f] = args;
        let mut words = [0; 16];
        let halves = [ip, a, b, c, d, e, f].into_iter().flat_map(|word| [word & u64::from(u32::MAX), word >> 32]);
        let all = [number, arch].into_iter().chain(halves.map(|half| u32::try_from(half).unwrap_or_default()));
        for (to, from) in words.iter_mut().zip(all) {
            *to = from;
        }
        Self { words }
    }

    fn at(&self, offset: u32) -> u32 {
        usize::try_from(offset >> 2).ok().and_then(|index| self.words.get(index)).copied().unwrap_or_default()
    }
}

/// A program that was found good.
#[derive(Debug)]
pub(crate) struct Program(Vec<Instruction>);

impl Program {
    /// # Errors
    /// `INVAL`: Linux would not take it.
    pub(crate) fn new(all: Vec<Instruction>) -> Result<Self> {
        let bad = errno!(INVAL, "a bad filter");
        if all.is_empty() || all.len() > MOST {
            return Err(bad);
        }
        for (index, instruction) in all.iter().enumerate() {
            // How many follow: a jump skips fewer.
            let follow = all.len().saturating_sub(index).saturating_sub(1);
            if !instruction.is_good(follow) {
                return Err(bad);
            }
        }
        if !all.last().is_some_and(|last| matches!(last.code, code::RET_K | code::RET_A)) || !loads_what_was_stored(&all) {
            return Err(bad);
        }
        Ok(Self(all))
    }

    /// How many instructions Linux would make of it, by which it is counted there. Source: `bpf_convert_filter`.
    pub(crate) fn cost(&self) -> usize {
        /// What begins every program.
        const PROLOGUE: usize = 3;
        self.0.iter().fold(PROLOGUE, |sum, instruction| sum.saturating_add(instruction.cost()))
    }

    /// What it says of a call.
    pub(crate) fn run(&self, data: &Data) -> u32 {
        let (mut a, mut x) = (0u32, 0u32);
        let mut memory = [0u32; WORDS];
        let mut at = 0usize;
        while let Some(instruction) = self.0.get(at) {
            at = at.saturating_add(1);
            let Instruction { code, k, .. } = *instruction;
            let slot = usize::try_from(k).unwrap_or(WORDS);
            let operand = if code & code::X != 0 { x } else { k };
            match code {
                code::LD_ABS => a = data.at(k),
                code::LD_LEN => a = DATA_BYTES,
                code::LDX_LEN => x = DATA_BYTES,
                code::LD_IMM => a = k,
                code::LDX_IMM => x = k,
                code::LD_MEM => a = memory.get(slot).copied().unwrap_or_default(),
                code::LDX_MEM => x = memory.get(slot).copied().unwrap_or_default(),
                code::ST | code::STX => {
                    if let Some(word) = memory.get_mut(slot) {
                        *word = if code == code::ST { a } else { x };
                    }
                }
                code::RET_K => return k,
                code::RET_A => return a,
                code::TAX => x = a,
                code::TXA => a = x,
                code::JA => at = at.saturating_add(slot_of_jump(k)),
                code::NEG => a = a.wrapping_neg(),
                _ if code & 7 == code::ALU => match arithmetic(code, a, operand) {
                    Some(value) => a = value,
                    // A division by zero ends it so.
                    None => return 0,
                },
                _ => {
                    let holds = match code & 0xf0 {
                        code::EQ => a == operand,
                        code::GT => a > operand,
                        code::GE => a >= operand,
                        _ => a & operand != 0,
                    };
                    at = at.saturating_add(usize::from(if holds { instruction.jt } else { instruction.jf }));
                }
            }
        }
        0
    }
}

fn slot_of_jump(k: u32) -> usize {
    usize::try_from(k).unwrap_or(usize::MAX)
}

/// One operation; `None` for a division by zero.
fn arithmetic(code: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match code & 0xf0 {
        code::ADD => a.wrapping_add(operand),
        code::SUB => a.wrapping_sub(operand),
        code::MUL => a.wrapping_mul(operand),
        code::DIV => return a.checked_div(operand),
        code::OR => a | operand,
        code::AND => a & operand,
        code::LSH => a.wrapping_shl(operand),
        code::RSH => a.wrapping_shr(operand),
        _ => a ^ operand,
    })
}

impl Instruction {
    fn cost(&self) -> usize {
        let is_x = self.code & code::X != 0;
        match self.code {
            code::RET_K => 2,
            code::RET_A | code::JA => 1,
            _ => match (self.code & 7, self.code & 0xf0) {
                // A constant above 2^31 takes a register; of two ways that do not follow, one takes a jump.
                (code::JMP, operation) => {
                    let constant = usize::from(!is_x && self.k >> 31 != 0);
                    let can_invert = operation != code::SET;
                    let one_way = self.jf == 0 || (self.jt == 0 && can_invert);
                    constant.saturating_add(if one_way { 1 } else { 2 })
                }
                (code::ALU, code::DIV) if is_x => 5,
                _ => 1,
            },
        }
    }

    /// Whether it may be where `follow` others follow it.
    fn is_good(&self, follow: usize) -> bool {
        let Self { code, jt, jf, k } = *self;
        let is_x = code & code::X != 0;
        match code {
            code::LD_ABS => k < DATA_BYTES && k & 3 == 0,
            code::LD_MEM | code::LDX_MEM | code::ST | code::STX => usize::try_from(k).is_ok_and(|slot| slot < WORDS),
            code::LD_LEN | code::LDX_LEN | code::LD_IMM | code::LDX_IMM => true,
            code::NEG | code::RET_K | code::RET_A | code::TAX | code::TXA => true,
            code::JA => slot_of_jump(k) < follow,
            _ => match (code & 0xff07, code & 0xf0) {
                (code::ALU, code::ADD | code::SUB | code::MUL | code::AND | code::OR | code::XOR) => true,
                (code::ALU, code::DIV) => is_x || k != 0,
                (code::ALU, code::LSH | code::RSH) => is_x || k < 32,
                (code::JMP, code::EQ | code::GT | code::GE | code::SET) => usize::from(jt) < follow && usize::from(jf) < follow,
                _ => false,
            },
        }
    }
}

/// Whether on every way to a load from scratch memory the word was stored. Linux: `check_load_and_stores`.
fn loads_what_was_stored(all: &[Instruction]) -> bool {
    // The words that are stored on every way to each instruction, as far as jumps there were seen.
    let mut known: Vec<u16> = Vec::new();
    if known.try_reserve_exact(all.len()).is_err() {
        return false;
    }
    known.resize(all.len(), u16::MAX);
    let mut stored = 0u16;
    for (index, instruction) in all.iter().enumerate() {
        stored &= known.get(index).copied().unwrap_or_default();
        let bit = 1u16.checked_shl(instruction.k).unwrap_or_default();
        let mut reach = |skip: usize, stored: u16| {
            if let Some(there) = known.get_mut(index.saturating_add(1).saturating_add(skip)) {
                *there &= stored;
            }
        };
        match instruction.code {
            code::ST | code::STX => stored |= bit,
            code::LD_MEM | code::LDX_MEM if stored & bit == 0 => return false,
            code::JA => {
                reach(slot_of_jump(instruction.k), stored);
                stored = u16::MAX;
            }
            code if code & 7 == code::JMP => {
                reach(instruction.jt.into(), stored);
                reach(instruction.jf.into(), stored);
                stored = u16::MAX;
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn i(code: u16, k: u32) -> Instruction {
        Instruction { code, k, ..Instruction::default() }
    }

    fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    fn run(all: Vec<Instruction>) -> u32 {
        Program::new(all).unwrap().run(&Data::new(39, 0xc000_003e, 0x1_2345_6789, [1, 2, 3, 4, 5, 0x9_0000_0006]))
    }

    #[test]
    fn a_call_s_words_are_where_the_structure_has_them() {
        for (offset, value) in [(0, 39), (4, 0xc000_003e), (8, 0x2345_6789), (12, 1), (16, 1), (56, 6), (60, 9)] {
            assert_eq!(run(vec![i(code::LD_ABS, offset), i(code::RET_A, 0)]), value);
        }
        assert_eq!(run(vec![i(code::LD_LEN, 0), i(code::RET_A, 0)]), 64);
    }

    #[test]
    fn operations_are_of_32_bits() {
        let with = |operation: u16, k: u32| run(vec![i(code::LD_IMM, 7), i(code::ALU | operation, k), i(code::RET_A, 0)]);
        assert_eq!((with(code::ADD, u32::MAX), with(code::SUB, 8), with(code::MUL, 3)), (6, u32::MAX, 21));
        assert_eq!((with(code::DIV, 2), with(code::OR, 8), with(code::AND, 3), with(code::XOR, 5)), (3, 15, 3, 2));
        assert_eq!((with(code::LSH, 31), with(code::RSH, 1)), (1 << 31, 3));
        let by_x =
            |x: u32| run(vec![i(code::LD_IMM, 7), i(code::LDX_IMM, x), i(code::ALU | code::DIV | code::X, 0), i(code::RET_K, 9)]);
        assert_eq!((by_x(2), by_x(0)), (9, 0), "a division by zero ends the program");
        assert_eq!(
            run(vec![
                i(code::LD_IMM, 1),
                i(code::NEG, 0),
                i(code::TAX, 0),
                i(code::LD_IMM, 0),
                i(code::TXA, 0),
                i(code::RET_A, 0)
            ]),
            u32::MAX
        );
    }

    #[test]
    fn jumps_take_either_way() {
        let with = |operation: u16, k: u32| {
            run(vec![i(code::LD_ABS, 0), jump(code::JMP | operation, k, 1, 0), i(code::RET_K, 1), i(code::RET_K, 2)])
        };
        assert_eq!((with(code::EQ, 39), with(code::EQ, 40)), (2, 1));
        assert_eq!((with(code::GT, 39), with(code::GE, 39), with(code::SET, 8), with(code::SET, 1)), (1, 2, 1, 2));
        assert_eq!(run(vec![i(code::JA, 1), i(code::RET_K, 1), i(code::RET_K, 2)]), 2);
    }

    #[test]
    fn what_linux_refuses_is_refused() {
        let ret = i(code::RET_K, 0);
        for bad in [
            vec![],
            vec![ret; MOST + 1],
            vec![i(code::LD_IMM, 0)],
            vec![i(code::LD_ABS, 2), ret],
            vec![i(code::LD_ABS, 64), ret],
            vec![i(0x28, 0), ret],
            vec![i(0x30, 0), ret],
            vec![i(code::LD_MEM, 16), ret],
            vec![i(code::LD_MEM, 0), ret],
            vec![i(code::ALU | code::DIV, 0), ret],
            vec![i(code::ALU | code::LSH, 32), ret],
            vec![i(0x94, 1), ret],
            vec![i(code::JA, 1), ret],
            vec![jump(code::JMP | code::EQ, 0, 0, 1), ret],
            vec![i(0xffff, 0), ret],
            vec![i(0x0e, 0)],
            // Stored on one way only.
            vec![jump(code::JMP | code::EQ, 0, 1, 0), i(code::ST, 3), i(code::LD_MEM, 3), ret],
        ] {
            assert!(Program::new(bad.clone()).is_err(), "{bad:?}");
        }
        let both = vec![jump(code::JMP | code::EQ, 0, 1, 0), i(code::ST, 3), i(code::ST, 3), i(code::LD_MEM, 3), ret];
        assert!(Program::new(both).is_ok());
        assert!(Program::new(vec![ret; MOST]).is_ok());
    }
}

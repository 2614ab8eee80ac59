//! The stack on which a program starts: strings, auxiliary vector, pointers.
//!
//! From the top down, as in Linux: eight zero bytes, the program's path, environment and argument strings; a gap; platform
//! name and random bytes; the auxiliary vector, the environment's and the arguments' pointers, and `argc` where `rsp` points.
//! Sources: execve(2), getauxval(3); Linux `fs/exec.c` `bprm_stack_limits`, `fs/binfmt_elf.c` `create_elf_tables`.

use crate::signal::sequence::{AREA_ALIGN, FEATURE_BYTES};
use alloc::vec::Vec;
use core::ops::Range;
use linux_raw_sys::auxvec as at;
use litebox_core::errno;
use litebox_core::error::{Error, Result};

/// Longest argument or environment string with its NUL: `MAX_ARG_STRLEN`.
pub const STACK_STRING_MAX: usize = 128 * 1024;
/// What arguments may take whatever the stack's limit: `ARG_MAX`.
const ARG_MAX: u64 = 128 * 1024;
/// What they may take at most: three quarters of `_STK_LIM`.
const ARGS_MOST: u64 = 6 * 1024 * 1024;
/// The name behind `AT_PLATFORM`.
const PLATFORM: &[u8] = b"x86_64\0";
const WORD: u64 = 8;

/// The limits that apply to a new stack.
#[derive(Clone, Copy, Debug)]
pub struct StackLimits {
    /// The soft `RLIMIT_STACK`; `u64::MAX` is none.
    pub stack: u64,
}

impl StackLimits {
    /// Bytes that strings and pointers may take.
    fn room(self) -> u64 {
        (self.stack >> 2).clamp(ARG_MAX, ARGS_MOST)
    }
}

/// What the auxiliary vector says of the program and of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aux {
    /// Where the vDSO's header is, or 0.
    pub vdso: u64,
    /// `CPUID.1:EDX`.
    pub hwcap: u64,
    /// Ring 3 may use FSGSBASE (bit 1), and so on.
    pub hwcap2: u64,
    /// Where the program headers are.
    pub headers_at: u64,
    /// How many.
    pub header_count: u64,
    /// Where the interpreter was put, or 0.
    pub base: u64,
    /// The program's own first instruction.
    pub entry: u64,
    /// Real and effective user, real and effective group.
    pub ids: [u32; 4],
    /// Least size of a signal stack.
    pub min_signal_stack: u64,
    /// Sixteen random bytes for the stack protector.
    pub random: [u8; 16],
    /// Random bytes between strings and pointers, below 8 KiB.
    pub gap: u16,
}

/// A built stack: `bytes` go to `pointer`, which is the program's first `rsp`.
#[derive(Debug)]
pub struct Stack {
    /// What to copy there.
    pub bytes: Vec<u8>,
    /// Where; a multiple of 16.
    pub pointer: u64,
    /// First and last address of the argument strings, for /proc.
    pub arguments: (u64, u64),
    /// First and last address of the environment strings.
    pub environment: (u64, u64),
    /// Where the auxiliary vector is in `bytes`.
    pub vector: Range<usize>,
}

/// Bytes of the strings of a stack, NULs included, and how many there are.
struct Sizes {
    path: u64,
    args: u64,
    env: u64,
    count: u64,
    env_count: u64,
}

/// Adds them up.
///
/// # Errors
/// `TOOBIG`, as [`Stack::build`].
fn sizes(path: &[u8], args: &[&[u8]], env: &[&[u8]], limits: StackLimits) -> Result<Sizes> {
    let count = u64::try_from(args.len()).map_err(|_| too_big())?;
    let env_count = u64::try_from(env.len()).map_err(|_| too_big())?;
    let pointers = count.checked_add(env_count).and_then(|sum| sum.checked_mul(WORD)).ok_or_else(too_big)?;
    let (path, args, env) = (bytes_of(&[path])?, bytes_of(args)?, bytes_of(env)?);
    let strings = path.checked_add(args).and_then(|sum| sum.checked_add(env)).ok_or_else(too_big)?;
    if strings.checked_add(pointers).is_none_or(|sum| sum > limits.room()) {
        return Err(too_big());
    }
    Ok(Sizes { path, args, env, count, env_count })
}

fn too_big() -> Error {
    errno!(TOOBIG, "arguments and environment take too much room")
}

fn no_room() -> Error {
    errno!(NOMEM, "no room for the stack")
}

/// Bytes that strings take with their NULs.
fn bytes_of(strings: &[&[u8]]) -> Result<u64> {
    strings.iter().try_fold(0u64, |sum, string| {
        let bytes = string.len().checked_add(1).filter(|bytes| *bytes <= STACK_STRING_MAX).ok_or_else(too_big)?;
        u64::try_from(bytes).ok().and_then(|bytes| sum.checked_add(bytes)).ok_or_else(too_big)
    })
}

/// Bytes written in ascending order of address.
struct Writer {
    bytes: Vec<u8>,
    start: u64,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.try_reserve(bytes.len()).map_err(|_| no_room())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn word(&mut self, word: u64) -> Result<()> {
        self.put(&word.to_le_bytes())
    }

    fn pair(&mut self, tag: u32, value: u64) -> Result<()> {
        self.word(u64::from(tag))?;
        self.word(value)
    }

    /// Zeros up to `addr`, which is not behind.
    fn fill_to(&mut self, addr: u64) -> Result<()> {
        let len = addr.checked_sub(self.start).and_then(|len| usize::try_from(len).ok()).ok_or_else(no_room)?;
        let more = len.checked_sub(self.bytes.len()).ok_or_else(no_room)?;
        self.bytes.try_reserve(more).map_err(|_| no_room())?;
        self.bytes.resize(len, 0);
        Ok(())
    }

    fn strings(&mut self, strings: &[&[u8]]) -> Result<()> {
        strings.iter().try_for_each(|string| {
            self.put(string)?;
            self.put(&[0])
        })
    }

    /// A pointer to each string, the first of which is at `addr`, then a null pointer.
    fn pointers(&mut self, mut addr: u64, strings: &[&[u8]]) -> Result<()> {
        for string in strings {
            self.word(addr)?;
            let bytes = u64::try_from(string.len()).map_err(|_| no_room())?;
            addr = addr.checked_add(bytes).and_then(|addr| addr.checked_add(1)).ok_or_else(no_room)?;
        }
        self.word(0)
    }
}

impl Stack {
    /// Whether these strings may be on a stack at all, before anything is done for them.
    ///
    /// # Errors
    /// `TOOBIG`, as [`Stack::build`].
    pub fn check(path: &[u8], args: &[&[u8]], env: &[&[u8]], limits: StackLimits) -> Result<()> {
        sizes(path, args, env, limits).map(|_| ())
    }

    /// Builds the stack that ends at `top`, a page boundary. Strings hold no NUL. No arguments at all become one empty one.
    ///
    /// # Errors
    /// - `TOOBIG`: a string of more than [`STACK_STRING_MAX`], or all of it more than `limits` allow.  - `NOMEM`.
    pub fn build(top: u64, path: &[u8], args: &[&[u8]], env: &[&[u8]], aux: &Aux, limits: StackLimits) -> Result<Self> {
        const NO_ARGS: &[&[u8]] = &[b""];
        let args = if args.is_empty() { NO_ARGS } else { args };
        let Sizes { path: path_bytes, args: arg_bytes, env: env_bytes, count, env_count } = sizes(path, args, env, limits)?;
        let below = |addr: u64, bytes: u64| addr.checked_sub(bytes).ok_or_else(no_room);
        let path_at = below(below(top, WORD)?, path_bytes)?;
        let env_at = below(path_at, env_bytes)?;
        let args_at = below(env_at, arg_bytes)?;
        let platform_at = below(below(args_at, u64::from(aux.gap & 0x1fff))? & !0xf, 16)?;
        let random_at = below(platform_at, 16)?;
        let pairs = aux.pairs(path_at, platform_at, random_at);
        // argc, both lists with their null pointers, and the vector of two words each.
        let words = 3u64.checked_add(count).and_then(|sum| sum.checked_add(env_count)).ok_or_else(too_big)?;
        let vector = u64::try_from(pairs.len()).ok().and_then(|pairs| pairs.checked_mul(2)).ok_or_else(no_room)?;
        let table = words.checked_add(vector).and_then(|words| words.checked_mul(WORD)).ok_or_else(too_big)?;
        let pointer = below(random_at, table)? & !0xf;

        let mut writer = Writer { bytes: Vec::new(), start: pointer };
        writer.word(count)?;
        writer.pointers(args_at, args)?;
        writer.pointers(env_at, env)?;
        let vector_from = writer.bytes.len();
        pairs.iter().try_for_each(|(tag, value)| writer.pair(*tag, *value))?;
        let vector = vector_from..writer.bytes.len();
        writer.fill_to(random_at)?;
        writer.put(&aux.random)?;
        writer.put(PLATFORM)?;
        writer.fill_to(args_at)?;
        writer.strings(args)?;
        writer.strings(env)?;
        writer.strings(&[path])?;
        writer.fill_to(top)?;
        Ok(Self { bytes: writer.bytes, pointer, arguments: (args_at, env_at), environment: (env_at, path_at), vector })
    }
}

impl Aux {
    /// The vector in Linux's order.
    #[rustfmt::skip]
    fn pairs(&self, path_at: u64, platform_at: u64, random_at: u64) -> [(u32, u64); 23] {
        let [uid, euid, gid, egid] = self.ids.map(u64::from);
        // Whoever wrote the environment is another than whose rights the program has.
        let secure = u64::from(uid != euid || gid != egid);
        [
            (at::AT_SYSINFO_EHDR, self.vdso), (at::AT_MINSIGSTKSZ, self.min_signal_stack), (at::AT_HWCAP, self.hwcap),
            (at::AT_PAGESZ, 4096), (at::AT_CLKTCK, 100), (at::AT_PHDR, self.headers_at), (at::AT_PHENT, 56),
            (at::AT_PHNUM, self.header_count), (at::AT_BASE, self.base), (at::AT_FLAGS, 0), (at::AT_ENTRY, self.entry),
            (at::AT_UID, uid), (at::AT_EUID, euid), (at::AT_GID, gid), (at::AT_EGID, egid), (at::AT_SECURE, secure),
            (at::AT_RANDOM, random_at), (at::AT_HWCAP2, self.hwcap2), (at::AT_EXECFN, path_at),
            (at::AT_PLATFORM, platform_at),
            (at::AT_RSEQ_FEATURE_SIZE, FEATURE_BYTES.into()), (at::AT_RSEQ_ALIGN, AREA_ALIGN.into()), (at::AT_NULL, 0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use litebox_core::error::Errno;

    const TOP: u64 = 0x7fff_0000_0000;
    const LIMITS: StackLimits = StackLimits { stack: 8 << 20 };

    fn word(stack: &Stack, addr: u64) -> u64 {
        let at = usize::try_from(addr - stack.pointer).unwrap();
        u64::from_le_bytes(stack.bytes[at..at + 8].try_into().unwrap())
    }

    fn string(stack: &Stack, addr: u64) -> &[u8] {
        let at = usize::try_from(addr - stack.pointer).unwrap();
        stack.bytes[at..].split(|byte| *byte == 0).next().unwrap()
    }

    #[test]
    fn a_program_finds_arguments_environment_and_vector() {
        for gap in [0, 1, 4095, u16::MAX] {
            let aux = Aux { entry: 0x40_1000, random: [7; 16], gap, ..Aux::default() };
            let stack = Stack::build(TOP, b"/bin/ls", &[b"ls", b"-l"], &[b"A=1"], &aux, LIMITS).unwrap();
            assert_eq!(stack.pointer % 16, 0);
            assert_eq!(stack.pointer + stack.bytes.len() as u64, TOP);
            let sp = stack.pointer;
            assert_eq!(word(&stack, sp), 2);
            assert_eq!(string(&stack, word(&stack, sp + 8)), b"ls");
            assert_eq!(string(&stack, word(&stack, sp + 16)), b"-l");
            assert_eq!(word(&stack, sp + 24), 0);
            assert_eq!(string(&stack, word(&stack, sp + 32)), b"A=1");
            assert_eq!(word(&stack, sp + 40), 0);
            let mut at = sp + 48;
            let mut found = std::collections::BTreeMap::new();
            while word(&stack, at) != 0 {
                found.insert(u32::try_from(word(&stack, at)).unwrap(), word(&stack, at + 8));
                at += 16;
            }
            assert_eq!(found[&at::AT_ENTRY], 0x40_1000);
            assert_eq!(string(&stack, found[&at::AT_EXECFN]), b"/bin/ls");
            assert_eq!(string(&stack, found[&at::AT_PLATFORM]), b"x86_64");
            assert_eq!(&string(&stack, found[&at::AT_RANDOM])[..16], &[7; 16]);
        }
    }

    #[test]
    fn no_arguments_become_one_empty_one() {
        let stack = Stack::build(TOP, b"/x", &[], &[], &Aux::default(), LIMITS).unwrap();
        assert_eq!(word(&stack, stack.pointer), 1);
        assert_eq!(string(&stack, word(&stack, stack.pointer + 8)), b"");
    }

    #[test]
    fn arguments_past_the_limit_are_refused() {
        let build = |args: &[&[u8]], stack| Stack::build(TOP, b"/x", args, &[], &Aux::default(), StackLimits { stack });
        let long = std::vec![b'a'; STACK_STRING_MAX];
        assert!(build(&[&long], u64::MAX).unwrap_err().is(Errno::TOOBIG));
        assert!(build(&[&long[1..]], u64::MAX).is_ok());
        let many = std::vec![&long[1..]; 48];
        assert!(build(&many, u64::MAX).unwrap_err().is(Errno::TOOBIG), "6 MiB whatever the limit");
        assert!(build(&many[..47], u64::MAX).is_ok());
        assert!(build(&many[..16], 8 << 20).unwrap_err().is(Errno::TOOBIG), "a quarter of the stack's limit");
        assert!(build(&[&long[64..]], 0).is_ok(), "128 KiB in any case");
        let empty: &[u8] = b"";
        assert!(build(&std::vec![empty; 1 << 20], u64::MAX).unwrap_err().is(Errno::TOOBIG), "pointers count");
        assert!(Stack::build(64, b"/x", &[], &[], &Aux::default(), LIMITS).unwrap_err().is(Errno::NOMEM));
    }
}

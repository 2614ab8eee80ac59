//! The instructions that the host steps over for a guest, by their bytes.
//!
//! The bytes come from the guest's memory, which another of its threads may change after the exit: that thread then fools its own
//! program, and nobody else.

/// The most bytes that are looked at.
pub const BYTES_MOST: usize = 2;
/// Bytes of `syscall`.
pub const SYSCALL_BYTES: u64 = 2;
/// The vector of `int 0x80`, the 32-bit system call.
pub const CALL_32: u8 = 0x80;

/// Whether `bytes` are `syscall`.
#[must_use]
pub const fn is_syscall(bytes: [u8; BYTES_MOST]) -> bool {
    matches!(bytes, [0x0f, 0x05])
}

/// Which vector the interrupt instruction in `bytes` raises, and how long it is. `None` if it is none, or has prefixes: then the bytes
/// have changed, or nobody writes such programs.
#[must_use]
pub const fn software_interrupt(bytes: [u8; BYTES_MOST]) -> Option<(u8, u64)> {
    match bytes {
        [0xcc, _] => Some((3, 1)),
        [0xcd, vector] => Some((vector, 2)),
        _ => None,
    }
}

/// The error code of a protection fault that `int` of `vector` raises where its gate is not for ring 3. APM vol. 2, 8.4.1.
#[must_use]
pub fn gate_error(vector: u8) -> u64 {
    u64::from(vector) << 3 | 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_are_told_from_the_rest() {
        assert!(is_syscall([0x0f, 0x05]));
        assert!(!is_syscall([0x0f, 0x0b]) && !is_syscall([0x05, 0x0f]) && !is_syscall([0xcd, 0x80]));
    }

    #[test]
    fn interrupts_say_their_vector_and_length() {
        assert_eq!(software_interrupt([0xcc, 0xcd]), Some((3, 1)));
        assert_eq!(software_interrupt([0xcd, 0x80]), Some((CALL_32, 2)));
        assert_eq!(software_interrupt([0xcd, 3]), Some((3, 2)));
        assert_eq!(software_interrupt([0x90, 0xcc]), None);
        assert_eq!(gate_error(0x80), 0x402);
    }
}

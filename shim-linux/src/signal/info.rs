//! `siginfo_t`: why a signal came. Source: sigaction(2); Linux `include/uapi/asm-generic/siginfo.h`.

use super::Signal;
use linux_raw_sys::general as raw;

/// Bytes of `siginfo_t`.
pub(super) const BYTES: usize = 128;

const _: () = assert!(size_of::<raw::siginfo_t>() == BYTES);

/// Who or what made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing to say.
    None,
    /// A process.
    Process {
        /// Its id.
        pid: i32,
        /// Its real user.
        uid: u32,
        /// What `sigqueue` or a timer passed along, or 0.
        value: u64,
    },
    /// An ended or stopped child.
    Child {
        /// Its id.
        pid: i32,
        /// Its real user.
        uid: u32,
        /// Exit status or signal.
        status: i32,
    },
    /// An instruction.
    Fault {
        /// What it accessed.
        addr: u64,
    },
    /// A call that a filter stopped.
    Call {
        /// After the instruction.
        ip: u64,
        /// The call's number.
        number: i32,
    },
    /// The bytes after the code, as a guest gave them to `rt_sigqueueinfo`.
    Raw([u8; 116]),
}

/// A signal and why it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The signal.
    pub signal: Signal,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The rest.
    pub origin: Origin,
}

impl Info {
    /// Sent by kill(2).
    pub const SI_USER: i32 = 0;
    /// Sent by the kernel.
    pub const SI_KERNEL: i32 = 0x80;
    /// Sent by tgkill(2).
    pub const SI_TKILL: i32 = -6;
    /// Sent by a timer of `timer_create(2)`.
    pub const SI_TIMER: i32 = -2;

    /// A signal without `si_errno`.
    #[must_use]
    pub const fn new(signal: Signal, code: i32, origin: Origin) -> Self {
        Self { signal, errno: 0, code, origin }
    }

    /// The same as `siginfo_t`.
    #[must_use]
    pub fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut put = |at: usize, field: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
        };
        put(0, &self.signal.number().to_le_bytes());
        put(4, &self.errno.to_le_bytes());
        put(8, &self.code.to_le_bytes());
        match self.origin {
            Origin::None => {}
            Origin::Process { pid, uid, value } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
            Origin::Child { pid, uid, status } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &status.to_le_bytes());
            }
            Origin::Fault { addr } => put(16, &addr.to_le_bytes()),
            Origin::Call { ip, number } => {
                put(16, &ip.to_le_bytes());
                put(24, &number.to_le_bytes());
                put(28, &0xc000_003eu32.to_le_bytes());
            }
            Origin::Raw(rest) => put(12, &rest),
        }
        bytes
    }

    /// What a guest gave to `rt_sigqueueinfo` for `signal`.
    #[must_use]
    pub fn decode(signal: Signal, bytes: &[u8; BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 4];
            for (to, from) in word.iter_mut().zip(bytes.iter().skip(at)) {
                *to = *from;
            }
            i32::from_le_bytes(word)
        };
        let mut rest = [0; 116];
        for (to, from) in rest.iter_mut().zip(bytes.iter().skip(12)) {
            *to = *from;
        }
        Self { signal, errno: word(4), code: word(8), origin: Origin::Raw(rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_programs_look() {
        let bytes = Info::new(Signal::SEGV, 1, Origin::Fault { addr: 0x1122_3344_5566 }).encode();
        assert_eq!((bytes[0], bytes[8], &bytes[16..22]), (11, 1, &[0x66, 0x55, 0x44, 0x33, 0x22, 0x11][..]));
        let sent = Info::new(Signal::USR1, -1, Origin::Process { pid: 7, uid: 1000, value: 9 });
        let back = Info::decode(Signal::USR1, &sent.encode());
        assert_eq!((back.code, back.encode()), (-1, sent.encode()));
    }
}

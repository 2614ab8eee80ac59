//! Types of system-call arguments and results.
//!
//! Decoding is total: any register value is some argument, since which errno wins is for the handler to say, in Linux's order.
//! An `int` is the low half of its register, as a C function declared so would read it.

use litebox_core::mm::GuestAddr;

/// How the trace shows an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgKind {
    /// A signed number of 32 bits.
    Int,
    /// An unsigned number.
    Unsigned,
    /// A signed number of 64 bits.
    Signed,
    /// Flags, in hexadecimal.
    Hex,
    /// Permissions, in octal.
    Octal,
    /// A directory's descriptor, or `AT_FDCWD`.
    Dir,
    /// An address.
    Address,
    /// A signal.
    Signal,
}

/// An argument's type.
pub trait Arg {
    /// How the trace shows it.
    const KIND: ArgKind;
    /// The argument in this register.
    fn decode(raw: u64) -> Self;
}

/// The low half of a register.
fn low(raw: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = raw.to_le_bytes();
    [a, b, c, d]
}

macro_rules! args {
    ($($(#[$doc:meta])* $name:ident($inner:ty) = $kind:ident, $decode:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl Arg for $name {
            const KIND: ArgKind = ArgKind::$kind;
            fn decode(raw: u64) -> Self {
                let decode: fn(u64) -> $inner = $decode;
                Self(decode(raw))
            }
        }
    )*};
}

args! {
    /// A descriptor.
    Fd(i32) = Int, |raw| i32::from_le_bytes(low(raw));
    /// A directory's descriptor.
    DirFd(i32) = Dir, |raw| i32::from_le_bytes(low(raw));
    /// An `int`.
    Int(i32) = Int, |raw| i32::from_le_bytes(low(raw));
    /// A process or thread, or several.
    Pid(i32) = Int, |raw| i32::from_le_bytes(low(raw));
    /// An `unsigned int` that counts.
    Count(u32) = Unsigned, |raw| u32::from_le_bytes(low(raw));
    /// A user or a group.
    Id(u32) = Unsigned, |raw| u32::from_le_bytes(low(raw));
    /// An `unsigned int` of flags.
    Flags(u32) = Hex, |raw| u32::from_le_bytes(low(raw));
    /// Permissions.
    Mode(u32) = Octal, |raw| u32::from_le_bytes(low(raw));
    /// A signal's number.
    Sig(i32) = Signal, |raw| i32::from_le_bytes(low(raw));
    /// A `size_t`.
    Len(u64) = Unsigned, |raw| raw;
    /// A `long` of flags.
    Word(u64) = Hex, |raw| raw;
    /// A file offset.
    Offset(i64) = Signed, |raw| i64::from_le_bytes(raw.to_le_bytes());
    /// An address, of anything.
    Ptr(GuestAddr) = Address, GuestAddr::new;
    /// The address of a path.
    Path(GuestAddr) = Address, GuestAddr::new;
}

/// What a handler gives back in `rax`.
pub trait Value {
    /// The register.
    fn to_rax(self) -> u64;
}

impl Value for () {
    fn to_rax(self) -> u64 {
        0
    }
}

impl Value for u64 {
    fn to_rax(self) -> u64 {
        self
    }
}

impl Value for u32 {
    fn to_rax(self) -> u64 {
        u64::from(self)
    }
}

impl Value for usize {
    fn to_rax(self) -> u64 {
        u64::try_from(self).unwrap_or(u64::MAX)
    }
}

impl Value for GuestAddr {
    fn to_rax(self) -> u64 {
        self.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_int_is_the_low_half_of_its_register() {
        assert_eq!(Fd::decode(0xffff_ffff), Fd(-1));
        assert_eq!(Fd::decode(0x1_0000_0003), Fd(3));
        assert_eq!(Offset::decode(u64::MAX), Offset(-1));
        assert_eq!(Len::decode(u64::MAX), Len(u64::MAX));
        assert_eq!(Ptr::decode(u64::MAX).0.get(), u64::MAX);
    }
}

//! The structures as they cross: fixed widths, no padding, any bytes are a value. Meaning is given by the types of the crate root.

#![expect(missing_debug_implementations, reason = "zerocopy's derives make helper types without it")]

use zerocopy::{FromBytes, Immutable, KnownLayout};

pub use zerocopy::IntoBytes;

/// Declares wire structures and asserts their size and alignment; `IntoBytes` proves that they have no padding.
macro_rules! wire {
    ($($(#[$meta:meta])* $name:ident, $size:literal { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }
        const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() <= 8);
    )*};
}

wire! {
    /// See [`crate::Version`]. Written by the kernel side.
    Version, 16 {
        /// The newest version it speaks.
        newest: u32,
        /// The oldest version it speaks.
        oldest: u32,
        /// Bits for what it can do beyond its version; none so far.
        features: u64,
    }
    /// See [`crate::Configure`].
    Configure, 40 {
        /// Bit 0: `trace` is set.
        flags: u32,
        /// Most tasks; 0 for the default.
        tasks: u32,
        /// Most bytes of memory; 0 for the default.
        memory: u64,
        /// Host object that takes the trace, or 0.
        trace: u64,
        /// User address of the machine's name; no NUL at its end. 0 with a length of 0.
        name: u64,
        /// Its bytes; 0 for the usual name.
        name_len: u32,
        /// [`crate::Trap`]: 0 usual, 1 SVM.
        trap: u32,
    }
    /// See [`crate::Mount`].
    Mount, 48 {
        /// 1 host directory or file, 2 memory, 3 proc, 4 dev, 5 host directory or image with changes in memory, 9 image,
        /// 10 host directory or image with changes in another directory; 6 to 8
        /// mount nothing but make: 6 a directory, 7 a symbolic link, 8 a copy of a host file.
        kind: u32,
        /// [`crate::MountFlags`].
        flags: u32,
        /// Host object of kinds 1, 5 and 8 to 10; user address of a link's target; else 0.
        host: u64,
        /// Most bytes of kinds 2 and 5 (0: the sandbox's quota alone); bytes of a link's target; the host object
        /// with the changes of kind 10; else 0.
        size: u64,
        /// User address of the guest path; no NUL at its end.
        path: u64,
        /// Its bytes.
        path_len: u32,
        /// Of kinds 2, 6 and 8: 1 and the permission bits on top, or 0 for the usual ones; else 0.
        mode: u32,
        /// Most files of kind 2 (0: no limit of their own), else 0.
        files: u64,
    }
    /// See [`crate::GiveFd`].
    GiveFd, 24 {
        /// Host object.
        host: u64,
        /// Guest descriptor.
        guest: u32,
        /// Zero.
        reserved: u32,
        /// Zero.
        reserved2: u64,
    }
    /// See [`crate::Run`]. Strings lie one behind another at `text`: program, directory, arguments, environment; each ends with NUL.
    Run, 48 {
        /// The descriptor or handle that the request is made on.
        device: u64,
        /// User address of the strings.
        text: u64,
        /// Bytes of the program's path, with NUL.
        program_len: u32,
        /// Bytes of the working directory's path, with NUL.
        cwd_len: u32,
        /// Bytes of all arguments, with NULs.
        args_len: u32,
        /// Bytes of the whole environment, with NULs.
        env_len: u32,
        /// Arguments, the first one counted.
        argc: u32,
        /// Environment strings.
        envc: u32,
        /// Who the guest is.
        uid: u32,
        /// Its group.
        gid: u32,
    }
    /// See [`crate::Wait`] and [`crate::Ended`]. Read and written by the kernel side.
    Wait, 16 {
        /// [`crate::WaitFlags`].
        flags: u32,
        /// Zero on the way in. Out: 0 still running, 1 exited, 2 signalled, 3 ended by the kernel side.
        how: u32,
        /// Zero on the way in. Out: exit status, signal or errno.
        value: u32,
        /// Zero, both ways.
        reserved: u32,
    }
    /// See [`crate::Terminal`].
    Terminal, 56 {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
        /// Width in pixels, or 0.
        width: u16,
        /// Height in pixels, or 0.
        height: u16,
        /// Bit `n`: descriptor `n` is the terminal. 0: it is there already, and gets this size.
        descriptors: u32,
        /// Zero.
        reserved: u32,
        /// Input, output, control and local modes, as Linux's `struct termios` has them; 0 for a new size alone.
        modes: [u32; 4],
        /// The same structure's special characters.
        characters: [u8; 19],
        /// Its line discipline.
        line: u8,
        /// Zero.
        reserved2: u32,
    }
    /// See [`crate::Kill`].
    Kill, 16 {
        /// Signal.
        signal: u32,
        /// 0 first process, 1 all.
        target: u32,
        /// Zero.
        reserved: u64,
    }
}

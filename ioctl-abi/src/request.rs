//! What each request means, and the way there and back: `decode` for the kernel sides, `encode` for the launcher.

use crate::{Bad, GUEST_FD_END, NAME_BYTES_MAX, SIGNAL_END, wire};
use bitflags::bitflags;
use core::num::{NonZeroU32, NonZeroU64};
use zerocopy::FromBytes;

/// Reads a structure of exactly the right size, however it is aligned.
pub(crate) fn exactly<T: FromBytes>(bytes: &[u8]) -> Result<T, Bad> {
    T::read_from_bytes(bytes).map_err(|_size| Bad::Size)
}

/// Refuses anything but zero.
pub(crate) fn zero(fields: &[u64]) -> Result<(), Bad> {
    if fields.iter().all(|field| *field == 0) { Ok(()) } else { Err(Bad::Reserved) }
}

/// Something of the host that the caller owns: a file descriptor on Linux, a `HANDLE` on Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostObject(pub u64);

impl HostObject {
    /// As a Linux descriptor; `None` is for `EBADF`.
    #[must_use]
    pub fn fd(self) -> Option<i32> {
        i32::try_from(self.0).ok()
    }
}

/// A range of the caller's memory; not a pointer, and not checked. On Windows a range of the request's own input buffer, behind the
/// structure, whose address is its offset there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserBytes {
    /// Where it begins.
    pub addr: u64,
    /// Its length, within the limit that the request has for it.
    pub len: u32,
}

/// `VERSION`: what the kernel side speaks. Allowed in every state, and to everyone who may open the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The newest version it speaks.
    pub newest: u32,
    /// The oldest version it speaks.
    pub oldest: u32,
}

impl Version {
    /// This crate's version, and those before it that it contains.
    pub const THIS: Self = Self { newest: crate::VERSION, oldest: crate::OLDEST };

    /// Whether a launcher of `version` is understood.
    #[must_use]
    pub const fn speaks(self, version: u32) -> bool {
        self.oldest <= version && version <= self.newest
    }

    /// From the kernel's bytes. Feature bits may be any: they only ever add.
    ///
    /// # Errors
    /// [`Bad::Size`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let wire: wire::Version = exactly(bytes)?;
        Ok(Self { newest: wire.newest, oldest: wire.oldest })
    }

    /// To bytes.
    #[must_use]
    pub const fn encode(self) -> wire::Version {
        wire::Version { newest: self.newest, oldest: self.oldest, features: 0 }
    }
}

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct ConfigureFlags: u32 {
        const TRACE = 1;
    }

    /// How to wait.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WaitFlags: u32 {
        /// Answer [`Ended::Running`] rather than block.
        const NO_HANG = 1;
    }
}

/// How a sandbox's programs are kept in ring 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trap {
    /// As the kernel side does it if nothing is said.
    #[default]
    Usual,
    /// As guests of AMD's SVM. `ENODEV`: the processor, or this kernel side, cannot; `EBUSY`: somebody else has it.
    Svm,
}

impl Trap {
    fn decode(trap: u32) -> Result<Self, Bad> {
        match trap {
            0 => Ok(Self::Usual),
            1 => Ok(Self::Svm),
            _ => Err(Bad::Range),
        }
    }

    const fn encode(self) -> u32 {
        match self {
            Self::Usual => 0,
            Self::Svm => 1,
        }
    }
}

/// `CONFIGURE`: limits and flags. At most once, before any other request but `VERSION`; without it the defaults hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configure {
    /// Most bytes of memory, the module's own for the guest included; `None`: the module's default.
    pub memory: Option<NonZeroU64>,
    /// Most tasks at a time; `None`: the module's default.
    pub tasks: Option<NonZeroU32>,
    /// Where the trace of system calls is written, one line each; `None`: no trace.
    pub trace: Option<HostObject>,
    /// The machine's name as uname(2) tells it, of at most [`NAME_BYTES_MAX`]; `None`: the module's default.
    pub name: Option<UserBytes>,
    /// The trap.
    pub trap: Trap,
}

impl Configure {
    /// From a copy of the caller's bytes.
    ///
    /// # Errors
    /// [`Bad::Size`], [`Bad::Flags`], [`Bad::Reserved`], [`Bad::TooBig`] for a long name, [`Bad::Range`] for an unknown trap.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let wire: wire::Configure = exactly(bytes)?;
        let flags = ConfigureFlags::from_bits(wire.flags).ok_or(Bad::Flags)?;
        let trap = Trap::decode(wire.trap)?;
        let name = match wire.name_len {
            0 => {
                zero(&[wire.name])?;
                None
            }
            1..=NAME_BYTES_MAX => Some(UserBytes { addr: wire.name, len: wire.name_len }),
            _ => return Err(Bad::TooBig),
        };
        let trace = if flags.contains(ConfigureFlags::TRACE) {
            Some(HostObject(wire.trace))
        } else {
            zero(&[wire.trace])?;
            None
        };
        Ok(Self { memory: NonZeroU64::new(wire.memory), tasks: NonZeroU32::new(wire.tasks), trace, name, trap })
    }

    /// To bytes.
    #[must_use]
    pub fn encode(self) -> wire::Configure {
        let flags = if self.trace.is_some() { ConfigureFlags::TRACE } else { ConfigureFlags::empty() };
        wire::Configure {
            flags: flags.bits(),
            tasks: self.tasks.map_or(0, NonZeroU32::get),
            memory: self.memory.map_or(0, NonZeroU64::get),
            trace: self.trace.map_or(0, |object| object.0),
            name: self.name.map_or(0, |name| name.addr),
            name_len: self.name.map_or(0, |name| name.len),
            trap: self.trap.encode(),
        }
    }
}

/// `GIVE_FD`: the guest's first process starts with this host object as a descriptor. A second one for the same number replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiveFd {
    /// The host's object; the kernel side takes its own reference.
    pub host: HostObject,
    /// The guest's descriptor, below [`GUEST_FD_END`].
    pub guest: u32,
}

impl GiveFd {
    /// From a copy of the caller's bytes.
    ///
    /// # Errors
    /// [`Bad::Size`], [`Bad::Reserved`], [`Bad::Range`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let wire: wire::GiveFd = exactly(bytes)?;
        zero(&[wire.reserved.into(), wire.reserved2])?;
        if wire.guest >= GUEST_FD_END {
            return Err(Bad::Range);
        }
        Ok(Self { host: HostObject(wire.host), guest: wire.guest })
    }

    /// To bytes.
    #[must_use]
    pub const fn encode(self) -> wire::GiveFd {
        wire::GiveFd { host: self.host.0, guest: self.guest, reserved: 0, reserved2: 0 }
    }
}

/// `WAIT`: blocks until the sandbox has ended; again and again if wanted. `EINTR` if a signal for the caller comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How to wait.
    pub flags: WaitFlags,
}

impl Wait {
    /// From a copy of the caller's bytes.
    ///
    /// # Errors
    /// [`Bad::Size`], [`Bad::Flags`], [`Bad::Reserved`] if an output field is not zero.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let wire: wire::Wait = exactly(bytes)?;
        let flags = WaitFlags::from_bits(wire.flags).ok_or(Bad::Flags)?;
        zero(&[wire.how.into(), wire.value.into(), wire.reserved.into()])?;
        Ok(Self { flags })
    }

    /// To bytes.
    #[must_use]
    pub fn encode(self) -> wire::Wait {
        wire::Wait { flags: self.flags.bits(), ..wire::Wait::default() }
    }

    /// To bytes, with the kernel side's answer.
    #[must_use]
    pub fn answer(self, ended: Ended) -> wire::Wait {
        let (how, value) = match ended {
            Ended::Running => (0, 0),
            Ended::Exited(status) => (1, status.into()),
            Ended::Signalled(signal) => (2, signal.get()),
            Ended::Failed(errno) => (3, errno.get()),
        };
        wire::Wait { how, value, ..self.encode() }
    }
}

/// The answer to `WAIT`: how the sandbox's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Not yet; only with [`WaitFlags::NO_HANG`].
    Running,
    /// It called exit(2) with this status.
    Exited(u8),
    /// This signal ended it.
    Signalled(NonZeroU32),
    /// The kernel side could not go on; Linux's errno says why.
    Failed(NonZeroU32),
}

impl Ended {
    /// From the kernel's bytes.
    ///
    /// # Errors
    /// [`Bad::Size`], or [`Bad::Range`] if it is no answer that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let wire: wire::Wait = exactly(bytes)?;
        match wire.how {
            0 => Ok(Self::Running),
            1 => u8::try_from(wire.value).map(Self::Exited).map_err(|_above| Bad::Range),
            2 if wire.value < SIGNAL_END => NonZeroU32::new(wire.value).map(Self::Signalled).ok_or(Bad::Range),
            3 => NonZeroU32::new(wire.value).map(Self::Failed).ok_or(Bad::Range),
            _ => Err(Bad::Range),
        }
    }
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The sandbox's first process. `SIGKILL` for it ends the sandbox.
    First,
    /// Every process, as from a terminal.
    All,
}

/// `KILL`: sends a signal, as from outside the sandbox: `si_pid` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Which: 1 to 64.
    pub signal: NonZeroU32,
    /// Whom.
    pub target: Target,
}

impl Kill {
    /// From a copy of the caller's bytes.
    ///
    /// # Errors
    /// [`Bad::Size`], [`Bad::Reserved`], [`Bad::Range`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let wire: wire::Kill = exactly(bytes)?;
        zero(&[wire.reserved])?;
        let signal = NonZeroU32::new(wire.signal).filter(|signal| signal.get() < SIGNAL_END).ok_or(Bad::Range)?;
        let target = match wire.target {
            0 => Target::First,
            1 => Target::All,
            _ => return Err(Bad::Range),
        };
        Ok(Self { signal, target })
    }

    /// To bytes.
    #[must_use]
    pub const fn encode(self) -> wire::Kill {
        let target = match self.target {
            Target::First => 0,
            Target::All => 1,
        };
        wire::Kill { signal: self.signal.get(), target, reserved: 0 }
    }
}

/// A window's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Width and height in pixels, or 0.
    pub pixels: [u16; 2],
}

/// What a terminal begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTerminal {
    /// Bit `n`: it is the guest's descriptor `n`. Not 0.
    pub descriptors: NonZeroU32,
    /// Input, output, control and local modes; any bits are some, as in `tcsetattr(3)`.
    pub modes: [u32; 4],
    /// Special characters.
    pub characters: [u8; 19],
    /// The line discipline.
    pub line: u8,
}

/// `TERMINAL`: makes the sandbox's terminal, or gives it another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// The size.
    pub size: TerminalSize,
    /// A new terminal; `None`: the one that is there.
    pub new: Option<NewTerminal>,
}

impl Terminal {
    /// From a copy of the caller's bytes.
    ///
    /// # Errors
    /// [`Bad::Size`], [`Bad::Reserved`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let wire: wire::Terminal = exactly(bytes)?;
        zero(&[wire.reserved.into(), wire.reserved2.into()])?;
        let size = TerminalSize { rows: wire.rows, columns: wire.columns, pixels: [wire.width, wire.height] };
        let wire::Terminal { modes, characters, line, .. } = wire;
        let new = NonZeroU32::new(wire.descriptors).map(|descriptors| NewTerminal { descriptors, modes, characters, line });
        if new.is_none() {
            zero(&modes.map(u64::from))?;
            zero(&characters.map(u64::from))?;
            zero(&[line.into()])?;
        }
        Ok(Self { size, new })
    }

    /// To bytes.
    #[must_use]
    pub fn encode(self) -> wire::Terminal {
        let TerminalSize { rows, columns, pixels: [width, height] } = self.size;
        let size = wire::Terminal { rows, columns, width, height, ..wire::Terminal::default() };
        match self.new {
            None => size,
            Some(NewTerminal { descriptors, modes, characters, line }) => {
                wire::Terminal { descriptors: descriptors.get(), modes, characters, line, ..size }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mount, MountFlags, PATH_BYTES_MAX, Permissions, Source};
    use zerocopy::{Immutable, IntoBytes};

    /// A request that is decoded from `good`, in every wrong size and at every alignment.
    fn sizes<T: PartialEq + core::fmt::Debug>(good: &(impl IntoBytes + Immutable), decode: fn(&[u8]) -> Result<T, Bad>) {
        let bytes = good.as_bytes();
        let mut room = [0xaa; 96];
        for offset in 0..8 {
            room[offset..offset + bytes.len()].copy_from_slice(bytes);
            for len in 0..room.len() - offset {
                let decoded = decode(&room[offset..offset + len]);
                if len == bytes.len() {
                    assert_eq!(decoded, decode(bytes), "at offset {offset}");
                    assert!(decoded.is_ok());
                } else {
                    assert_eq!(decoded, Err(Bad::Size), "{len} bytes");
                }
            }
        }
    }

    /// Any bytes at all give an answer, and what is accepted encodes to the very same bytes: nothing was overlooked.
    fn total<T, W: IntoBytes + Immutable>(good: &W, decode: fn(&[u8]) -> Result<T, Bad>, encode: fn(T) -> W) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut accepted = 0;
        for round in 0..200_000 {
            let len = good.as_bytes().len();
            let mut bytes = [0; 64];
            bytes[..len].copy_from_slice(good.as_bytes());
            for _ in 0..round % 7 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mixed = state ^ state >> 29;
                let at = (mixed >> 8) as usize % len;
                bytes[at] = if mixed & 0x80 == 0 { (mixed >> 40) as u8 & 7 } else { (mixed >> 40) as u8 };
            }
            if let Ok(value) = decode(&bytes[..len]) {
                accepted += 1;
                assert_eq!(encode(value).as_bytes(), &bytes[..len]);
            }
        }
        assert!(accepted > 100, "the generator makes too little that is right: {accepted}");
    }

    const CONFIGURE: Configure = Configure {
        memory: NonZeroU64::new(1 << 30),
        tasks: NonZeroU32::new(64),
        trace: Some(HostObject(2)),
        name: Some(UserBytes { addr: 0x1000, len: 3 }),
        trap: Trap::Svm,
    };
    const MOUNT: Mount = Mount {
        source: Source::Host(HostObject(5)),
        flags: MountFlags::READ_ONLY,
        path: UserBytes { addr: 0x7fff_0000_0001, len: 4 },
    };
    const KILL: Kill = Kill { signal: NonZeroU32::new(15).unwrap(), target: Target::All };

    const TERMINAL: Terminal = Terminal {
        size: TerminalSize { rows: 24, columns: 80, pixels: [1, 2] },
        new: Some(NewTerminal { descriptors: NonZeroU32::new(7).unwrap(), modes: [1, 2, 3, 4], characters: [5; 19], line: 6 }),
    };

    #[test]
    fn every_request_comes_back_as_it_went() {
        assert_eq!(Version::decode(Version::THIS.encode().as_bytes()), Ok(Version::THIS));
        for configure in [CONFIGURE, Configure::default()] {
            assert_eq!(Configure::decode(configure.encode().as_bytes()), Ok(configure));
        }
        let memory =
            |size| Source::Memory { size: NonZeroU64::new(size), files: NonZeroU64::new(size), mode: Permissions::new(0) };
        let overlay = |size| Source::Overlay { lower: HostObject(5), size: NonZeroU64::new(size) };
        for source in [
            MOUNT.source,
            Source::Host(HostObject(0)),
            memory(0),
            memory(4096),
            Source::Proc,
            Source::Dev,
            overlay(0),
            overlay(4096),
            Source::Directory(None),
            Source::Directory(Permissions::new(0o7777)),
            Source::Symlink(UserBytes { addr: 0x1000, len: PATH_BYTES_MAX }),
            Source::Copy(HostObject(7), Permissions::new(0o644)),
            Source::Image(HostObject(9)),
            Source::Lasting { lower: HostObject(9), upper: HostObject(0) },
        ] {
            let mount = Mount { source, ..MOUNT };
            assert_eq!(Mount::decode(mount.encode().as_bytes()), Ok(mount));
        }
        assert_eq!(Terminal::decode(TERMINAL.encode().as_bytes()), Ok(TERMINAL));
        let size = Terminal { new: None, ..TERMINAL };
        assert_eq!(Terminal::decode(size.encode().as_bytes()), Ok(size));
        let give = GiveFd { host: HostObject(0), guest: 1023 };
        assert_eq!(GiveFd::decode(give.encode().as_bytes()), Ok(give));
        assert_eq!(Kill::decode(KILL.encode().as_bytes()), Ok(KILL));
        let nz = |number| NonZeroU32::new(number).unwrap();
        for ended in [Ended::Running, Ended::Exited(0), Ended::Exited(255), Ended::Signalled(nz(64)), Ended::Failed(nz(12))] {
            let wait = Wait { flags: WaitFlags::NO_HANG };
            assert_eq!(Wait::decode(wait.encode().as_bytes()), Ok(wait));
            assert_eq!(Ended::decode(wait.answer(ended).as_bytes()), Ok(ended));
        }
    }

    #[test]
    fn short_long_and_unaligned() {
        sizes(&Version::THIS.encode(), Version::decode);
        sizes(&CONFIGURE.encode(), Configure::decode);
        sizes(&MOUNT.encode(), Mount::decode);
        sizes(&GiveFd { host: HostObject(1), guest: 1 }.encode(), GiveFd::decode);
        sizes(&Wait { flags: WaitFlags::empty() }.encode(), Wait::decode);
        sizes(&KILL.encode(), Kill::decode);
        sizes(&TERMINAL.encode(), Terminal::decode);
    }

    #[test]
    fn nothing_that_is_accepted_was_overlooked() {
        total(&CONFIGURE.encode(), Configure::decode, Configure::encode);
        total(&MOUNT.encode(), Mount::decode, Mount::encode);
        total(&GiveFd { host: HostObject(1), guest: 1 }.encode(), GiveFd::decode, GiveFd::encode);
        total(&Wait { flags: WaitFlags::empty() }.encode(), Wait::decode, Wait::encode);
        total(&KILL.encode(), Kill::decode, Kill::encode);
        total(&TERMINAL.encode(), Terminal::decode, Terminal::encode);
    }

    #[test]
    fn each_unknown_flag_is_refused() {
        for bit in 1..32 {
            let flags = 1 << bit | 1;
            assert_eq!(Configure::decode(wire::Configure { flags, ..CONFIGURE.encode() }.as_bytes()), Err(Bad::Flags));
            assert_eq!(Mount::decode(wire::Mount { flags, ..MOUNT.encode() }.as_bytes()), Err(Bad::Flags));
            assert_eq!(Wait::decode(wire::Wait { flags, ..wire::Wait::default() }.as_bytes()), Err(Bad::Flags));
        }
    }

    #[test]
    fn reserved_and_unused_fields_are_zero() {
        let refused = Err(Bad::Reserved);
        assert_eq!(Configure::decode(wire::Configure { name_len: 0, ..CONFIGURE.encode() }.as_bytes()).map(drop), refused);
        assert_eq!(Configure::decode(wire::Configure { flags: 0, ..CONFIGURE.encode() }.as_bytes()).map(drop), refused);
        for wire in [
            wire::Mount { mode: 1, ..MOUNT.encode() },
            wire::Mount { files: 1, ..MOUNT.encode() },
            wire::Mount { size: 1, ..MOUNT.encode() },
            wire::Mount { kind: 2, ..MOUNT.encode() },
            wire::Mount { kind: 3, ..MOUNT.encode() },
            wire::Mount { kind: 4, size: 1, host: 0, ..MOUNT.encode() },
        ] {
            assert_eq!(Mount::decode(wire.as_bytes()).map(drop), refused);
        }
        let give = wire::GiveFd { host: 1, guest: 1, reserved: 0, reserved2: 0 };
        assert_eq!(GiveFd::decode(wire::GiveFd { reserved: 1, ..give }.as_bytes()).map(drop), refused);
        assert_eq!(GiveFd::decode(wire::GiveFd { reserved2: 1, ..give }.as_bytes()).map(drop), refused);
        let wait = wire::Wait::default();
        assert_eq!(Wait::decode(wire::Wait { how: 1, ..wait }.as_bytes()).map(drop), refused);
        assert_eq!(Wait::decode(wire::Wait { value: 1, ..wait }.as_bytes()).map(drop), refused);
        assert_eq!(Wait::decode(wire::Wait { reserved: 1, ..wait }.as_bytes()).map(drop), refused);
        assert_eq!(Kill::decode(wire::Kill { reserved: 1, ..KILL.encode() }.as_bytes()).map(drop), refused);
        let size = Terminal { new: None, ..TERMINAL }.encode();
        for wire in [
            wire::Terminal { reserved: 1, ..size },
            wire::Terminal { reserved2: 1, ..size },
            wire::Terminal { line: 1, ..size },
            wire::Terminal { modes: [0, 0, 0, 1], ..size },
            wire::Terminal { characters: [1; 19], ..size },
        ] {
            assert_eq!(Terminal::decode(wire.as_bytes()).map(drop), refused);
        }
    }

    #[test]
    fn values_out_of_range() {
        assert_eq!(Configure::decode(wire::Configure { trap: 2, ..CONFIGURE.encode() }.as_bytes()), Err(Bad::Range));
        for kind in [0, 11, u32::MAX] {
            assert_eq!(Mount::decode(wire::Mount { kind, ..MOUNT.encode() }.as_bytes()), Err(Bad::Range));
        }
        assert_eq!(Mount::decode(wire::Mount { path_len: 0, ..MOUNT.encode() }.as_bytes()), Err(Bad::Path));
        for path_len in [PATH_BYTES_MAX + 1, u32::MAX] {
            assert_eq!(Mount::decode(wire::Mount { path_len, ..MOUNT.encode() }.as_bytes()), Err(Bad::TooBig));
        }
        for guest in [GUEST_FD_END, u32::MAX] {
            let wire = wire::GiveFd { guest, ..wire::GiveFd::default() };
            assert_eq!(GiveFd::decode(wire.as_bytes()), Err(Bad::Range));
        }
        for signal in [0, SIGNAL_END, u32::MAX] {
            assert_eq!(Kill::decode(wire::Kill { signal, ..KILL.encode() }.as_bytes()), Err(Bad::Range));
        }
        assert_eq!(Kill::decode(wire::Kill { target: 2, ..KILL.encode() }.as_bytes()), Err(Bad::Range));
        for (how, value) in [(1, 256), (2, 0), (2, 65), (3, 0), (4, 0)] {
            assert_eq!(Ended::decode(wire::Wait { how, value, ..wire::Wait::default() }.as_bytes()), Err(Bad::Range));
        }
        assert_eq!(HostObject(1 << 31).fd(), None);
        assert_eq!(HostObject(u64::MAX).fd(), None);
    }
}

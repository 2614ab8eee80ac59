//! `ioctl_tty(2)`: terminals of the sandbox, which are pairs, and of the host.
//!
//! Checks come in the order of Linux `drivers/tty/tty_io.c`, `tty_ioctl`; whose terminal it is is [`crate::task`]'s.

use super::files::{descriptor_flags, install, open_flags};
use super::{put, take};
use crate::signal::{Cpu, Signal};
use crate::task::{Take, Task};
use alloc::format;
use alloc::sync::Arc;
use linux_raw_sys::{general, ioctl};
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::{Errno, Error, Result};
use litebox_core::fs::dentry::Dentry;
use litebox_core::fs::fd_table::Fd as Number;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::{Apply, Terminal, WindowSize};
use litebox_core::fs::types::{DeviceId, OFlags};
use litebox_core::mm::{GuestAddr, user};
use litebox_core::tty::TerminalSignal;
use litebox_core::tty::control::{Flow, Flush};
use litebox_core::tty::devpts::SLAVE_MAJOR;
use litebox_core::tty::pair::{Pair, Side, TerminalFile};
use litebox_core::tty::settings::{ControlModes, Settings};

/// Speeds by the bits of `CBAUD`, 16 of them and with `CBAUDEX` 15 more. See termios(3).
const SPEEDS: [u32; 31] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800,
    500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
];
/// Speeds that are no sum of the bits.
const EXTRA_SPEED: u32 = 0o10000;
/// Characters of `struct termio`.
const OLD_CHARACTERS: usize = 8;

/// The speed that the bits of `c_cflag` stand for.
fn speed(control: u32) -> u32 {
    let bits = control & ControlModes::CBAUD.bits();
    let place = if bits & EXTRA_SPEED == 0 { bits } else { (bits & !EXTRA_SPEED).saturating_add(15) };
    usize::try_from(place).ok().and_then(|place| SPEEDS.get(place)).copied().unwrap_or(0)
}

/// `struct termios`, and behind it what `struct termios2` adds: the speeds.
fn encode(settings: &Terminal) -> [u8; 44] {
    let mut bytes = [0; 44];
    let modes = settings.modes.iter().flat_map(|mode| mode.to_le_bytes());
    let speeds = [speed(settings.modes[2]); 2].into_iter().flat_map(u32::to_le_bytes);
    for (to, from) in bytes.iter_mut().zip(modes.chain([settings.line]).chain(settings.characters).chain(speeds)) {
        *to = from;
    }
    bytes
}

/// What the first 36 bytes of either structure say.
fn decode(bytes: [u8; 36]) -> Terminal {
    let mut modes = [0; 4];
    for (mode, part) in modes.iter_mut().zip(bytes.chunks_exact(4)) {
        *mode = part.iter().rev().fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
    }
    let line = bytes.get(16).copied().unwrap_or_default();
    let mut characters = [0; 19];
    for (to, from) in characters.iter_mut().zip(bytes.iter().skip(17)) {
        *to = *from;
    }
    Terminal { modes, line, characters }
}

/// `struct termio`, which is older and shorter: the low halves of the modes, and the first characters.
fn encode_old(settings: &Terminal) -> [u8; 18] {
    let mut bytes = [0; 18];
    let modes = settings.modes.iter().flat_map(|mode| mode.to_le_bytes().into_iter().take(2));
    for (to, from) in
        bytes.iter_mut().zip(modes.chain([settings.line]).chain(settings.characters.into_iter().take(OLD_CHARACTERS)))
    {
        *to = from;
    }
    bytes
}

/// `former`, with what a `struct termio` says.
fn decode_old(former: &Terminal, bytes: [u8; 18]) -> Terminal {
    let mut settings = *former;
    for (mode, half) in settings.modes.iter_mut().zip(bytes.chunks_exact(2)) {
        *mode = *mode & !0xffff | half.iter().rev().fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
    }
    settings.line = bytes.get(8).copied().unwrap_or_default();
    for (to, from) in settings.characters.iter_mut().zip(bytes.iter().skip(9).take(OLD_CHARACTERS)) {
        *to = *from;
    }
    settings
}

/// Whether it is a terminal's open file that has hung up.
pub(super) fn is_hung_up<P: Cpu>(file: &File<P>) -> bool {
    file.has_jobs() && TerminalFile::of(file).is_some_and(|file| file.is_hung_up())
}

/// Stops the caller's group if `file` is its terminal, and it is in the background and would read.
pub(super) fn before_read<P: Cpu>(task: &Task<P>, file: &File<P>) -> Result<()> {
    if !file.has_jobs() || !file.flags().contains(OFlags::READ) {
        return Ok(());
    }
    match TerminalFile::of(file).filter(|file| !file.is_hung_up()) {
        Some(file) => task.check_foreground(file.pair(), Signal::TTIN),
        None => Ok(()),
    }
}

/// The same if it would write, where the terminal does not let it.
pub(super) fn before_write<P: Cpu>(task: &Task<P>, file: &File<P>) -> Result<()> {
    if !file.has_jobs() || !file.flags().contains(OFlags::WRITE) {
        return Ok(());
    }
    match TerminalFile::of(file).filter(|file| !file.is_hung_up() && file.pair().stops_writers()) {
        Some(file) => task.check_foreground(file.pair(), Signal::TTOU),
        None => Ok(()),
    }
}

/// The number of a terminal as `struct stat` has it, in the 32 bits of ioctl(2) and /proc. Linux: `new_encode_dev`.
pub(crate) fn device_number(device: DeviceId) -> u32 {
    device.minor & 0xff | device.major << 8 | (device.minor & !0xff) << 12
}

/// The device of a pair's slave.
pub(crate) fn device<P: Cpu>(pair: &Pair<P>) -> DeviceId {
    DeviceId { major: SLAVE_MAJOR, minor: pair.number() }
}

fn flag<P: Cpu>(at: GuestAddr, is_set: bool) -> Result<()> {
    put::<P, 4>(at, &u32::from(is_set))
}

/// What the requests that change a terminal want first: that the caller is not in the background.
fn check_change<P: Cpu>(task: &Task<P>, pair: &Arc<Pair<P>>, request: u32) -> Result<()> {
    match request {
        ioctl::TIOCSETD | ioctl::TIOCSBRK | ioctl::TIOCCBRK | ioctl::TCSBRK | ioctl::TCSBRKP => {}
        ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF | ioctl::TCSETS2 | ioctl::TCSETSW2 | ioctl::TCSETSF2 => {}
        ioctl::TCSETA | ioctl::TCSETAW | ioctl::TCSETAF | ioctl::TCXONC | ioctl::TCFLSH | ioctl::TIOCSPGRP => {}
        _ => return Ok(()),
    }
    match task.check_foreground(pair, Signal::TTOU) {
        Err(error) if error.is(Errno::IO) && request == ioctl::TIOCSPGRP => Err(errno!(NOTTY, "in the background")),
        checked => checked,
    }
}

/// What only masters are asked; `NOTTY` for the rest.
fn master<P: Cpu>(task: &Task<P>, file: &TerminalFile<P>, request: u32, at: GuestAddr) -> Result<u32> {
    let pair = file.pair();
    match request {
        ioctl::TIOCGPTN => put::<P, 4>(at, &pair.number())?,
        ioctl::TIOCSPTLCK => pair.set_locked(take::<P, u32, 4>(at)? != 0),
        ioctl::TIOCGPTLCK => flag::<P>(at, pair.is_locked())?,
        ioctl::TIOCPKT => pair.set_packet(take::<P, u32, 4>(at)? != 0),
        ioctl::TIOCGPKT => flag::<P>(at, pair.is_packet())?,
        ioctl::TIOCGPTPEER => return open_peer(task, pair, at),
        ioctl::TIOCSIG => pair.signal(match u32::try_from(at.get()) {
            Ok(general::SIGINT) => TerminalSignal::Interrupt,
            Ok(general::SIGQUIT) => TerminalSignal::Quit,
            Ok(general::SIGTSTP) => TerminalSignal::Suspend,
            _ => return Err(errno!(INVAL, "no signal of a terminal's")),
        }),
        _ => return Err(errno!(NOTTY)),
    }
    Ok(0)
}

/// Opens a master's slave, wherever that is to be found. `at` is no address, but flags of open(2).
fn open_peer<P: Cpu>(task: &Task<P>, pair: &Arc<Pair<P>>, at: GuestAddr) -> Result<u32> {
    let flags = open_flags(u32::try_from(at.get() & 0xffff_ffff).unwrap_or_default());
    let inode = task.sandbox().shared().terminals().node(pair);
    let ops = Arc::clone(&inode).open_as(flags, &task.credentials())?;
    let file = File::new(Dentry::detached(inode, format!("/dev/pts/{}", pair.number()).as_bytes()), ops, flags);
    task.process().opened_terminal(pair, flags);
    install(task, file, descriptor_flags(flags), Number(0))
}

/// Whose terminal it is, and who is in its foreground.
fn jobs<P: Cpu>(task: &Task<P>, file: &File<P>, own: &TerminalFile<P>, request: u32, at: GuestAddr) -> Result<()> {
    let (pair, process) = (own.pair(), task.process());
    let is_master = own.side() == Side::Master;
    match request {
        ioctl::TIOCSCTTY => {
            let privileged = task.credentials().can(Capabilities::SYS_ADMIN);
            let may_read = privileged || file.flags().contains(OFlags::READ);
            let take = if privileged && at.get() == 1 { Take::Steal } else { Take::Free };
            process.take_terminal(pair, may_read, take)
        }
        ioctl::TIOCNOTTY if is_master || !process.is_controlled_by(pair) => Err(errno!(NOTTY, "not the process's terminal")),
        ioctl::TIOCNOTTY => {
            process.give_up_terminal();
            Ok(())
        }
        ioctl::TIOCGPGRP => put::<P, 4>(at, &process.control_of(pair, is_master)?.group.unwrap_or(0)),
        ioctl::TIOCGSID => {
            let session = process.control_of(pair, is_master)?.session;
            put::<P, 4>(at, &session.ok_or(errno!(NOTTY, "no session's terminal"))?)
        }
        ioctl::TIOCSPGRP => {
            let group = u32::try_from(take::<P, i32, 4>(at)?).map_err(|_| errno!(INVAL, "a negative group"))?;
            process.set_foreground(pair, group)
        }
        _ => Err(errno!(NOTTY)),
    }
}

/// What is particular to a terminal of the sandbox; `NOTTY` for the rest.
fn own_terminal<P: Cpu>(task: &Task<P>, file: &File<P>, own: &TerminalFile<P>, request: u32, at: GuestAddr) -> Result<()> {
    let pair = own.pair();
    let int = u32::try_from(at.get()).ok();
    match request {
        ioctl::TIOCEXCL | ioctl::TIOCNXCL => {
            if own.side() == Side::Slave {
                pair.set_exclusive(request == ioctl::TIOCEXCL);
            }
            Ok(())
        }
        ioctl::TIOCGEXCL => flag::<P>(at, own.side() == Side::Slave && pair.is_exclusive()),
        ioctl::TIOCSWINSZ => {
            let [rows, columns, width, height] = take::<P, [u16; 4], 8>(at)?;
            pair.resize(WindowSize { rows, columns, pixels: [width, height] });
            Ok(())
        }
        ioctl::TCFLSH => {
            own.flush(match int {
                Some(general::TCIFLUSH) => Flush::Input,
                Some(general::TCOFLUSH) => Flush::Output,
                Some(general::TCIOFLUSH) => Flush::Both,
                _ => return Err(errno!(INVAL, "no queue of a terminal")),
            });
            Ok(())
        }
        ioctl::TCXONC => {
            own.flow(match int {
                Some(general::TCOOFF) => Flow::Suspend,
                Some(general::TCOON) => Flow::Resume,
                Some(general::TCIOFF) => Flow::StopOther,
                Some(general::TCION) => Flow::StartOther,
                _ => return Err(errno!(INVAL, "nothing to do with bytes")),
            });
            Ok(())
        }
        ioctl::TIOCSTI => {
            let privileged = task.credentials().can(Capabilities::SYS_ADMIN);
            if !privileged {
                return Err(errno!(IO, "only a privileged program types for others"));
            }
            own.push_back(take::<P, u8, 1>(at)?);
            Ok(())
        }
        // What is written is with the master at once, and there is no wire to break.
        ioctl::TIOCOUTQ => put::<P, 4>(at, &0_u32),
        ioctl::TCSBRK | ioctl::TCSBRKP | ioctl::TIOCSBRK | ioctl::TIOCCBRK => Ok(()),
        ioctl::TIOCGETD => put::<P, 4>(at, &u32::from(pair.settings().line)),
        ioctl::TIOCSETD => match take::<P, u32, 4>(at)? {
            0 => Ok(()),
            _ => Err(errno!(INVAL, "no such line discipline")),
        },
        ioctl::TIOCGDEV => put::<P, 4>(at, &device_number(device(pair))),
        ioctl::TIOCGPTPEER => Err(errno!(IO, "no master")),
        ioctl::TIOCVHANGUP if !task.credentials().can(Capabilities::SYS_ADMIN) => Err(errno!(PERM)),
        ioctl::TIOCVHANGUP => {
            pair.hang_up();
            Ok(())
        }
        request => jobs(task, file, own, request, at),
    }
}

/// A terminal of the host. Its session is the host's: what would change that is taken, and changes nothing.
fn host_terminal<P: Cpu>(task: &Task<P>, request: u32, at: GuestAddr) -> Result<()> {
    match request {
        ioctl::TIOCGPGRP => put::<P, 4>(at, &task.process().with(|state| state.group)),
        ioctl::TIOCGSID => put::<P, 4>(at, &task.process().with(|state| state.session)),
        ioctl::TIOCSPGRP => take::<P, u32, 4>(at).map(drop),
        ioctl::TIOCSCTTY | ioctl::TIOCNOTTY | ioctl::TCFLSH | ioctl::TCSBRK | ioctl::TCXONC => Ok(()),
        _ => Err(errno!(NOTTY, "unknown request")),
    }
}

/// How the request `TCSETS` or one like it applies.
fn apply(request: u32) -> Apply {
    match request {
        ioctl::TCSETSW | ioctl::TCSETSW2 | ioctl::TCSETAW => Apply::Drained,
        ioctl::TCSETSF | ioctl::TCSETSF2 | ioctl::TCSETAF => Apply::Flushed,
        _ => Apply::Now,
    }
}

/// Settings and size, which every terminal has; `NOTTY` for what else is asked.
fn settings<P: Cpu>(file: &File<P>, request: u32, at: GuestAddr) -> Result<()> {
    let size = file.ops().window_size()?;
    // What a host does not tell is as after opening.
    let settings = || file.ops().terminal().unwrap_or_else(|_| Settings::default().into());
    let new = match request {
        ioctl::TIOCGWINSZ => return put::<P, 8>(at, &[size.rows, size.columns, size.pixels[0], size.pixels[1]]),
        ioctl::TCGETS | ioctl::TCGETS2 => {
            let len = if request == ioctl::TCGETS { 36 } else { 44 };
            return user::write_all::<P>(at, encode(&settings()).get(..len).unwrap_or_default());
        }
        ioctl::TCGETA => return user::write_all::<P>(at, &encode_old(&settings())),
        ioctl::TCSETS | ioctl::TCSETS2 | ioctl::TCSETSW | ioctl::TCSETSW2 | ioctl::TCSETSF | ioctl::TCSETSF2 => {
            decode(take::<P, [u8; 36], 36>(at)?)
        }
        ioctl::TCSETA | ioctl::TCSETAW | ioctl::TCSETAF => decode_old(&settings(), take::<P, [u8; 18], 18>(at)?),
        _ => return Err(errno!(NOTTY, "unknown request")),
    };
    match file.ops().set_terminal(&new, apply(request)) {
        // A host that lets nobody change them keeps its own, and that is no error.
        Err(error) if error.is(Errno::NOTTY) => Ok(()),
        done => done,
    }
}

/// What a terminal is told or asked.
pub(super) fn ioctl<P: Cpu>(task: &Task<P>, file: &File<P>, request: u32, at: GuestAddr) -> Result<u32> {
    let unknown = |error: &Error| error.is(Errno::NOTTY);
    let Some(own) = TerminalFile::of(file) else {
        let done = settings(file, request, at);
        let is_terminal = file.ops().window_size().is_ok();
        return match done {
            Err(error) if unknown(&error) && is_terminal => host_terminal(task, request, at),
            done => done,
        }
        .map(|()| 0);
    };
    if own.is_hung_up() {
        return Err(if request == ioctl::TIOCSPGRP { errno!(NOTTY, "hung up") } else { errno!(IO, "hung up") });
    }
    check_change(task, own.pair(), request)?;
    let done = settings(file, request, at).map(|()| 0);
    let done = match done {
        Err(error) if unknown(&error) && own.side() == Side::Master => master(task, &own, request, at),
        done => done,
    };
    match done {
        Err(error) if unknown(&error) => own_terminal(task, file, &own, request, at).map(|()| 0),
        done => done,
    }
}

/// vhangup(2): hangs up the caller's own terminal.
pub(crate) fn vhangup<P: Cpu>(task: &mut Task<P>) -> Result<()> {
    if !task.credentials().can(Capabilities::SYS_ADMIN) {
        return Err(errno!(PERM));
    }
    if let Some(pair) = task.process().terminal() {
        pair.hang_up();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_s_settings_have_linux_s_layout() {
        let usual = Terminal::from(Settings::default());
        let bytes = encode(&usual);
        assert_eq!(bytes[..4], 0x500u32.to_le_bytes());
        assert_eq!((bytes[12..16].to_vec(), bytes[16], bytes[17], bytes[17 + 4]), (0x8a3bu32.to_le_bytes().to_vec(), 0, 3, 4));
        assert_eq!(bytes[36..40], 38_400_u32.to_le_bytes());
        let mut first = [0; 36];
        first.copy_from_slice(&bytes[..36]);
        first[16] = 7;
        assert_eq!(decode(first), Terminal { line: 7, ..usual });
    }
}

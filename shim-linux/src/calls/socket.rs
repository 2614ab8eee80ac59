//! socket(2), socketpair(2), bind(2), connect(2), listen(2), accept(2), shutdown(2), getsockname(2), getsockopt(2).
//!
//! There are sockets of `AF_UNIX` only.

use super::files::{descriptor_flags, install, open_file, open_flags, with_dir};
use super::pipe::install_two;
use super::{put, take};
use crate::args::{DirFd, Fd, Flags, Int, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use linux_raw_sys::general as raw;
use linux_raw_sys::net;
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::fd_table::Fd as Number;
use litebox_core::fs::file::File;
use litebox_core::fs::inode::{Blocking, IoCx, Special};
use litebox_core::fs::path::Resolve;
use litebox_core::fs::types::{Access, FileKind, Mode, OFlags};
use litebox_core::mm::{GuestAddr, UserIn, user};
use litebox_core::net::unix::{Address, Endpoint, Identity, Shut, Socket, SocketKind, UnixNet};

/// `struct sockaddr_un`: the family, then the path.
const ADDRESS_MAX: usize = size_of::<net::sockaddr_un>();
const _: () = assert!(ADDRESS_MAX == 110);

/// Who the caller is for its peers.
pub(super) fn identity<P: Cpu>(task: &Task<P>) -> Identity {
    let ids = task.process().with(|state| state.ids);
    let ([_, uid, _], [_, gid, _]) = (ids.users, ids.groups);
    Identity { pid: task.process().pid(), uid, gid }
}

fn unix<P: Cpu>(task: &Task<P>) -> &Arc<UnixNet<P>> {
    task.sandbox().shared().unix()
}

/// A socket and its open file.
type Opened<P> = (Arc<Socket<P>>, Arc<File<P>>);

/// The socket behind a descriptor, and its open file.
pub(super) fn socket_of<P: Cpu>(task: &Task<P>, fd: Fd) -> Result<Opened<P>> {
    let file = open_file(task, fd)?;
    Ok((Endpoint::of(&file)?, file))
}

/// Whether an operation on a socket may wait.
pub(super) fn cx<P: Cpu>(file: &File<P>) -> IoCx {
    let blocking = if file.flags().contains(OFlags::NONBLOCK) { Blocking::No } else { Blocking::Yes };
    IoCx { blocking, strips: false }
}

/// What is asked for: its kind, and flags of the new descriptor.
fn kind(domain: Int, kind: Int, protocol: Int) -> Result<(SocketKind, OFlags)> {
    let bits = u32::try_from(kind.0).map_err(|_| errno!(INVAL, "unknown flags"))?;
    // `SOCK_CLOEXEC` and `SOCK_NONBLOCK` are open's.
    if bits & !(0xf | raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    if u32::try_from(domain.0) != Ok(net::AF_UNIX) {
        return Err(errno!(AFNOSUPPORT, "a sandbox has no network"));
    }
    if protocol.0 != 0 && protocol.0 != domain.0 {
        return Err(errno!(PROTONOSUPPORT));
    }
    let kind = match bits & 0xf {
        net::SOCK_STREAM => SocketKind::Stream,
        net::SOCK_DGRAM | net::SOCK_RAW => SocketKind::Datagram,
        net::SOCK_SEQPACKET => SocketKind::SeqPacket,
        _ => return Err(errno!(SOCKTNOSUPPORT)),
    };
    Ok((kind, open_flags(bits & !0xf)))
}

fn new<P: Cpu>(task: &Task<P>, kind: SocketKind) -> Result<Arc<Socket<P>>> {
    Socket::new(unix(task), kind, task.sandbox().shared().new_inode(), identity(task))
}

pub(crate) fn socket<P: Cpu>(task: &mut Task<P>, domain: Int, sort: Int, protocol: Int) -> Result<u32> {
    let (kind, flags) = kind(domain, sort, protocol)?;
    let file = Endpoint::open(&new(task, kind)?, flags & OFlags::NONBLOCK);
    install(task, file, descriptor_flags(flags), Number(0))
}

pub(crate) fn socketpair<P: Cpu>(task: &mut Task<P>, domain: Int, sort: Int, protocol: Int, fds: Ptr) -> Result<()> {
    let (kind, flags) = kind(domain, sort, protocol)?;
    let (one, two) = (new(task, kind)?, new(task, kind)?);
    one.join(&two);
    let files = [one, two].map(|socket| Endpoint::open(&socket, flags & OFlags::NONBLOCK));
    install_two(task, files, descriptor_flags(flags), fds)
}

/// A name as a program gives it.
pub(super) enum Given {
    /// `AF_UNSPEC`, or none.
    None,
    /// Only the family: any name.
    Any,
    Path(Vec<u8>),
    Abstract(Vec<u8>),
}

/// The name at `addr`.
pub(super) fn given<P: Cpu>(addr: GuestAddr, len: u32) -> Result<Given> {
    let len = usize::try_from(len).ok().filter(|len| (2..=ADDRESS_MAX).contains(len)).ok_or(errno!(INVAL, "no address"))?;
    let bytes = UserIn::new(addr, len).to_vec::<P>(ADDRESS_MAX)?;
    let (family, path) = bytes.split_at_checked(2).unwrap_or_default();
    let family = family.iter().rev().fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
    match (family, path.first()) {
        (net::AF_UNSPEC, _) => Ok(Given::None),
        (net::AF_UNIX, None) => Ok(Given::Any),
        (net::AF_UNIX, Some(0)) => Ok(Given::Abstract(path.get(1..).unwrap_or_default().to_vec())),
        (net::AF_UNIX, Some(_)) => Ok(Given::Path(path.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())),
        _ => Err(errno!(INVAL, "of another family")),
    }
}

/// A name as a program reads it.
pub(super) fn encode(address: &Address) -> Vec<u8> {
    let [low, high, ..] = net::AF_UNIX.to_le_bytes();
    let mut bytes = [low, high].to_vec();
    match address {
        Address::Unnamed => {}
        Address::Path(path) => {
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
        Address::Abstract(name) => {
            bytes.push(0);
            bytes.extend_from_slice(name);
        }
    }
    bytes
}

/// Tells a name: as much as there is room for, and its true length.
fn tell<P: Cpu>(address: &Address, addr: Ptr, len: Ptr) -> Result<()> {
    let room = usize::try_from(take::<P, i32, 4>(len.0)?).map_err(|_| errno!(INVAL, "a negative length"))?;
    let bytes = encode(address);
    user::write_all::<P>(addr.0, bytes.get(..room).unwrap_or(&bytes))?;
    put::<P, 4>(len.0, &u32::try_from(bytes.len()).unwrap_or_default())
}

/// The socket that has the name `given`.
pub(super) fn find<P: Cpu>(task: &Task<P>, given: &Given) -> Result<Arc<Socket<P>>> {
    match given {
        Given::None | Given::Any => Err(errno!(INVAL, "no address")),
        Given::Abstract(name) => unix(task).at_name(name),
        Given::Path(path) => {
            let inode = with_dir(task, DirFd(raw::AT_FDCWD), path, |at| {
                let place = at.resolve(path, Resolve::FOLLOW)?;
                at.may(&place, Access::WRITE)?;
                Ok((place.inode().kind() == FileKind::Socket).then(|| place.inode().id()))
            })?;
            unix(task).at_inode(inode.ok_or(errno!(CONNREFUSED, "no socket"))?)
        }
    }
}

/// A length as the `int` of a register has it.
fn length(len: Int) -> u32 {
    u32::try_from(len.0).unwrap_or(u32::MAX)
}

pub(crate) fn bind<P: Cpu>(task: &mut Task<P>, fd: Fd, addr: Ptr, len: Int) -> Result<()> {
    let (socket, _) = socket_of(task, fd)?;
    match given::<P>(addr.0, length(len))? {
        Given::None => Err(errno!(INVAL, "of another family")),
        Given::Any => socket.bind_auto(),
        Given::Abstract(name) => socket.bind_name(&name),
        Given::Path(path) => {
            if socket.address() != Address::Unnamed {
                return Err(errno!(INVAL, "it has a name"));
            }
            let mode = Mode::RWXU | Mode::RWXG | Mode::RWXO;
            let made = with_dir(task, DirFd(raw::AT_FDCWD), &path, |at| at.mknod(&path, Special::Socket, mode));
            let place =
                made.map_err(|error| if error.is(Errno::EXIST) { errno!(ADDRINUSE, "the path exists") } else { error })?;
            socket.bind_path(&path, place.inode().id())
        }
    }
}

pub(crate) fn connect<P: Cpu>(task: &mut Task<P>, fd: Fd, addr: Ptr, len: Int) -> Result<()> {
    let (socket, file) = socket_of(task, fd)?;
    let given = given::<P>(addr.0, length(len))?;
    if matches!(given, Given::None) && socket.kind() == SocketKind::Datagram {
        socket.disconnect();
        return Ok(());
    }
    let other = find(task, &given)?;
    socket.connect(&other, task.sandbox().shared().new_inode(), identity(task), cx(&file))
}

pub(crate) fn listen<P: Cpu>(task: &mut Task<P>, fd: Fd, backlog: Int) -> Result<()> {
    let (socket, _) = socket_of(task, fd)?;
    socket.listen(usize::try_from(backlog.0).unwrap_or(usize::MAX), identity(task))
}

pub(crate) fn accept4<P: Cpu>(task: &mut Task<P>, fd: Fd, addr: Ptr, len: Ptr, flags: Flags) -> Result<u32> {
    if flags.0 & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(errno!(INVAL, "unknown flags"));
    }
    let (socket, file) = socket_of(task, fd)?;
    let accepted = socket.accept(identity(task), cx(&file))?;
    let flags = open_flags(flags.0);
    // The file first: it ends the socket if something fails.
    let file = Endpoint::open(&accepted, flags & OFlags::NONBLOCK);
    if addr.0 != GuestAddr::default() {
        tell::<P>(&accepted.peer_address().unwrap_or_default(), addr, len)?;
    }
    install(task, file, descriptor_flags(flags), Number(0))
}

pub(crate) fn accept<P: Cpu>(task: &mut Task<P>, fd: Fd, addr: Ptr, len: Ptr) -> Result<u32> {
    accept4(task, fd, addr, len, Flags(0))
}

pub(crate) fn shutdown<P: Cpu>(task: &mut Task<P>, fd: Fd, how: Int) -> Result<()> {
    let (socket, _) = socket_of(task, fd)?;
    socket.shutdown(match u32::try_from(how.0) {
        Ok(net::SHUT_RD) => Shut::Read,
        Ok(net::SHUT_WR) => Shut::Write,
        Ok(net::SHUT_RDWR) => Shut::Both,
        _ => return Err(errno!(INVAL, "shut what?")),
    })
}

pub(crate) fn getsockname<P: Cpu>(task: &mut Task<P>, fd: Fd, addr: Ptr, len: Ptr) -> Result<()> {
    let (socket, _) = socket_of(task, fd)?;
    tell::<P>(&socket.address(), addr, len)
}

pub(crate) fn getpeername<P: Cpu>(task: &mut Task<P>, fd: Fd, addr: Ptr, len: Ptr) -> Result<()> {
    let (socket, _) = socket_of(task, fd)?;
    tell::<P>(&socket.peer_address()?, addr, len)
}

/// Bytes that wait in a socket. Linux: `net.core.rmem_default`.
const BUFFER: u32 = 212_992;

/// Seconds and microseconds; none for zero.
fn timeout([seconds, micros]: [i64; 2]) -> Result<Option<Duration>> {
    let micros = u32::try_from(micros).ok().filter(|micros| *micros < 1_000_000).ok_or(errno!(DOM, "no time"))?;
    let Ok(seconds) = u64::try_from(seconds) else { return Ok(None) };
    let time = Duration::new(seconds, micros.saturating_mul(1000));
    Ok((!time.is_zero()).then_some(time))
}

pub(crate) fn setsockopt<P: Cpu>(task: &mut Task<P>, fd: Fd, level: Int, name: Int, value: Ptr, len: Int) -> Result<()> {
    let (socket, _) = socket_of(task, fd)?;
    if u32::try_from(level.0) != Ok(net::SOL_SOCKET) {
        return Err(errno!(OPNOTSUPP, "no options of that level"));
    }
    let name = u32::try_from(name.0).map_err(|_| errno!(NOPROTOOPT))?;
    if matches!(name, net::SO_RCVTIMEO | net::SO_SNDTIMEO) {
        if len.0 < 16 {
            return Err(errno!(INVAL, "no time"));
        }
        let time = timeout(take::<P, [i64; 2], 16>(value.0)?)?;
        socket.set_timeout(usize::from(name == net::SO_RCVTIMEO), time);
        return Ok(());
    }
    if len.0 < 4 {
        return Err(errno!(INVAL, "no value"));
    }
    let value = take::<P, i32, 4>(value.0)?;
    match name {
        net::SO_PASSCRED => socket.set_passes_credentials(value != 0),
        // What is about networks, priorities and sizes is taken, and changes nothing.
        net::SO_REUSEADDR | net::SO_REUSEPORT | net::SO_KEEPALIVE | net::SO_BROADCAST | net::SO_OOBINLINE | net::SO_LINGER => {}
        net::SO_SNDBUF | net::SO_RCVBUF | net::SO_PRIORITY | net::SO_DONTROUTE | net::SO_RCVLOWAT | net::SO_TIMESTAMP => {}
        _ => return Err(errno!(NOPROTOOPT)),
    }
    Ok(())
}

pub(crate) fn getsockopt<P: Cpu>(task: &mut Task<P>, fd: Fd, level: Int, name: Int, value: Ptr, len: Ptr) -> Result<()> {
    let (socket, _) = socket_of(task, fd)?;
    let room = usize::try_from(take::<P, i32, 4>(len.0)?).map_err(|_| errno!(INVAL, "a negative length"))?;
    if u32::try_from(level.0) != Ok(net::SOL_SOCKET) {
        return Err(errno!(OPNOTSUPP, "no options of that level"));
    }
    let number = |value: u32| value.to_le_bytes().to_vec();
    let bytes = match u32::try_from(name.0).map_err(|_| errno!(NOPROTOOPT))? {
        net::SO_TYPE => number(match socket.kind() {
            SocketKind::Stream => net::SOCK_STREAM,
            SocketKind::Datagram => net::SOCK_DGRAM,
            SocketKind::SeqPacket => net::SOCK_SEQPACKET,
        }),
        net::SO_DOMAIN => number(net::AF_UNIX),
        net::SO_ERROR => number(if socket.take_reset() { linux_raw_sys::errno::ECONNRESET } else { 0 }),
        net::SO_ACCEPTCONN => number(u32::from(socket.is_listening())),
        net::SO_PASSCRED => number(u32::from(socket.passes_credentials())),
        net::SO_SNDBUF | net::SO_RCVBUF => number(BUFFER),
        net::SO_RCVLOWAT => number(1),
        net::SO_PROTOCOL | net::SO_REUSEADDR | net::SO_KEEPALIVE | net::SO_BROADCAST | net::SO_PRIORITY => number(0),
        net::SO_LINGER => [0; 8].to_vec(),
        net::SO_PEERCRED => {
            // Without a peer: no process, nobody's.
            let nobody = Identity { pid: 0, uid: u32::MAX, gid: u32::MAX };
            let peer = socket.peer_identity().unwrap_or(nobody);
            [peer.pid, peer.uid, peer.gid].iter().flat_map(|id| id.to_le_bytes()).collect()
        }
        name @ (net::SO_RCVTIMEO | net::SO_SNDTIMEO) => {
            let time = socket.timeout(usize::from(name == net::SO_RCVTIMEO)).unwrap_or_default();
            [time.as_secs(), u64::from(time.subsec_micros())].iter().flat_map(|part| part.to_le_bytes()).collect()
        }
        _ => return Err(errno!(NOPROTOOPT)),
    };
    let shown = bytes.get(..room).unwrap_or(&bytes);
    user::write_all::<P>(value.0, shown)?;
    put::<P, 4>(len.0, &u32::try_from(shown.len()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets_are_made() {
        assert!(kind(Int(2), Int(1), Int(0)).unwrap_err().is(Errno::AFNOSUPPORT));
        assert!(kind(Int(1), Int(4), Int(0)).unwrap_err().is(Errno::SOCKTNOSUPPORT));
        assert!(kind(Int(1), Int(1), Int(6)).unwrap_err().is(Errno::PROTONOSUPPORT));
        assert!(kind(Int(1), Int(0x10), Int(0)).unwrap_err().is(Errno::INVAL));
        let flags = OFlags::READ | OFlags::CLOEXEC | OFlags::NONBLOCK;
        assert_eq!(kind(Int(1), Int(0o2_004_005), Int(0)).unwrap(), (SocketKind::SeqPacket, flags));
    }

    #[test]
    fn names_have_linux_s_lengths() {
        assert_eq!(encode(&Address::Unnamed).len(), 2);
        assert_eq!(encode(&Address::Path(Arc::from(&b"/a"[..]))), b"\x01\0/a\0");
        assert_eq!(encode(&Address::Abstract(Arc::from(&b"a"[..]))), b"\x01\0\0a");
    }
}

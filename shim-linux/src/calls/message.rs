//! sendmsg(2), recvmsg(2) and their kin.

use super::files::{install, ranges, send};
use super::socket::{cx, encode, find, given, identity, socket_of};
use super::{put, take};
use crate::args::{Count, Fd, Flags, Int, Len, Ptr};
use crate::signal::Cpu;
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use linux_raw_sys::net;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::fd_table::{Fd as Number, FdFlags};
use litebox_core::fs::file::File;
use litebox_core::fs::inode::Blocking;
use litebox_core::fs::io::{GuestRange, IoDst, IoSrc};
use litebox_core::mm::{GuestAddr, UserIn, user};
use litebox_core::net::unix::{Identity, Received, RecvFlags, Sending, Socket, SocketKind};

/// Files that go along with one message. Linux: `SCM_MAX_FD`.
const FILES_MAX: usize = 253;
/// Bytes beside a message that are looked at.
const CONTROL_MAX: usize = 4096;
/// `struct msghdr`.
const HEADER: usize = size_of::<net::msghdr>();
const _: () = assert!(HEADER == 56);

/// What a `struct msghdr` says.
struct Header {
    at: GuestAddr,
    name: GuestAddr,
    name_len: u32,
    iov: Ptr,
    iov_len: Len,
    control: GuestAddr,
    control_len: u64,
}

fn low(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default()
}

fn header<P: Cpu>(at: GuestAddr) -> Result<Header> {
    let [name, name_len, iov, iov_len, control, control_len, _] = take::<P, [u64; 7], HEADER>(at)?;
    Ok(Header {
        at,
        name: GuestAddr::new(name),
        name_len: low(name_len),
        iov: Ptr(GuestAddr::new(iov)),
        iov_len: Len(iov_len),
        control: GuestAddr::new(control),
        control_len,
    })
}

/// What goes beside a message: files, and who says to send it.
fn control<P: Cpu>(task: &Task<P>, header: &Header) -> Result<(Vec<Arc<File<P>>>, Identity)> {
    let (mut files, mut who) = (Vec::new(), identity(task));
    if header.control == GuestAddr::default() || header.control_len == 0 {
        return Ok((files, who));
    }
    let len = usize::try_from(header.control_len).unwrap_or(usize::MAX);
    let bytes = UserIn::new(header.control, len).to_vec::<P>(CONTROL_MAX)?;
    let mut rest = bytes.as_slice();
    // Each: length with this head, level, type, then the data; the next one begins on a boundary of eight.
    while let Some((head, _)) = rest.split_first_chunk::<16>() {
        let word = |at: usize| head.iter().skip(at).take(4).rev().fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
        let len = usize::try_from(u64::from(word(0)) | (u64::from(word(4)) << 32)).unwrap_or(usize::MAX);
        let data = rest.get(16..len).ok_or(errno!(INVAL, "a length that is none"))?;
        if word(8) != net::SOL_SOCKET {
            return Err(errno!(INVAL, "of another level"));
        }
        match word(12) {
            net::SCM_RIGHTS => {
                for number in data.chunks_exact(4) {
                    let fd = number.iter().rev().fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
                    if files.len() >= FILES_MAX {
                        return Err(errno!(INVAL, "too many files"));
                    }
                    files.try_reserve(1).map_err(|_| errno!(NOMEM))?;
                    files.push(task.files().get(Number(fd))?);
                }
            }
            net::SCM_CREDENTIALS if data.len() == 12 => who = credentials(task, data, who)?,
            _ => return Err(errno!(INVAL, "unknown")),
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok((files, who))
}

/// Whom a program may say to be: itself, or as root anybody.
fn credentials<P: Cpu>(task: &Task<P>, data: &[u8], own: Identity) -> Result<Identity> {
    let mut ids = data.chunks_exact(4).map(|id| id.iter().rev().fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte)));
    let mut next = || ids.next().unwrap_or_default();
    let said = Identity { pid: next(), uid: next(), gid: next() };
    let has = task.process().with(|state| state.ids);
    let honest = said.pid == own.pid && has.users.contains(&said.uid) && has.groups.contains(&said.gid);
    if honest || task.credentials().can(Capabilities::SYS_ADMIN) {
        Ok(said)
    } else {
        Err(errno!(PERM, "only root may say to be another"))
    }
}

const SEND_KNOWN: u32 =
    net::MSG_DONTWAIT | net::MSG_NOSIGNAL | net::MSG_EOR | net::MSG_MORE | net::MSG_CONFIRM | net::MSG_DONTROUTE;

fn send_from<P: Cpu>(task: &Task<P>, fd: Fd, list: &[GuestRange], sending: Sending<P>, flags: Flags) -> Result<usize> {
    let (socket, file) = socket_of(task, fd)?;
    if flags.0 & !SEND_KNOWN != 0 {
        return Err(errno!(OPNOTSUPP, "unknown flags, or urgent data"));
    }
    let mut cx = cx(&file);
    if flags.0 & net::MSG_DONTWAIT != 0 {
        cx.blocking = Blocking::No;
    }
    let sent = socket.send(&mut IoSrc::guest(list)?, sending, cx);
    if flags.0 & net::MSG_NOSIGNAL == 0 && socket.kind() != SocketKind::Datagram { send(task, sent) } else { sent }
}

/// The socket that a message is for, if it says.
fn target<P: Cpu>(task: &Task<P>, name: GuestAddr, len: u32) -> Result<Option<Arc<Socket<P>>>> {
    if name == GuestAddr::default() || len == 0 {
        return Ok(None);
    }
    find(task, &given::<P>(name, len)?).map(Some)
}

fn range(buf: Ptr, len: Len) -> [GuestRange; 1] {
    [GuestRange { addr: buf.0, len: usize::try_from(len.0).unwrap_or(user::MAX_IO).min(user::MAX_IO) }]
}

pub(crate) fn sendto<P: Cpu>(
    task: &mut Task<P>,
    fd: Fd,
    buf: Ptr,
    len: Len,
    flags: Flags,
    addr: Ptr,
    addr_len: Int,
) -> Result<usize> {
    socket_of(task, fd)?;
    let to = target(task, addr.0, u32::try_from(addr_len.0).unwrap_or(u32::MAX))?;
    let sending = Sending { identity: identity(task), files: Vec::new(), to };
    send_from(task, fd, &range(buf, len), sending, flags)
}

fn send_header<P: Cpu>(task: &Task<P>, fd: Fd, at: GuestAddr, flags: Flags) -> Result<usize> {
    socket_of(task, fd)?;
    let header = header::<P>(at)?;
    let list = message_ranges::<P>(&header)?;
    let to = target(task, header.name, header.name_len)?;
    let (files, identity) = control(task, &header)?;
    send_from(task, fd, &list, Sending { identity, files, to }, flags)
}

/// The ranges of a message; too many are `EMSGSIZE` here.
fn message_ranges<P: Cpu>(header: &Header) -> Result<Vec<GuestRange>> {
    if header.iov_len.0 > 1024 {
        return Err(errno!(MSGSIZE, "too many ranges"));
    }
    ranges::<P>(header.iov, header.iov_len)
}

pub(crate) fn sendmsg<P: Cpu>(task: &mut Task<P>, fd: Fd, msg: Ptr, flags: Flags) -> Result<usize> {
    send_header(task, fd, msg.0, flags)
}

/// `struct mmsghdr`: a header, and what became of it.
const MANY: u64 = 64;
const MANY_MAX: u32 = 1024;

/// Does `one` for each of `count` headers, until one fails; how many did not.
fn many<P: Cpu>(at: Ptr, count: Count, mut one: impl FnMut(u32, GuestAddr) -> Result<Option<usize>>) -> Result<u32> {
    let mut at = at.0;
    for done in 0..count.0.min(MANY_MAX) {
        let result = one(done, at).and_then(|result| {
            let Some(bytes) = result else { return Ok(false) };
            put::<P, 4>(at.plus(56)?, &u32::try_from(bytes).unwrap_or(u32::MAX))?;
            Ok(true)
        });
        match result {
            Ok(true) => at = at.plus(MANY)?,
            Ok(false) => return Ok(done),
            Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
        }
    }
    Ok(count.0.min(MANY_MAX))
}

pub(crate) fn sendmmsg<P: Cpu>(task: &mut Task<P>, fd: Fd, at: Ptr, count: Count, flags: Flags) -> Result<u32> {
    let task = &*task;
    many::<P>(at, count, |_, at| send_header(task, fd, at, flags).map(Some))
}

fn receive<P: Cpu>(task: &Task<P>, fd: Fd, list: &[GuestRange], flags: Flags) -> Result<(Received<P>, Arc<Socket<P>>)> {
    let (socket, file) = socket_of(task, fd)?;
    if flags.0 & net::MSG_OOB != 0 {
        return Err(errno!(OPNOTSUPP, "no urgent data"));
    }
    let mut cx = cx(&file);
    if flags.0 & net::MSG_DONTWAIT != 0 {
        cx.blocking = Blocking::No;
    }
    let mut how = RecvFlags::empty();
    how.set(RecvFlags::PEEK, flags.0 & net::MSG_PEEK != 0);
    how.set(RecvFlags::WAIT_ALL, flags.0 & net::MSG_WAITALL != 0);
    let received = socket.receive(&mut IoDst::guest(list)?, how, cx)?;
    Ok((received, socket))
}

/// What a receive gives back: what was put, or for a message that was asked for so all of its length.
fn count<P: Cpu>(received: &Received<P>, socket: &Socket<P>, flags: Flags) -> usize {
    let all = flags.0 & net::MSG_TRUNC != 0 && socket.kind() != SocketKind::Stream;
    if all { received.full } else { received.count }
}

pub(crate) fn recvfrom<P: Cpu>(
    task: &mut Task<P>,
    fd: Fd,
    buf: Ptr,
    len: Len,
    flags: Flags,
    addr: Ptr,
    addr_len: Ptr,
) -> Result<usize> {
    let (received, socket) = receive(task, fd, &range(buf, len), flags)?;
    if addr.0 != GuestAddr::default() {
        let room = usize::try_from(take::<P, i32, 4>(addr_len.0)?).map_err(|_| errno!(INVAL, "a negative length"))?;
        let name = sender(&received);
        user::write_all::<P>(addr.0, name.get(..room).unwrap_or(&name))?;
        put::<P, 4>(addr_len.0, &u32::try_from(name.len()).unwrap_or_default())?;
    }
    Ok(count(&received, &socket, flags))
}

/// The sender's name; nothing at all if it has none, as in Linux.
fn sender<P: Cpu>(received: &Received<P>) -> Vec<u8> {
    if received.from == litebox_core::net::unix::Address::Unnamed { Vec::new() } else { encode(&received.from) }
}

/// Where what comes beside a message is put.
struct Beside {
    at: GuestAddr,
    left: u64,
    used: u64,
    is_cut: bool,
}

impl Beside {
    /// Room for up to `len` bytes of data of one kind; how many there are.
    fn room(&self, len: u64) -> u64 {
        self.left.saturating_sub(16).min(len)
    }

    /// Puts `data`.
    fn put<P: Cpu>(&mut self, kind: u32, data: &[u8]) -> Result<()> {
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX).saturating_add(16);
        put::<P, 16>(self.at, &[len, u64::from(net::SOL_SOCKET) | (u64::from(kind) << 32)])?;
        user::write_all::<P>(self.at.plus(16)?, data)?;
        let step = len.next_multiple_of(8).min(self.left);
        self.at = self.at.plus(step)?;
        self.left = self.left.saturating_sub(step);
        self.used = self.used.saturating_add(step);
        Ok(())
    }
}

fn receive_header<P: Cpu>(task: &Task<P>, fd: Fd, at: GuestAddr, flags: Flags) -> Result<usize> {
    socket_of(task, fd)?;
    let header = header::<P>(at)?;
    let list = message_ranges::<P>(&header)?;
    let (received, socket) = receive(task, fd, &list, flags)?;
    if header.name != GuestAddr::default() {
        let name = sender(&received);
        let room = usize::try_from(header.name_len).unwrap_or_default();
        user::write_all::<P>(header.name, name.get(..room).unwrap_or(&name))?;
        put::<P, 4>(header.at.plus(8)?, &u32::try_from(name.len()).unwrap_or_default())?;
    }
    let left = if header.control == GuestAddr::default() { 0 } else { header.control_len };
    let mut beside = Beside { at: header.control, left, used: 0, is_cut: false };
    if socket.passes_credentials() {
        let who = received.identity;
        let data: Vec<u8> = [who.pid, who.uid, who.gid].iter().flat_map(|id| id.to_le_bytes()).collect();
        if beside.room(12) == 12 {
            beside.put::<P>(net::SCM_CREDENTIALS, &data)?;
        } else {
            beside.is_cut = true;
        }
    }
    let (full, put_bytes) = (received.full, received.count);
    let result = count(&received, &socket, flags);
    give_files(task, received.files, flags, &mut beside)?;
    put::<P, 8>(header.at.plus(40)?, &beside.used)?;
    let is_short = full > put_bytes && socket.kind() != SocketKind::Stream;
    let told =
        [(is_short, net::MSG_TRUNC), (beside.is_cut, net::MSG_CTRUNC), (socket.kind() == SocketKind::SeqPacket, net::MSG_EOR)];
    let mut bits = told.iter().filter(|(is, _)| *is).fold(0, |bits, (_, bit)| bits | bit);
    bits |= flags.0 & net::MSG_CMSG_CLOEXEC;
    put::<P, 4>(header.at.plus(48)?, &bits)?;
    Ok(result)
}

/// Gives files that came along numbers; those for which there is no room are closed.
fn give_files<P: Cpu>(task: &Task<P>, files: Vec<Arc<File<P>>>, flags: Flags, beside: &mut Beside) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let descriptor = if flags.0 & net::MSG_CMSG_CLOEXEC == 0 { FdFlags::empty() } else { FdFlags::CLOEXEC };
    let room = beside.room(u64::MAX) / 4;
    let mut numbers = Vec::new();
    for file in files {
        if u64::try_from(numbers.len() / 4).unwrap_or(u64::MAX) >= room {
            beside.is_cut = true;
            break;
        }
        let Ok(fd) = install(task, file, descriptor, Number(0)) else {
            beside.is_cut = true;
            break;
        };
        numbers.extend_from_slice(&fd.to_le_bytes());
    }
    if numbers.is_empty() { Ok(()) } else { beside.put::<P>(net::SCM_RIGHTS, &numbers) }
}

pub(crate) fn recvmsg<P: Cpu>(task: &mut Task<P>, fd: Fd, msg: Ptr, flags: Flags) -> Result<usize> {
    receive_header(task, fd, msg.0, flags)
}

/// `MSG_WAITFORONE`: waits for the first message only.
const WAIT_FOR_ONE: u32 = 0x1_0000;

pub(crate) fn recvmmsg<P: Cpu>(task: &mut Task<P>, fd: Fd, at: Ptr, count: Count, flags: Flags, time: Ptr) -> Result<u32> {
    let limit = if time.0 == GuestAddr::default() { None } else { Some(super::time::read::<P>(time.0)?) };
    let until = limit.map(|limit: Duration| P::monotonic().saturating_add(limit));
    let task = &*task;
    let result = many::<P>(at, count, |done, at| {
        // As in Linux, time is looked at between two messages.
        if done > 0 && until.is_some_and(|until| P::monotonic() >= until) {
            return Ok(None);
        }
        let no_wait = if done > 0 && flags.0 & WAIT_FOR_ONE != 0 { net::MSG_DONTWAIT } else { 0 };
        receive_header(task, fd, at, Flags(flags.0 | no_wait)).map(Some)
    });
    if let (Some(until), Ok(_)) = (until, &result) {
        super::time::write::<P>(time.0, until.saturating_sub(P::monotonic()))?;
    }
    result
}

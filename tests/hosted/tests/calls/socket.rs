//! unix(7): socketpair(2), connect(2), accept(2), sendmsg(2), recvmsg(2).

use crate::guest::{Guest, errno};
use linux_raw_sys::general as nr;
use linux_raw_sys::net;

const UNIX: u64 = net::AF_UNIX as u64;
/// `SOCK_NONBLOCK`.
const NOW: u32 = nr::O_NONBLOCK;

fn pair(guest: &mut Guest, kind: u32) -> [u64; 2] {
    let fds = guest.room(8);
    guest.ok(nr::__NR_socketpair, &[UNIX, kind.into(), 0, fds]);
    [guest.half(fds).into(), guest.half(fds + 4).into()]
}

fn send(guest: &mut Guest, fd: u64, text: &[u8], flags: u32) -> Result<u64, u32> {
    let at = guest.bytes(text);
    guest.call(nr::__NR_sendto, &[fd, at, text.len() as u64, flags.into(), 0, 0])
}

fn receive(guest: &mut Guest, fd: u64, room: usize, flags: u32) -> Result<Vec<u8>, u32> {
    let at = guest.room(room.max(1));
    let len = guest.call(nr::__NR_recvfrom, &[fd, at, room as u64, flags.into(), 0, 0])?;
    Ok(guest.peek(at, usize::try_from(len).unwrap().min(room)))
}

/// A `struct sockaddr_un`, and its length.
fn address(guest: &mut Guest, path: &[u8]) -> (u64, u64) {
    let bytes = [&[1, 0], path].concat();
    (guest.bytes(&bytes), bytes.len() as u64)
}

#[test]
fn a_stream_joins_messages_and_packets_stay_apart() {
    let mut guest = Guest::new();
    let [a, b] = pair(&mut guest, net::SOCK_STREAM | NOW);
    assert_eq!(receive(&mut guest, b, 8, 0), Err(errno::EAGAIN));
    for text in [&b"abc"[..], b"defg"] {
        send(&mut guest, a, text, 0).unwrap();
    }
    assert_eq!(receive(&mut guest, b, 5, net::MSG_PEEK).unwrap(), b"abcde");
    assert_eq!(receive(&mut guest, b, 5, 0).unwrap(), b"abcde");
    assert_eq!(receive(&mut guest, b, 5, 0).unwrap(), b"fg");
    let [a, b] = pair(&mut guest, net::SOCK_SEQPACKET | NOW);
    for text in [&b"abc"[..], b"defg"] {
        send(&mut guest, a, text, 0).unwrap();
    }
    let at = guest.room(8);
    assert_eq!(guest.ok(nr::__NR_recvfrom, &[b, at, 2, net::MSG_TRUNC.into(), 0, 0]), 3, "the message's own length");
    assert_eq!(receive(&mut guest, b, 8, 0).unwrap(), b"defg");
    assert_eq!(receive(&mut guest, b, 8, 0), Err(errno::EAGAIN));
    guest.fails(errno::EAFNOSUPPORT, nr::__NR_socket, &[net::AF_INET.into(), net::SOCK_STREAM.into(), 0]);
    let file = guest.open("/file", nr::O_CREAT | nr::O_RDWR);
    guest.fails(errno::ENOTSOCK, nr::__NR_listen, &[file, 1]);
    guest.fails(errno::EBADF, nr::__NR_listen, &[99, 1]);
}

#[test]
fn an_end_is_seen_and_a_write_to_nobody_is_a_broken_pipe() {
    let mut guest = Guest::new();
    let [a, b] = pair(&mut guest, net::SOCK_STREAM);
    send(&mut guest, a, b"last", 0).unwrap();
    guest.ok(nr::__NR_shutdown, &[a, net::SHUT_WR.into()]);
    assert_eq!(receive(&mut guest, b, 8, 0).unwrap(), b"last");
    assert_eq!(receive(&mut guest, b, 8, 0).unwrap(), b"");
    assert_eq!(send(&mut guest, a, b"x", net::MSG_NOSIGNAL), Err(errno::EPIPE));
    send(&mut guest, b, b"unread", 0).unwrap();
    guest.ok(nr::__NR_close, &[a]);
    assert_eq!(receive(&mut guest, b, 8, 0), Err(errno::ECONNRESET), "once");
    assert_eq!(receive(&mut guest, b, 8, 0).unwrap(), b"");
    assert_eq!(send(&mut guest, b, b"x", net::MSG_NOSIGNAL), Err(errno::EPIPE));
    let poll = guest.words(&[b | u64::from(nr::POLLIN) << 32]);
    assert_eq!(guest.ok(nr::__NR_poll, &[poll, 1, 0]), 1);
    assert_eq!(guest.half(poll + 4) >> 16, nr::POLLIN | nr::POLLHUP);
}

#[test]
fn a_name_in_the_tree_leads_to_who_listens() {
    let mut guest = Guest::new();
    let listener = guest.ok(nr::__NR_socket, &[UNIX, u64::from(net::SOCK_STREAM | NOW), 0]);
    let client = guest.ok(nr::__NR_socket, &[UNIX, u64::from(net::SOCK_STREAM | NOW), 0]);
    let (addr, len) = address(&mut guest, b"/socket\0");
    guest.fails(errno::ENOENT, nr::__NR_connect, &[client, addr, len]);
    guest.fails(errno::EINVAL, nr::__NR_listen, &[listener, 1]);
    guest.ok(nr::__NR_bind, &[listener, addr, len]);
    guest.fails(errno::EINVAL, nr::__NR_bind, &[listener, addr, len]);
    guest.fails(errno::EADDRINUSE, nr::__NR_bind, &[client, addr, len]);
    guest.fails(errno::ECONNREFUSED, nr::__NR_connect, &[client, addr, len]);
    guest.ok(nr::__NR_listen, &[listener, 0]);
    guest.fails(errno::EAGAIN, nr::__NR_accept, &[listener, 0, 0]);
    guest.ok(nr::__NR_connect, &[client, addr, len]);
    guest.fails(errno::EISCONN, nr::__NR_connect, &[client, addr, len]);
    let second = guest.ok(nr::__NR_socket, &[UNIX, u64::from(net::SOCK_STREAM | NOW), 0]);
    guest.fails(errno::EAGAIN, nr::__NR_connect, &[second, addr, len]);
    send(&mut guest, client, b"early", 0).unwrap();
    let (name, name_len) = (guest.room(128), guest.words(&[128]));
    let server = guest.ok(nr::__NR_accept4, &[listener, name, name_len, nr::O_CLOEXEC.into()]);
    assert_eq!((guest.half(name_len), guest.half(name) & 0xffff), (2, 1), "the client has no name");
    assert_eq!(receive(&mut guest, server, 8, 0).unwrap(), b"early");
    guest.poke(name_len, &[128, 0, 0, 0]);
    guest.ok(nr::__NR_getpeername, &[client, name, name_len]);
    assert_eq!((guest.half(name_len), guest.peek(name + 2, 8)), (10, b"/socket\0".to_vec()));
    let pid = guest.task.process().pid();
    guest.ok(nr::__NR_getsockopt, &[client, net::SOL_SOCKET.into(), net::SO_PEERCRED.into(), name, name_len]);
    assert_eq!((guest.half(name), guest.half(name_len)), (pid, 10), "cut to the room that was said");
    guest.ok(nr::__NR_close, &[listener]);
    guest.fails(errno::ECONNREFUSED, nr::__NR_connect, &[second, addr, len]);
    guest.fails(errno::EADDRINUSE, nr::__NR_bind, &[second, addr, len]);
}

#[test]
fn who_was_not_accepted_is_told() {
    let mut guest = Guest::new();
    let listener = guest.ok(nr::__NR_socket, &[UNIX, net::SOCK_STREAM.into(), 0]);
    let client = guest.ok(nr::__NR_socket, &[UNIX, net::SOCK_STREAM.into(), 0]);
    let (addr, len) = address(&mut guest, b"\0abstract");
    guest.ok(nr::__NR_bind, &[listener, addr, len]);
    guest.ok(nr::__NR_listen, &[listener, 5]);
    guest.ok(nr::__NR_connect, &[client, addr, len]);
    guest.ok(nr::__NR_close, &[listener]);
    assert_eq!(receive(&mut guest, client, 8, 0), Err(errno::ECONNRESET));
    assert_eq!(receive(&mut guest, client, 8, 0).unwrap(), b"");
    let again = guest.ok(nr::__NR_socket, &[UNIX, net::SOCK_STREAM.into(), 0]);
    guest.ok(nr::__NR_bind, &[again, addr, len]);
}

#[test]
fn datagrams_say_where_they_come_from() {
    let mut guest = Guest::new();
    let server = guest.ok(nr::__NR_socket, &[UNIX, u64::from(net::SOCK_DGRAM | NOW), 0]);
    let client = guest.ok(nr::__NR_socket, &[UNIX, u64::from(net::SOCK_DGRAM | NOW), 0]);
    let (addr, len) = address(&mut guest, b"\0server");
    guest.ok(nr::__NR_bind, &[server, addr, len]);
    let text = guest.bytes(b"hello");
    assert_eq!(send(&mut guest, client, b"x", 0), Err(errno::ENOTCONN));
    assert_eq!(guest.ok(nr::__NR_sendto, &[client, text, 5, 0, addr, len]), 5);
    let (room, name, name_len) = (guest.room(8), guest.room(128), guest.words(&[128]));
    assert_eq!(guest.ok(nr::__NR_recvfrom, &[server, room, 8, 0, name, name_len]), 5);
    assert_eq!(guest.half(name_len), 0, "the client has no name");
    // Any name: five digits.
    guest.ok(nr::__NR_bind, &[client, addr, 2]);
    assert_eq!(guest.ok(nr::__NR_sendto, &[client, text, 5, 0, addr, len]), 5);
    guest.poke(name_len, &[128, 0, 0, 0]);
    assert_eq!(guest.ok(nr::__NR_recvfrom, &[server, room, 8, 0, name, name_len]), 5);
    assert_eq!(guest.half(name_len), 8);
    assert_eq!(guest.ok(nr::__NR_sendto, &[server, text, 5, 0, name, 8]), 5);
    guest.ok(nr::__NR_connect, &[client, addr, len]);
    assert_eq!(send(&mut guest, client, b"y", 0), Ok(1));
    guest.ok(nr::__NR_close, &[server]);
    assert_eq!(send(&mut guest, client, b"y", 0), Err(errno::ECONNREFUSED));
    guest.fails(errno::EOPNOTSUPP, nr::__NR_listen, &[client, 1]);
}

/// A `struct msghdr` for one buffer of `len` bytes at `data`, with room for `control` beside it.
fn header(guest: &mut Guest, data: u64, len: u64, control: (u64, u64)) -> u64 {
    let iov = guest.words(&[data, len]);
    guest.words(&[0, 0, iov, 1, control.0, control.1, 0])
}

#[test]
fn files_and_credentials_go_along() {
    let mut guest = Guest::new();
    let [a, b] = pair(&mut guest, net::SOCK_STREAM | NOW);
    guest.file("/file", b"content");
    let file = guest.open("/file", nr::O_RDONLY);
    let text = guest.bytes(b"take");
    let one = guest.words(&[20, 1 | 1 << 32, file]);
    let message = header(&mut guest, text, 4, (one, 24));
    send(&mut guest, a, b"before", 0).unwrap();
    assert_eq!(guest.ok(nr::__NR_sendmsg, &[a, message, 0]), 4);
    guest.ok(nr::__NR_close, &[file]);
    let on = guest.words(&[1]);
    guest.ok(nr::__NR_setsockopt, &[b, net::SOL_SOCKET.into(), net::SO_PASSCRED.into(), on, 4]);
    assert_eq!(receive(&mut guest, b, 64, 0).unwrap(), b"before", "what carries files begins a read of its own");
    let (room, beside) = (guest.room(64), guest.room(128));
    let into = header(&mut guest, room, 64, (beside, 128));
    assert_eq!(guest.ok(nr::__NR_recvmsg, &[b, into, net::MSG_CMSG_CLOEXEC.into()]), 4);
    assert_eq!(guest.word(into + 40), 32 + 24, "two heads and their data");
    assert_eq!((guest.word(beside), guest.half(beside + 12), guest.half(beside + 16)), (28, 2, guest.task.process().pid()));
    assert_eq!((guest.word(beside + 32), guest.half(beside + 32 + 12)), (20, 1));
    let received = guest.half(beside + 32 + 16).into();
    assert_eq!(guest.ok(nr::__NR_pread64, &[received, room, 64, 0]), 7);
    assert_eq!(guest.ok(nr::__NR_fcntl, &[received, nr::F_GETFD.into()]), 1);
    // Where there is no room beside, files are closed and that is told.
    guest.ok(nr::__NR_sendmsg, &[a, message, 0]);
    let tight = header(&mut guest, room, 64, (beside, 16));
    guest.ok(nr::__NR_recvmsg, &[b, tight, 0]);
    assert_eq!((guest.half(tight + 48), guest.word(tight + 40)), (net::MSG_CTRUNC, 0));
    let fake = guest.words(&[28, 1 | 2 << 32, 77, 0]);
    let message = header(&mut guest, text, 4, (fake, 32));
    assert_eq!(guest.ok(nr::__NR_sendmsg, &[a, message, 0]), 4, "root may say to be another");
    guest.ok(nr::__NR_recvmsg, &[b, into, 0]);
    assert_eq!(guest.half(beside + 16), 77);
    let bad = guest.words(&[8, 1 | 1 << 32]);
    let message = header(&mut guest, text, 4, (bad, 16));
    guest.fails(errno::EINVAL, nr::__NR_sendmsg, &[a, message, 0]);
}

#[test]
fn a_socket_in_flight_through_itself_goes_with_the_sandbox() {
    let mut guest = Guest::new();
    let [a, b] = pair(&mut guest, net::SOCK_DGRAM);
    let text = guest.bytes(b"x");
    let one = guest.words(&[20, 1 | 1 << 32, b]);
    let message = header(&mut guest, text, 1, (one, 24));
    guest.ok(nr::__NR_sendmsg, &[a, message, 0]);
    let quota = std::sync::Arc::clone(guest.task.sandbox().quota());
    for fd in [a, b] {
        guest.ok(nr::__NR_close, &[fd]);
    }
    let before = quota.used();
    guest.task.sandbox().end_sockets();
    assert!(quota.used() < before, "what nobody can reach any more is let go");
}

#[test]
fn a_long_chain_of_sockets_in_flight_is_let_go_without_recursion() {
    let mut guest = Guest::new();
    // Each socket carries the one made before it; only the last is open in the end.
    let mut carried = None;
    let mut last = 0;
    for _ in 0..2000 {
        let [a, b] = pair(&mut guest, net::SOCK_DGRAM);
        if let Some(fd) = carried {
            let (text, one) = (0x1000_0000, guest.words(&[20, 1 | 1 << 32, fd]));
            let message = header(&mut guest, text, 1, (one, 24));
            guest.ok(nr::__NR_sendmsg, &[a, message, 0]);
            guest.ok(nr::__NR_close, &[fd]);
        }
        guest.ok(nr::__NR_close, &[a]);
        (carried, last) = (Some(b), b);
    }
    let quota = std::sync::Arc::clone(guest.task.sandbox().quota());
    let before = quota.used();
    guest.ok(nr::__NR_close, &[last]);
    assert!(quota.used() + 2_000_000 < before);
}

#[test]
fn a_full_socket_makes_its_sender_wait() {
    let mut guest = Guest::new();
    let [a, b] = pair(&mut guest, net::SOCK_STREAM | NOW);
    let big = guest.room(1 << 20);
    let sent = guest.ok(nr::__NR_write, &[a, big, 1 << 20]);
    assert!((100_000..1 << 20).contains(&sent), "{sent}");
    guest.fails(errno::EAGAIN, nr::__NR_write, &[a, big, 1]);
    let poll = guest.words(&[a | u64::from(nr::POLLOUT) << 32]);
    assert_eq!(guest.ok(nr::__NR_poll, &[poll, 1, 0]), 0);
    assert_eq!(guest.ok(nr::__NR_read, &[b, big, 1 << 20]), sent);
    assert_eq!(guest.ok(nr::__NR_poll, &[poll, 1, 0]), 1);
    let [datagram, _] = pair(&mut guest, net::SOCK_DGRAM | NOW);
    guest.fails(errno::EMSGSIZE, nr::__NR_write, &[datagram, big, 1 << 20]);
}

#[test]
fn several_messages_go_in_one_call() {
    let mut guest = Guest::new();
    let [a, b] = pair(&mut guest, net::SOCK_DGRAM | NOW);
    let (text, room) = (guest.bytes(b"ab"), guest.room(8));
    let many = |guest: &mut Guest, data: u64| {
        let iovs = [guest.words(&[data, 1]), guest.words(&[data + 1, 1])];
        guest.words(&iovs.map(|iov| [0, 0, iov, 1, 0, 0, 0, 0]).concat())
    };
    let (out, into) = (many(&mut guest, text), many(&mut guest, room));
    assert_eq!(guest.ok(nr::__NR_sendmmsg, &[a, out, 2, 0]), 2);
    assert_eq!(guest.ok(nr::__NR_recvmmsg, &[b, into, 2, 0, 0]), 2);
    assert_eq!((guest.half(into + 56), guest.half(into + 64 + 56), guest.peek(room, 2)), (1, 1, b"ab".to_vec()));
    guest.fails(errno::EAGAIN, nr::__NR_recvmmsg, &[b, into, 2, 0, 0]);
}

#[test]
fn processes_meet_at_a_name_and_know_each_other() {
    let mut server = Guest::new();
    let mut client = server.beside();
    let (addr, len) = address(&mut server, b"/socket\0");
    let listener = server.ok(nr::__NR_socket, &[UNIX, net::SOCK_STREAM.into(), 0]);
    server.ok(nr::__NR_bind, &[listener, addr, len]);
    server.ok(nr::__NR_listen, &[listener, 1]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (addr, len) = address(&mut client, b"/socket\0");
            let fd = client.ok(nr::__NR_socket, &[UNIX, net::SOCK_STREAM.into(), 0]);
            client.ok(nr::__NR_connect, &[fd, addr, len]);
            assert_eq!(receive(&mut client, fd, 8, net::MSG_WAITALL).unwrap(), b"12345678");
            send(&mut client, fd, b"done", 0).unwrap();
            // Ends with its process.
            drop(client);
        });
        let fd = server.ok(nr::__NR_accept, &[listener, 0, 0]);
        for part in [&b"123"[..], b"45678"] {
            send(&mut server, fd, part, 0).unwrap();
        }
        let (who, room) = (server.room(12), server.words(&[12]));
        server.ok(nr::__NR_getsockopt, &[fd, net::SOL_SOCKET.into(), net::SO_PEERCRED.into(), who, room]);
        assert_eq!(server.half(who), server.task.process().pid() + 1);
        assert_eq!(receive(&mut server, fd, 8, 0).unwrap(), b"done");
        assert_eq!(receive(&mut server, fd, 8, 0).unwrap(), b"");
    });
}

//! `ioctl_tty(2)`: a terminal of the host.

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;
use linux_raw_sys::ioctl;
use litebox_core::error::Result;
use litebox_core::fs::devices::HostStream;
use litebox_core::fs::fd_table::{Fd, FdFlags};
use litebox_core::fs::host::HostFile;
use litebox_core::fs::inode::{Apply, Blocking, Terminal, WindowSize};
use litebox_core::fs::types::{Attr, DeviceId, FileKind, Gid, InodeId, Mode, OFlags, Timestamp, Uid};
use litebox_platform_hosted::Hosted;
use litebox_shim_linux::task::Sandbox;
use std::sync::{Arc, Mutex};

const ID: InodeId = InodeId { device: DeviceId { major: 0, minor: 9 }, number: 1 };

/// A terminal that keeps its settings; without them, one whose host does not tell.
#[derive(Debug)]
struct Tty(Mutex<Option<(Terminal, Apply)>>);

impl HostFile<Hosted> for Tty {
    fn attr(&self) -> Result<Attr> {
        let time = Timestamp::default();
        let (uid, gid, device) = (Uid(0), Gid(0), DeviceId { major: 136, minor: 0 });
        let sizes = (0, 0);
        Ok(Attr {
            id: ID,
            kind: FileKind::CharDevice,
            mode: Mode::RUSR | Mode::WUSR,
            links: 1,
            uid,
            gid,
            device,
            size: sizes.0,
            blocks: sizes.1,
            block_size: 1024,
            accessed: time,
            modified: time,
            changed: time,
        })
    }

    fn seekable(&self) -> bool {
        false
    }

    fn read(&self, _offset: u64, _dst: &mut [u8], _blocking: Blocking) -> Result<usize> {
        Ok(0)
    }

    fn window_size(&self) -> Result<WindowSize> {
        Ok(WindowSize { rows: 24, columns: 80, pixels: [0; 2] })
    }

    fn terminal(&self) -> Result<Terminal> {
        self.0.lock().unwrap().map(|(settings, _)| settings).ok_or(litebox_core::errno!(NOTTY))
    }

    fn set_terminal(&self, settings: &Terminal, apply: Apply) -> Result<()> {
        let mut known = self.0.lock().unwrap();
        *known.as_mut().ok_or(litebox_core::errno!(NOTTY))? = (*settings, apply);
        Ok(())
    }
}

fn with(tty: &Arc<Tty>) -> (Guest, u64) {
    let guest = Guest::new();
    let host: Arc<dyn HostFile<Hosted>> = Arc::<Tty>::clone(tty);
    let file = HostStream::open(host, ID, b"/dev/pts/0", OFlags::READ | OFlags::WRITE);
    let fd = guest.task.files().insert(file, FdFlags::empty(), Fd(0), 16).unwrap();
    (guest, fd.0.into())
}

#[test]
fn settings_go_to_the_host_and_come_back() {
    let settings = Terminal { modes: [1, 2, 3, 4], line: 5, characters: [6; 19] };
    let tty = Arc::new(Tty(Mutex::new(Some((settings, Apply::Now)))));
    let (mut guest, fd) = with(&tty);
    let room = guest.room(64);
    guest.ok(nr::__NR_ioctl, &[fd, ioctl::TCGETS.into(), room]);
    assert_eq!((guest.half(room), guest.half(room + 12), guest.peek(room + 16, 3)), (1, 4, vec![5, 6, 6]));
    guest.poke(room, &[9]);
    guest.ok(nr::__NR_ioctl, &[fd, ioctl::TCSETSF.into(), room]);
    let changed = Terminal { modes: [9, 2, 3, 4], ..settings };
    assert_eq!(*tty.0.lock().unwrap(), Some((changed, Apply::Flushed)));
    guest.fails(errno::EFAULT, nr::__NR_ioctl, &[fd, ioctl::TCSETS.into(), NOWHERE]);
    guest.fails(errno::ENOTTY, nr::__NR_ioctl, &[fd, 0x5499, room]);
}

#[test]
fn a_host_that_does_not_tell_has_an_ordinary_terminal() {
    let (mut guest, fd) = with(&Arc::new(Tty(Mutex::new(None))));
    let room = guest.room(64);
    guest.ok(nr::__NR_ioctl, &[fd, ioctl::TCGETS2.into(), room]);
    assert_eq!((guest.half(room), guest.half(room + 36)), (0x500, 38_400));
    guest.ok(nr::__NR_ioctl, &[fd, ioctl::TCSETS.into(), room]);
    guest.ok(nr::__NR_ioctl, &[fd, ioctl::TIOCGWINSZ.into(), room]);
    assert_eq!(guest.half(room), 24 | 80 << 16);
    guest.ok(nr::__NR_ioctl, &[fd, ioctl::TIOCGPGRP.into(), room]);
    assert_eq!(guest.half(room), guest.task.process().pid());
}

/// A pair of a sandbox's own: master and slave.
fn pair(guest: &mut Guest) -> (u64, u64) {
    use litebox_core::fs::dentry::Dentry;
    use litebox_core::fs::file::File;
    use litebox_core::tty::devpts::Terminals;
    let device = DeviceId { major: 0, minor: 8 };
    let sandbox = Arc::clone(guest.task.sandbox());
    let jobs: std::sync::Weak<dyn litebox_core::tty::Jobs> = Arc::<Sandbox<Hosted>>::downgrade(&sandbox);
    let terminals = Terminals::<Hosted>::new(sandbox.quota(), device, jobs);
    let master = terminals.open_master(Uid(0)).unwrap();
    master.pair().set_locked(false);
    let node = terminals.node(master.pair());
    let slave = Arc::clone(&node).open(OFlags::READ | OFlags::WRITE).unwrap();
    let add = |ops, inode| {
        let file = File::new(Dentry::detached(inode, b"pts"), ops, OFlags::READ | OFlags::WRITE | OFlags::NONBLOCK);
        u64::from(guest.task.files().insert(file, FdFlags::empty(), Fd(0), 64).unwrap().0)
    };
    (add(master, Arc::clone(&node)), add(slave, node))
}

#[test]
fn a_pair_passes_lines_sends_signals_and_hangs_up() {
    let mut guest = Guest::new();
    let (master, slave) = pair(&mut guest);
    let room = guest.room(64);
    let typed = guest.bytes(b"hi\n");
    guest.fails(errno::EAGAIN, nr::__NR_read, &[slave, room, 64]);
    assert_eq!(guest.ok(nr::__NR_write, &[master, typed, 3]), 3);
    assert_eq!(guest.ok(nr::__NR_read, &[slave, room, 64]), 3);
    assert_eq!(guest.ok(nr::__NR_read, &[master, room, 64]), 4);
    assert_eq!(guest.peek(room, 4), b"hi\r\n");
    guest.ok(nr::__NR_ioctl, &[slave, ioctl::TIOCSCTTY.into(), 0]);
    guest.ok(nr::__NR_ioctl, &[slave, ioctl::TIOCGPGRP.into(), room]);
    assert_eq!(guest.half(room), 2);
    let (set, interrupt) = (guest.words(&[1 << (nr::SIGINT - 1) | 1 << (nr::SIGHUP - 1)]), guest.bytes(&[3]));
    guest.ok(nr::__NR_rt_sigprocmask, &[nr::SIG_BLOCK.into(), set, 0, 8]);
    guest.ok(nr::__NR_write, &[master, interrupt, 1]);
    guest.ok(nr::__NR_rt_sigpending, &[room, 8]);
    assert_eq!(guest.word(room), 1 << (nr::SIGINT - 1));
    guest.ok(nr::__NR_close, &[master]);
    assert_eq!(guest.ok(nr::__NR_read, &[slave, room, 64]), 0);
    guest.fails(errno::EIO, nr::__NR_write, &[slave, typed, 3]);
    guest.ok(nr::__NR_rt_sigpending, &[room, 8]);
    assert_eq!(guest.word(room) & 1, 1, "hung up");
}

//! A pair, and its open files. Source: pty(7); Linux `drivers/tty/pty.c`, `n_tty.c` `n_tty_read`, `n_tty_write`, `n_tty_poll`.
//!
//! Invariants: a pair lives while a file of it is open, or while it is a process's terminal; closing the master hangs it up, after
//! which no file of it gets anything. Bytes are taken out of the state first and copied to a guest without its lock.

use super::Jobs;
use super::line::{INPUT_MAX, Line, Raised, TYPED_MAX};
use super::output::{ECHO_ROOM, ROOM};
use super::settings::{Settings, Special};
use crate::fs::file::File;
use crate::fs::inode::{Apply, Blocking, FileOps, IoCx, Terminal, WindowSize};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollSource;
use crate::fs::types::{Gid, Mode, Ready, Timestamp, Uid};
use crate::platform::Platform;
use crate::quota::{Charge, Quota};
use crate::sync::{Mutex, MutexGuard, WaitQueue};
use crate::{errno, error::Error, error::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use bitflags::bitflags;
use core::any::Any;
use core::fmt;
use core::time::Duration;

/// What a pair is charged: its queues at their longest, and what is here.
const PAIR_COST: u64 = (TYPED_MAX + ROOM + 2 * ECHO_ROOM + 2 * INPUT_MAX + 2048) as u64;
/// Bytes of a write that are taken at once.
const CHUNK: usize = 512;
/// Below so many waiting bytes a side can be written to. Linux: `WAKEUP_CHARS`.
const LOW: usize = 256;

bitflags! {
    /// What a master in packet mode is told. See `ioctl_tty(2)`, `TIOCPKT`; the bits are the ABI's.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(super) struct Status: u8 {
        /// Input was dropped.
        const FLUSH_READ = 1;
        /// Output was dropped.
        const FLUSH_WRITE = 2;
        /// Output stops.
        const STOP = 4;
        /// Output goes on.
        const START = 8;
        /// The usual characters do not stop it any more.
        const NO_STOP = 16;
        /// They do again.
        const DO_STOP = 32;
        /// Other settings, for who edits lines at the other end.
        const IOCTL = 64;
    }
}

/// Which open file of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The emulator's.
    Master,
    /// The programs'.
    Slave,
}

/// Owner and permissions of a slave's node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) mode: Mode,
    pub(super) changed: Timestamp,
}

/// What changes of a pair.
#[derive(Debug)]
pub(super) struct State {
    pub(super) line: Line,
    pub(super) size: WindowSize,
    pub(super) locked: bool,
    pub(super) exclusive: bool,
    pub(super) packet: bool,
    pub(super) status: Status,
    /// Open slaves, those that were hung up too.
    slaves: u32,
    /// The last slave was closed, and none opened since.
    slave_gone: bool,
    pub(super) master_gone: bool,
    /// See [`Pair::end`].
    ended: bool,
    /// How often it was hung up; a file that was opened before the last time is dead.
    hangups: u32,
    pub(super) session: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) owner: Owner,
}

/// A pair.
pub struct Pair<P: Platform> {
    number: u32,
    jobs: Weak<dyn Jobs>,
    state: Mutex<P, State>,
    /// Who waits at the slave.
    pub(super) near: PollSource<P>,
    /// Who waits at the master.
    pub(super) far: PollSource<P>,
    _charge: Charge,
}

impl<P: Platform> fmt::Debug for Pair<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<P: Platform> Pair<P> {
    /// # Errors
    /// `NOMEM`: the quota is used up.
    pub(super) fn new(number: u32, owner: Uid, quota: &Arc<Quota>, jobs: &Weak<dyn Jobs>) -> Result<Arc<Self>> {
        let charge = quota.charge(PAIR_COST)?;
        let mode = Mode::RUSR | Mode::WUSR | Mode::WGRP;
        // The group "tty" of every distribution, as devpts is mounted with.
        let owner = Owner { uid: owner, gid: Gid(5), mode, changed: P::realtime().into() };
        let state = State {
            line: Line::default(),
            size: WindowSize::default(),
            locked: true,
            exclusive: false,
            packet: false,
            status: Status::empty(),
            slaves: 0,
            slave_gone: false,
            master_gone: false,
            ended: false,
            hangups: 0,
            session: None,
            group: None,
            owner,
        };
        Ok(Arc::new(Self {
            number,
            jobs: Weak::clone(jobs),
            state: Mutex::<P, _>::new(state),
            near: PollSource::default(),
            far: PollSource::default(),
            _charge: charge,
        }))
    }

    /// Its number, which is the slave's name in /dev/pts.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, P, State> {
        self.state.lock()
    }

    /// Sends what typed bytes asked for.
    fn send(&self, raised: Raised, group: Option<u32>) {
        if let (Some(group), Some(jobs)) = (group, self.jobs.upgrade()) {
            raised.signals().for_each(|signal| jobs.signal(group, signal));
        }
    }

    /// Sends what typed bytes asked for, and wakes everybody.
    pub(super) fn raise(&self, raised: Raised, group: Option<u32>) {
        self.send(raised, group);
        self.wake();
    }

    /// Sends a signal to the foreground.
    pub fn signal(&self, signal: super::TerminalSignal) {
        let group = self.lock().group;
        if let (Some(group), Some(jobs)) = (group, self.jobs.upgrade()) {
            jobs.signal(group, signal);
        }
    }

    pub(super) fn wake(&self) {
        self.near.wake_all();
        self.far.wake_all();
    }

    /// Opens the slave.
    ///
    /// # Errors
    /// `IO`: the master is closed, or the slave is still locked. `BUSY`: another has it for itself, and `privileged` is false.
    pub fn open_slave(self: &Arc<Self>, privileged: bool) -> Result<Arc<TerminalFile<P>>> {
        let mut state = self.lock();
        if state.master_gone || state.ended || state.locked {
            return Err(errno!(IO, "the master is closed, or has not unlocked it"));
        }
        if state.exclusive && !privileged {
            return Err(errno!(BUSY, "another has the terminal for itself"));
        }
        state.slaves = state.slaves.saturating_add(1);
        state.slave_gone = false;
        let hangups = state.hangups;
        drop(state);
        Ok(Arc::new(TerminalFile { pair: Arc::clone(self), side: Side::Slave, hangups }))
    }

    /// Makes every open slave useless, forgets the settings, and tells the session. See vhangup(2). The master sees that no slave is
    /// open when the useless ones are closed.
    pub fn hang_up(&self) {
        let told = {
            let mut state = self.lock();
            state.hangups = state.hangups.wrapping_add(1);
            state.exclusive = false;
            let mut raised = Raised::default();
            state.line.flush_input();
            state.line.flush_typed();
            state.line.set(Settings::default(), &mut raised);
            (state.session.take(), state.group.take())
        };
        if let ((Some(session), group), Some(jobs)) = (told, self.jobs.upgrade()) {
            jobs.hung_up(session, group);
        }
        self.wake();
    }

    /// Hangs it up for good: the master reads what is left and is at the end then, whatever slaves are still open.
    pub fn end(&self) {
        self.hang_up();
        {
            let mut state = self.lock();
            (state.ended, state.slave_gone) = (true, true);
        }
        self.wake();
    }

    /// The master goes: nobody can open a slave any more.
    pub fn close_master(&self) {
        self.lock().master_gone = true;
        self.hang_up();
    }

    /// Whether the master has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().master_gone
    }

    /// Types bytes, as the master does; how many there was room for.
    pub(super) fn type_bytes(&self, bytes: &[u8]) -> usize {
        let mut raised = Raised::default();
        let (count, group) = {
            let mut state = self.lock();
            let count = state.line.type_bytes(bytes, &mut raised);
            state.told(raised);
            (count, state.group)
        };
        self.send(raised, group);
        // There is more to read, and to the master an echo.
        self.near.wake(Ready::IN);
        self.far.wake(Ready::IN);
        count
    }
}

impl State {
    /// Notes for a master in packet mode.
    pub(super) fn tell(&mut self, status: Status) {
        if self.packet {
            self.status |= status;
        }
    }

    /// Notes what typed bytes have done.
    pub(super) fn told(&mut self, raised: Raised) {
        if raised.flushed {
            self.tell(Status::FLUSH_READ | Status::FLUSH_WRITE);
        }
    }
}

/// One open file of a pair.
pub struct TerminalFile<P: Platform> {
    pair: Arc<Pair<P>>,
    side: Side,
    hangups: u32,
}

impl<P: Platform> fmt::Debug for TerminalFile<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminalFile").field("pair", &self.pair).field("side", &self.side).finish_non_exhaustive()
    }
}

impl<P: Platform> Drop for TerminalFile<P> {
    fn drop(&mut self) {
        match self.side {
            Side::Master => self.pair.close_master(),
            Side::Slave => {
                let mut state = self.pair.lock();
                state.slaves = state.slaves.saturating_sub(1);
                state.slave_gone = state.ended || state.slaves == 0;
                state.packet &= !state.slave_gone;
                drop(state);
                self.pair.far.wake_all();
            }
        }
    }
}

/// When a read of bytes, not lines, is over. See termios(3), "Canonical and noncanonical mode".
#[derive(Clone, Copy)]
struct Enough {
    least: usize,
    /// From the beginning.
    first: Option<Duration>,
    /// From each byte on.
    next: Option<Duration>,
}

impl<P: Platform> TerminalFile<P> {
    pub(super) fn master(pair: Arc<Pair<P>>) -> Arc<Self> {
        Arc::new(Self { pair, side: Side::Master, hangups: 0 })
    }

    /// The terminal that an open file is, if it is one of a pair.
    #[must_use]
    pub fn of(file: &File<P>) -> Option<Arc<Self>> {
        Arc::clone(file.ops()).into_any().and_then(|ops| ops.downcast().ok())
    }

    /// Its pair.
    #[must_use]
    pub fn pair(&self) -> &Arc<Pair<P>> {
        &self.pair
    }

    /// Which of the two it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// Whether it was hung up.
    pub fn is_hung_up(&self) -> bool {
        self.side == Side::Slave && self.pair.lock().hangups != self.hangups
    }

    fn enough(&self) -> Enough {
        let line = &self.pair.lock().line;
        let (least, time) = (line.settings.character(Special::Min), line.settings.character(Special::Time));
        let time = (time > 0).then(|| Duration::from_millis(u64::from(time).saturating_mul(100)));
        match least {
            _ if line.settings.canonical() => Enough { least: 1, first: None, next: None },
            // Without a time, what is there is enough, even nothing.
            0 => Enough { least: 1, first: time.or(Some(Duration::ZERO)), next: None },
            least => Enough { least: usize::from(least), first: None, next: time },
        }
    }

    /// Reads lines or bytes into `got`.
    fn read_slave(&self, max: usize, got: &mut Vec<u8>, cx: IoCx) -> Result<()> {
        let enough = self.enough();
        let after = |time: Option<Duration>| time.map(|time| P::monotonic().saturating_add(time));
        let mut deadline = after(enough.first);
        loop {
            let seen = got.len();
            let attempt = || self.take_input(max, got, enough.least);
            let done = match cx.blocking {
                Blocking::Yes => self.pair.near.queue.wait_until(deadline, attempt),
                Blocking::No => {
                    let mut attempt = attempt;
                    attempt().map_or(Err(errno!(AGAIN)), |over| Ok(Some(over)))
                }
            };
            match done {
                Ok(Some(true) | None) => return Ok(()),
                Ok(Some(false)) => {
                    if got.len() > seen && enough.next.is_some() {
                        deadline = after(enough.next);
                    }
                }
                Err(_) if !got.is_empty() => return Ok(()),
                // Without a time and a least count, nothing is a result even for who may not wait.
                Err(Error::Errno(..)) if enough.first == Some(Duration::ZERO) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// One look at what can be read: `None` if there is nothing, or whether the read is over.
    fn take_input(&self, max: usize, got: &mut Vec<u8>, least: usize) -> Option<bool> {
        let (mut raised, group);
        let outcome = {
            let mut state = self.pair.lock();
            let before = got.len();
            let dead = state.hangups != self.hangups;
            let over = !dead && state.line.is_readable(1) && {
                let lines = state.line.reads_lines();
                state.line.take(max.saturating_sub(before), got) || got.len() >= max || (!lines && got.len() >= least)
            };
            if dead {
                return Some(true);
            }
            if !over && got.len() == before {
                return None;
            }
            raised = Raised::default();
            state.line.look(&mut raised);
            state.told(raised);
            group = state.group;
            Some(over)
        };
        self.pair.send(raised, group);
        // There is room for more, and what could not be echoed before may be by now.
        self.pair.far.wake(Ready::IN | Ready::OUT);
        outcome
    }

    /// Reads what was written and shown, or in packet mode a note.
    fn read_master(&self, max: usize, got: &mut Vec<u8>, cx: IoCx) -> Result<()> {
        self.pair.far.until(cx.blocking, None, || {
            let mut state = self.pair.lock();
            if state.packet && !state.status.is_empty() {
                got.push(core::mem::take(&mut state.status).bits());
                return Some(Ok(()));
            }
            if state.line.output.len() == 0 {
                return state.slave_gone.then_some(Err(errno!(IO, "no slave is open")));
            }
            let packet = usize::from(state.packet);
            if state.packet {
                got.push(0);
            }
            state.line.output.take(max.saturating_sub(packet), got);
            Some(Ok(()))
        })?;
        self.pair.near.wake(Ready::OUT);
        Ok(())
    }

    /// Writes what there is room for; `None` if there is none.
    fn put(&self, bytes: &[u8]) -> Option<Result<usize>> {
        match self.side {
            Side::Master if self.pair.lock().ended => Some(Err(errno!(IO, "nobody will read it"))),
            Side::Master => Some(self.pair.type_bytes(bytes)).filter(|count| *count > 0).map(Ok),
            Side::Slave => {
                let mut state = self.pair.lock();
                if state.hangups != self.hangups {
                    return Some(Err(errno!(IO, "the terminal has hung up")));
                }
                let line = &mut state.line;
                let settings = line.settings;
                let count = bytes.iter().take_while(|byte| line.output.write(&settings, **byte)).count();
                drop(state);
                (count > 0).then(|| {
                    self.pair.far.wake(Ready::IN);
                    Ok(count)
                })
            }
        }
    }
}

impl<P: Platform> FileOps<P> for TerminalFile<P> {
    fn read_at(&self, _offset: u64, dst: &mut IoDst<'_, P>, cx: IoCx) -> Result<usize> {
        let max = dst.remaining().min(INPUT_MAX);
        if max == 0 {
            return Ok(0);
        }
        let mut got = Vec::new();
        got.try_reserve_exact(max).map_err(|_| errno!(NOMEM))?;
        match self.side {
            Side::Slave => self.read_slave(max, &mut got, cx)?,
            Side::Master => self.read_master(max, &mut got, cx)?,
        }
        let start = dst.done();
        dst.put(&got);
        dst.outcome(start)
    }

    fn write_at(&self, _offset: u64, src: &mut IoSrc<'_, P>, cx: IoCx) -> Result<usize> {
        let source = if self.side == Side::Slave { &self.pair.near } else { &self.pair.far };
        let (start, mut written) = (src.done(), 0usize);
        let mut chunk = [0; CHUNK];
        loop {
            let taken = src.take(&mut chunk);
            let mut rest = chunk.get(..taken).unwrap_or_default();
            if rest.is_empty() {
                return if written > 0 { Ok(written) } else { src.outcome(start) };
            }
            while !rest.is_empty() {
                match source.until(cx.blocking, None, || self.put(rest)) {
                    Ok(count) => {
                        written = written.saturating_add(count);
                        rest = rest.get(count..).unwrap_or_default();
                    }
                    Err(_) if written > 0 => return Ok(written),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn poll(&self, watcher: Option<&Arc<WaitQueue<P>>>) -> Ready {
        if let Some(watcher) = watcher {
            let source = if self.side == Side::Slave { &self.pair.near } else { &self.pair.far };
            source.watch(watcher);
        }
        let state = self.pair.lock();
        let mut ready = Ready::empty();
        match self.side {
            Side::Slave if state.hangups != self.hangups => {
                return Ready::IN | Ready::OUT | Ready::ERR | Ready::HUP;
            }
            Side::Slave => {
                let settings = &state.line.settings;
                let (least, time) = (settings.character(Special::Min), settings.character(Special::Time));
                let least = if time == 0 { usize::from(least) } else { 1 };
                ready.set(Ready::IN, state.line.is_readable(least));
                ready.set(Ready::OUT, state.line.output.has_room() && ROOM.saturating_sub(state.line.output.len()) > LOW);
            }
            Side::Master => {
                let told = state.packet && !state.status.is_empty();
                ready.set(Ready::IN, told || state.line.output.len() > 0);
                ready.set(Ready::PRI, told);
                ready.set(Ready::HUP, state.slave_gone);
                ready.set(Ready::OUT, state.line.has_room());
            }
        }
        ready
    }

    fn pollable(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }

    fn has_jobs(&self) -> bool {
        self.side == Side::Slave
    }

    fn terminal(&self) -> Result<Terminal> {
        Ok(self.pair.settings().into())
    }

    fn set_terminal(&self, settings: &Terminal, apply: Apply) -> Result<()> {
        self.pair.set((*settings).into(), apply);
        Ok(())
    }

    fn readable_bytes(&self) -> Result<u64> {
        let state = self.pair.lock();
        let bytes = match self.side {
            Side::Slave => state.line.readable_bytes(),
            Side::Master => state.line.output.len(),
        };
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    fn window_size(&self) -> Result<WindowSize> {
        Ok(self.pair.lock().size)
    }
}

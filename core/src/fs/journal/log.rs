//! The file that the records are in.
//!
//! Two files of one directory take turns. A file begins with its generation, and the later one counts. A shorter journal is written into
//! the other file, kept, and only then given its generation: a power cut at any moment leaves one of them whole. Nothing is renamed or
//! removed in the host's directory, so that all that is asked of its file system is that what was synchronised stays.

use super::record::{HEADER_BYTES, PAYLOAD_MAX, Record};
use crate::fs::crc::crc32c;
use crate::fs::host::{HostDir, HostFile, HostNode};
use crate::fs::inode::Blocking;
use crate::fs::types::{FileKind, Mode, Name, OFlags};
use crate::platform::Platform;
use crate::{errno, error::Errno, error::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The two files.
const NAMES: [&[u8]; 2] = [b"journal.a", b"journal.b"];
/// What a file begins with: a mark and the version of the format, its generation, and the checksum of those.
const START_BYTES: usize = 20;
const MARK: &[u8; 8] = b"lbjrnl\0\x01";
/// Bytes of records that are gathered before the host gets them.
const GATHERED: usize = 256 * 1024;
/// What the log holds in memory at most.
pub(super) const MEMORY: u64 = (2 * GATHERED + 2 * PAYLOAD_MAX) as u64;

/// A journal that is open for more records.
pub(super) struct Log<P: Platform> {
    files: [Arc<dyn HostFile<P>>; 2],
    /// Which of them is in use.
    current: usize,
    generation: u64,
    /// Where the records that are gathered will go.
    at: u64,
    /// The checksum of the last record.
    chain: u32,
    gathered: Vec<u8>,
    /// Nothing more can be kept: the host has failed to.
    is_broken: bool,
}

/// The checksum that the first record builds upon.
fn first_chain(generation: u64) -> u32 {
    crc32c(!0, &generation.to_le_bytes())
}

fn start(generation: u64) -> [u8; START_BYTES] {
    let mut bytes = [0; START_BYTES];
    let (mark, rest) = bytes.split_at_mut(8);
    mark.copy_from_slice(MARK);
    let (number, crc) = rest.split_at_mut(8);
    number.copy_from_slice(&generation.to_le_bytes());
    crc.copy_from_slice(&crc32c(first_chain(generation), MARK).to_le_bytes());
    bytes
}

/// The generation of a file; 0 if it has none.
fn generation<P: Platform>(file: &dyn HostFile<P>) -> Result<u64> {
    let mut bytes = [0; START_BYTES];
    if read(file, 0, &mut bytes)? < START_BYTES {
        return Ok(0);
    }
    let number = bytes.get(8..).and_then(|rest| rest.first_chunk::<8>()).copied().map_or(0, u64::from_le_bytes);
    if start(number) == bytes {
        return Ok(number);
    }
    if bytes.starts_with(MARK.get(..7).unwrap_or_default()) && !bytes.starts_with(MARK) {
        return Err(errno!(OPNOTSUPP, "a journal of a later version"));
    }
    Ok(0)
}

/// Reads as much as there is.
fn read<P: Platform>(file: &dyn HostFile<P>, at: u64, dst: &mut [u8]) -> Result<usize> {
    let mut done = 0usize;
    while let Some(rest) = dst.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let offset = at.saturating_add(u64::try_from(done).unwrap_or(0));
        match file.read(offset, rest, Blocking::Yes)?.min(rest.len()) {
            0 => break,
            count => done = done.saturating_add(count),
        }
    }
    Ok(done)
}

fn write<P: Platform>(file: &dyn HostFile<P>, at: u64, src: &[u8]) -> Result<()> {
    let (mut at, mut rest) = (at, src);
    while !rest.is_empty() {
        let count = file.write(at, rest, Blocking::Yes)?.min(rest.len());
        if count == 0 {
            return Err(errno!(NOSPC, "the host takes no more"));
        }
        at = at.saturating_add(u64::try_from(count).unwrap_or(0));
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Opens one of the files, which is made if it is missing.
fn open<P: Platform>(dir: &dyn HostDir<P>, name: &[u8]) -> Result<Arc<dyn HostFile<P>>> {
    let name = Name::new(name)?;
    let found = match dir.lookup(name) {
        Err(error) if error.is(Errno::NOENT) => {
            dir.create(name, Mode::RUSR | Mode::WUSR)?;
            dir.lookup(name)?
        }
        found => found?,
    };
    match found {
        HostNode::Leaf(leaf) if leaf.attr()?.kind == FileKind::Regular => leaf.open(OFlags::READ | OFlags::WRITE),
        _ => Err(errno!(INVAL, "what should be a journal is no file")),
    }
}

impl<P: Platform> Log<P> {
    /// Opens the journal in `dir`, which may have none yet, and gives each of its records to `replay`.
    ///
    /// # Errors
    /// `INVAL`, `OPNOTSUPP`: no journal of this version. `NOMEM`. Those of the host and of `replay`.
    pub(super) fn open(dir: &dyn HostDir<P>, mut replay: impl FnMut(Record<'_>) -> Result<()>) -> Result<Self> {
        let [first, second] = NAMES;
        let files = [open(dir, first)?, open(dir, second)?];
        let [one, other] = [generation(&*files[0])?, generation(&*files[1])?];
        let current = usize::from(other > one);
        let mut log = Self {
            files,
            current,
            generation: one.max(other),
            at: u64::try_from(START_BYTES).unwrap_or(0),
            chain: first_chain(one.max(other)),
            gathered: Vec::new(),
            is_broken: false,
        };
        if log.generation == 0 {
            log.begin(1)?;
            log.commit()?;
            return Ok(log);
        }
        let (begin, mut payload) = ((log.at, log.chain), Vec::new());
        let mut kept = begin;
        while let Some(end) = log.next(&mut payload)? {
            log.at = end;
            // One whose checksum is right and that is none all the same was not written by us.
            if Record::parse(&payload).ok_or(errno!(UCLEAN, "the journal is damaged"))? == Record::Kept {
                kept = (log.at, log.chain);
            }
        }
        (log.at, log.chain) = begin;
        while log.at < kept.0 {
            let end = log.next(&mut payload)?.ok_or(errno!(IO, "the journal changes while it is read"))?;
            replay(Record::parse(&payload).ok_or(errno!(UCLEAN, "the journal is damaged"))?)?;
            log.at = end;
        }
        // What is behind must never be taken for what follows later records.
        log.file().truncate(log.at)?;
        log.file().sync()?;
        Ok(log)
    }

    fn file(&self) -> &dyn HostFile<P> {
        let [first, second] = &self.files;
        if self.current == 0 { &**first } else { &**second }
    }

    /// Reads the record at `self.at`; gives where it ends, or `None` if there is no whole one.
    fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<u64>> {
        let mut header = [0; HEADER_BYTES];
        if read(self.file(), self.at, &mut header)? < HEADER_BYTES {
            return Ok(None);
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = header;
        let (len, crc) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([c0, c1, c2, c3]));
        let Some(len) = usize::try_from(len).ok().filter(|len| (1..=PAYLOAD_MAX).contains(len)) else { return Ok(None) };
        payload.clear();
        payload.try_reserve(len).map_err(|_| errno!(NOMEM))?;
        payload.resize(len, 0);
        let from = self.at.saturating_add(u64::try_from(HEADER_BYTES).unwrap_or(0));
        if read(self.file(), from, payload)? < len || crc32c(self.chain, payload) != crc {
            return Ok(None);
        }
        self.chain = crc;
        Ok(Some(from.saturating_add(u64::try_from(len).unwrap_or(0))))
    }

    /// How long the journal is.
    pub(super) fn len(&self) -> u64 {
        self.at
    }

    /// Makes room for one record, of which [`Self::push`] then cannot fail.
    ///
    /// # Errors
    /// `NOMEM`. `NOSPC` and others of the host, which did not take the records before.
    pub(super) fn room(&mut self) -> Result<()> {
        if self.gathered.len() >= GATHERED {
            self.flush()?;
        }
        self.gathered.try_reserve(PAYLOAD_MAX.saturating_add(HEADER_BYTES)).map_err(|_| errno!(NOMEM))
    }

    /// Adds a record, for which there is room.
    pub(super) fn push(&mut self, record: &Record<'_>) {
        self.chain = record.put(self.chain, &mut self.gathered);
    }

    /// Gives the host what is gathered.
    fn flush(&mut self) -> Result<()> {
        if self.is_broken {
            return Err(errno!(IO, "the journal could not be kept before"));
        }
        write(self.file(), self.at, &self.gathered)?;
        self.at = self.at.saturating_add(u64::try_from(self.gathered.len()).unwrap_or(0));
        self.gathered.clear();
        Ok(())
    }

    /// Makes all records last.
    ///
    /// # Errors
    /// Those of the host. After one of them nobody knows what it has kept, so it is the answer from then on.
    pub(super) fn commit(&mut self) -> Result<()> {
        self.room()?;
        self.push(&Record::Kept);
        self.flush()?;
        self.file().sync().inspect_err(|_| self.is_broken = true)
    }

    /// Begins the other file, with records that come to the same; [`Self::finish`] makes it the one that counts.
    ///
    /// # Errors
    /// Those of the host.
    pub(super) fn switch(&mut self) -> Result<()> {
        self.current = 1usize.saturating_sub(self.current);
        self.file().truncate(0)?;
        self.generation = self.generation.saturating_add(1);
        self.chain = first_chain(self.generation);
        self.at = u64::try_from(START_BYTES).unwrap_or(0);
        Ok(())
    }

    /// See [`Self::switch`].
    ///
    /// # Errors
    /// Those of the host.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.commit()?;
        write(self.file(), 0, &start(self.generation))?;
        self.file().sync()
    }

    /// Begins the first journal.
    fn begin(&mut self, generation: u64) -> Result<()> {
        self.generation = generation;
        self.chain = first_chain(generation);
        self.file().truncate(0)?;
        write(self.file(), 0, &start(generation))
    }
}

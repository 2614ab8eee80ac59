//! The records of a journal, and their bytes.
//!
//! Each is a length, a checksum that the one before it goes into, and a payload: so what follows a torn record is none. Hostile input:
//! all of it; whoever owns the directory of the upper layer may have written it.

use crate::fs::crc::crc32c;
use crate::fs::types::Timestamp;
use alloc::vec::Vec;

/// Bytes before a payload.
pub(super) const HEADER_BYTES: usize = 8;
/// Bytes of the longest payload: an attribute with its value, or a symbolic link with its target.
pub(super) const PAYLOAD_MAX: usize = 70_000;

/// What happened to the file system. Numbers are the journal's own for each file; 0 is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A file of this `kind`, as mknod(2) has it in the mode's upper bits, came to be.
    Make {
        dir: u64,
        name: &'a [u8],
        id: u64,
        kind: u8,
        mode: u32,
        owner: [u32; 2],
        device: [u32; 2],
        target: &'a [u8],
        time: Timestamp,
    },
    /// A file got another name.
    Link { dir: u64, name: &'a [u8], id: u64, time: Timestamp },
    /// A name went away.
    Remove { dir: u64, name: &'a [u8], is_dir: bool, time: Timestamp },
    /// A name moved.
    Rename { dirs: [u64; 2], from: &'a [u8], to: &'a [u8], flags: u32, time: Timestamp },
    /// A file's attributes are these now.
    Attributes { id: u64, mode: u32, owner: [u32; 2], accessed: Timestamp, modified: Timestamp },
    /// A file's length is this now.
    Size { id: u64, size: u64 },
    /// These bytes are in a file now.
    Data { id: u64, offset: u64, bytes: &'a [u8] },
    /// An extended attribute has this value now, or none.
    Extended { id: u64, name: &'a [u8], value: Option<&'a [u8]> },
    /// All before this is to be kept. What follows the last of these does not count.
    Kept,
}

struct Out<'a>(&'a mut Vec<u8>);

impl Out<'_> {
    fn u32(&mut self, number: u32) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn time(&mut self, time: Timestamp) -> &mut Self {
        self.0.extend_from_slice(&time.seconds.to_le_bytes());
        self.u32(time.nanoseconds)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
        self
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn pair(&mut self) -> Option<[u32; 2]> {
        Some([self.u32()?, self.u32()?])
    }

    fn time(&mut self) -> Option<Timestamp> {
        let seconds = self.take().map(i64::from_le_bytes)?;
        let nanoseconds = self.u32().filter(|nanoseconds| *nanoseconds < 1_000_000_000)?;
        Some(Timestamp { seconds, nanoseconds })
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Record<'a> {
    /// Appends it to `out`, where the record before it has the checksum `chain`; gives its own.
    pub(super) fn put(&self, chain: u32, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        self.payload(Out(out));
        let payload = out.get(start.saturating_add(HEADER_BYTES)..).unwrap_or_default();
        let (len, crc) = (u32::try_from(payload.len()).unwrap_or(u32::MAX), crc32c(chain, payload));
        let header = out.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<HEADER_BYTES>());
        if let Some(header) = header {
            let (first, second) = header.split_at_mut(4);
            first.copy_from_slice(&len.to_le_bytes());
            second.copy_from_slice(&crc.to_le_bytes());
        }
        crc
    }

    fn payload(&self, mut out: Out<'_>) {
        match *self {
            Self::Make { dir, name, id, kind, mode, owner: [uid, gid], device: [major, minor], target, time } => {
                out.u32(1).u64(dir).bytes(name).u64(id).u32(kind.into()).u32(mode).u32(uid).u32(gid);
                out.u32(major).u32(minor).bytes(target).time(time)
            }
            Self::Link { dir, name, id, time } => out.u32(2).u64(dir).bytes(name).u64(id).time(time),
            Self::Remove { dir, name, is_dir, time } => out.u32(3).u64(dir).bytes(name).u32(is_dir.into()).time(time),
            Self::Rename { dirs: [old, new], from, to, flags, time } => {
                out.u32(4).u64(old).u64(new).bytes(from).bytes(to).u32(flags).time(time)
            }
            Self::Attributes { id, mode, owner: [uid, gid], accessed, modified } => {
                out.u32(5).u64(id).u32(mode).u32(uid).u32(gid).time(accessed).time(modified)
            }
            Self::Size { id, size } => out.u32(6).u64(id).u64(size),
            Self::Data { id, offset, bytes } => out.u32(7).u64(id).u64(offset).bytes(bytes),
            Self::Extended { id, name, value: Some(value) } => out.u32(8).u64(id).bytes(name).bytes(value),
            Self::Extended { id, name, value: None } => out.u32(9).u64(id).bytes(name),
            Self::Kept => out.u32(10),
        };
    }

    /// From a payload whose checksum was right; `None` if it is none all the same.
    pub(super) fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut from = In(payload);
        let record = match from.u32()? {
            1 => Self::Make {
                dir: from.u64()?,
                name: from.bytes()?,
                id: from.u64()?,
                kind: u8::try_from(from.u32()?).ok()?,
                mode: from.u32()?,
                owner: from.pair()?,
                device: from.pair()?,
                target: from.bytes()?,
                time: from.time()?,
            },
            2 => Self::Link { dir: from.u64()?, name: from.bytes()?, id: from.u64()?, time: from.time()? },
            3 => Self::Remove { dir: from.u64()?, name: from.bytes()?, is_dir: from.u32()? != 0, time: from.time()? },
            4 => Self::Rename {
                dirs: [from.u64()?, from.u64()?],
                from: from.bytes()?,
                to: from.bytes()?,
                flags: from.u32()?,
                time: from.time()?,
            },
            5 => Self::Attributes {
                id: from.u64()?,
                mode: from.u32()?,
                owner: from.pair()?,
                accessed: from.time()?,
                modified: from.time()?,
            },
            6 => Self::Size { id: from.u64()?, size: from.u64()? },
            7 => Self::Data { id: from.u64()?, offset: from.u64()?, bytes: from.bytes()? },
            8 => Self::Extended { id: from.u64()?, name: from.bytes()?, value: Some(from.bytes()?) },
            9 => Self::Extended { id: from.u64()?, name: from.bytes()?, value: None },
            10 => Self::Kept,
            _ => return None,
        };
        from.0.is_empty().then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_comes_back_as_it_went() {
        let time = Timestamp { seconds: -5, nanoseconds: 7 };
        let (name, target) = (&b"name"[..], &b"where"[..]);
        for record in [
            Record::Make { dir: 1, name, id: 2, kind: 8, mode: 0o644, owner: [3, 4], device: [5, 6], target, time },
            Record::Link { dir: 1, name, id: 2, time },
            Record::Remove { dir: 1, name, is_dir: true, time },
            Record::Rename { dirs: [1, 2], from: name, to: target, flags: 2, time },
            Record::Attributes { id: 1, mode: 0o4755, owner: [7, 8], accessed: time, modified: time },
            Record::Size { id: 1, size: u64::MAX },
            Record::Data { id: 1, offset: 4096, bytes: target },
            Record::Extended { id: 1, name, value: Some(b"") },
            Record::Extended { id: 1, name, value: None },
            Record::Kept,
        ] {
            let mut bytes = alloc::vec![0xaa; 3];
            let crc = record.put(9, &mut bytes);
            let payload = &bytes[3 + HEADER_BYTES..];
            assert_eq!(Record::parse(payload), Some(record));
            assert_eq!(bytes[3..7], u32::to_le_bytes(payload.len() as u32));
            assert_eq!((bytes[7..11].to_vec(), crc), (crc.to_le_bytes().to_vec(), crc32c(9, payload)));
            for len in 0..payload.len() {
                assert_eq!(Record::parse(&payload[..len]), None, "{record:?} cut to {len}");
            }
        }
    }
}

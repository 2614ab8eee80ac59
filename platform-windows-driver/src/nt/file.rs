//! Files and directories by handle: the kernel's own calls, one at a time. IRQL: `PASSIVE_LEVEL`. All may wait for a device.

use super::raw::{
    IoStatus, ObjectAttributes, Pointer, ZwCreateFile, ZwFlushBuffersFile, ZwQueryDirectoryFile, ZwQueryInformationFile,
    ZwQueryVolumeInformationFile, ZwReadFile, ZwSetInformationFile, ZwWaitForSingleObject, ZwWriteFile,
};
use super::string::UnicodeString;
use super::{Handle, Status};
use core::ptr::{from_mut, null, null_mut};

/// Rights of a handle: `FILE_READ_DATA` (of a directory: to list it), `FILE_WRITE_DATA`, `FILE_APPEND_DATA`, `FILE_READ_ATTRIBUTES`,
/// `SYNCHRONIZE`.
pub(crate) const READ: u32 = 0x1;
pub(crate) const WRITE: u32 = 0x2;
pub(crate) const APPEND: u32 = 0x4;
pub(crate) const READ_ATTRIBUTES: u32 = 0x80;
const SYNCHRONIZE: u32 = 0x10_0000;

/// `FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE`: as Linux has it, nobody is kept out.
const SHARE_ALL: u32 = 7;
/// `FILE_SYNCHRONOUS_IO_NONALERT | FILE_OPEN_FOR_BACKUP_INTENT | FILE_OPEN_REPARSE_POINT`: no link is followed.
const OPTIONS: u32 = 0x20 | 0x4000 | 0x20_0000;
/// `FILE_OPEN`: what is there, or nothing.
const OPEN: u32 = 1;
/// `FILE_DIRECTORY_FILE`.
const DIRECTORY: u32 = 1;
/// `FILE_ATTRIBUTE_NORMAL`.
const NORMAL: u32 = 0x80;

/// `FILE_ATTRIBUTE_DIRECTORY` and `FILE_ATTRIBUTE_REPARSE_POINT`.
pub(crate) const IS_DIRECTORY: u32 = 0x10;
pub(crate) const IS_REPARSE_POINT: u32 = 0x400;

/// Which kind of thing to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Whatever it is.
    Any,
    /// A directory.
    Directory,
}

/// Information classes: plain structures that the kernel fills or takes.
///
/// # Safety
/// `CLASS` is the class of this very layout, and any bytes are a value.
unsafe trait Information: Default {
    const CLASS: u32;
}

/// `FILE_BASIC_INFORMATION`. Times are in units of 100 ns since 1601; 0 leaves one as it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Basic {
    pub(crate) created: i64,
    pub(crate) accessed: i64,
    pub(crate) modified: i64,
    pub(crate) changed: i64,
    pub(crate) attributes: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<Basic>() == 40);

/// `FILE_STANDARD_INFORMATION`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standard {
    pub(crate) allocated: i64,
    pub(crate) end: i64,
    pub(crate) links: u32,
    delete_pending: u8,
    is_directory: u8,
    reserved: u16,
}
const _: () = assert!(size_of::<Standard>() == 24);

/// `FILE_INTERNAL_INFORMATION`: the file's number in its volume.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Internal {
    pub(crate) number: u64,
}

/// `FILE_POSITION_INFORMATION`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    pub(crate) offset: i64,
}

/// `FILE_END_OF_FILE_INFORMATION`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct EndOfFile {
    end: i64,
}

// SAFETY: `FileBasicInformation`; numbers only.
unsafe impl Information for Basic {
    const CLASS: u32 = 4;
}
// SAFETY: `FileStandardInformation`; numbers only.
unsafe impl Information for Standard {
    const CLASS: u32 = 5;
}
// SAFETY: `FileInternalInformation`; a number.
unsafe impl Information for Internal {
    const CLASS: u32 = 6;
}
// SAFETY: `FilePositionInformation`; a number.
unsafe impl Information for Position {
    const CLASS: u32 = 14;
}
// SAFETY: `FileEndOfFileInformation`; a number.
unsafe impl Information for EndOfFile {
    const CLASS: u32 = 20;
}

/// `FileFsVolumeInformation` and `FileFsDeviceInformation` of a volume.
const VOLUME: u32 = 1;
const DEVICE: u32 = 4;
/// `FileNameInformation` and `FileNormalizedNameInformation`.
const NAME: u32 = 9;
const NORMALIZED_NAME: u32 = 48;
/// `FileIdFullDirectoryInformation`.
const LISTING: u32 = 38;

/// Waits for what is under way, if it is, and gives its outcome.
fn finish(handle: &Handle, status: Status, io: &IoStatus) -> Result<usize, Status> {
    let status = if status == Status::PENDING {
        // SAFETY: An open handle, whose object is signalled when the transfer is over.
        unsafe { ZwWaitForSingleObject(handle.raw(), 0, null()) }.check()?;
        // SAFETY: The kernel has written it by now; it may keep the block in a register otherwise.
        unsafe { (&raw const io.status).read_volatile() }
    } else {
        status
    };
    status.check()?;
    // SAFETY: As above.
    Ok(unsafe { (&raw const io.information).read_volatile() })
}

const fn io_status() -> IoStatus {
    IoStatus { status: Status::SUCCESS, information: 0 }
}

impl Handle {
    /// Opens the entry `name` of the directory that this is. A name is one component; links are not followed.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn open_at(&self, name: &[u16], rights: u32, wanted: Wanted) -> Result<Self, Status> {
        let name = UnicodeString::of(name);
        let attributes = ObjectAttributes { root: self.raw(), name: &raw const name, ..ObjectAttributes::kernel() };
        let (mut handle, mut io) = (null_mut(), io_status());
        let options = if wanted == Wanted::Directory { OPTIONS | DIRECTORY } else { OPTIONS };
        // SAFETY: All are ours and live through the call.
        unsafe {
            ZwCreateFile(
                &raw mut handle,
                rights | SYNCHRONIZE,
                &raw const attributes,
                &raw mut io,
                null(),
                NORMAL,
                SHARE_ALL,
                OPEN,
                options,
                null_mut(),
                0,
            )
        }
        .check()?;
        // SAFETY: Just opened.
        Ok(unsafe { Self::from_raw(handle) })
    }

    /// Reads at `offset`, or where a stream is; 0 is the end.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn read(&self, offset: Option<i64>, dst: &mut [u8]) -> Result<usize, Status> {
        let mut io = io_status();
        let (bytes, at) = (length(dst.len()), offset.as_ref().map_or(null(), core::ptr::from_ref));
        let none: Pointer = null_mut();
        // SAFETY: The buffer and the block are ours until `finish` has seen the transfer end.
        let status = unsafe { ZwReadFile(self.raw(), none, none, none, &raw mut io, dst.as_mut_ptr(), bytes, at, null()) };
        match finish(self, status, &io) {
            Err(Status::END_OF_FILE | Status::PIPE_BROKEN) => Ok(0),
            done => done,
        }
    }

    /// Writes at `offset` (-1 is the end, in one step against others), or to a stream.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn write(&self, offset: Option<i64>, src: &[u8]) -> Result<usize, Status> {
        let mut io = io_status();
        let (bytes, at) = (length(src.len()), offset.as_ref().map_or(null(), core::ptr::from_ref));
        let none: Pointer = null_mut();
        // SAFETY: As in `read`; the buffer is only read.
        let status = unsafe { ZwWriteFile(self.raw(), none, none, none, &raw mut io, src.as_ptr(), bytes, at, null()) };
        finish(self, status, &io)
    }

    /// Makes what was written last.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn flush(&self) -> Result<(), Status> {
        let mut io = io_status();
        // SAFETY: An open handle, and a block of ours.
        unsafe { ZwFlushBuffersFile(self.raw(), &raw mut io) }.check()
    }

    fn query<T: Information>(&self) -> Result<T, Status> {
        let (mut information, mut io) = (T::default(), io_status());
        // SAFETY: Room of the class's layout (the trait's contract); any bytes are a value.
        unsafe {
            ZwQueryInformationFile(self.raw(), &raw mut io, from_mut(&mut information).cast(), size_of::<T>() as u32, T::CLASS)
        }
        .check()?;
        Ok(information)
    }

    fn set<T: Information>(&self, information: &T) -> Result<(), Status> {
        let mut io = io_status();
        // SAFETY: A value of the class's layout (the trait's contract), which is only read.
        unsafe {
            ZwSetInformationFile(
                self.raw(),
                &raw mut io,
                core::ptr::from_ref(information).cast(),
                size_of::<T>() as u32,
                T::CLASS,
            )
        }
        .check()
    }

    /// Times and attributes.
    pub(crate) fn basic(&self) -> Result<Basic, Status> {
        self.query()
    }

    /// Lengths and links.
    pub(crate) fn standard(&self) -> Result<Standard, Status> {
        self.query()
    }

    /// Its number in the volume.
    pub(crate) fn number(&self) -> Result<u64, Status> {
        self.query().map(|Internal { number }| number)
    }

    /// Where its next transfer would begin.
    pub(crate) fn position(&self) -> Result<i64, Status> {
        self.query().map(|Position { offset }| offset)
    }

    /// Moves that.
    pub(crate) fn set_position(&self, offset: i64) -> Result<(), Status> {
        self.set(&Position { offset })
    }

    /// Cuts or extends it.
    pub(crate) fn set_end(&self, end: i64) -> Result<(), Status> {
        self.set(&EndOfFile { end })
    }

    fn volume(&self, class: u32, room: &mut [u32; 16]) -> Result<(), Status> {
        let mut io = io_status();
        // SAFETY: Room of the size that is said, for numbers. (A label that does not fit is cut, which is no failure here.)
        let status = unsafe {
            ZwQueryVolumeInformationFile(self.raw(), &raw mut io, room.as_mut_ptr().cast(), size_of_val(room) as u32, class)
        };
        /// `STATUS_BUFFER_OVERFLOW`: all but the label is there.
        const OVERFLOW: u32 = 0x8000_0005;
        if status.number() == OVERFLOW { Ok(()) } else { status.check() }
    }

    /// The kind of its device: `FILE_DEVICE_…` of wdm.h.
    pub(crate) fn device_kind(&self) -> Result<u32, Status> {
        let mut room = [0; 16];
        self.volume(DEVICE, &mut room)?;
        let [kind, ..] = room;
        Ok(kind)
    }

    /// The serial number of its volume.
    pub(crate) fn serial(&self) -> Result<u32, Status> {
        let mut room = [0; 16];
        self.volume(VOLUME, &mut room)?;
        // Behind the volume's time.
        let [_, _, serial, ..] = room;
        Ok(serial)
    }

    /// Whether the last component of its name, as the disk has it, is `name`. Windows's file systems do not care for case by
    /// themselves, and Linux's programs do.
    pub(crate) fn is_named(&self, name: &[u16]) -> bool {
        /// `FILE_NAME_INFORMATION`: the length in bytes, then the path, which is long only for deep directories.
        #[repr(C)]
        struct Room {
            bytes: u32,
            units: [u16; 1022],
        }
        let mut room = alloc::boxed::Box::new(Room { bytes: 0, units: [0; 1022] });
        let mut io = io_status();
        // On-disk spelling where the host can say it; Wine has the other class only, whose answer is that already.
        let found = [NORMALIZED_NAME, NAME].into_iter().any(|class| {
            let at = from_mut(&mut *room).cast();
            // SAFETY: Room of the size that is said, for numbers.
            unsafe { ZwQueryInformationFile(self.raw(), &raw mut io, at, size_of::<Room>() as u32, class) }.is_success()
        });
        let path = room.units.get(..room.bytes as usize / 2).unwrap_or_default();
        found && path.rsplit(|unit| *unit == u16::from(b'\\')).next() == Some(name)
    }

    /// Gives the entries of the directory that this is to `take`: name, number, attributes. From the start.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn list(&self, mut take: impl FnMut(&[u16], u64, u32)) -> Result<(), Status> {
        /// Words of a batch: a page.
        const WORDS: usize = 512;
        let mut room = alloc::boxed::Box::new([0_u64; WORDS]);
        let (none, mut restart): (Pointer, u8) = (null_mut(), 1);
        loop {
            let mut io = io_status();
            let at = room.as_mut_ptr().cast();
            // SAFETY: Room of the size that is said, aligned to 8; no pattern: all entries.
            let status = unsafe {
                let bytes = (WORDS * 8) as u32;
                ZwQueryDirectoryFile(self.raw(), none, none, none, &raw mut io, at, bytes, LISTING, 0, null(), restart)
            };
            match finish(self, status, &io) {
                Err(Status::NO_MORE_FILES) => return Ok(()),
                Err(failed) => return Err(failed),
                Ok(_) => entries(&room[..], &mut take),
            }
            restart = 0;
        }
    }
}

/// Bytes of one transfer: what fits a request of the kernel's.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(0x7fff_f000)
}

/// Reads a batch of `FILE_ID_FULL_DIR_INFORMATION`: at 0 the offset of the next, at 56 attributes, at 60 bytes of the name, at 72 the
/// number, at 80 the name.
fn entries(words: &[u64], take: &mut impl FnMut(&[u16], u64, u32)) {
    let half =
        |at: usize| words.get(at / 8).map_or(0, |word| if at.is_multiple_of(8) { *word as u32 } else { (*word >> 32) as u32 });
    let mut base = 0;
    loop {
        let number = words.get(base / 8 + 9).copied().unwrap_or(0);
        let count = half(base + 60) as usize / 2;
        let unit = |index: usize| {
            let at = base + 80 + index * 2;
            words.get(at / 8).map(|word| (*word >> (at % 8 * 8)) as u16)
        };
        let mut name = [0_u16; 256];
        for (slot, index) in name.iter_mut().zip(0..count) {
            *slot = unit(index).unwrap_or(0);
        }
        take(name.get(..count).unwrap_or_default(), number, half(base + 56));
        match half(base) as usize {
            0 => return,
            next => base += next,
        }
    }
}

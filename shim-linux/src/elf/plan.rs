//! Where the parts of an ELF file go. Source: elf(5); Linux `fs/binfmt_elf.c` `load_elf_binary`, `load_elf_interp`.

use alloc::vec::Vec;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;
use litebox_core::errno;
use litebox_core::error::{Error, Result};
use litebox_core::mm::{GUEST_END, PAGE_SIZE, Prot, round_up};

/// Bytes of `Elf64_Ehdr`.
const EHDR_BYTES: usize = 64;
/// Bytes of `Elf64_Phdr`.
const PHDR_BYTES: usize = 56;
/// Linux's limit on a file's program headers, in bytes.
const PHDRS_BYTES_MAX: usize = 65536;
/// Longest path of an interpreter, with its NUL.
const PATH_MAX: u64 = 4096;

/// A file that programs are read from.
pub trait Image {
    /// Reads at `offset`; a short count means the file's end.
    ///
    /// # Errors
    /// What reading the file gives.
    fn read_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize>;
}

impl Image for [u8] {
    fn read_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        let from = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        let bytes = from.iter().zip(dst.iter_mut());
        Ok(bytes.map(|(from, to)| *to = *from).count())
    }
}

/// Whether the addresses in the file are what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ET_EXEC`: exactly there, and nothing may be there yet.
    Fixed,
    /// `ET_DYN`: all moved by one bias.
    Movable,
}

/// What `PT_GNU_STACK` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackRights {
    /// No such header: the architecture's default, which on x86-64 is not executable.
    Default,
    /// Readable and writable.
    ReadWrite,
    /// Executable too.
    Executable,
}

/// One `PT_LOAD`, checked: arithmetic on its fields cannot overflow, with a bias that [`Plan::bias_at`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first page in the file's addresses.
    pub start: u64,
    /// Where the first page's bytes begin in the file; a multiple of the page size.
    pub file_start: u64,
    /// Bytes from the file, counted from `start`; 0 when all of it is zeros.
    pub file_bytes: u64,
    /// End of the file's bytes, from where zeros follow, up to `end`.
    pub zero_from: u64,
    /// The address after its last byte.
    pub end: u64,
    /// Rights of the pages that hold bytes of the file.
    pub prot: Prot,
}

impl Segment {
    /// Rights of the pages that hold only zeros: they are data whatever the file says, executable if it says so (`elf_load`).
    #[must_use]
    pub fn zero_prot(&self) -> Prot {
        Prot::READ | Prot::WRITE | (self.prot & Prot::EXEC)
    }
}

/// What an ELF file asks its loader to do.
#[derive(Debug)]
pub struct Plan {
    /// Whether it can be moved.
    pub kind: Kind,
    /// First instruction, in the file's addresses.
    pub entry: u64,
    /// What to map, in the file's order.
    pub segments: Vec<Segment>,
    /// Path of the program that starts this one, without its NUL.
    pub interpreter: Option<Vec<u8>>,
    /// Rights of the stack.
    pub stack: StackRights,
    /// Where the program headers are once mapped, in the file's addresses; 0 if they are not.
    pub headers_at: u64,
    /// How many program headers there are.
    pub header_count: u16,
    /// The largest alignment that a segment asks for, at least a page; a power of two.
    pub align: u64,
}

/// Whose headers these are: the errno of a bad one differs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Program,
    Interpreter,
}

impl Role {
    fn malformed(self) -> Error {
        match self {
            Self::Program => errno!(NOEXEC, "the ELF header is malformed"),
            Self::Interpreter => errno!(LIBBAD, "the interpreter's ELF header is malformed"),
        }
    }
}

impl Plan {
    /// Plans the program in `image`.
    ///
    /// # Errors
    /// - `NOEXEC`: not an x86-64 ELF program, or its headers are cut off.  - `IO`: the interpreter's path is cut off.
    /// - `INVAL`: a segment that cannot be mapped: past the address space, larger in the file than in memory, its offset and
    ///   address at odds, or nothing to map in a movable file.  - `NOMEM`.
    pub fn of_program(image: &(impl Image + ?Sized)) -> Result<Self> {
        Self::of(image, Role::Program)
    }

    /// Plans the interpreter in `image`.
    ///
    /// # Errors
    /// As [`Plan::of_program`], but `LIBBAD` where that has `NOEXEC`, and `IO` for a file without a whole ELF header.
    pub fn of_interpreter(image: &(impl Image + ?Sized)) -> Result<Self> {
        Self::of(image, Role::Interpreter)
    }

    fn of(image: &(impl Image + ?Sized), role: Role) -> Result<Self> {
        let header = read_header(image, role)?;
        let kind = match header.e_type {
            abi::ET_EXEC => Kind::Fixed,
            abi::ET_DYN => Kind::Movable,
            _ => return Err(role.malformed()),
        };
        if header.e_machine != abi::EM_X86_64 {
            return Err(role.malformed());
        }
        let headers = read_program_headers(image, &header, role)?;
        let interpreter = match role {
            Role::Program => read_interpreter(image, &headers)?,
            Role::Interpreter => None,
        };
        let mut plan = Self {
            kind,
            entry: header.e_entry,
            segments: Vec::new(),
            interpreter,
            stack: stack_rights(&headers),
            headers_at: headers_at(&header, &headers),
            header_count: header.e_phnum,
            align: alignment(&headers),
        };
        plan.segments.try_reserve_exact(headers.len()).map_err(|_| errno!(NOMEM))?;
        for header in headers.iter().filter(|header| header.p_type == abi::PT_LOAD) {
            plan.segments.extend(segment(header)?);
        }
        if plan.kind == Kind::Movable && spans_nothing(&headers) {
            return Err(errno!(INVAL, "the file's segments are empty"));
        }
        Ok(plan)
    }

    /// Page boundaries of the lowest and the highest address in it, or `None` if it maps nothing.
    #[must_use]
    pub fn span(&self) -> Option<(u64, u64)> {
        let start = self.segments.iter().map(|segment| segment.start).min()?;
        let end = self.segments.iter().map(|segment| segment.end).max()?;
        let end = round_up(end)?;
        (start < end).then_some((start, end))
    }

    /// What to add to the file's addresses (wrapping) so that it starts at `start`, rounded down to its alignment.
    ///
    /// # Errors
    /// `NOMEM`: it would not fit below the end of what a guest can map.
    pub fn bias_at(&self, start: u64) -> Result<u64> {
        if self.kind == Kind::Fixed {
            return Ok(0);
        }
        let Some((low, high)) = self.span() else { return Ok(0) };
        // `align` is a power of two, so that one less is its mask.
        let start = start & !self.align.wrapping_sub(1);
        let end = high.checked_sub(low).and_then(|bytes| start.checked_add(bytes));
        match end {
            Some(end) if end <= GUEST_END => Ok(start.wrapping_sub(low)),
            _ => Err(errno!(NOMEM, "no room for the program")),
        }
    }

    /// The end of its data, where the break starts: the highest segment's end, at the next page.
    #[must_use]
    pub fn data_end(&self) -> u64 {
        self.span().map_or(0, |(_, end)| end)
    }
}

fn read_header(image: &(impl Image + ?Sized), role: Role) -> Result<FileHeader<LittleEndian>> {
    let mut bytes = [0; EHDR_BYTES];
    // A program's first bytes come from a zero-filled buffer, so that a short one is just malformed; an interpreter's do not.
    if image.read_at(0, &mut bytes)? < EHDR_BYTES && role == Role::Interpreter {
        return Err(errno!(IO, "the interpreter is shorter than an ELF header"));
    }
    let tail = bytes.get(abi::EI_NIDENT..).unwrap_or_default();
    if !bytes.starts_with(&abi::ELFMAGIC) {
        return Err(role.malformed());
    }
    // Linux looks neither at the class nor at the byte order: the machine decides.
    FileHeader::parse_tail((LittleEndian, Class::ELF64, 0, 0), tail).map_err(|_| role.malformed())
}

fn read_program_headers(
    image: &(impl Image + ?Sized),
    header: &FileHeader<LittleEndian>,
    role: Role,
) -> Result<Vec<ProgramHeader>> {
    let count = usize::from(header.e_phnum);
    let bytes = count.saturating_mul(PHDR_BYTES);
    if usize::from(header.e_phentsize) != PHDR_BYTES || bytes == 0 || bytes > PHDRS_BYTES_MAX {
        return Err(role.malformed());
    }
    let mut raw = Vec::new();
    raw.try_reserve_exact(bytes).map_err(|_| errno!(NOMEM))?;
    raw.resize(bytes, 0);
    // A failed read is a malformed file too, whatever the failure.
    if i64::try_from(header.e_phoff).is_err() || image.read_at(header.e_phoff, &mut raw).unwrap_or(0) < bytes {
        return Err(role.malformed());
    }
    let mut headers = Vec::new();
    headers.try_reserve_exact(count).map_err(|_| errno!(NOMEM))?;
    let mut offset = 0;
    for _ in 0..count {
        headers.push(ProgramHeader::parse_at(LittleEndian, Class::ELF64, &mut offset, &raw).map_err(|_| role.malformed())?);
    }
    Ok(headers)
}

fn read_interpreter(image: &(impl Image + ?Sized), headers: &[ProgramHeader]) -> Result<Option<Vec<u8>>> {
    let Some(header) = headers.iter().find(|header| header.p_type == abi::PT_INTERP) else { return Ok(None) };
    if header.p_filesz < 2 || header.p_filesz > PATH_MAX {
        return Err(errno!(NOEXEC, "the interpreter's path is empty or too long"));
    }
    let bytes = usize::try_from(header.p_filesz).map_err(|_| errno!(NOEXEC))?;
    let mut path = Vec::new();
    path.try_reserve_exact(bytes).map_err(|_| errno!(NOMEM))?;
    path.resize(bytes, 0);
    if i64::try_from(header.p_offset).is_err() {
        return Err(errno!(INVAL, "the interpreter's path is at a negative offset"));
    }
    if image.read_at(header.p_offset, &mut path)? < bytes {
        return Err(errno!(IO, "the interpreter's path is cut off"));
    }
    if path.last() != Some(&0) {
        return Err(errno!(NOEXEC, "the interpreter's path does not end"));
    }
    let end = path.iter().position(|byte| *byte == 0).unwrap_or_default();
    path.truncate(end);
    Ok(Some(path))
}

fn stack_rights(headers: &[ProgramHeader]) -> StackRights {
    // The last one counts, as in Linux.
    match headers.iter().rev().find(|header| header.p_type == abi::PT_GNU_STACK) {
        None => StackRights::Default,
        Some(header) if header.p_flags & abi::PF_X != 0 => StackRights::Executable,
        Some(_) => StackRights::ReadWrite,
    }
}

fn headers_at(header: &FileHeader<LittleEndian>, headers: &[ProgramHeader]) -> u64 {
    headers
        .iter()
        .filter(|load| load.p_type == abi::PT_LOAD)
        .find_map(|load| {
            let into = header.e_phoff.checked_sub(load.p_offset)?;
            (into < load.p_filesz).then(|| load.p_vaddr.wrapping_add(into))
        })
        .unwrap_or(0)
}

/// Whether there are segments, and all start and end at one page boundary: `total_mapping_size`, which counts those of no bytes.
fn spans_nothing(headers: &[ProgramHeader]) -> bool {
    let loads = || headers.iter().filter(|header| header.p_type == abi::PT_LOAD);
    let start = loads().map(|load| load.p_vaddr & !PAGE_SIZE.wrapping_sub(1)).min();
    let end = loads().map(|load| load.p_vaddr.wrapping_add(load.p_memsz)).max();
    start.is_some() && start == end
}

fn alignment(headers: &[ProgramHeader]) -> u64 {
    let asked = headers.iter().filter(|header| header.p_type == abi::PT_LOAD && header.p_align.is_power_of_two());
    asked.map(|header| header.p_align).max().unwrap_or(0).max(PAGE_SIZE)
}

/// Checks one `PT_LOAD`; `None` if it has no bytes at all.
fn segment(header: &ProgramHeader) -> Result<Option<Segment>> {
    let unmappable = || errno!(INVAL, "a segment is outside of what can be mapped");
    if header.p_filesz > header.p_memsz {
        return Err(errno!(INVAL, "a segment is larger in the file than in memory"));
    }
    let end = header.p_vaddr.checked_add(header.p_memsz).filter(|end| *end <= GUEST_END).ok_or_else(unmappable)?;
    // A mask of less than a page.
    let lead = header.p_vaddr & PAGE_SIZE.wrapping_sub(1);
    let start = header.p_vaddr.checked_sub(lead).ok_or_else(unmappable)?;
    let (file_start, file_bytes) = if header.p_filesz == 0 {
        (0, 0)
    } else {
        let offset = header.p_offset.checked_sub(lead).ok_or_else(unmappable)?;
        if offset & PAGE_SIZE.wrapping_sub(1) != 0 {
            return Err(errno!(INVAL, "a segment's offset and address are at odds"));
        }
        let bytes = header.p_filesz.checked_add(lead).ok_or_else(unmappable)?;
        let last = offset.checked_add(bytes).and_then(round_up).ok_or_else(unmappable)?;
        i64::try_from(last).map_err(|_| unmappable())?;
        (offset, bytes)
    };
    if header.p_memsz == 0 {
        return Ok(None);
    }
    let zero_from = header.p_vaddr.checked_add(header.p_filesz).ok_or_else(unmappable)?;
    let mut prot = Prot::empty();
    prot.set(Prot::READ, header.p_flags & abi::PF_R != 0);
    prot.set(Prot::WRITE, header.p_flags & abi::PF_W != 0);
    prot.set(Prot::EXEC, header.p_flags & abi::PF_X != 0);
    Ok(Some(Segment { start, file_start, file_bytes, zero_from, end, prot }))
}

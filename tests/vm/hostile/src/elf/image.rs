//! Small ELF files that are right: a program, one that asks for an interpreter, and that interpreter. Each makes one call, `exit_group`.
//!
//! Source: elf(5).

/// A file's parts, each of which can be spoiled before it is put together.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) header: Header,
    pub(super) segments: Vec<Segment>,
    /// What lies behind the program headers: offset and bytes.
    pub(super) contents: Vec<(usize, Vec<u8>)>,
    /// Bytes in all.
    pub(super) length: usize,
}

/// `Elf64_Ehdr`, as numbers of fixed width in its order.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) ident: [u8; 16],
    pub(super) fields: [(&'static str, u8, u64); 13],
}

/// `Elf64_Phdr`: type, flags, offset, vaddr, paddr, filesz, memsz, align.
pub(super) type Segment = [u64; 8];

/// The fields of a [`Segment`], and their widths in bytes.
pub(super) const SEGMENT_FIELDS: [(&str, u8); 8] = [
    ("p_type", 4),
    ("p_flags", 4),
    ("p_offset", 8),
    ("p_vaddr", 8),
    ("p_paddr", 8),
    ("p_filesz", 8),
    ("p_memsz", 8),
    ("p_align", 8),
];

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes of a program header.
pub(super) const SEGMENT_BYTES: usize = 56;
/// Where the code is in each file, and the data.
const CODE_AT: u64 = 0x400;
/// See [`CODE_AT`].
const DATA_AT: u64 = 0x1000;
const PAGE: u64 = 0x1000;

/// Values of `p_type`.
pub(super) const LOAD: u64 = 1;
const INTERP: u64 = 3;
const NOTE: u64 = 4;
const PHDR: u64 = 6;
const GNU_STACK: u64 = 0x6474_e551;
/// Values of `p_flags`.
const READ_EXECUTE: u64 = 5;
const READ_WRITE: u64 = 6;
/// Values of `e_type`.
pub(super) const EXEC: u64 = 2;
pub(super) const DYN: u64 = 3;

/// Code that writes to the data, which must be there, and ends with a status.
fn code(at: u64, data: u64, status: u8) -> Vec<u8> {
    // mov byte ptr [rip + data], 1: seven bytes, the displacement counts from behind them.
    let distance = (data.wrapping_sub(at + 7) as u32).to_le_bytes();
    let mut code = vec![0xc6, 0x05];
    code.extend(distance);
    code.push(1);
    // mov edi, status; mov eax, 231; syscall; ud2
    code.extend([0xbf, status, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x0b]);
    code
}

fn image(kind: u64, base: u64, status: u8, interpreter: Option<&[u8]>) -> Image {
    let data = base + 2 * PAGE;
    let mut segments = vec![
        [LOAD, READ_EXECUTE, 0, base, base, DATA_AT, DATA_AT, PAGE],
        // A page of data, of which the file has 16 bytes, and another page of zeroes.
        [LOAD, READ_WRITE, DATA_AT, data, data, 16, 2 * PAGE, PAGE],
        [GNU_STACK, READ_WRITE, 0, 0, 0, 0, 0, 16],
        [NOTE, 4, 0x500, base + 0x500, base + 0x500, 32, 32, 4],
    ];
    let mut contents = vec![(CODE_AT as usize, code(base + CODE_AT, data + PAGE + 100, status)), (DATA_AT as usize, vec![7; 16])];
    if let Some(path) = interpreter {
        let length = path.len() as u64 + 1;
        segments.insert(0, [PHDR, 4, HEADER_BYTES as u64, base + 64, base + 64, 6 * 56, 6 * 56, 8]);
        segments.insert(1, [INTERP, 4, 0x600, base + 0x600, base + 0x600, length, length, 1]);
        contents.push((0x600, [path, b"\0"].concat()));
    }
    let count = segments.len() as u64;
    let header = Header {
        ident: [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        fields: [
            ("e_type", 2, kind),
            ("e_machine", 2, 62),
            ("e_version", 4, 1),
            ("e_entry", 8, base + CODE_AT),
            ("e_phoff", 8, HEADER_BYTES as u64),
            ("e_shoff", 8, 0),
            ("e_flags", 4, 0),
            ("e_ehsize", 2, HEADER_BYTES as u64),
            ("e_phentsize", 2, SEGMENT_BYTES as u64),
            ("e_phnum", 2, count),
            ("e_shentsize", 2, 64),
            ("e_shnum", 2, 0),
            ("e_shstrndx", 2, 0),
        ],
    };
    Image { header, segments, contents, length: DATA_AT as usize + 16 }
}

/// A program at a fixed address; exits with 42.
pub(super) fn program() -> Image {
    image(EXEC, 0x40_0000, 42, None)
}

/// A program at any address without an interpreter; exits with 43.
pub(super) fn movable() -> Image {
    image(DYN, 0, 43, None)
}

/// A program at any address that asks for an interpreter; would exit with 44.
pub(super) fn with_interpreter(path: &[u8]) -> Image {
    image(DYN, 0, 44, Some(path))
}

/// The interpreter; exits with 45.
pub(super) fn interpreter() -> Image {
    image(DYN, 0, 45, None)
}

impl Image {
    /// The file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.ident.to_vec();
        for (_, width, value) in self.header.fields {
            bytes.extend(&value.to_le_bytes()[..usize::from(width)]);
        }
        for segment in &self.segments {
            for ((_, width), value) in SEGMENT_FIELDS.iter().zip(segment) {
                bytes.extend(&value.to_le_bytes()[..usize::from(*width)]);
            }
        }
        bytes.resize(self.length.max(bytes.len()), 0);
        for (offset, content) in &self.contents {
            if let Some(place) = bytes.get_mut(*offset..offset + content.len()) {
                place.copy_from_slice(content);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn right_files_run() {
        let directory = std::env::temp_dir().join(format!("litebox-elf-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, image: Image| {
            let path = directory.join(name);
            std::fs::write(&path, image.bytes()).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let interpreter = write("interpreter", interpreter());
        let user = write("user", with_interpreter(interpreter.to_str().unwrap().as_bytes()));
        for (path, status) in [(write("program", program()), 42), (write("movable", movable()), 43), (user, 45)] {
            assert_eq!(Command::new(&path).status().unwrap().code(), Some(status), "{}", path.display());
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}

//! Small ELF files, made by hand.

/// One program header: type, flags, offset, address, bytes in the file, bytes in memory.
type Header = (u32, u32, u64, u64, u64, u64);

const LOAD: u32 = 1;
const INTERP: u32 = 3;
/// Where a fixed program is.
pub(crate) const BASE: u64 = 0x40_0000;
/// Its first instruction, from its start.
pub(crate) const ENTRY: u64 = 0x200;
/// What is there.
pub(crate) const CODE: &[u8] = b"\x0f\x05\xeb\xfe";
/// Where its data is, from its start.
pub(crate) const DATA: u64 = 0x2000;
/// What is there.
pub(crate) const BYTES: &[u8] = b"data";
/// Where the data's rights are in the file.
pub(crate) const DATA_RIGHTS: usize = 64 + 56 + 4;
/// Where its bytes in memory are.
pub(crate) const DATA_MEMORY: usize = 64 + 56 + 40;

fn file(e_type: u16, base: u64, interpreter: Option<&str>) -> Vec<u8> {
    let mut headers: Vec<Header> = vec![
        (LOAD, 5, 0, base, 0x1000, 0x1000),
        // Data with zeros behind it, over two pages.
        (LOAD, 6, 0x1000, base + DATA, BYTES.len() as u64, 0x1800),
    ];
    if let Some(path) = interpreter {
        headers.insert(0, (INTERP, 4, 0x400, base + 0x400, path.len() as u64 + 1, path.len() as u64 + 1));
    }
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend(e_type.to_le_bytes());
    bytes.extend(62u16.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend((base + ENTRY).to_le_bytes());
    bytes.extend(64u64.to_le_bytes());
    bytes.extend([0; 12]);
    for half in [64u16, 56, headers.len() as u16] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.resize(64, 0);
    for (kind, flags, offset, addr, in_file, in_memory) in headers {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for word in [offset, addr, addr, in_file, in_memory, 0x1000] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.resize(0x1000, 0);
    bytes[ENTRY as usize..][..CODE.len()].copy_from_slice(CODE);
    if let Some(path) = interpreter {
        bytes[0x400..][..path.len()].copy_from_slice(path.as_bytes());
    }
    bytes.extend(BYTES);
    // What the file has behind the data is not the program's.
    bytes.extend([0xff; 0x100]);
    bytes
}

/// A program that needs no other.
pub(crate) fn fixed() -> Vec<u8> {
    file(2, BASE, None)
}

/// A program that can be moved, started by `interpreter`.
pub(crate) fn movable(interpreter: &str) -> Vec<u8> {
    file(3, 0, Some(interpreter))
}

/// An interpreter.
pub(crate) fn interpreter() -> Vec<u8> {
    file(3, 0, None)
}

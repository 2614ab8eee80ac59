//! What an image for Windows imports, compared with the list that says why.
//!
//! The list is the driver's interface to its host: short on purpose, and a function that comes in by accident, say from a user-mode
//! library, would keep the driver from loading.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::paths;

/// The list: image, library, function, reason.
const LIST: &str = "platform-windows-driver/imports.toml";

type List = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

/// Compares an image with its part of the list, which has nothing too much either.
///
/// # Errors
/// A difference; an image that is none.
pub(super) fn check(image: &Path) -> Result<()> {
    let list = paths::repository().join(LIST);
    let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let list: List = toml::from_str(&text).with_context(|| format!("cannot understand {LIST}"))?;
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let allowed = list.get(&name).with_context(|| format!("{LIST} does not know {name}"))?;
    let allowed: BTreeSet<_> =
        allowed.iter().flat_map(|(library, functions)| functions.keys().map(|f| (library.clone(), f.clone()))).collect();
    let found = read(&fs::read(image)?).with_context(|| format!("cannot read the imports of {}", image.display()))?;
    let show = |set: Vec<&(String, String)>| set.iter().map(|(l, f)| format!("\n  {l}: {f}")).collect::<String>();
    let more: Vec<_> = found.difference(&allowed).collect();
    if !more.is_empty() {
        bail!("{name} imports what {LIST} has no reason for:{}", show(more));
    }
    let fewer: Vec<_> = allowed.difference(&found).collect();
    if !fewer.is_empty() {
        bail!("{LIST} lists what {name} does not import any more; remove it:{}", show(fewer));
    }
    Ok(())
}

/// The imports of an image of 64 bits: library and function.
fn read(image: &[u8]) -> Option<BTreeSet<(String, String)>> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?)));
    let text = |at: usize| {
        let bytes = image.get(at..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    };
    let header = word(0x3c)?;
    if image.get(header..header + 4)? != b"PE\0\0" || half(header + 24)? != 0x20b {
        return None;
    }
    let sections = header + 24 + half(header + 20)?;
    let count = half(header + 6)?;
    // Where in the file an address of the loaded image lies.
    let place = |address: usize| {
        (0..count).map(|index| sections + index * 40).find_map(|section| {
            let (start, size) = (word(section + 12)?, word(section + 16)?);
            let inside = address.checked_sub(start).filter(|inside| *inside < size)?;
            Some(word(section + 20)? + inside)
        })
    };
    let mut found = BTreeSet::new();
    let mut descriptor = place(word(header + 24 + 120)?)?;
    while word(descriptor + 12)? != 0 {
        let library = text(place(word(descriptor + 12)?)?)?;
        let mut entry = place(word(descriptor)?)?;
        while let address @ 1.. = word(entry)? {
            // Behind a hint of two bytes; the highest bit of the upper word is for numbers instead of names, which nobody uses.
            let function = if word(entry + 4)? >> 31 == 1 { format!("#{address}") } else { text(place(address)? + 2)? };
            found.insert((library.clone(), function));
            entry += 8;
        }
        descriptor += 20;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with one section at 0x1000, which imports `g` of `l.sys`.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 0x300];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x3c, &0x40_u32.to_le_bytes());
        put(0x40, b"PE\0\0");
        put(0x46, &1_u16.to_le_bytes());
        put(0x54, &0xf0_u16.to_le_bytes());
        put(0x58, &0x20b_u16.to_le_bytes());
        put(0x58 + 120, &0x1000_u32.to_le_bytes());
        let section = 0x58 + 0xf0;
        put(section + 12, &0x1000_u32.to_le_bytes());
        put(section + 16, &0x100_u32.to_le_bytes());
        put(section + 20, &0x200_u32.to_le_bytes());
        put(0x200, &0x1080_u32.to_le_bytes());
        put(0x20c, &0x10a0_u32.to_le_bytes());
        put(0x280, &0x10b0_u32.to_le_bytes());
        put(0x2a0, b"l.sys\0");
        put(0x2b2, b"g\0");
        image
    }

    #[test]
    fn imports_are_found() {
        assert_eq!(read(&image()), Some(BTreeSet::from([("l.sys".to_owned(), "g".to_owned())])));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert_eq!(read(b"MZ"), None);
        for len in 0..0x2b3 {
            assert_eq!(read(&image()[..len]), None, "{len} bytes");
        }
    }
}

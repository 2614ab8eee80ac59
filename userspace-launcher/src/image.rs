//! Images of file systems: what there is to say when the module does not take one. The module looks for itself; this is for the message.

use crate::places::Show;
use crate::report::Failure;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of the superblock that are looked at, and where it begins.
const SUPER_BYTES: usize = 128;
const SUPER_AT: u64 = 1024;
/// What a superblock begins with.
const MAGIC: u32 = 0xe0f5_e1e2;

/// The message for an image that was not taken; `None` if `show` has none, or the error tells nothing of it.
pub(crate) fn refused(show: &Show, errno: Errno) -> Option<Failure> {
    let path = match show {
        Show::Image(path) => path,
        Show::Overlay { lower, .. } | Show::Lasting { lower, .. } if lower.is_file() => lower,
        _ => return None,
    };
    let failure = |text| Some(Failure::new(format!("cannot use the image {}: {text}", path.display())));
    match errno {
        Errno::UCLEAN => failure("it is damaged").map(|failure| failure.cure("fsck.erofs FILE, and make it anew")),
        Errno::INVAL | Errno::NOTDIR => failure("it is no erofs image").map(|failure| failure.cure("mkfs.erofs FILE DIRECTORY")),
        Errno::OPNOTSUPP => failure("it needs what the module does not have")
            .map(|failure| failure.why(unsupported(path)).cure("mkfs.erofs -zlz4hc FILE DIRECTORY, or without -z")),
        _ => None,
    }
}

/// What of an image is not supported, by name.
fn unsupported(path: &Path) -> &'static str {
    let mut bytes = [0; SUPER_BYTES];
    if File::open(path).and_then(|file| file.read_exact_at(&mut bytes, SUPER_AT)).is_err() {
        return "it cannot be read";
    }
    feature(&bytes)
}

fn feature(bytes: &[u8; SUPER_BYTES]) -> &'static str {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (needs, algorithms) = (word(80), u16::from_le_bytes([bytes[84], bytes[85]]));
    match () {
        () if word(0) != MAGIC => "it is no erofs image by now",
        () if needs & 0x80 != 0 => "it has block addresses of 48 bits (48bit)",
        () if needs & 0x100 != 0 => "its metadata are compressed (metabox)",
        () if needs & !0x1ff != 0 => "it has a feature of a later version",
        () if needs & 8 != 0 && u16::from_le_bytes([bytes[86], bytes[87]]) != 0 => "its data lie on several devices (--blobdev)",
        () if needs & 0x40 != 0 && bytes[91] != 0 => "it has prefixes of extended attributes (--xattr-prefix)",
        () if needs & 2 != 0 && algorithms & !1 != 0 => "it is compressed with lzma, deflate or zstd",
        () => "its root is of a form that is not supported",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_supported_has_a_name() {
        let named = |needs: u32, algorithms: u8| {
            let mut bytes = [0; SUPER_BYTES];
            bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[80..84].copy_from_slice(&needs.to_le_bytes());
            bytes[84] = algorithms;
            bytes[86] = 1;
            feature(&bytes)
        };
        assert!(named(2, 8).contains("zstd") && named(8, 0).contains("devices") && named(0x80, 0).contains("48"));
        assert!(feature(&[0; SUPER_BYTES]).contains("no erofs"));
    }
}

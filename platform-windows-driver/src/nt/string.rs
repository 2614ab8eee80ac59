//! Windows's counted strings of 16-bit units.

use alloc::vec::Vec;
use core::marker::PhantomData;
use litebox_core::errno;
use litebox_core::error::Result;

/// `UNICODE_STRING`; the units live for `'a`.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct UnicodeString<'a> {
    /// Bytes in use.
    length: u16,
    /// Bytes there are.
    maximum: u16,
    units: *const u16,
    lives: PhantomData<&'a [u16]>,
}
const _: () = assert!(size_of::<UnicodeString<'_>>() == 16);

impl<'a> UnicodeString<'a> {
    /// These units, of which there are fewer than 32,768; of more, none.
    pub(crate) const fn of(units: &'a [u16]) -> Self {
        let bytes = units.len().saturating_mul(2);
        let (length, units) = if bytes <= 0xfffe { (bytes, units) } else { (0, [].as_slice()) };
        // Fits: see above.
        let length = length as u16;
        Self { length, maximum: length, units: units.as_ptr(), lives: PhantomData }
    }
}

/// ASCII text as units; `N` is its length.
pub(crate) const fn wide<const N: usize>(text: &str) -> [u16; N] {
    let bytes = text.as_bytes();
    assert!(bytes.len() == N, "another length");
    let mut units = [0; N];
    let mut at = 0;
    while at < N {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, and both have N elements")]
        {
            units[at] = bytes[at] as u16;
        }
        at += 1;
    }
    units
}

/// A counted string of an ASCII literal.
macro_rules! unicode {
    ($text:expr) => {{
        const UNITS: [u16; $text.len()] = $crate::nt::string::wide($text);
        $crate::nt::string::UnicodeString::of(const { &UNITS })
    }};
}
pub(crate) use unicode;

/// A guest's name, which is bytes, as Windows writes it.
///
/// # Errors
/// `NOENT`: not UTF-8, so no name of Windows's is this one. `NOMEM`.
pub(crate) fn units_of(name: &[u8]) -> Result<Vec<u16>> {
    let text = core::str::from_utf8(name).map_err(|_| errno!(NOENT, "not UTF-8"))?;
    let mut units = Vec::new();
    units.try_reserve_exact(text.len()).map_err(|_| errno!(NOMEM))?;
    units.extend(text.encode_utf16());
    Ok(units)
}

/// The bytes that a guest sees for a name of Windows's; `None` for units that are no text.
pub(crate) fn bytes_of(units: &[u16]) -> Option<alloc::string::String> {
    alloc::string::String::from_utf16(units).ok()
}

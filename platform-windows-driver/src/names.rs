//! Which names of a guest's may be asked for in a directory of Windows's.
//!
//! A name is one component, and stays one: nothing that Windows reads as a path, a stream, a pattern or a device. Hostile input: the
//! name. Source: Microsoft's "Naming Files, Paths, and Namespaces".
#![cfg_attr(not(any(windows, test)), expect(dead_code, reason = "used on Windows"))]

/// Names that are devices in every directory, whatever follows behind a dot.
const DEVICES: &[&str] = &["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];
/// Devices that a digit follows.
const NUMBERED: &[&str] = &["COM", "LPT"];

/// Whether no part of Windows could take `name` for more, or for something else, than an entry of a directory.
pub(crate) fn is_plain(name: &str) -> bool {
    let special = |c: char| c < ' ' || matches!(c, '\\' | '/' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    // Windows drops dots and spaces from the end, so such a name would be another's.
    !name.is_empty() && !name.contains(special) && !name.ends_with(['.', ' ']) && !is_device(name)
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ');
    let is = |device: &&str| stem.eq_ignore_ascii_case(device);
    let numbered = |device: &&str| {
        let mut rest = stem.chars();
        let digit = rest.next_back();
        // The superscripts of ISO 8859-1 are digits to Windows.
        digit.is_some_and(|c| c.is_ascii_digit() || matches!(c, '\u{b9}' | '\u{b2}' | '\u{b3}'))
            && rest.as_str().eq_ignore_ascii_case(device)
    };
    DEVICES.iter().any(is) || NUMBERED.iter().any(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_windows_reads_otherwise_are_refused() {
        let bad = [
            "",
            "a:b",
            "a::$DATA",
            "..\\x",
            "a/b",
            "*",
            "a?",
            "x\"",
            "<",
            ">",
            "|",
            "a.",
            "a ",
            "..",
            "\u{1}",
            "con",
            "NUL.txt",
            "com1",
            "LPT9.a.b",
            "COM\u{b9}",
            "aux .c",
            "conin$",
        ];
        for name in bad {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn other_names_are_not() {
        for name in ["a", ".hidden", "a b.c", "console", "com", "com10", "nulls", "ä€", "-", "lib.so.6", "~", "$Extend"] {
            assert!(is_plain(name), "{name:?}");
        }
    }
}

//! The line discipline by tables: settings, what is typed, what is read, what is shown.

use super::line::{Line, Raised};
use super::settings::{InputModes, LocalModes, OutputModes, Settings};
use alloc::string::String;
use alloc::vec::Vec;

/// Types `typed`; what reads give, one after the other, and what the screen gets.
fn run(settings: Settings, typed: &[u8]) -> (Vec<String>, String) {
    let mut line = Line::default();
    line.settings = settings;
    line.type_bytes(typed, &mut Raised::default());
    let mut reads = Vec::new();
    while line.is_readable(1) {
        let mut got = Vec::new();
        line.take(4096, &mut got);
        reads.push(String::from_utf8_lossy(&got).into_owned());
    }
    let mut shown = Vec::new();
    line.output.take(1 << 16, &mut shown);
    (reads, String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn lines_are_edited_and_echoed() {
    let usual = Settings::default();
    let utf8 = Settings { input: usual.input | InputModes::IUTF8, ..usual };
    let silent = Settings { local: usual.local.difference(LocalModes::ECHO) | LocalModes::ECHONL, ..usual };
    let paper = Settings { local: usual.local | LocalModes::ECHOPRT, ..usual };
    let table: &[(Settings, &str, &[&str], &str)] = &[
        (usual, "ab\r", &["ab\n"], "ab\r\n"),
        (usual, "ab\x7fc\n", &["ac\n"], "ab\x08 \x08c\r\n"),
        (usual, "a\x01\x7f\n", &["a\n"], "a^A\x08 \x08\x08 \x08\r\n"),
        (usual, "one two\x17\n", &["one \n"], "one two\x08 \x08\x08 \x08\x08 \x08\r\n"),
        (usual, "ab\x15c\n", &["c\n"], "ab\x08 \x08\x08 \x08c\r\n"),
        (usual, "a\t\x7fb\n", &["ab\n"], "a\t\x08\x08\x08\x08\x08\x08\x08b\r\n"),
        (usual, "ab\x12c\n", &["abc\n"], "ab^R\r\nabc\r\n"),
        (usual, "\x16\x03\n", &["\x03\n"], "^\x08^C\r\n"),
        (usual, "ab\x04c\n\x04", &["ab", "c\n", ""], "abc\r\n"),
        (usual, "\x7f\n", &["\n"], "\r\n"),
        (utf8, "a\u{e9}\x7f\n", &["a\n"], "a\u{e9}\x08 \x08\r\n"),
        (silent, "ab\n", &["ab\n"], "\r\n"),
        (paper, "ab\x7fc\n", &["ac\n"], "ab\\b/c\r\n"),
    ];
    for (settings, typed, reads, shown) in table {
        let (got, seen) = run(*settings, typed.as_bytes());
        assert_eq!((got.iter().map(String::as_str).collect::<Vec<_>>(), seen.as_str()), (reads.to_vec(), *shown), "{typed:?}");
    }
}

#[test]
fn signal_characters_drop_what_waits_and_are_shown() {
    let mut line = Line::default();
    let mut raised = Raised::default();
    line.type_bytes(b"abc\x03de\n", &mut raised);
    assert_eq!(raised.signals().collect::<Vec<_>>(), [super::TerminalSignal::Interrupt]);
    let mut got = Vec::new();
    line.take(100, &mut got);
    assert_eq!(got, b"de\n");
}

#[test]
fn output_is_stopped_and_goes_on() {
    let mut line = Line::default();
    line.type_bytes(b"\x13a", &mut Raised::default());
    let settings = line.settings;
    assert!(!line.output.write(&settings, b'x') && line.output.len() == 0);
    line.type_bytes(b"\x11", &mut Raised::default());
    assert!(line.output.write(&settings, b'x'));
    let mut shown = Vec::new();
    line.output.take(9, &mut shown);
    assert_eq!(shown, b"ax");
}

#[test]
fn a_line_that_is_too_long_keeps_its_end() {
    let mut typed = alloc::vec![b'a'; 5000];
    typed.push(b'\n');
    let (reads, _) = run(Settings::default(), &typed);
    assert_eq!((reads.len(), reads[0].len(), reads[0].ends_with("a\n")), (1, 4096, true));
}

/// The usual settings, but for output.
fn with(output: OutputModes) -> Settings {
    Settings { output: output | OutputModes::OPOST, ..Settings::default() }
}

#[test]
fn written_bytes_are_processed() {
    let usual = Settings::default();
    for (settings, written, shown) in [
        (usual, "a\nb\tc", "a\r\nb\tc"),
        (with(OutputModes::XTABS), "ab\tc", "ab      c"),
        (with(OutputModes::OLCUC), "aB1", "AB1"),
        (with(OutputModes::OCRNL), "a\rb", "a\nb"),
        (with(OutputModes::ONOCR), "\ra\r", "a\r"),
        (Settings::raw(), "a\nb", "a\nb"),
    ] {
        let mut line = Line::default();
        assert!(written.bytes().all(|byte| line.output.write(&settings, byte)));
        let mut seen = Vec::new();
        line.output.take(100, &mut seen);
        assert_eq!(seen, shown.as_bytes(), "{written:?}");
    }
}

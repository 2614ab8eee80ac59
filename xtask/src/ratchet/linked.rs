//! Figures of the linked module: its size, and the places that call a panic.
//!
//! A place is a relocation of code against a function that panics. Debug information says what it was made from: a place whose innermost
//! line is in this repository is ours, and should not be there; others are of the standard library's collections and the like, most
//! of them for states that cannot be. Places that the compiler has made of several have no line, and count as the library's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::Figures;
use super::needs::output;
use crate::setup::Tree;

/// Where the repository, and the links to its platform, are when the module is built (`setup::module`).
const OURS: [&str; 2] = ["/mnt/repository/", "/mnt/work/"];
/// Parts of the names of functions that panic, as they are mangled.
const PANICS: &[&str] = &[
    "9panicking",
    "13expect_failed",
    "13unwrap_failed",
    "len_fail",
    "error_fail",
    "panic_already",
    "panic_cold",
    "panic_on_ord",
    "should_panic",
];
/// The section of code that guests reach.
const TEXT: &str = ".rela.text";

/// Counts.
///
/// # Errors
/// Tools that fail.
pub(super) fn count(module: &Path, tree: &Tree) -> Result<Figures> {
    let relocations = output(Command::new("readelf").args(["--relocs", "--wide"]).arg(module))?;
    let places = panics(&relocations);
    let answers = symbolize(module, tree, &places)?;
    let ours: Vec<&str> = answers.split("\n\n").filter_map(innermost).filter(|line| is_ours(line)).collect();
    for line in &ours {
        println!("# a panic of ours: {line}");
    }
    let ours_count = u64::try_from(ours.len())?;
    let of_libraries = u64::try_from(places.len())?.saturating_sub(ours_count);
    let sections = output(Command::new("size").args(["--format=berkeley"]).arg(module))?;
    let bytes = text_bytes(&sections).with_context(|| format!("size says `{sections}`"))?;
    let figures =
        |list: &[(&str, u64)]| list.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect::<BTreeMap<_, _>>();
    Ok(Figures::from([
        ("panics".to_owned(), figures(&[("of ours", ours_count)])),
        ("sizes".to_owned(), figures(&[("KiB of code and constants", bytes >> 10), ("panics of libraries", of_libraries)])),
    ]))
}

/// The addresses of all places that call a panic.
fn panics(relocations: &str) -> Vec<String> {
    let mut inside = false;
    let mut places = Vec::new();
    for line in relocations.lines() {
        if line.starts_with("Relocation section") {
            inside = line.contains(&format!("'{TEXT}'"));
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            [at, _, _, _, name, ..] if inside && PANICS.iter().any(|part| name.contains(part)) => places.push(format!("0x{at}")),
            _ => {}
        }
    }
    places
}

/// The innermost function's line of one answer.
fn innermost(answer: &str) -> Option<&str> {
    answer.trim_start().lines().nth(1)
}

/// Whether a line is ours. Without a line's or a column's number it is made of several.
fn is_ours(line: &str) -> bool {
    OURS.iter().any(|folder| line.starts_with(folder)) && !line.contains(":0:") && !line.ends_with(":0")
}

/// Where each place comes from: function and line of each that was inlined there, then an empty line.
fn symbolize(module: &Path, tree: &Tree, places: &[String]) -> Result<String> {
    let mut command = tree.program("llvm-symbolizer");
    command.arg(format!("--obj={}", module.display())).args(["--inlines", "--output-style=LLVM"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start llvm-symbolizer")?;
    let mut input = child.stdin.take().context("a piped child has an input")?;
    let text = places.join("\n") + "\n";
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().ok().context("the thread that writes has died")??;
    ensure!(output.status.success(), "llvm-symbolizer: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What size(1) says of code and constants.
fn text_bytes(sizes: &str) -> Option<u64> {
    sizes.lines().nth(1)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_code_that_panics() {
        let text = "Relocation section '.rela.text' at offset 0x1 contains 2 entries:\n    Offset  Info  Type  Symbol's Value  Symbol's Name\n\
                    00000012  0004  R_X86_64_PLT32 0000 _RNvNtCs2_4core9panicking5panic - 4\n\
                    00000022  0004  R_X86_64_PLT32 0000 fput - 4\n\
                    Relocation section '.rela.debug_info' at offset 0x1 contains 1 entry:\n\
                    00000032  0004  R_X86_64_PLT32 0000 _RNvNtCs2_4core9panicking5panic - 4\n";
        assert_eq!(panics(text), ["0x00000012"]);
    }

    #[test]
    fn ours_has_a_line_in_the_repository() {
        let answer =
            "<u64>::next_multiple_of\n/usr/lib/core/src/num/uint_macros.rs:3156:22\nf\n/mnt/repository/core/src/a.rs:3:1";
        assert!(!is_ours(innermost(answer).unwrap()));
        assert!(is_ours("/mnt/repository/core/src/a.rs:3:1") && !is_ours("/mnt/repository/core/src/a.rs:9:0"));
        assert_eq!(innermost("\n"), None);
    }

    #[test]
    fn the_first_column_is_code() {
        assert_eq!(text_bytes("   text\t   data\n 1522\t 33\n"), Some(1522));
        assert_eq!(text_bytes(""), None);
    }
}

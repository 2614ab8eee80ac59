//! Figures of the sources: lines and unsafe blocks by crate, global variables, long files, calls that are not supported.

use std::fs;

use anyhow::{Context, Result};

use super::Figures;
use crate::{paths, tidy};

/// What counts as a crate: a folder with sources.
const CRATES: &[&str] = &[
    "core/src",
    "core/locks/src",
    "shim-linux/src",
    "ioctl-abi/src",
    "trap-hw/src",
    "vdso/src",
    "platform-linux-kernel/src",
    "platform-windows-driver/src",
    "userspace-launcher/src",
];
/// Where each call's support stands.
const CALLS: &str = "docs/compatibility.md";

/// Counts.
///
/// # Errors
/// Sources that cannot be read.
pub(super) fn count() -> Result<Figures> {
    let mut figures = Figures::new();
    let mut add = |kind: &str, name: &str, figure: u64| {
        figures.entry(kind.to_owned()).or_default().insert(name.to_owned(), figure);
    };
    let mut long = 0;
    for folder in CRATES {
        let (mut lines, mut blocks, mut globals) = (0, 0, 0);
        for path in tidy::rust_files(&paths::repository().join(folder))? {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let count = text.lines().count();
            lines += u64::try_from(count)?;
            long += u64::from(count > tidy::LONG_FILE);
            blocks += unsafe_blocks(&text);
            globals += mutable_statics(&text);
        }
        let name = folder.trim_end_matches("/src");
        add("lines", name, lines);
        if blocks > 0 {
            add("unsafe", name, blocks);
        }
        if globals > 0 {
            add("mutable statics", name, globals);
        }
    }
    add("sources", "files above 600 lines", long);
    let calls = fs::read_to_string(paths::repository().join(CALLS)).with_context(|| format!("cannot read {CALLS}"))?;
    add("calls", "not supported", rows(&calls, "none"));
    add("calls", "partial", rows(&calls, "partial"));
    Ok(figures)
}

/// Blocks and implementations that are unsafe. That each says why is a lint.
fn unsafe_blocks(text: &str) -> u64 {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.map(|line| line.matches("unsafe {").count() + line.matches("unsafe impl").count()).sum::<usize>() as u64
}

/// Variables that the whole program shares and `unsafe` alone keeps in order.
fn mutable_statics(text: &str) -> u64 {
    text.lines().filter(|line| line.trim_start().contains("static mut ") && !line.trim_start().starts_with("//")).count() as u64
}

/// Calls of one kind of support.
fn rows(calls: &str, support: &str) -> u64 {
    let cell = |line: &str| line.split(" | ").nth(2).map(str::trim).map(str::to_owned);
    calls.lines().filter(|line| cell(line).is_some_and(|cell| cell == support)).count() as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn comments_do_not_count() {
        let text = "// unsafe { }\nlet a = unsafe { f() };\nunsafe impl Send for T {}\nstatic mut A: u8 = 0;\nunsafe fn g() {}\n";
        assert_eq!((unsafe_blocks(text), mutable_statics(text)), (2, 1));
    }

    #[test]
    fn the_page_of_calls_has_rows_of_each_kind() {
        let calls = fs::read_to_string(paths::repository().join(CALLS)).unwrap();
        let counts: BTreeMap<_, _> = ["full", "partial", "none"].map(|support| (support, rows(&calls, support))).into();
        let said = format!("{} are full, {} partial, {} not supported", counts["full"], counts["partial"], counts["none"]);
        assert!(calls.contains(&said), "{said}");
    }
}

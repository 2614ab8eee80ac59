//! `cargo xtask tidy`: house rules that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{paths, specification};

/// A file above this is listed: it is time to think about its parts.
pub(crate) const LONG_FILE: usize = 600;
/// Unfinished or forgotten code. Written in two parts, so that this file passes its own check.
const UNFINISHED: &[&str] = &[concat!("todo", "!("), concat!("dbg", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME")];
/// Crates that have no unsafe code, and let nobody add any.
const SAFE_CRATES: &[&str] = &["core/src/lib.rs", "shim-linux/src/lib.rs"];
/// Folders that are not ours to judge.
const SKIPPED: &[&str] = &["target", ".git"];

/// Shows what breaks a rule; gives the exit status.
///
/// # Errors
/// Sources that cannot be read.
pub(crate) fn run() -> Result<i32> {
    let problems = problems()?;
    for problem in &problems {
        println!("{problem}");
    }
    println!("tidy: {} problems", problems.len());
    Ok(i32::from(!problems.is_empty()))
}

/// What breaks a rule: one line each. Long files are shown, but are no problem by themselves.
///
/// # Errors
/// Sources that cannot be read.
pub(crate) fn problems() -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in rust_files(paths::repository())? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(paths::repository()).unwrap_or(&path).display().to_string();
        let lines = text.lines().count();
        if lines > LONG_FILE {
            println!("# {name}: {lines} lines; {LONG_FILE} are plenty");
        }
        let safe = SAFE_CRATES.contains(&name.as_str());
        problems.extend(judge(&text, safe).into_iter().map(|problem| format!("{name}: {problem}")));
    }
    problems.extend(specification::problems()?);
    Ok(problems)
}

/// What is wrong with one file; `safe` says that it is the root of a crate without unsafe code.
fn judge(text: &str, safe: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if safe && !text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
        problems.push("lacks #![forbid(unsafe_code)]".to_owned());
    }
    // The licence, where a kernel wants it, and attributes of the crate, such as no_std, may come first.
    let before =
        |line: &str| line.trim().is_empty() || line.starts_with("#![") || line.starts_with("// SPDX-License-Identifier:");
    let first = text.lines().find(|line| !before(line));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        problems.push("begins without a //! line that says what it is".to_owned());
    }
    for (number, line) in text.lines().enumerate() {
        for word in UNFINISHED {
            if line.contains(word) {
                problems.push(format!("line {}: `{word}` does not go into a commit", number + 1));
            }
        }
    }
    problems
}

/// All Rust files below `directory`.
///
/// # Errors
/// A directory that cannot be read.
pub(crate) fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.iter().any(|name| entry.file_name() == *name) {
            files.extend(rust_files(&path)?);
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_can_be_broken() {
        assert!(judge("//! What it is.\nfn f() {}\n", false).is_empty());
        assert!(judge("#![no_std]\n//! What it is.\n", false).is_empty());
        assert!(judge("//! What it is.\n#![forbid(unsafe_code)]\n", true).is_empty());
        assert_eq!(judge("//! What it is.\n", true).len(), 1);
        assert_eq!(judge("fn f() {}\n", false).len(), 1);
        for word in UNFINISHED {
            assert_eq!(judge(&format!("//! x\n{word}\n"), false).len(), 1, "{word}");
        }
    }
}

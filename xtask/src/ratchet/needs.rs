//! What the module needs that is not ours: its crates and its imports, compared with the list of reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::paths;

/// The list.
const LIST: &str = "xtask/needs.toml";
/// Our crates in the module.
const CRATES: &[&str] =
    &["litebox-core", "litebox-locks", "litebox-shim-linux", "litebox-ioctl-abi", "litebox-vdso", "litebox-trap-hw"];
/// How the names of the kernel crate's C functions begin: they are its inline functions.
const HELPER: &str = "rust_helper_";

/// The list as it is written: names, or for crates the name, by reason.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    crates: BTreeMap<String, String>,
    kernel: BTreeMap<String, Vec<String>>,
    rust: BTreeMap<String, Vec<String>>,
}

/// What an image imports, by the part of the list that it belongs to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Imports {
    kernel: BTreeSet<String>,
    rust: BTreeSet<String>,
}

/// Where the list and what is linked differ: one line each.
///
/// # Errors
/// What cannot be read, or tools that fail.
pub(super) fn problems(module: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(paths::repository().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let list: List = toml::from_str(&text).with_context(|| format!("cannot understand {LIST}"))?;
    let Imports { kernel, rust } = imports(module)?;
    let mut problems = differences("crate", &crates()?, &list.crates.into_keys().collect());
    problems.extend(differences("function", &kernel, &list.kernel.into_values().flatten().collect()));
    problems.extend(differences("function", &rust, &list.rust.into_values().flatten().collect()));
    Ok(problems)
}

/// How many there are.
pub(super) fn count(module: &Path) -> Result<BTreeMap<String, u64>> {
    let Imports { kernel, rust } = imports(module)?;
    let count = |name: &str, set: BTreeSet<String>| Ok((name.to_owned(), u64::try_from(set.len())?));
    [count("crates", crates()?), count("functions of the kernel", kernel), count("functions of its Rust crate", rust)]
        .into_iter()
        .collect()
}

fn differences(what: &str, found: &BTreeSet<String>, listed: &BTreeSet<String>) -> Vec<String> {
    let more = found.difference(listed).map(|name| format!("{LIST} has no reason for the {what} {name}"));
    let fewer =
        listed.difference(found).map(|name| format!("{LIST} lists the {what} {name}, which the module does not use any more"));
    more.chain(fewer).collect()
}

/// The crates of others that are linked into the module.
fn crates() -> Result<BTreeSet<String>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
    cargo.args(CRATES.iter().flat_map(|name| ["--package", name]));
    let text = output(cargo.current_dir(paths::repository()))?;
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| !CRATES.contains(name)).map(str::to_owned).collect())
}

/// What a module does not define itself.
fn imports(module: &Path) -> Result<Imports> {
    parse(&output(Command::new("nm").args(["--undefined-only", "--demangle=rust"]).arg(module))?)
}

fn parse(text: &str) -> Result<Imports> {
    let mut imports = Imports::default();
    for line in text.lines() {
        let name = without_hashes(line.trim_start().strip_prefix("U ").with_context(|| format!("nm says `{line}`"))?);
        if !name.contains("::") {
            if !name.starts_with(HELPER) {
                imports.kernel.insert(name);
            }
        } else if name.contains("kernel::") || name.contains("bindings::") {
            imports.rust.insert(name);
        }
    }
    Ok(imports)
}

/// A demangled name without the hashes of crates, `core[1b61…]::`: they change with the compiler.
fn without_hashes(name: &str) -> String {
    let mut plain = String::new();
    for (index, part) in name.split('[').enumerate() {
        match part.split_once(']') {
            Some((hash, rest)) if index > 0 && !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                plain.push_str(rest);
            }
            _ if index > 0 => {
                plain.push('[');
                plain.push_str(part);
            }
            _ => plain.push_str(part),
        }
    }
    plain
}

/// What a command writes.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let program = command.get_program().display();
    ensure!(output.status.success(), "{program}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_sorted_by_whose_they_are() {
        let text = "                 U fput\n                 U rust_helper_get_file\n                 U kernel[1f2e]::error::to_result\n                 \
                    U <core[12ab]::fmt::Formatter>::pad\n                 U <[core[1]::u8]>::x\n";
        let imports = parse(text).unwrap();
        assert_eq!(imports.kernel, BTreeSet::from(["fput".to_owned()]));
        assert_eq!(imports.rust, BTreeSet::from(["kernel::error::to_result".to_owned()]));
        assert_eq!(without_hashes("<[u8] as x[ab]::Y>"), "<[u8] as x::Y>");
        parse("0000 T f\n").unwrap_err();
    }

    #[test]
    fn more_and_fewer_are_told() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(differences("crate", &set(&["a", "b"]), &set(&["b", "c"])).len(), 2);
    }

    #[test]
    fn the_list_names_nothing_twice() {
        let text = fs::read_to_string(paths::repository().join(LIST)).unwrap();
        let list: List = toml::from_str(&text).unwrap();
        let names: Vec<String> = list.kernel.into_values().chain(list.rust.into_values()).flatten().collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}

//! `cargo xtask bench GROUP`: the same binary natively and in a sandbox, in one boot, and the ratio of what they measure.
//!
//! A group is a program of tests/bench/. It is told where it runs, `native` or `sandbox`, and prints one line for each measurement, `NAME VALUE UNIT`, smaller being better. Under
//! an emulator absolute figures mean little; the ratio is the result.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use litebox_vm_init::{Ending, Job, Place, TOOLS_DIR};
use serde::Serialize;

use crate::setup::{Scope, Setup};
use crate::vm::{Config, Vm};
use crate::{paths, run};

/// Where the groups' programs lie.
const GROUPS: &str = "tests/bench";
/// Groups that start sandboxes themselves: they run natively both times.
const STARTERS: &[&str] = &["start"];
/// A group that is not done after so long hangs.
const LIMIT_MS: u64 = 600_000;

/// One measurement in both places.
#[derive(Debug, Serialize, PartialEq)]
struct Row {
    name: String,
    unit: String,
    native: f64,
    litebox: f64,
    ratio: f64,
}

/// Runs one group, or all; shows a table and writes it as JSON.
///
/// # Errors
/// An unknown group, set-up or VM faults, a program that fails.
pub(crate) fn run(group: Option<&str>) -> Result<i32> {
    let known = groups();
    let chosen: Vec<&String> = known.iter().filter(|name| group.is_none_or(|group| group == *name)).collect();
    if chosen.is_empty() {
        let list = if known.is_empty() { "there are none yet".to_owned() } else { format!("there are: {}", known.join(", ")) };
        bail!("no benchmark group {}; {list} ({GROUPS}/)", group.unwrap_or("at all"));
    }
    let cache = paths::cache();
    let artefacts = Setup::new(cache.clone()).ensure(Scope::Sandbox)?;
    let mut vm = Vm::boot(&cache, artefacts, &Config { module: true, ..Config::default() })?;
    for name in chosen {
        let native = measure(&mut vm, name, Place::Native)?;
        let litebox = measure(&mut vm, name, Place::Sandbox)?;
        let rows = join(&native, &litebox)?;
        show(name, &rows);
        let file = results(name)?;
        fs::write(&file, serde_json::to_string_pretty(&rows)?).with_context(|| format!("cannot write {}", file.display()))?;
        println!("written to {}", file.display());
    }
    vm.power_off(true)?;
    Ok(0)
}

/// The groups there are.
fn groups() -> Vec<String> {
    let Ok(entries) = fs::read_dir(paths::repository().join(GROUPS)) else { return Vec::new() };
    let programs =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|kind| kind == "rs"));
    let mut names: Vec<String> = programs.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

/// Where a group's results are written.
fn results(group: &str) -> Result<PathBuf> {
    let folder = paths::cache().join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{group}.json")))
}

/// Runs a group's program in one place and gives what it printed.
fn measure(vm: &mut Vm, group: &str, place: Place) -> Result<String> {
    let told = if place == Place::Native { "native" } else { "sandbox" };
    let job = Job {
        argv: vec![format!("{TOOLS_DIR}/{group}"), told.to_owned()],
        env: run::environment(),
        place: if STARTERS.contains(&group) { Place::Native } else { place },
        launcher_options: Vec::new(),
        terminal: None,
        timeout_ms: Some(LIMIT_MS),
        files: Vec::new(),
    };
    let outcome = vm.outcome(&job, &[])?;
    if outcome.ending != Ending::Exited(0) {
        bail!("benchmark {group} in {place:?}: {:?}\n{}", outcome.ending, String::from_utf8_lossy(&outcome.stderr));
    }
    Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
}

/// Puts both outputs side by side.
fn join(native: &str, litebox: &str) -> Result<Vec<Row>> {
    let parse = |line: &str| -> Result<(String, f64, String)> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, value, unit] = words[..] else { bail!("a benchmark printed `{line}` instead of NAME VALUE UNIT") };
        Ok((name.to_owned(), value.parse().with_context(|| format!("`{value}` is no number"))?, unit.to_owned()))
    };
    let litebox: Vec<_> = litebox.lines().map(parse).collect::<Result<_>>()?;
    let row = |line| {
        let (name, native, unit) = parse(line)?;
        let Some((_, litebox, _)) = litebox.iter().find(|(other, ..)| *other == name) else {
            bail!("the sandbox did not measure {name}")
        };
        Ok(Row { name, unit, native, litebox: *litebox, ratio: litebox / native })
    };
    native.lines().map(row).collect()
}

/// Shows a table.
fn show(group: &str, rows: &[Row]) {
    println!("{group:<28} {:>14} {:>14} {:>7}", "native", "litebox", "ratio");
    for row in rows {
        println!("{:<28} {:>14.1} {:>14.1} {:>7.2}  {}", row.name, row.native, row.litebox, row.ratio, row.unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_joined_by_name() {
        let rows = join("getpid 100 ns\nread 50 ns\n", "read 25 ns\ngetpid 80 ns\n").unwrap();
        assert_eq!((rows[0].ratio, rows[1].ratio), (0.8, 0.5));
        join("getpid 100 ns\n", "").unwrap_err();
        join("noise\n", "").unwrap_err();
    }
}

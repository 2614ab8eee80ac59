//! `cargo xtask bench GROUP`: the same binary natively, in a sandbox and in bubblewrap, in one boot, and the ratios of what they measure.
//!
//! A group is a program of tests/bench/. It prints one line for each measurement, `NAME VALUE UNIT`, smaller being better, by the
//! clock or the time-stamp counter. Under an emulator absolute figures mean little; the ratio is the result.
//!
//! There are two boots. In the first the VM's clock counts instructions (`vm::Config::counted`), so its figures are the same each
//! time; the second measures time.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use litebox_vm_init::{Ending, Job, Place, TOOLS_DIR};
use serde::Serialize;

use crate::vm::{Config, Vm};
use crate::{paths, run};

/// Where the groups' programs lie.
const GROUPS: &str = "tests/bench";
/// Groups that start programs themselves: they run natively, and are told how to start them.
const STARTERS: &[&str] = &["start"];
/// How a program is started in bubblewrap, with about what our sandbox gives it; by root, so without a user namespace.
const BUBBLEWRAP: &[&str] = &[
    "bwrap",
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
    "--tmpfs",
    "/tmp",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-net",
    "--unshare-uts",
    "--die-with-parent",
];
/// A group that is not done after so long hangs.
const LIMIT_MS: u64 = 900_000;

/// Where a group runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Native,
    Litebox,
    Bubblewrap,
}

/// One measurement in each place.
#[derive(Debug, Serialize, PartialEq)]
struct Figures {
    native: f64,
    litebox: f64,
    bubblewrap: f64,
}

impl Figures {
    fn litebox_ratio(&self) -> f64 {
        self.litebox / self.native
    }

    fn bubblewrap_ratio(&self) -> f64 {
        self.bubblewrap / self.native
    }
}

/// What is measured: how long it takes, and how many instructions.
#[derive(Debug, Serialize, PartialEq)]
struct Row {
    name: String,
    unit: String,
    time: Figures,
    instructions: Figures,
}

/// Runs one group, or all; shows a table and writes it as JSON.
///
/// # Errors
/// An unknown group, set-up or VM faults, a program that fails.
pub(crate) fn run(group: Option<&str>) -> Result<i32> {
    let known = groups();
    let chosen: Vec<&str> = known.iter().map(String::as_str).filter(|name| group.is_none_or(|group| group == *name)).collect();
    if chosen.is_empty() {
        let list = if known.is_empty() { "there are none yet".to_owned() } else { format!("there are: {}", known.join(", ")) };
        bail!("no benchmark group {}; {list} ({GROUPS}/)", group.unwrap_or("at all"));
    }
    let counted = boot(&Config { counted: true, cpus: 1, ..Config::default() }, &chosen)?;
    let timed = boot(&Config::default(), &chosen)?;
    for ((name, counted), timed) in chosen.iter().zip(counted).zip(timed) {
        let rows = rows(&timed, &counted)?;
        show(name, &rows);
        let file = results(name)?;
        fs::write(&file, serde_json::to_string_pretty(&rows)?).with_context(|| format!("cannot write {}", file.display()))?;
        println!("written to {}", file.display());
    }
    Ok(0)
}

/// Runs the groups in one VM; gives what each measured.
fn boot(config: &Config, groups: &[&str]) -> Result<Vec<Vec<(String, String, Figures)>>> {
    let mut vm = Vm::boot(&Config { module: true, ..config.clone() })?;
    let mut measured = Vec::new();
    for group in groups {
        let mut printed = |column| measure(&mut vm, group, column);
        measured.push(join(&printed(Column::Native)?, &printed(Column::Litebox)?, &printed(Column::Bubblewrap)?)?);
    }
    vm.power_off(true)?;
    Ok(measured)
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

/// The command line of a group in one place, and where it is to be started.
fn command(group: &str, column: Column) -> (Vec<String>, Place) {
    let program = format!("{TOOLS_DIR}/{group}");
    let way = match column {
        Column::Native => Vec::new(),
        Column::Litebox => vec![format!("{TOOLS_DIR}/litebox-launch"), "--".to_owned()],
        Column::Bubblewrap => BUBBLEWRAP.iter().map(|word| (*word).to_owned()).collect(),
    };
    if STARTERS.contains(&group) {
        return ([program].into_iter().chain(way).collect(), Place::Native);
    }
    match column {
        Column::Native => (vec![program], Place::Native),
        Column::Litebox => (vec![program], Place::Sandbox),
        Column::Bubblewrap => (way.into_iter().chain([program]).collect(), Place::Native),
    }
}

/// Runs a group's program in one place and gives what it printed.
fn measure(vm: &mut Vm, group: &str, column: Column) -> Result<String> {
    let (argv, place) = command(group, column);
    let job = Job {
        argv,
        env: run::environment(),
        place,
        launcher_options: Vec::new(),
        terminal: None,
        timeout_ms: Some(LIMIT_MS),
        files: Vec::new(),
    };
    let outcome = vm.outcome(&job, &[])?;
    if outcome.ending != Ending::Exited(0) {
        bail!("benchmark {group} in {column:?}: {:?}\n{}", outcome.ending, String::from_utf8_lossy(&outcome.stderr));
    }
    Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
}

/// Name, value and unit of a line that a group printed.
fn parse(line: &str) -> Result<(String, f64, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, value, unit] = words[..] else { bail!("a benchmark printed `{line}` instead of NAME VALUE UNIT") };
    Ok((name.to_owned(), value.parse().with_context(|| format!("`{value}` is no number"))?, unit.to_owned()))
}

/// Puts the outputs of the three places side by side: name, unit, values.
fn join(native: &str, litebox: &str, bubblewrap: &str) -> Result<Vec<(String, String, Figures)>> {
    let other = |output: &str, name: &str| -> Result<f64> {
        let lines: Vec<_> = output.lines().map(parse).collect::<Result<_>>()?;
        let found = lines.into_iter().find(|(other, ..)| other == name);
        found.map(|(_, value, _)| value).with_context(|| format!("{name} was not measured everywhere"))
    };
    let figures = |line| {
        let (name, native, unit) = parse(line)?;
        let figures = Figures { native, litebox: other(litebox, &name)?, bubblewrap: other(bubblewrap, &name)? };
        Ok((name, unit, figures))
    };
    native.lines().map(figures).collect()
}

/// The rows of a group, of which both boots measured the same things.
fn rows(timed: &[(String, String, Figures)], counted: &[(String, String, Figures)]) -> Result<Vec<Row>> {
    let row = |((name, unit, time), (other, _, counted)): (&(String, String, Figures), &(String, String, Figures))| {
        if name != other {
            bail!("{name} was measured in one boot and {other} in the other");
        }
        // A tick of the counting VM's time-stamp counter is a nanosecond, so an instruction.
        let each = match unit.as_str() {
            "ticks" | "ns" => 1.0,
            "ms" => 1e6,
            _ => bail!("{name} is measured in {unit}, which is no time"),
        };
        let time = Figures { ..*time };
        let instructions =
            Figures { native: counted.native * each, litebox: counted.litebox * each, bubblewrap: counted.bubblewrap * each };
        Ok(Row { name: name.clone(), unit: unit.clone(), time, instructions })
    };
    timed.iter().zip(counted).map(row).collect()
}

/// Shows a table.
fn show(group: &str, rows: &[Row]) {
    println!("{group:<26} {:>13} {:>13} {:>6} {:>6}  {:>26}", "native", "litebox", "ratio", "bwrap", "instructions");
    for Row { name, unit, time, instructions } in rows {
        println!(
            "{name:<26} {:>13.1} {:>13.1} {:>6.2} {:>6.2}  {:>12.0} {:>12.0} {:>6.2} {:>6.2}  {unit}",
            time.native,
            time.litebox,
            time.litebox_ratio(),
            time.bubblewrap_ratio(),
            instructions.native,
            instructions.litebox,
            instructions.litebox_ratio(),
            instructions.bubblewrap_ratio()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_joined_by_name() {
        let joined =
            join("getpid 100 ticks\nread 50 ticks\n", "read 25 ticks\ngetpid 80 ticks\n", "getpid 1 ticks\nread 2 ticks")
                .unwrap();
        assert_eq!(joined[0].2, Figures { native: 100.0, litebox: 80.0, bubblewrap: 1.0 });
        assert_eq!(joined[1].2.litebox_ratio(), 0.5);
        join("getpid 100 ticks\n", "", "getpid 1 ticks").unwrap_err();
        join("noise\n", "", "").unwrap_err();
    }

    #[test]
    fn a_millisecond_is_a_million_instructions_of_the_counting_clock() {
        let measured =
            |value| vec![("start".to_owned(), "ms".to_owned(), Figures { native: value, litebox: value, bubblewrap: value })];
        let rows = rows(&measured(7.0), &measured(0.5)).unwrap();
        assert_eq!((rows[0].time.native, rows[0].instructions.litebox), (7.0, 500_000.0));
    }
}

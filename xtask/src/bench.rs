//! `cargo xtask bench GROUP`: the same binary natively, in a sandbox, in bubblewrap and, with --peers, in gVisor, in one boot, and the
//! ratios of what they measure.
//!
//! A group is a program of tests/bench/. It prints one line for each measurement, `NAME VALUE UNIT`, smaller being better, by the
//! clock or the time-stamp counter. Under an emulator absolute figures mean little; the ratio is the result.
//!
//! There are two boots. In the first the VM's clock counts instructions (`vm::Config::counted`), so its figures are the same each
//! time; the second measures time.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use litebox_vm_init::{Ending, Job, Place, SHARE_DIR, TOOLS_DIR};
use serde::Serialize;

use crate::setup::Setup;
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
/// How one is started in gVisor, by root without a container's description; the folder that the VM shares has the program.
const RUNSC: &[&str] = &["runsc", "--network=none", "--ignore-cgroups", "--platform=systrap", "do"];
/// A group that is not done after so long hangs.
const LIMIT_MS: u64 = 900_000;

/// Where a group runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Native,
    Litebox,
    Bubblewrap,
    Gvisor,
}

/// One measurement in each place.
#[derive(Clone, Copy, Debug, Serialize, PartialEq)]
struct Figures {
    native: f64,
    litebox: f64,
    bubblewrap: f64,
    /// Only with peers, and if it runs there.
    gvisor: Option<f64>,
}

impl Figures {
    fn litebox_ratio(&self) -> f64 {
        self.litebox / self.native
    }

    fn bubblewrap_ratio(&self) -> f64 {
        self.bubblewrap / self.native
    }

    fn gvisor_ratio(&self) -> String {
        self.gvisor.map_or_else(|| "-".to_owned(), |gvisor| format!("{:.2}", gvisor / self.native))
    }

    /// The same in units of which each is `of` of these.
    fn times(&self, of: f64) -> Self {
        let Self { native, litebox, bubblewrap, gvisor } = *self;
        Self { native: native * of, litebox: litebox * of, bubblewrap: bubblewrap * of, gvisor: gvisor.map(|gvisor| gvisor * of) }
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

/// Runs one group, or all; shows a table and writes it as JSON. With `peers` there is a column for gVisor, if that runs in the VM.
///
/// # Errors
/// An unknown group, set-up or VM faults, a program that fails.
pub(crate) fn run(group: Option<&str>, peers: bool) -> Result<i32> {
    let known = groups();
    let chosen: Vec<&str> = known.iter().map(String::as_str).filter(|name| group.is_none_or(|group| group == *name)).collect();
    if chosen.is_empty() {
        let list = if known.is_empty() { "there are none yet".to_owned() } else { format!("there are: {}", known.join(", ")) };
        bail!("no benchmark group {}; {list} ({GROUPS}/)", group.unwrap_or("at all"));
    }
    let share = peers.then(|| Setup::new(paths::cache()).peers()).transpose()?;
    let counted = boot(&Config { counted: true, cpus: 1, share: share.clone(), ..Config::default() }, &chosen)?;
    let timed = boot(&Config { share, ..Config::default() }, &chosen)?;
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
        let [native, litebox, bubblewrap] = [printed(Column::Native)?, printed(Column::Litebox)?, printed(Column::Bubblewrap)?];
        let gvisor =
            if config.share.is_some() { printed(Column::Gvisor).inspect_err(|error| println!("# {error:#}")).ok() } else { None };
        measured.push(join(&native, &litebox, &bubblewrap, gvisor.as_deref())?);
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
        Column::Gvisor => {
            let [program, options @ ..] = RUNSC else { unreachable!("a constant with a first word") };
            [format!("{SHARE_DIR}/{program}")].into_iter().chain(options.iter().map(|word| (*word).to_owned())).collect()
        }
    };
    if STARTERS.contains(&group) {
        return ([program].into_iter().chain(way).collect(), Place::Native);
    }
    match column {
        Column::Native => (vec![program], Place::Native),
        Column::Litebox => (vec![program], Place::Sandbox),
        Column::Bubblewrap | Column::Gvisor => (way.into_iter().chain([program]).collect(), Place::Native),
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

/// Puts the outputs of the places side by side: name, unit, values.
fn join(native: &str, litebox: &str, bubblewrap: &str, gvisor: Option<&str>) -> Result<Vec<(String, String, Figures)>> {
    let other = |output: &str, name: &str| -> Result<f64> {
        let lines: Vec<_> = output.lines().map(parse).collect::<Result<_>>()?;
        let found = lines.into_iter().find(|(other, ..)| other == name);
        found.map(|(_, value, _)| value).with_context(|| format!("{name} was not measured everywhere"))
    };
    let figures = |line| {
        let (name, native, unit) = parse(line)?;
        let gvisor = gvisor.map(|output| other(output, &name)).transpose()?;
        let figures = Figures { native, litebox: other(litebox, &name)?, bubblewrap: other(bubblewrap, &name)?, gvisor };
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
        Ok(Row { name: name.clone(), unit: unit.clone(), time: *time, instructions: counted.times(each) })
    };
    timed.iter().zip(counted).map(row).collect()
}

/// Shows a table.
fn show(group: &str, rows: &[Row]) {
    println!(
        "{group:<26} {:>13} {:>13} {:>6} {:>6} {:>6}  {:>26}",
        "native", "litebox", "ratio", "bwrap", "runsc", "instructions"
    );
    for Row { name, unit, time, instructions } in rows {
        println!(
            "{name:<26} {:>13.1} {:>13.1} {:>6.2} {:>6.2} {:>6}  {:>12.0} {:>12.0} {:>6.2} {:>6.2} {:>6}  {unit}",
            time.native,
            time.litebox,
            time.litebox_ratio(),
            time.bubblewrap_ratio(),
            time.gvisor_ratio(),
            instructions.native,
            instructions.litebox,
            instructions.litebox_ratio(),
            instructions.bubblewrap_ratio(),
            instructions.gvisor_ratio()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_joined_by_name() {
        let joined =
            join("getpid 100 ticks\nread 50 ticks\n", "read 25 ticks\ngetpid 80 ticks\n", "getpid 1 ticks\nread 2 ticks", None)
                .unwrap();
        assert_eq!(joined[0].2, Figures { native: 100.0, litebox: 80.0, bubblewrap: 1.0, gvisor: None });
        assert_eq!(joined[1].2.litebox_ratio(), 0.5);
        join("getpid 100 ticks\n", "", "getpid 1 ticks", None).unwrap_err();
        join("noise\n", "", "", None).unwrap_err();
        let peer = join("a 2 ns\n", "a 1 ns\n", "a 1 ns\n", Some("a 5 ns\n")).unwrap();
        assert_eq!((peer[0].2.gvisor_ratio(), joined[0].2.gvisor_ratio()), ("2.50".to_owned(), "-".to_owned()));
    }

    #[test]
    fn a_millisecond_is_a_million_instructions_of_the_counting_clock() {
        let measured = |value| {
            vec![(
                "start".to_owned(),
                "ms".to_owned(),
                Figures { native: value, litebox: value, bubblewrap: value, gvisor: None },
            )]
        };
        let rows = rows(&measured(7.0), &measured(0.5)).unwrap();
        assert_eq!((rows[0].time.native, rows[0].instructions.litebox), (7.0, 500_000.0));
    }
}

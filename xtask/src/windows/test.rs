//! `cargo xtask windows test`: the cases of the Linux module, run in litebox.sys under Wine, compared with the same programs natively.
//!
//! One run of Wine for all cases, without a display: the driver and the framework's double are loaded, each case is a litebox-launch.exe,
//! and at the end the driver is unloaded. What is compared: standard output and status. What this proves is in docs/windows.md.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use litebox_vm_init::{Job, Place};
use serde::Deserialize;

use super::build::{Builder, TEST};
use crate::paths;
use crate::setup::{InTree, Log, Setup, need_root, remove, wine};
use crate::test::{Report, cases};

/// Which cases run here, and which do not, with the reason.
const LIST: &str = "tests/windows/cases.toml";
/// Where this run's files are in the tree.
const OUT: &str = "/mnt/out";

/// The file of that name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// Cases of tests/vm/cases.
    run: Vec<String>,
}

/// Runs the cases whose names contain `filter`; gives the exit status.
///
/// # Errors
/// What cannot be built or set up. A failed case is a line of the report.
pub(super) fn run(filter: Option<&str>) -> Result<i32> {
    need_root("running Wine in its tree")?;
    let text = fs::read_to_string(paths::repository().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let list: List = toml::from_str(&text).with_context(|| format!("cannot understand {LIST}"))?;
    let chosen: Vec<_> = cases::load(filter)?.into_iter().filter(|case| list.run.contains(&case.name)).collect();
    let setup = Setup::new(paths::cache());
    let builder = Builder::new("windows-test")?;
    let images = TEST.iter().map(|image| builder.build(image)).collect::<Result<Vec<_>>>()?;
    let tree = wine::step(&setup)?;
    let out = setup.work("windows-run")?;
    remove(&out)?;
    fs::create_dir_all(&out)?;
    for image in &images {
        fs::copy(image, out.join(image.file_name().unwrap_or_default()))?;
    }
    let mut script = START.to_owned();
    for (index, case) in chosen.iter().enumerate() {
        fs::write(out.join(format!("{index}.in")), &case.stdin)?;
        one(&mut script, index, &case.job(Place::Sandbox, 1))?;
    }
    script.push_str(END);
    fs::write(out.join("run.sh"), script)?;

    let mut report = Report::default();
    report.begin(&format!("{} programs in litebox.sys under Wine, and natively", chosen.len()));
    let mut log = Log::create(&setup.work("logs")?.join("wine.log"))?;
    let ran = InTree::new(&tree.path.join("root")).bind(&out, OUT).run(&format!("exec bash {OUT}/run.sh"), &mut log);
    match &ran {
        Ok(()) => report.pass("windows/driver-loads-and-unloads", ""),
        Err(error) => report.fail("windows/driver-loads-and-unloads", &format!("{error:#}\n{}", log.tail())),
    }
    for (index, case) in chosen.iter().enumerate() {
        let name = format!("windows/{}", case.name);
        match compare(&out, index, case.status) {
            Ok(()) => report.pass(&name, ""),
            Err(why) => report.fail(&name, &format!("{why:#}")),
        }
    }
    Ok(report.close())
}

/// What a run left: standard output and status.
fn outcome(out: &Path, index: usize, place: &str) -> Result<(String, String)> {
    let read = |name: String| fs::read(out.join(&name)).with_context(|| format!("the run left no {name}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((text(read(format!("{index}.{place}"))?), text(read(format!("{index}.{place}.status"))?).trim().to_owned()))
}

fn compare(out: &Path, index: usize, status: i32) -> Result<()> {
    let (native, sandbox) = (outcome(out, index, "native")?, outcome(out, index, "sandbox")?);
    anyhow::ensure!(native.1 == status.to_string(), "natively it has status {}, not {status}", native.1);
    if native != sandbox {
        let errors = fs::read_to_string(out.join(format!("{index}.sandbox.err"))).unwrap_or_default();
        anyhow::bail!("native, status {}:\n{}\nsandbox, status {}:\n{}\n{errors}", native.1, native.0, sandbox.1, sandbox.0);
    }
    Ok(())
}

/// Lines of the script for one case.
fn one(script: &mut String, index: usize, job: &Job) -> Result<()> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let command: Vec<_> = job.argv.iter().map(|word| quoted(word)).collect();
    let pairs: Vec<_> = job.env.iter().map(|(name, value)| quoted(&format!("{name}={value}"))).collect();
    let options: Vec<_> = pairs.iter().map(|pair| format!("--env {pair}")).collect();
    let (command, pairs, options) = (command.join(" "), pairs.join(" "), options.join(" "));
    writeln!(
        script,
        "rm -rf /guest/tmp/*; timeout 30 chroot /guest /bin/env -i {pairs} {command} < {index}.in > {index}.native 2> {index}.native.err
echo $? > {index}.native.status; rm -rf /guest/tmp/*
timeout 60 wine litebox-launch.exe --root 'Z:\\guest' {options} -- {command} < {index}.in > {index}.sandbox 2> {index}.sandbox.err
echo $? > {index}.sandbox.status"
    )
    .context("cannot write to a string")
}

/// Starts Wine and the driver. Wine ends its system processes soon after the last user's: `wine cmd` is kept alive.
const START: &str = r#"set +e
cd /mnt/out
export WINEPREFIX=/var/lib/litebox-wine WINEDLLOVERRIDES='mscoree,mshtml=;winedbg.exe=d' WINEDEBUG=-all
drivers=$WINEPREFIX/drive_c/windows/system32/drivers
[ -d "$drivers" ] || { timeout 300 wineboot -i; timeout 60 wineserver -w; }
mkfifo -m 600 hold; exec 9<>hold; rm hold
wine cmd <&9 >/dev/null 2>&1 9<&- &
cp litebox.sys wdfldr.sys "$drivers/"
timeout 60 wine sc create litebox type= kernel start= demand binPath= 'C:\windows\system32\drivers\litebox.sys'
timeout 60 wine net start litebox; started=$?
"#;

/// Kills a launcher whose guests run, unloads the driver, which waits for what is left of them, and ends Wine.
const END: &str = r"
wine litebox-launch.exe --root 'Z:\guest' -- busybox sh -c 'busybox yes > /dev/null & busybox sleep 1000' < /dev/null &
launcher=$!; sleep 8; kill -9 $launcher; sleep 1
timeout 60 wine net stop litebox; stopped=$?
timeout 60 wine sc delete litebox
echo exit >&9
timeout 30 wineserver -k; timeout 30 wineserver -w
exit $((started + stopped))
";

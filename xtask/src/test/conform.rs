//! `cargo xtask conform` itself, on the folder tests/vm/conform: what each example gives in both places, and the exit status.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::report::Report;
use crate::paths;

/// The name of this test.
const NAME: &str = "conform/examples";
/// The examples: each one's name, and how the places compare.
const EXPECTED: &[(&str, &str)] = &[
    ("ends/crashes", "not-native"),
    ("ends/hangs", "not-native"),
    ("ends/kills-its-session", "same"),
    ("ends/passes", "same"),
    ("ends/skips", "not-native"),
    ("ends/spares-its-tmp", "same"),
    ("results/differs", "differs"),
    ("results/ltp", "same"),
    ("results/tap", "not-native"),
];

/// Runs it if `filter` is part of its name.
pub(super) fn run(report: &mut Report, filter: Option<&str>) {
    if filter.is_none_or(|filter| NAME.contains(filter)) {
        match examples() {
            Ok(()) => report.pass(NAME, ""),
            Err(error) => report.fail(NAME, &format!("{error:#}")),
        }
    }
}

/// The examples end as they are meant to, and the one that differs makes the status 1.
fn examples() -> Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["conform", "tests/vm/conform", "--seconds", "10"]).current_dir(paths::repository());
    let output = command.stdin(Stdio::null()).output()?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{} instead of status 1\n{shown}", output.status);
    let written = fs::read_to_string(paths::cache().join("conform/conform.json")).context("no report was written")?;
    let written: Value = serde_json::from_str(&written)?;
    let tests = written["tests"].as_array().context("the report lists no tests")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found: BTreeMap<String, String> = tests.iter().map(|test| (text(&test["name"]), text(&test["comparison"]))).collect();
    let expected = EXPECTED.iter().map(|(name, comparison)| ((*name).to_owned(), (*comparison).to_owned())).collect();
    ensure!(found == expected, "{found:#?}\n{shown}");
    Ok(())
}

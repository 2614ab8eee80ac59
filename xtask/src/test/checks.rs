//! What needs no VM: form and lints of the sources, and the workspace's own tests.

use std::env;
use std::process::{Command, Stdio};

use super::report::Report;
use crate::{paths, setup, tidy};

/// Checks the sources.
pub(super) fn sources(report: &mut Report) {
    report.begin("sources: form, lints, house rules");
    cargo(report, "sources/format", &["fmt", "--all", "--check"]);
    cargo(report, "sources/clippy", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]);
    let mut documentation = cargo_command(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    finish(report, "sources/documentation", documentation);
    match tidy::problems() {
        Ok(problems) if problems.is_empty() => report.pass("sources/tidy", ""),
        Ok(problems) => report.fail("sources/tidy", &problems.join("\n")),
        Err(error) => report.fail("sources/tidy", &format!("{error:#}")),
    }
}

/// Runs the tests of the workspace's crates on this machine.
pub(super) fn hosted(report: &mut Report, filter: Option<&str>) {
    report.begin("tests on this machine");
    if setup::which("cargo-nextest").is_some() {
        let mut arguments = vec!["nextest", "run", "--workspace", "--no-tests=pass"];
        arguments.extend(filter);
        cargo(report, "hosted/tests", &arguments);
    } else {
        report
            .begin("cargo-nextest is not installed, so cargo test runs them; for nextest: cargo install --locked cargo-nextest");
        let mut arguments = vec!["test", "--workspace", "--all-targets"];
        arguments.extend(filter);
        cargo(report, "hosted/tests", &arguments);
    }
    if filter.is_none() {
        cargo(report, "hosted/examples-in-documentation", &["test", "--workspace", "--doc", "--quiet"]);
    }
}

/// Runs cargo, which shows its own output, as one test.
fn cargo(report: &mut Report, name: &str, arguments: &[&str]) {
    finish(report, name, cargo_command(arguments));
}

fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(paths::repository()).stdin(Stdio::null());
    command
}

fn finish(report: &mut Report, name: &str, mut command: Command) {
    let shown = format!("{command:?}").replace('"', "");
    match command.status() {
        Ok(status) if status.success() => report.pass(name, ""),
        Ok(status) => report.fail(name, &format!("{shown}: {status}; its output is above")),
        Err(error) => report.fail(name, &format!("cannot start {shown}: {error}")),
    }
}

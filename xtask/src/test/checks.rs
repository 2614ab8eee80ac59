//! What needs no VM: form and lints of the sources, and the workspace's own tests.

use std::env;
use std::process::{Command, Stdio};

use super::report::Report;
use crate::{paths, setup, tidy};

/// Words of a command line that are shown when it fails.
const SHOWN_WORDS: usize = 6;
/// Folders whose Rust files belong to no crate of the workspace.
const OUTSIDE: &[&str] = &["platform-linux-kernel", "vdso/src", "tests/vm/programs", "tests/bench", "fuzz"];

/// Checks the sources.
pub(super) fn sources(report: &mut Report) {
    report.begin("sources: form, lints, house rules");
    cargo(report, "sources/format", &["fmt", "--all", "--check"]);
    format_outside(report);
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

/// Checks the form of sources that belong to no crate of the workspace: the module's platform, single-file programs.
fn format_outside(report: &mut Report) {
    let files = OUTSIDE.iter().flat_map(|folder| tidy::rust_files(&paths::repository().join(folder)).unwrap_or_default());
    let mut command = Command::new("rustfmt");
    command.args(["--check", "--edition", "2024"]).args(files).current_dir(paths::repository()).stdin(Stdio::null());
    finish(report, "sources/format-outside-the-workspace", command);
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
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let shown = words.take(SHOWN_WORDS).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    match command.status() {
        Ok(status) if status.success() => report.pass(name, ""),
        Ok(status) => report.fail(name, &format!("{shown}: {status}; its output is above")),
        Err(error) => report.fail(name, &format!("cannot start {shown}: {error}")),
    }
}

//! `litebox-launch` as on a real machine: its statuses and messages, by command lines in the VM's own root.
//!
//! What programs do in a sandbox is the cases' business; here it is those that end badly or never begin, and how the launcher tells.

use std::time::Duration;

use anyhow::{Result, ensure};
use litebox_vm_init::{Job, Place, TOOLS_DIR};

use super::report::Report;
use super::shared::Shared;
use crate::run;
use crate::vm::Vm;

/// Name; a line for the shell, to which `launch` is the launcher; its status; words on standard error, in this order. Where nothing is
/// expected there, nothing may be.
const TESTS: &[(&str, &str, i32, &[&str])] = &[
    ("launcher/status", "launch -- sh -c 'exit 7'", 7, &[]),
    ("launcher/highest-status", "launch -- sh -c 'exit 255'", 255, &[]),
    ("launcher/killed", "launch -- sh -c 'kill -9 $$'", 137, &[]),
    ("launcher/terminated", "launch -- sh -c 'kill $$'", 143, &[]),
    ("launcher/segmentation-fault", "launch -- python3 -c 'import ctypes; ctypes.string_at(8)'", 139, &[]),
    ("launcher/abort", "launch -- python3 -c 'import os; os.abort()'", 134, &[]),
    ("launcher/signal-is-passed-on", "launch -- sleep 100 & sleep 1; kill $!; wait $!", 143, &[]),
    (
        "launcher/signal-is-caught",
        "launch -- sh -c 'trap \"exit 5\" INT; while :; do sleep 0.1; done' & sleep 2; kill -INT $!; wait $!",
        5,
        &[],
    ),
    ("launcher/not-found", "launch -- /no/such/program", 127, &["cannot run /no/such/program: no such file", "try: "]),
    ("launcher/not-found-in-path", "launch -- no-such-program", 127, &["cannot run no-such-program: no such file", "try: "]),
    (
        "launcher/no-interpreter",
        "printf '#!/no/such\\n' > /tmp/script; chmod +x /tmp/script; launch --bind /tmp /mnt -- /mnt/script",
        127,
        &["cannot run /mnt/script: no such file", "interpreter", "try: "],
    ),
    ("launcher/not-executable", "launch -- /etc/passwd", 126, &["cannot run /etc/passwd: permission denied", "try: chmod"]),
    ("launcher/a-directory", "launch -- /etc", 126, &["cannot run /etc: permission denied"]),
    (
        "launcher/not-a-program",
        "cp /etc/passwd /tmp/text; chmod +x /tmp/text; launch --bind /tmp /mnt -- /mnt/text",
        126,
        &["cannot run /mnt/text: exec format error", "try: "],
    ),
    ("launcher/unknown-option", "launch --no-such-option -- true", 125, &["--no-such-option"]),
    ("launcher/no-program", "launch", 125, &["PROGRAM"]),
    ("launcher/no-such-source", "launch --bind /no/such /mnt -- true", 125, &["/no/such", "no such file"]),
    ("launcher/no-such-target", "launch --ro-root --bind /etc /no/such -- true", 125, &["/no/such", "try: a path that exists"]),
    ("launcher/no-such-directory", "launch --chdir /no/such -- true", 125, &["cannot run true in /no/such", "try: "]),
    ("launcher/too-little-memory", "launch --mem 4096 -- true", 125, &["cannot allocate memory"]),
    (
        "launcher/not-in-the-group",
        "chmod 660 /dev/litebox; setpriv --reuid 1 --regid 1 --clear-groups launch -- true",
        125,
        &["cannot open /dev/litebox: permission denied", "belongs to group root; user daemon is not in it", "try: sudo usermod"],
    ),
    (
        "launcher/no-device",
        "unshare --mount sh -c 'mount -t tmpfs none /dev; launch -- true'",
        125,
        &["cannot open /dev/litebox: no such file", "try: sudo udevadm"],
    ),
    (
        "launcher/another-device",
        "unshare --mount sh -c 'mount --bind /dev/null /dev/litebox; launch -- true'",
        125,
        &["it does not answer as litebox does", "try: "],
    ),
    ("launcher/closed-streams", "launch -- sh -c 'exit 3' <&- >&- 2>&-", 3, &[]),
];
/// The longest of them takes some seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Their names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TESTS.iter().map(|(name, ..)| *name)
}

/// Runs those whose names contain `filter`.
pub(super) fn run(report: &mut Report, shared: &mut Shared, filter: Option<&str>) {
    let chosen: Vec<_> = TESTS.iter().filter(|(name, ..)| filter.is_none_or(|filter| name.contains(filter))).collect();
    if !chosen.is_empty() {
        report.begin("the launcher's statuses and messages");
    }
    let limit = LIMIT * shared.kernel().slowness();
    for (name, line, status, words) in chosen {
        let verdict = shared.vm().and_then(|vm| outcome(vm, line, limit));
        match verdict.map(|found| judge(&found, *status, words)) {
            Ok(Ok(())) => report.pass(name, ""),
            Ok(Err(error)) => report.fail(name, &format!("{line}\n{error:#}")),
            Err(lost) => {
                report.fail(name, &format!("{lost:#}"));
                shared.lose();
            }
        }
    }
}

/// Runs a shell's line; gives its status and what it wrote to standard error.
fn outcome(vm: &mut Vm, line: &str, limit: Duration) -> Result<(i32, String)> {
    let line = line.replace("launch ", &format!("{TOOLS_DIR}/litebox-launch "));
    let line = line.strip_suffix("launch").map_or_else(|| line.clone(), |before| format!("{before}{TOOLS_DIR}/litebox-launch"));
    let job = Job {
        argv: vec!["bash".to_owned(), "-c".to_owned(), line],
        env: run::environment(),
        place: Place::Native,
        launcher_options: Vec::new(),
        terminal: None,
        timeout_ms: Some(u64::try_from(limit.as_millis())?),
        files: Vec::new(),
    };
    let outcome = vm.outcome(&job, &[])?;
    Ok((outcome.ending.status(), String::from_utf8_lossy(&outcome.stderr).into_owned()))
}

/// Whether status and message are as they should be.
fn judge((found, stderr): &(i32, String), status: i32, words: &[&str]) -> Result<()> {
    ensure!(*found == status, "status {found} instead of {status}\n{stderr}");
    ensure!(!words.is_empty() || stderr.is_empty(), "standard error should be empty:\n{stderr}");
    let mut rest = stderr.as_str();
    for word in words {
        let at = rest.find(word);
        ensure!(at.is_some(), "standard error lacks `{word}`, or has it in another place:\n{stderr}");
        rest = at.and_then(|at| rest.get(at + word.len()..)).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_looked_for_in_their_order() {
        let found = (125, "cannot do it: no\n  why\n  try: that\n".to_owned());
        judge(&found, 125, &["cannot do it", "try: "]).unwrap();
        judge(&found, 125, &["try: ", "cannot do it"]).unwrap_err();
        judge(&found, 126, &[]).unwrap_err();
        judge(&found, 125, &[]).unwrap_err();
        judge(&(0, String::new()), 0, &[]).unwrap();
    }
}

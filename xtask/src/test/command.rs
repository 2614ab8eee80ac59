//! `cargo xtask run` itself: streams, statuses, time-outs, shared folders, and that a broken kernel is never a success.
//!
//! Each test starts this very program, as a person would, most without a sandbox: what a sandbox does is the cases' business.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::report::{Report, Test};
use crate::paths;

/// All tests.
const TESTS: &[Test] = &[
    ("command/binary-pipe", binary_pipe),
    ("command/streams-apart", streams_apart),
    ("command/status-of-a-signal", || status(&[], &["sh", "-c", "kill -9 $$"], 137, "")),
    ("command/status-not-found", || status(&[], &["/no/such/program"], 127, "cannot run /no/such/program")),
    ("command/status-not-executable", || status(&[], &["/etc/passwd"], 126, "cannot run /etc/passwd")),
    ("command/status-of-a-time-out", || status(&["--timeout", "1"], &["sleep", "1000"], 124, "")),
    ("command/crash-is-a-failure", || status(&[], &["sh", "-c", "echo c > /proc/sysrq-trigger"], 125, "Kernel panic")),
    ("command/warning-is-a-failure", || status(&[], &["sh", "-c", "echo WARNING: made up > /dev/kmsg"], 125, "made up")),
    ("command/shared-folder", shared_folder),
    ("command/first-output-in-time", first_output),
];

/// With everything made, the first output comes after at most this, under an emulator on a machine that does nothing else.
const FIRST_OUTPUT: Duration = Duration::from_secs(15);

/// Bytes for [`binary_pipe`]: more than any buffer on the way holds.
const MANY: usize = 1_000_000;

/// Their names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TESTS.iter().map(|(name, _)| *name)
}

/// Runs those whose names contain `filter`.
pub(super) fn run(report: &mut Report, filter: Option<&str>) {
    report.run(TESTS, filter);
}

/// Runs `cargo xtask run --native OPTIONS -- PROGRAM` with `stdin`.
fn command(options: &[&str], program: &[&str], stdin: Vec<u8>) -> Result<Output> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["run", "--native"]).args(options).arg("--").args(program);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut pipe = child.stdin.take().context("a piped child has an input")?;
    // A program that does not read all of its input is no failure of the writer's.
    let writer = thread::spawn(move || drop(pipe.write_all(&stdin)));
    let output = child.wait_with_output()?;
    writer.join().ok().context("the thread that writes has died")?;
    Ok(output)
}

/// A sandbox passes bytes through, and begins to in time. On a machine that is busy with something else time says nothing.
fn first_output() -> Result<()> {
    let is_busy = busy()?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["run", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let bytes: Vec<u8> = (0..=u8::MAX).rev().cycle().take(MANY).collect();
    let mut pipe = child.stdin.take().context("a piped child has an input")?;
    let sent = bytes.clone();
    let writer = thread::spawn(move || pipe.write_all(&sent));
    let mut output = child.stdout.take().context("a piped child has an output")?;
    let mut received = vec![0];
    output.read_exact(&mut received).context("nothing came out")?;
    let waited = begun.elapsed();
    output.read_to_end(&mut received)?;
    writer.join().ok().context("the thread that writes has died")??;
    ensure!(child.wait()?.success() && received == bytes, "{} bytes came back, or other ones", received.len());
    println!("# first output after {:.1} s{}", waited.as_secs_f64(), if is_busy { ", on a busy machine" } else { "" });
    ensure!(is_busy || waited <= FIRST_OUTPUT, "first output after {:.1} s", waited.as_secs_f64());
    Ok(())
}

/// Whether as many programs want to run as there are processors.
fn busy() -> Result<bool> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let load: f64 = text.split(' ').next().unwrap_or_default().parse().context("/proc/loadavg is not as it was")?;
    Ok(load >= thread::available_parallelism()?.get() as f64)
}

/// Runs a program and compares the status; standard error must contain `words`.
fn status(options: &[&str], program: &[&str], expected: i32, words: &str) -> Result<()> {
    let output = command(options, program, Vec::new())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(expected), "{} instead of status {expected}\n{stderr}", output.status);
    ensure!(stderr.contains(words), "standard error lacks `{words}`:\n{stderr}");
    Ok(())
}

/// Every byte value goes in and comes out, and the end of input arrives.
fn binary_pipe() -> Result<()> {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(MANY).collect();
    let output = command(&[], &["cat"], bytes.clone())?;
    ensure!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(output.stdout == bytes, "{} bytes came back, or other ones", output.stdout.len());
    Ok(())
}

/// Standard output and standard error do not mix.
fn streams_apart() -> Result<()> {
    let output = command(&[], &["sh", "-c", "echo out; echo err >&2; exit 3"], Vec::new())?;
    ensure!(output.status.code() == Some(3), "{}", output.status);
    ensure!(output.stdout == b"out\n" && output.stderr.ends_with(b"err\n"), "{output:?}");
    Ok(())
}

/// A shared folder is read and written.
fn shared_folder() -> Result<()> {
    let folder = paths::cache().join(format!("work/share-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = share_through(&folder);
    fs::remove_dir_all(&folder)?;
    result
}

fn share_through(folder: &Path) -> Result<()> {
    fs::write(folder.join("in"), "through the share")?;
    let output = command(&["--share", &folder.display().to_string()], &["cp", "/mnt/share/in", "/mnt/share/out"], Vec::new())?;
    ensure!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(fs::read(folder.join("out"))? == b"through the share", "the copy differs");
    Ok(())
}

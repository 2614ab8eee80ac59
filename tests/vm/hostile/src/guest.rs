//! What this program does as a guest. Each says one byte on the report's descriptor when it has begun.

use std::fs::{self, OpenOptions};
use std::hint;
use std::os::unix::process::parent_id;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::calls;
use crate::sandbox::REPORT;
use crate::sys::{self, Errno};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// The file that a guest without its sandbox would make.
pub(crate) const ESCAPED: &str = "/tmp/escaped";
/// The status of a guest whose step between its attempts has failed.
pub(crate) const FAILED: u8 = 3;

/// Does what the words say.
pub(crate) fn run(words: &[&str]) -> ExitCode {
    match words {
        ["exit", status] => {
            say(".");
            ExitCode::from(status.parse::<u8>().unwrap_or(u8::MAX))
        }
        ["spin"] => {
            say(".");
            loop {
                hint::spin_loop();
            }
        }
        ["sleep"] => {
            say(".");
            loop {
                thread::sleep(FOR_EVER);
            }
        }
        ["crash"] => {
            say(".");
            sys::crash();
            ExitCode::SUCCESS
        }
        ["threads"] => threads(),
        ["processes"] => processes(),
        ["escape"] => escape(|| Ok(())),
        ["escape", "faulting"] => sys::survive_breakpoints().map_or(ExitCode::FAILURE, |()| {
            escape(|| {
                sys::breakpoint();
                Ok(())
            })
        }),
        ["escape", "multiplying"] => escape(multiply),
        ["calls"] => calls::guest(),
        _ => ExitCode::from(u8::MAX),
    }
}

/// Says something to whoever started this.
pub(crate) fn say(text: &str) {
    sys::write(REPORT.cast_signed(), text.as_bytes());
}

/// Two threads that spin and one that sleeps.
fn threads() -> ExitCode {
    for _ in 0..2 {
        thread::spawn(|| {
            loop {
                hint::spin_loop();
            }
        });
    }
    say(".");
    loop {
        thread::sleep(FOR_EVER);
    }
}

/// A process that spins, one that sleeps, and one that has ended and nobody has waited for.
fn processes() -> ExitCode {
    for what in ["spin", "sleep", "end"] {
        match sys::fork() {
            Ok(Some(_pid)) => {}
            Ok(None) if what == "end" => sys::exit(0),
            Ok(None) => return run(&[what]),
            Err(errno) => sys::exit(errno),
        }
    }
    say(".");
    loop {
        thread::sleep(FOR_EVER);
    }
}

/// Calls without end that the host's kernel would answer otherwise than the sandbox: a parent that is the launcher, a file that
/// can be made and written. Between them it does a `step`, and ends when that fails.
fn escape(step: fn() -> Result<(), Errno>) -> ExitCode {
    let parent = parent_id();
    say(".");
    loop {
        if step().is_err() {
            return ExitCode::from(FAILED);
        }
        let made = OpenOptions::new().create(true).write(true).truncate(true).open(ESCAPED).is_ok();
        if made || parent_id() != parent {
            let _ = fs::write(ESCAPED, format!("made {made}, parent {}", parent_id()));
            return ExitCode::from(1);
        }
    }
}

/// Makes a process, which ends, and a thread, which does not: it takes a carrier of its own, though ended ones leave theirs to others.
fn multiply() -> Result<(), Errno> {
    match sys::fork()? {
        None => sys::exit(0),
        Some(child) => drop(sys::wait_child(child)?),
    }
    let made = thread::Builder::new().spawn(|| thread::sleep(FOR_EVER));
    // So that it is not a limit that ends this.
    thread::sleep(Duration::from_millis(5));
    made.map(drop).map_err(|error| error.raw_os_error().unwrap_or(0))
}

//! Launchers and guests that mean no good, run in the test VM by `cargo xtask test hostile`.
//!
//! Each suite prints one line a check and ends with the first wrong answer. `guest` is what runs in the sandboxes: the same program.
//! What the module must answer comes from `litebox_ioctl_abi`; that no host call is reachable is counted by the host (`calls`);
//! that a program file gets Linux's errno is compared with Linux (`elf`).

mod calls;
mod check;
mod device;
mod elf;

mod guest;
mod host;
mod race;
mod sandbox;
mod svm;
mod sys;
mod teardown;
mod trace;
mod unhook;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["guest", what @ ..] = words.as_slice() {
        return guest::run(what);
    }
    let words = match words.as_slice() {
        ["svm", rest @ ..] => {
            sandbox::use_svm(true);
            rest
        }
        all => all,
    };
    let outcome = sys::adopt_orphans().map_err(sandbox::name).and_then(|()| match words {
        ["device"] => device::as_root(),
        ["cycle"] => device::cycles(),
        ["device-as-user"] => device::as_user(),
        ["race"] => race::run(),
        ["teardown"] => teardown::run(),
        ["carriers"] => teardown::many_carriers(),
        ["calls"] => calls::run(),
        ["elf"] => elf::run(),
        ["unhook"] => unhook::run(),
        ["others"] => svm::run(),

        _ => Err("usage: litebox-vm-hostile SUITE; the suites are listed in xtask/src/test/hostile.rs".into()),
    });
    check::status(outcome)
}

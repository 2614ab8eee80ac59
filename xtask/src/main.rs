//! `cargo xtask`: every developer and CI command of LiteBox in the kernel.

mod cpio;
mod paths;
mod run;
mod setup;
mod terminal;
mod tested;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::run::RunArgs;

/// Status of set-up and VM faults; a program's own statuses are passed on.
const FAULT: u8 = 125;

/// Builds, runs and tests LiteBox in the kernel.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a program in a sandbox in a VM, with this command's streams and the program's status
    Run(RunArgs),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(status) => ExitCode::from(u8::try_from(status & 0xff).expect("masked to a byte")),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(FAULT)
        }
    }
}

/// Carries out a command and gives the exit status.
fn dispatch(command: Command) -> Result<i32> {
    match command {
        Command::Run(args) => run::run(&args),
    }
}

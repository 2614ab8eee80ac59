//! `cargo xtask`: every developer and CI command of this project.

mod bench;
mod conform;
mod cpio;
mod fuzz;
mod paths;
mod ratchet;
mod run;
mod setup;
mod specification;
mod terminal;
mod test;
mod tested;
mod tidy;
mod upkeep;
mod vm;
mod windows;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::conform::ConformArgs;
use crate::fuzz::FuzzArgs;
use crate::run::RunArgs;
use crate::test::TestArgs;
use crate::windows::WindowsCommand;

/// Status of set-up and VM faults; a program's own statuses are passed on.
const FAULT: u8 = 125;

/// Builds, runs and tests sandboxes in the kernel.
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
    /// Run the tests: sources, this machine, VM
    Test(TestArgs),
    /// Make everything that a run needs, without running anything
    Build {
        /// What tests on the debug kernel need
        #[arg(long)]
        debug_kernel: bool,
    },
    /// Open a shell in the VM, outside the sandbox; litebox-launch lies in /mnt/litebox
    Shell(RunArgs),
    /// Measure one group of operations, or all, natively and in a sandbox
    Bench {
        /// A program of tests/bench/
        group: Option<String>,
        /// In gVisor's runsc, too, if it runs there
        #[arg(long)]
        peers: bool,
    },
    /// Run a folder of test programs (kselftest, LTP, libc-test), each natively and in a sandbox, and tell what differs
    Conform(ConformArgs),
    /// Fuzz what parses hostile bytes, on this machine
    Fuzz(FuzzArgs),
    /// The Windows driver, on Linux
    #[command(subcommand)]
    Windows(WindowsCommand),
    /// Remove everything that set-up made
    Clean,
    /// Say what is missing on this machine, and the cure
    Doctor,
    /// Write anew what is generated and committed: docs/compatibility.md
    Codegen,
    /// Check the house rules that no compiler checks
    Tidy,
    /// Compare figures that may only fall, of the sources and the linked module, with those that are committed
    Ratchet {
        /// Write them down, here and in the README
        #[arg(long)]
        write: bool,
    },
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
        Command::Test(args) => test::run(&args),
        Command::Build { debug_kernel } => upkeep::build(debug_kernel),
        Command::Shell(args) => run::run(&RunArgs { shell: true, ..args }),
        Command::Bench { group, peers } => bench::run(group.as_deref(), peers),
        Command::Conform(args) => conform::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Windows(command) => windows::run(&command),
        Command::Clean => upkeep::clean(),
        Command::Doctor => upkeep::doctor(),
        Command::Codegen => upkeep::codegen(),
        Command::Tidy => tidy::run(),
        Command::Ratchet { write } => ratchet::run(write),
    }
}

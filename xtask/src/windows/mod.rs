//! `cargo xtask windows`: the Windows driver, built and tested on Linux. Nothing else of set-up needs what this needs.

mod build;
mod imports;
mod test;

use anyhow::Result;
use clap::Subcommand;

/// What to do about the Windows driver.
#[derive(Debug, Subcommand)]
pub(crate) enum WindowsCommand {
    /// Build litebox.sys and litebox-launch.exe, and check what they import
    Build,
    /// Run the cases of the Linux module in litebox.sys under Wine, and natively
    Test {
        /// Only cases with this in their name
        filter: Option<String>,
    },
}

/// Carries out a command and gives the exit status.
///
/// # Errors
/// What could not be built, and why.
pub(crate) fn run(command: &WindowsCommand) -> Result<i32> {
    match command {
        WindowsCommand::Build => {
            let built = build::product()?;
            for file in &built {
                println!("{}", file.display());
            }
            Ok(0)
        }
        WindowsCommand::Test { filter } => test::run(filter.as_deref()),
    }
}

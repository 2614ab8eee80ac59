//! `litebox-launch` for Windows: describes a sandbox to litebox.sys, starts a program in it and passes on how it ended.
//!
//! A small program without a run-time library: it is linked on any machine, and imports KERNEL32.dll alone. What it checks is for
//! its user's sake; the driver checks all again. Unproven on Windows: see docs/windows.md.
#![cfg_attr(windows, no_std)]
#![cfg_attr(windows, no_main)]

#[cfg(windows)]
extern crate alloc;

mod cli;
#[cfg(windows)]
mod sandbox;
#[cfg(windows)]
mod win;

/// Status of the launcher's own failures, as of litebox-launch on Linux.
#[cfg(windows)]
const FAULT: u32 = 125;

/// The image's entry point.
#[cfg(windows)]
#[unsafe(no_mangle)]
extern "system" fn mainCRTStartup() -> ! {
    let status = match cli::parse(&win::command_line()) {
        Ok(options) => sandbox::launch(&options).unwrap_or_else(|failure| {
            win::complain(&alloc::format!("litebox-launch: {failure}\n"));
            FAULT
        }),
        Err(why) => {
            win::complain(&alloc::format!("litebox-launch: {why}\n{}", cli::USAGE));
            FAULT
        }
    };
    win::exit(status)
}

#[cfg(not(windows))]
fn main() {}

//! Many processes and threads: each task has a thread of the test as its carrier, and a closure as its program.

mod carrier;
mod exec;
mod family;
mod ipc;
mod jobs;
mod pidfd;
mod signals;
mod storm;
mod threads;
mod tracing;
mod usage;

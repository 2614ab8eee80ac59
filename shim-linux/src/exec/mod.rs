//! Programs by their path: execve(2) up to the point of no return, and what runs.

mod running;

pub use running::{Exec, Running};

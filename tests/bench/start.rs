//! Benchmark group `start`: from the wish for a program to its end. One line for each: NAME VALUE UNIT, smaller is better.
//!
//! This runs natively each time, and starts programs by way of the command that its arguments are: none is fork and exec.

use std::process::{Command, Stdio};
use std::time::Instant;

/// What is started: its name in the results, its command line, how often. Python keeps no compiled modules: it could natively alone.
const PROGRAMS: &[(&str, &[&str], u32)] =
    &[("static-true", &["/mnt/litebox/nothing-static"], 20), ("python3-pass", &["python3", "-B", "-c", "pass"], 3)];

fn main() {
    let before: Vec<String> = std::env::args().skip(1).collect();
    for (name, program, times) in PROGRAMS {
        let line: Vec<&str> = before.iter().map(String::as_str).chain(program.iter().copied()).collect();
        let mut least = f64::INFINITY;
        for _ in 0..*times {
            let begun = Instant::now();
            let status = Command::new(line[0]).args(&line[1..]).stdin(Stdio::null()).status().expect("the program starts");
            least = least.min(begun.elapsed().as_secs_f64());
            assert!(status.success(), "{line:?}: {status}");
        }
        println!("{name} {:.3} ms", least * 1000.0);
    }
}

//! Checks: a name, a function, one line each. The first wrong answer ends the program.

use std::fmt::{Debug, Display};
use std::process::ExitCode;

/// Why a check failed, in words.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// A check and its name.
pub(crate) type Check = (&'static str, fn() -> Outcome);

/// Runs checks in their order, up to the first that fails.
pub(crate) fn run(suite: &str, checks: &[Check]) -> Outcome {
    for (name, check) in checks {
        check().map_err(|why| format!("{suite}: {name}: {why}"))?;
        println!("ok {suite}: {name}");
    }
    Ok(())
}

/// The exit status of a suite.
pub(crate) fn status(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("not ok {why}");
            ExitCode::FAILURE
        }
    }
}

/// Fails unless the two are equal.
pub(crate) fn equal<T: PartialEq + Debug>(what: impl Display, found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}

/// Fails with `why` unless `holds`.
pub(crate) fn ensure(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(why()) }
}

/// Numbers that look random and are the same each time (PCG's multiplier, upper bits).
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    /// The sequence of a seed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = self.0 ^ self.0 >> 29;
        mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mixed >> 32
    }

    /// The next one below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    /// One of some.
    pub(crate) fn one_of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }
}

//! What a test program's status and output say: of kselftest, of LTP, of libc-test, or of no house at all.
//!
//! Sources: Documentation/dev-tools/kselftest.rst and ktap.rst (TAP lines, status 4 for a skip); LTP, `include/tst_res_flags.h` (status
//! is a mask of TFAIL 1, TBROK 2, TWARN 4, TCONF 32).

use litebox_vm_init::{Ending, Place};
use serde::Serialize;

/// kselftest's status for a test that does not apply.
const KSELFTEST_SKIP: i32 = 4;
/// LTP's status for a test that does not apply.
const LTP_CONF: i32 = 32;
/// The launcher's own status: the sandbox did not start, or died.
const LAUNCHER: i32 = 125;
/// Signals that a shell's status can name.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// What became of a test in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// It ran, and what it tried holds.
    Pass,
    /// It does not apply there.
    Skip,
    /// It ran to its end with this status, and something does not hold.
    Fail(i32),
    /// A signal ended it.
    Signal(i32),
    /// It did not end in time.
    TimedOut,
    /// The launcher gave up: the sandbox did not start, or died.
    SandboxDied,
    /// The VM's kernel reported this fault, or hung.
    KernelFault(String),
}

impl Verdict {
    /// A word or two for a table.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Pass => "pass".to_owned(),
            Self::Skip => "skip".to_owned(),
            Self::Fail(status) => format!("fails ({status})"),
            Self::Signal(signal) => format!("signal {signal}"),
            Self::TimedOut => "hangs".to_owned(),
            Self::SandboxDied => "sandbox died".to_owned(),
            Self::KernelFault(_) => "kernel fault".to_owned(),
        }
    }
}

/// Results within one test, by the lines it printed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// `ok`, `TPASS`.
    pub(super) passed: u32,
    /// `not ok`, `TFAIL`, `TBROK`.
    pub(super) failed: u32,
    /// `ok … # SKIP`, `TCONF`.
    pub(super) skipped: u32,
    /// The lines that tell of failures.
    pub(super) failures: Vec<String>,
    /// Whether the lines were LTP's.
    #[serde(skip)]
    ltp: bool,
}

/// What one line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Passed,
    Failed,
    Skipped,
}

impl Counts {
    /// Counts the results in what a test printed.
    pub(super) fn of(text: &str) -> Self {
        let mut counts = Self::default();
        for line in text.lines() {
            let ltp = ltp(line);
            counts.ltp |= ltp.is_some();
            match ltp.or_else(|| tap(line)) {
                Some(Line::Passed) => counts.passed += 1,
                Some(Line::Skipped) => counts.skipped += 1,
                Some(Line::Failed) => {
                    counts.failed += 1;
                    counts.failures.push(line.trim().to_owned());
                }
                None => {}
            }
        }
        counts
    }
}

/// A line of LTP: `file.c:12: TPASS: …`, or `name 1 TPASS : …` of old tests.
fn ltp(line: &str) -> Option<Line> {
    line.split_whitespace().find_map(|word| match word.trim_end_matches(':') {
        "TPASS" => Some(Line::Passed),
        "TFAIL" | "TBROK" => Some(Line::Failed),
        "TCONF" => Some(Line::Skipped),
        _ => None,
    })
}

/// A line of TAP: `ok 1 name`, `not ok 2 name # TODO why`, with a subtest's indent.
fn tap(line: &str) -> Option<Line> {
    let line = line.trim_start();
    let (good, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    if !rest.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let directive = rest.split_once('#').map(|(_, directive)| directive.trim_start().to_ascii_uppercase()).unwrap_or_default();
    if directive.starts_with("SKIP") || directive.starts_with("TODO") || directive.starts_with("XFAIL") {
        return Some(Line::Skipped);
    }
    Some(if good { Line::Passed } else { Line::Failed })
}

/// What a test's end and its lines amount to.
pub(super) fn verdict(ending: Ending, counts: &Counts, place: Place) -> Verdict {
    // The launcher ends as a shell would when a signal ends its guest.
    let status = match ending {
        Ending::TimedOut => return Verdict::TimedOut,
        Ending::Signalled(signal) => return Verdict::Signal(signal),
        other => other.status(),
    };
    match status {
        LAUNCHER if place == Place::Sandbox => Verdict::SandboxDied,
        0 if counts.failed > 0 => Verdict::Fail(0),
        0 | LTP_CONF if counts.passed == 0 && counts.skipped > 0 => Verdict::Skip,
        0 => Verdict::Pass,
        LTP_CONF if counts.ltp && counts.failed == 0 => Verdict::Pass,
        LTP_CONF if !counts.ltp => Verdict::Skip,
        KSELFTEST_SKIP if !counts.ltp => Verdict::Skip,
        other if SIGNALS.contains(&(other - 128)) => Verdict::Signal(other - 128),
        other => Verdict::Fail(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: i32, text: &str) -> Verdict {
        verdict(Ending::Exited(status), &Counts::of(text), Place::Sandbox)
    }

    #[test]
    fn lines_of_both_houses_are_counted() {
        let counts = Counts::of(
            "TAP version 13\n1..4\nok 1 reads\n    not ok 1 inner\nok 2 numa # SKIP none\nnot ok 3 x # TODO later\nok then\n\
             pipe01.c:40: TPASS: x\npipe01.c:41: TFAIL: y\npipe 1 TCONF  :  z\nSummary:\npassed   1\n",
        );
        assert_eq!((counts.passed, counts.failed, counts.skipped), (2, 2, 3));
        assert_eq!(counts.failures, ["not ok 1 inner", "pipe01.c:41: TFAIL: y"]);
    }

    #[test]
    fn statuses_mean_what_their_house_says() {
        assert_eq!(judged(0, ""), Verdict::Pass);
        assert_eq!(judged(4, ""), Verdict::Skip);
        assert_eq!(judged(4, "a.c:1: TPASS: but TWARN later"), Verdict::Fail(4));
        assert_eq!(judged(32, "a.c:1: TCONF: not here"), Verdict::Skip);
        assert_eq!(judged(32, "a.c:1: TCONF: not here\na.c:2: TPASS: there"), Verdict::Pass);
        assert_eq!(judged(0, "ok 1 a # SKIP none"), Verdict::Skip);
        assert_eq!(judged(0, "not ok 1 a"), Verdict::Fail(0));
        assert_eq!(judged(1, ""), Verdict::Fail(1));
    }

    #[test]
    fn ends_that_are_no_statuses() {
        assert_eq!(judged(139, ""), Verdict::Signal(11));
        assert_eq!(judged(125, ""), Verdict::SandboxDied);
        assert_eq!(verdict(Ending::Exited(125), &Counts::default(), Place::Native), Verdict::Fail(125));
        assert_eq!(verdict(Ending::Signalled(6), &Counts::default(), Place::Native), Verdict::Signal(6));
        assert_eq!(verdict(Ending::TimedOut, &Counts::default(), Place::Native), Verdict::TimedOut);
    }
}

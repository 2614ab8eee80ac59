//! What the tests gave in both places, compared: a table to read, and JSON for whatever reads on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::results::{Counts, Verdict};
use super::tests::Test;

/// Lines that are shown of a test's failures, and of its end.
const SHOWN: usize = 8;

/// A test in one place.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    pub(super) verdict: Verdict,
    pub(super) counts: Counts,
    /// The last lines of its output, or what is known of a VM that was lost.
    pub(super) last: Vec<String>,
}

/// How the two places compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Comparison {
    /// As under Linux.
    Same,
    /// It fails or does not apply under Linux, and does so in a sandbox, too.
    NotNative,
    /// Passes natively, and not in a sandbox; or some of its results do.
    Differs,
    /// Differs, for a reason that is written down.
    Accepted,
    /// It ended the sandbox or the kernel.
    Broken,
}

/// A test in both places.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) comparison: Comparison,
    /// Why a difference is accepted.
    pub(super) reason: Option<String>,
    pub(super) native: Run,
    pub(super) sandbox: Run,
    #[serde(skip)]
    area: String,
}

impl Entry {
    /// The comparison of a test's two runs; `reason` is why a difference is accepted.
    pub(super) fn new(test: &Test, native: Run, sandbox: Run, reason: Option<&str>) -> Self {
        let comparison = match compare(&native, &sandbox) {
            Comparison::Differs if reason.is_some() => Comparison::Accepted,
            other => other,
        };
        let reason = reason.filter(|_| comparison == Comparison::Accepted).map(str::to_owned);
        Self { name: test.name.clone(), area: test.area().to_owned(), comparison, reason, native, sandbox }
    }

    /// Whether the sandbox fails where Linux does not.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self.comparison, Comparison::Differs | Comparison::Broken)
    }

    /// The difference on some lines: what became of it in both places, the failures that Linux does not have, the end.
    pub(super) fn difference(&self) -> String {
        let (native, sandbox) = (&self.native, &self.sandbox);
        let mut text = format!("{}: {}, natively {}", self.name, results(sandbox), results(native));
        if let Verdict::KernelFault(fault) = &sandbox.verdict {
            let _ = write!(text, "\n    | {fault}");
        }
        let new = sandbox.counts.failures.iter().filter(|line| !native.counts.failures.contains(line));
        let new: Vec<&String> = new.take(SHOWN).collect();
        let end = &sandbox.last[sandbox.last.len().saturating_sub(SHOWN)..];
        let shown = if new.is_empty() { end.iter().collect() } else { new };
        for line in shown {
            let _ = write!(text, "\n    | {line}");
        }
        text
    }
}

/// Verdict and counts of a run.
fn results(run: &Run) -> String {
    let Counts { passed, failed, skipped, .. } = run.counts;
    if passed + failed + skipped == 0 {
        return run.verdict.words();
    }
    format!("{} [{passed} ok, {failed} not, {skipped} skipped]", run.verdict.words())
}

/// Compares a test's two runs.
fn compare(native: &Run, sandbox: &Run) -> Comparison {
    // A test that repeats itself for a time passes more or less often: a smaller count alone is no difference.
    let more_failures = sandbox.counts.failed > native.counts.failed;
    match (&native.verdict, &sandbox.verdict) {
        (_, Verdict::KernelFault(_) | Verdict::SandboxDied) => Comparison::Broken,
        (Verdict::Pass, Verdict::Pass) => Comparison::Same,
        (Verdict::Pass, _) => Comparison::Differs,
        (Verdict::Fail(_), Verdict::Fail(_)) if !more_failures => Comparison::NotNative,
        (Verdict::Fail(_), _) if native.counts.passed > sandbox.counts.passed || more_failures => Comparison::Differs,
        _ => Comparison::NotNative,
    }
}

/// The whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) folder: String,
    pub(super) seconds: u64,
    pub(super) tests: Vec<Entry>,
    /// What was wrong with a VM after its last test: a module that did not go.
    pub(super) faults: Vec<String>,
}

impl Report {
    /// The table: sums by area, then the differences.
    pub(super) fn table(&self) -> String {
        let mut areas: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in &self.tests {
            areas.entry(&entry.area).or_default().push(entry);
        }
        let mut text = format!("{:<28} {:>6} {:>7} {:>7} {:>8}\n", "area", "tests", "native", "sandbox", "accepted");
        let mut row = |name: &str, entries: &[&Entry]| {
            let count = |which: &dyn Fn(&Entry) -> bool| entries.iter().filter(|entry| which(entry)).count();
            let native = count(&|entry| entry.native.verdict == Verdict::Pass);
            let sandbox = count(&|entry| entry.comparison == Comparison::Same);
            let accepted = count(&|entry| entry.comparison == Comparison::Accepted);
            let _ = writeln!(text, "{name:<28} {:>6} {native:>7} {sandbox:>7} {accepted:>8}", entries.len());
        };
        for (area, entries) in &areas {
            row(if area.is_empty() { "." } else { area }, entries);
        }
        row("all", &self.tests.iter().collect::<Vec<_>>());
        for (heading, kind) in [("kernel faults, dead sandboxes", Comparison::Broken), ("differences", Comparison::Differs)] {
            let lines: Vec<String> = self.of(kind).map(Entry::difference).collect();
            let _ = write!(text, "\n# {heading}: {}\n", lines.len());
            lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        let _ = write!(text, "\n# accepted differences: {}\n", self.of(Comparison::Accepted).count());
        for entry in self.of(Comparison::Accepted) {
            let _ = writeln!(text, "{}: {}", entry.name, entry.reason.as_deref().unwrap_or_default());
        }
        for fault in &self.faults {
            let _ = writeln!(text, "\n# after the last test: {fault}");
        }
        text
    }

    fn of(&self, kind: Comparison) -> impl Iterator<Item = &Entry> {
        self.tests.iter().filter(move |entry| entry.comparison == kind)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn run(verdict: Verdict, text: &str) -> Run {
        Run { verdict, counts: Counts::of(text), last: text.lines().map(str::to_owned).collect() }
    }

    fn entry(native: Run, sandbox: Run, reason: Option<&str>) -> Entry {
        let test = Test { name: "pipe/pipe01".to_owned(), path: PathBuf::from("/x/pipe/pipe01") };
        Entry::new(&test, native, sandbox, reason)
    }

    #[test]
    fn what_passes_natively_must_pass() {
        let same = entry(run(Verdict::Pass, ""), run(Verdict::Pass, ""), None);
        assert_eq!(same.comparison, Comparison::Same);
        for other in [Verdict::Skip, Verdict::Fail(1), Verdict::Signal(11), Verdict::TimedOut] {
            let differs = entry(run(Verdict::Pass, ""), run(other.clone(), ""), None);
            assert!(differs.is_failure(), "{other:?}");
            let accepted = entry(run(Verdict::Pass, ""), run(other, ""), Some("no such thing in a sandbox"));
            assert!(!accepted.is_failure());
        }
        assert!(!entry(run(Verdict::Skip, ""), run(Verdict::Fail(1), ""), None).is_failure());
    }

    #[test]
    fn single_results_are_compared_where_the_whole_fails() {
        let native = || run(Verdict::Fail(1), "ok 1 a\nok 2 b\nnot ok 3 c");
        assert!(!entry(native(), run(Verdict::Fail(1), "ok 1 a\nok 2 b\nnot ok 3 c"), None).is_failure());
        let worse = entry(native(), run(Verdict::Fail(1), "ok 1 a\nnot ok 2 b\nnot ok 3 c"), None);
        assert!(worse.is_failure());
        assert!(worse.difference().contains("| not ok 2 b") && !worse.difference().contains("not ok 3"));
        assert!(entry(native(), run(Verdict::TimedOut, "ok 1 a"), None).is_failure());
    }

    #[test]
    fn a_dead_sandbox_and_a_kernel_fault_are_never_accepted() {
        for verdict in [Verdict::SandboxDied, Verdict::KernelFault("Oops".to_owned())] {
            let broken = entry(run(Verdict::Skip, ""), run(verdict, ""), Some("some reason"));
            assert_eq!(broken.comparison, Comparison::Broken);
            let report = Report { folder: String::new(), seconds: 1, tests: vec![broken], faults: Vec::new() };
            assert!(report.table().contains("dead sandboxes: 1\npipe/pipe01: "), "{}", report.table());
        }
    }
}

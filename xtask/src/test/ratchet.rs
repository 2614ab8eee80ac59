//! The ratchets as a test: see `crate::ratchet`.

use super::report::Report;
use crate::ratchet;

/// The name of this test.
pub(super) const NAME: &str = "ratchet/figures-only-fall";

/// Runs it if `filter` is part of its name.
pub(super) fn run(report: &mut Report, filter: Option<&str>) {
    if filter.is_some_and(|filter| !NAME.contains(filter)) {
        return;
    }
    match ratchet::problems() {
        Ok(problems) if problems.is_empty() => report.pass(NAME, ""),
        Ok(problems) => report.fail(NAME, &problems.join("\n")),
        Err(error) => report.fail(NAME, &format!("{error:#}")),
    }
}

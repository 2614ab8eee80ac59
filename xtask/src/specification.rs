//! SPECIFICATION.md: whether each promise in it names tests that are there, or says that it is not yet shown.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use crate::{paths, test, tidy};

/// What stands in place of tests.
const PENDING: &str = "not yet shown";

/// Which lines show nothing, or name what is not there: one line each.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn problems() -> Result<Vec<String>> {
    let path = paths::repository().join("SPECIFICATION.md");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let problems = judge(&text, &names()?);
    Ok(problems.into_iter().map(|problem| format!("SPECIFICATION.md: {problem}")).collect())
}

/// The names of everything that can show a promise.
fn names() -> Result<BTreeSet<String>> {
    let mut names: BTreeSet<String> = test::names().map(str::to_owned).collect();
    for path in tidy::rust_files(paths::repository())? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        names.extend(unit_tests(&text).map(str::to_owned));
    }
    for (folder, extension, prefix) in
        [("tests/vm/cases", "toml", "cases"), ("tests/bench", "rs", "bench"), ("fuzz/targets", "rs", "fuzz")]
    {
        let folder = paths::repository().join(folder);
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if let (Some(stem), true) = (path.file_stem(), path.extension().is_some_and(|found| found == extension)) {
                names.insert(format!("{prefix}/{}", stem.display()));
            }
        }
    }
    Ok(names)
}

/// The functions of a source file that are marked as tests.
fn unit_tests(text: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    text.lines().map(str::trim).filter_map(move |line| {
        if line == "#[test]" {
            marked = true;
            return None;
        }
        let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        // Other attributes may stand between the two.
        let found = name.filter(|_| marked);
        marked &= line.starts_with("#[");
        found
    })
}

/// What is wrong with a specification, of which `names` are the tests.
fn judge(text: &str, names: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let Some((promise, shown)) = cells.rsplit_once(" | ").filter(|(promise, _)| *promise != "promise") else { continue };
        let mut says = |problem: String| problems.push(format!("line {}: {problem}", number + 1));
        if shown == PENDING {
            continue;
        }
        for name in shown.split(", ") {
            match name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) {
                Some(name) if names.contains(name) => {}
                Some(name) => says(format!("no test is called `{name}`")),
                None => says(format!("`{promise}` is shown by neither tests in backquotes nor `{PENDING}`: {name}")),
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_shown_or_said_not_to_be() {
        let names = BTreeSet::from(["one".to_owned(), "hostile/two".to_owned()]);
        let judged = |shown: &str| judge(&format!("# S\n\n| promise | shown by |\n|---|---|\n| it works | {shown} |\n"), &names);
        assert!(judged("`one`, `hostile/two`").is_empty());
        assert!(judged(PENDING).is_empty());
        assert_eq!(judged("`one`, `three`"), ["line 5: no test is called `three`"]);
        assert_eq!(judged("one").len(), 1);
        assert_eq!(judged("").len(), 1);
    }

    #[test]
    fn tests_are_found_in_sources() {
        let text = "#[test]\nfn a() {}\nfn helper() {}\n    #[test]\n    #[should_panic]\n    fn b() {\n    fn c() {}\n";
        assert_eq!(unit_tests(text).collect::<Vec<_>>(), ["a", "b"]);
    }
}

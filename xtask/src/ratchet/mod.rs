//! `cargo xtask ratchet`: figures that may only fall, compared with what is committed in xtask/ratchets.toml.
//!
//! They are counted in what is linked (`linked`) and in the sources (`sources`). What the module needs of others is a list with reasons,
//! xtask/needs.toml (`needs`), which must be exact. A figure that rises is a failure; whoever has a reason writes the file anew, with
//! `--write`, and says it in the commit. One that falls is told, so that somebody writes it down. Some figures grow with what the
//! module can do: those are shown, and never fail.

mod linked;
mod needs;
mod sources;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use crate::paths;
use crate::setup::{Scope, Setup};

/// What is committed.
const FILE: &str = "xtask/ratchets.toml";
/// Where the figures are shown, between two comments.
const README: &str = "README.md";
/// The comments.
const MARKS: [&str; 2] = ["<!-- figures: cargo xtask ratchet --write -->\n", "<!-- end of figures -->\n"];
/// Kinds of figures that may rise.
const SHOWN_ONLY: &[&str] = &["lines", "sizes"];

/// Figures by kind and name.
pub(super) type Figures = BTreeMap<String, BTreeMap<String, u64>>;

/// First lines of the file.
const HEADER: &str =
    "# Figures of `cargo xtask ratchet`, written by it (--write). They may only fall, but for [lines] and [sizes].\n\n";

/// Counts, and compares, or writes the file and the README's table anew; gives the exit status.
///
/// # Errors
/// Set-up faults; what cannot be read.
pub(crate) fn run(write: bool) -> Result<i32> {
    let (found, mut problems) = count()?;
    if write {
        fs::write(paths::repository().join(FILE), HEADER.to_owned() + &toml::to_string(&found)?)?;
        let readme = paths::repository().join(README);
        let text = fs::read_to_string(&readme)?;
        fs::write(readme, with_table(&text, &found).context("README.md has no place for the figures")?)?;
    }
    let (worse, better) = compare(&committed()?, &found);
    problems.extend(worse);
    for line in problems.iter().chain(&better) {
        println!("{line}");
    }
    println!("ratchet: {} worse, {} better", problems.len(), better.len());
    Ok(i32::from(!problems.is_empty()))
}

/// What is worse than what is committed: one line each. For the tests.
///
/// # Errors
/// As [`run`].
pub(crate) fn problems() -> Result<Vec<String>> {
    let (found, mut problems) = count()?;
    let (worse, better) = compare(&committed()?, &found);
    better.iter().for_each(|line| println!("# {line}"));
    problems.extend(worse);
    Ok(problems)
}

/// The figures, and what is in the module without a reason.
fn count() -> Result<(Figures, Vec<String>)> {
    let artefacts = Setup::new(paths::cache()).ensure(Scope::Sandbox)?;
    let module = artefacts.module.as_deref().context("a sandbox's artefacts have a module")?;
    let mut figures = sources::count()?;
    figures.extend(linked::count(module, &artefacts.tree)?);
    figures.insert("needs".to_owned(), needs::count(module)?);
    Ok((figures, needs::problems(module)?))
}

fn committed() -> Result<Figures> {
    let text = fs::read_to_string(paths::repository().join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    toml::from_str(&text).with_context(|| format!("cannot understand {FILE}"))
}

/// What has risen, and what has fallen.
fn compare(committed: &Figures, found: &Figures) -> (Vec<String>, Vec<String>) {
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    for (kind, figures) in found.iter().filter(|(kind, _)| !SHOWN_ONLY.contains(&kind.as_str())) {
        for (name, figure) in figures {
            let before = committed.get(kind).and_then(|figures| figures.get(name)).copied().unwrap_or(0);
            if *figure > before {
                worse.push(format!(
                    "{kind}, {name}: {figure} instead of {before}\n  try: less of it; or, with a reason in the commit: cargo xtask \
                     ratchet --write"
                ));
            } else if *figure < before {
                better.push(format!("{kind}, {name}: {figure} instead of {before}; write it down: cargo xtask ratchet --write"));
            }
        }
    }
    (worse, better)
}

/// A README with the table of `figures` in its place.
fn with_table(readme: &str, figures: &Figures) -> Option<String> {
    let [begin, end] = MARKS;
    let (before, rest) = readme.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{}{end}{after}", table(figures)))
}

fn table(figures: &Figures) -> String {
    let mut table = "| figures | |\n|---|---|\n".to_owned();
    for (kind, figures) in figures {
        let cells: Vec<String> = figures.iter().map(|(name, figure)| format!("{name} {figure}")).collect();
        table.push_str(&format!("| {kind} | {} |\n", cells.join(", ")));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(list: &[(&str, &str, u64)]) -> Figures {
        let mut figures = Figures::new();
        for (kind, name, figure) in list {
            figures.entry((*kind).to_owned()).or_default().insert((*name).to_owned(), *figure);
        }
        figures
    }

    #[test]
    fn what_rises_is_worse_and_what_falls_is_told() {
        let committed = figures(&[("unsafe", "a", 2), ("unsafe", "b", 2), ("lines", "a", 1)]);
        let found = figures(&[("unsafe", "a", 3), ("unsafe", "b", 1), ("unsafe", "c", 1), ("lines", "a", 9)]);
        let (worse, better) = compare(&committed, &found);
        assert_eq!((worse.len(), better.len()), (2, 1), "{worse:?} {better:?}");
        assert_eq!(compare(&committed, &committed), (Vec::new(), Vec::new()));
    }

    #[test]
    fn the_readme_shows_what_is_committed() {
        let readme = fs::read_to_string(paths::repository().join(README)).unwrap();
        assert_eq!(with_table(&readme, &committed().unwrap()).unwrap(), readme, "try: cargo xtask ratchet --write");
    }
}

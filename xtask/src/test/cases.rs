//! The list of programs whose behaviour in a sandbox is compared with Linux's: tests/vm/cases/*.toml.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use litebox_vm_init::{Job, JobFile, Place, WindowSize};
use serde::Deserialize;

use crate::{paths, run};

/// Where the lists lie.
const CASES: &str = "tests/vm/cases";
/// Which cases are known to fail, and why. It only ever shrinks: a known failure that passes is a failure of its own.
const KNOWN_FAILURES: &str = "tests/vm/known-failures.toml";
/// Time for a case that names none.
const DEFAULT_SECONDS: u64 = 60;

/// One program to compare.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// List and name: `coreutils/sort`.
    pub(crate) name: String,
    /// Why it is known to fail, if it is.
    pub(crate) known_failure: Option<String>,
    /// Status that it has natively.
    pub(crate) status: i32,
    /// Bytes of its standard input.
    pub(crate) stdin: Vec<u8>,
    /// How the sandbox keeps it in ring 3, if not as usual.
    trap: Option<&'static str>,
    entry: Entry,
}

/// What the names of those under the second trap begin with.
const SVM: &str = "svm/";
/// The lists that also run under the second trap when no filter is given. With a filter that names it, all do.
const SVM_LISTS: &[&str] = &["busybox/", "processes/", "hardware/"];

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    case: Vec<Entry>,
}

/// A case as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Unique within the list.
    name: String,
    /// Program and arguments.
    run: Vec<String>,
    /// Standard input.
    #[serde(default)]
    stdin: String,
    /// Status that Linux gives; zero unless said otherwise.
    #[serde(default)]
    status: i32,
    /// Time-out of either run in seconds.
    seconds: Option<u64>,
    /// Variables besides the usual ones.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Files in /mnt/case, by name.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Options of the launcher, for the sandbox alone; files of the VM are named as its first process sees them.
    #[serde(default)]
    options: Vec<String>,
    /// Whether it runs on a terminal of 24 lines, where standard output and error are one.
    #[serde(default)]
    terminal: bool,
}

/// Known failures by case.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownFailures {
    #[serde(default)]
    known: BTreeMap<String, String>,
}

impl Case {
    /// The job that runs this case in one of its two places, with `slowness` times its time.
    pub(crate) fn job(&self, place: Place, slowness: u32) -> Job {
        let mut env = run::environment();
        env.extend(self.entry.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let files = self.entry.files.iter().map(|(name, text)| JobFile {
            name: name.clone(),
            content: text.clone().into_bytes(),
            executable: text.starts_with("#!"),
        });
        let options = self.trap.into_iter().flat_map(|trap| ["--trap".to_owned(), trap.to_owned()]);
        Job {
            argv: self.entry.run.clone(),
            env,
            place,
            launcher_options: options.chain(self.entry.options.iter().cloned()).collect(),
            terminal: self.entry.terminal.then_some(WindowSize { rows: 24, columns: 80 }),
            timeout_ms: Some(1000 * self.entry.seconds.unwrap_or(DEFAULT_SECONDS) * u64::from(slowness)),
            files: files.collect(),
        }
    }
}

/// Reads the cases whose names contain `filter`, in the order of the lists' names.
///
/// # Errors
/// Lists that cannot be read, two cases of one name, and known failures of cases that do not exist.
pub(crate) fn load(filter: Option<&str>) -> Result<Vec<Case>> {
    let directory = paths::repository().join(CASES);
    let mut lists: Vec<_> = fs::read_dir(&directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    lists.sort();
    let known = fs::read_to_string(paths::repository().join(KNOWN_FAILURES)).unwrap_or_default();
    let mut known: KnownFailures = toml::from_str(&known).with_context(|| format!("cannot understand {KNOWN_FAILURES}"))?;

    let mut cases: Vec<Case> = Vec::new();
    for path in lists {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let list: List = toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        for entry in list.case {
            let name = format!("{stem}/{}", entry.name);
            if cases.iter().any(|case| case.name == name) {
                bail!("{} has two cases named {}", path.display(), entry.name);
            }
            let stdin = entry.stdin.clone().into_bytes();
            cases.push(Case { name, known_failure: None, status: entry.status, stdin, trap: None, entry });
        }
    }
    let under_svm: Vec<_> =
        cases.iter().map(|case| Case { name: format!("{SVM}{}", case.name), trap: Some("svm"), ..case.clone() }).collect();
    cases.extend(under_svm);
    for case in &mut cases {
        case.known_failure = known.known.remove(&case.name);
    }
    if let Some(stale) = known.known.keys().next() {
        bail!("{KNOWN_FAILURES} names `{stale}`, which is no case; remove it there");
    }
    cases.retain(|case| is_asked_for(&case.name, filter));
    Ok(cases)
}

/// Whether a case of this name is to run.
fn is_asked_for(name: &str, filter: Option<&str>) -> bool {
    match (name.strip_prefix(SVM), filter) {
        (None, None) => true,
        (Some(name), None) => SVM_LISTS.iter().any(|list| name.starts_with(list)),
        // Whoever names a list or a case means the usual trap.
        (Some(_), Some(filter)) => filter.starts_with(SVM.trim_end_matches('/')) && name_has(name, filter),
        (None, Some(filter)) => name.contains(filter),
    }
}

/// Whether `svm`, `svm/` or `svm/PART` means the case of this name.
fn name_has(name: &str, filter: &str) -> bool {
    filter.strip_prefix(SVM).is_none_or(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repositorys_lists_are_sound() {
        let cases = load(None).unwrap();
        assert!(cases.len() >= 45, "{} cases", cases.len());
        assert!(load(Some("no such case")).unwrap().is_empty());
    }

    #[test]
    fn the_second_trap_s_cases_are_asked_for_by_its_name() {
        let asked = |name, filter| is_asked_for(name, filter);
        assert!(asked("svm/busybox/ls", None) && asked("svm/busybox/ls", Some("svm")) && asked("svm/busybox/ls", Some("svm/ls")));
        assert!(
            !asked("svm/busybox/ls", Some("ls")) && !asked("svm/python/int", None) && asked("svm/python/int", Some("svm/py"))
        );
        assert!(asked("busybox/ls", Some("ls")) && asked("busybox/ls", None) && !asked("busybox/ls", Some("svm")));
    }
}

//! Which files of a folder are tests, and how one is started.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use litebox_vm_init::{GUEST_ROOT, Job, Place, SHARE_DIR};

use crate::run;

/// Enters the test's folder, as its house's own runner does, and becomes the test.
const START: &str = "cd \"$1\" && exec \"./$2\"";

/// One test.
#[derive(Debug, Clone)]
pub(super) struct Test {
    /// Its path below the folder.
    pub(super) name: String,
    /// Its path on this machine.
    pub(super) path: PathBuf,
}

impl Test {
    /// The job that runs it in one of its two places.
    pub(super) fn job(&self, place: Place, seconds: u64) -> Job {
        let (folder, file) = self.name.rsplit_once('/').unwrap_or(("", &self.name));
        let folder = format!("{SHARE_DIR}/{folder}");
        let mut env = run::environment();
        for (name, value) in &mut env {
            if name == "PATH" {
                // Helpers lie beside the tests that run them.
                value.push_str(&format!(":{folder}"));
            }
        }
        env.extend([("TMPDIR".to_owned(), "/tmp".to_owned()), ("LTP_COLORIZE_OUTPUT".to_owned(), "n".to_owned())]);
        let launcher_options = match place {
            Place::Native => Vec::new(),
            Place::Sandbox => vec!["--bind".to_owned(), format!("{GUEST_ROOT}{SHARE_DIR}"), SHARE_DIR.to_owned()],
        };
        let argv = ["sh", "-c", START, "sh", &folder, file];
        Job {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env,
            place,
            launcher_options,
            terminal: None,
            timeout_ms: Some(1000 * seconds),
            files: Vec::new(),
        }
    }

    /// The group it is shown in: its folder.
    pub(super) fn area(&self) -> &str {
        self.name.split_once('/').map_or("", |(area, _)| area)
    }
}

/// The executable programs and scripts below `folder` whose names contain `filter`, by name.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn find(folder: &Path, filter: Option<&str>) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && kind.permissions().mode() & 0o100 != 0 && is_program(&path) {
                let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                tests.push(Test { name, path });
            }
        }
    }
    tests.retain(|test| filter.is_none_or(|filter| test.name.contains(filter)));
    tests.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(tests)
}

/// Whether a file begins as a program or a script does; shared libraries count, and fail natively as they do here.
fn is_program(path: &Path) -> bool {
    let mut begin = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && (begin == *b"\x7fELF" || begin.starts_with(b"#!"))
}

#[cfg(test)]
mod checks {
    use super::*;
    use crate::paths;

    #[test]
    fn the_example_folder_holds_tests_by_name() {
        let folder = paths::repository().join("tests/vm/conform");
        let tests = find(&folder, None).unwrap();
        assert!(tests.iter().any(|test| test.name == "ends/hangs" && test.area() == "ends"), "{tests:?}");
        assert!(tests.iter().all(|test| !test.name.ends_with(".md")));
        assert!(find(&folder, Some("no such test")).unwrap().is_empty());
        let job = tests[0].job(Place::Sandbox, 3);
        assert_eq!(job.timeout_ms, Some(3000));
        assert!(job.argv.iter().any(|word| word.starts_with(SHARE_DIR)));
    }
}

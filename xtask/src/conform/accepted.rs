//! Differences that are accepted: tests/vm/accepted-differences.toml.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::paths;

/// Where the list lies.
const LIST: &str = "tests/vm/accepted-differences.toml";

/// Reasons by test: the end of its path, such as `reboot/reboot01`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepted {
    #[serde(default)]
    accepted: BTreeMap<String, String>,
}

impl Accepted {
    /// Reads the list.
    ///
    /// # Errors
    /// A list that cannot be read or understood.
    pub(super) fn load() -> Result<Self> {
        let text = fs::read_to_string(paths::repository().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
        toml::from_str(&text).with_context(|| format!("cannot understand {LIST}"))
    }

    /// Why a test at `path` may differ.
    pub(super) fn reason(&self, path: &Path) -> Option<&str> {
        self.accepted.iter().find(|(end, _)| path.ends_with(end)).map(|(_, reason)| reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_named_by_the_end_of_its_path() {
        let list: Accepted = toml::from_str("[accepted]\n\"reboot/reboot01\" = \"no machine to reboot\"\n").unwrap();
        assert!(list.reason(Path::new("/ltp/syscalls/reboot/reboot01")).is_some());
        assert_eq!(list.reason(Path::new("/ltp/syscalls/reboot/reboot011")), None);
    }

    #[test]
    fn the_repositorys_list_gives_a_reason_for_each() {
        assert!(Accepted::load().unwrap().accepted.values().all(|reason| reason.len() > 10));
    }
}

//! What a step's result depends on, as a hash.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::paths;

/// Collects a step's inputs.
#[derive(Debug, Default)]
pub(crate) struct Key {
    hash: Sha256,
}

impl Key {
    /// Adds a text: a setting, a list of packages, another step's key.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.add(text.as_bytes());
        self
    }

    /// Adds a file, or all files below a directory, with their names as the repository has them: a cache serves every copy of it.
    /// What is not there counts as such.
    pub(crate) fn files(mut self, path: &Path) -> Result<Self> {
        for file in files_below(path)? {
            let name = file.strip_prefix(paths::repository()).unwrap_or(&file);
            self.add(name.to_string_lossy().as_bytes());
            let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            self.add(&content);
        }
        Ok(self)
    }

    /// The hash in hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Adds bytes with their length, so that no two lists of inputs give the same hash.
    fn add(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }
}

/// The regular files at or below `path`, in a fixed order.
pub(crate) fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(Vec::new()) };
    if meta.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    if meta.is_dir() {
        let mut entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if entry.file_name() != "target" {
                found.extend(files_below(&entry.path())?);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_boundary_matters() {
        let one = Key::default().text("ab").text("c").finish();
        let other = Key::default().text("a").text("bc").finish();
        assert_ne!(one, other);
        assert_eq!(one, Key::default().text("ab").text("c").finish());
    }
}

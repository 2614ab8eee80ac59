//! Where things lie: the repository, and the cache of what set-up made.

use std::env;
use std::path::{Path, PathBuf};

/// The repository's top folder.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository's top folder")
}

/// The cache: `$XDG_CACHE_HOME/litebox`, or else target/litebox.
pub(crate) fn cache() -> PathBuf {
    match env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(home) => PathBuf::from(home).join("litebox"),
        None => repository().join("target/litebox"),
    }
}

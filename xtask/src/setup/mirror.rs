//! The Debian mirrors of this machine, read from its own package manager's settings.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// Where Debian's packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirrors {
    /// The archive itself.
    pub(crate) main: String,
    /// Security updates; not every machine has them.
    pub(crate) security: Option<String>,
}

impl Mirrors {
    /// Reads the settings below /etc/apt.
    ///
    /// # Errors
    /// A machine that has no Debian archive configured.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let mut texts = vec![(false, fs::read_to_string("/etc/apt/sources.list").unwrap_or_default())];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            paths.sort();
            for path in paths {
                let deb822 = path.extension().is_some_and(|extension| extension == "sources");
                if deb822 || path.extension().is_some_and(|extension| extension == "list") {
                    texts.push((deb822, fs::read_to_string(&path).unwrap_or_default()));
                }
            }
        }
        let sources: Vec<Source> =
            texts.iter().flat_map(|(deb822, text)| if *deb822 { of_stanzas(text) } else { of_lines(text) }).collect();
        match choose(&sources, &release_name()) {
            Some(mirrors) => Ok(mirrors),
            None => bail!(
                "no Debian archive is configured in /etc/apt\n  set-up fetches Debian packages from the mirror that this machine uses; \
                 add one to /etc/apt/sources.list"
            ),
        }
    }

    /// Lines of a sources.list for `suites` of trixie.
    pub(crate) fn lines(&self, with_backports: bool) -> Vec<String> {
        let mut lines = vec![format!("deb {} trixie main", self.main)];
        if with_backports {
            lines.push(format!("deb {} trixie-backports main", self.main));
        }
        lines.extend(self.security.iter().map(|uri| format!("deb {uri} trixie-security main")));
        lines
    }
}

/// One entry: an address and the suites taken from it.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
}

/// The code name of the machine's release, or nothing.
fn release_name() -> String {
    let text = fs::read_to_string(Path::new("/etc/os-release")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

/// Entries of the one-line form: `deb [options] URI SUITE COMPONENT…`.
fn of_lines(text: &str) -> Vec<Source> {
    let entry = |line: &str| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        let mut words = rest.split_whitespace();
        Some(Source { uri: words.next()?.to_owned(), suites: vec![words.next()?.to_owned()] })
    };
    text.lines().filter_map(entry).collect()
}

/// Entries of the deb822 form: stanzas of fields.
fn of_stanzas(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let line = stanza.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
            Some(line.split_once(':')?.1.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        if field("enabled:").is_some_and(|value| value == ["no"]) {
            continue;
        }
        let suites = field("suites:").unwrap_or_default();
        let uris = field("uris:").unwrap_or_default();
        sources.extend(uris.into_iter().map(|uri| Source { uri, suites: suites.clone() }));
    }
    sources
}

/// The archive is what has the machine's own release; security is what has its updates.
fn choose(sources: &[Source], release: &str) -> Option<Mirrors> {
    let with = |wanted: &[&str]| {
        let found = sources.iter().find(|source| source.suites.iter().any(|suite| wanted.contains(&suite.as_str())));
        found.map(|source| source.uri.clone())
    };
    let security = format!("{release}-security");
    Some(Mirrors {
        main: with(&[release, "trixie", "stable"])?,
        security: with(&[&security, "trixie-security", "stable-security"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let stanzas = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\n\
                       Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\n";
        let lines = "# deb http://off.example x y\ndeb [signed-by=/a b=c] http://third.example other main\n";
        let mut sources = of_lines(lines);
        sources.extend(of_stanzas(stanzas));
        let mirrors = choose(&sources, "bookworm").unwrap();
        assert_eq!(mirrors.main, "http://mirror.example/debian");
        assert_eq!(mirrors.security.as_deref(), Some("http://mirror.example/security"));
        assert_eq!(sources[0].uri, "http://third.example");
    }

    #[test]
    fn a_machine_without_an_archive_has_no_mirrors() {
        assert_eq!(choose(&[], "bookworm"), None);
    }
}

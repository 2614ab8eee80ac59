//! Program files that are wrong in every way: each is run by Linux and by the module, which must say the same.
//!
//! `image` makes right files, `mutants` spoils them with a fixed seed, `files` has what is wrong outside of a file's bytes; `runner`
//! runs them by the thousand.

mod files;
mod image;
mod mutants;
mod runner;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use crate::check::{Outcome, ensure};
use crate::host::{Log, settle};
use crate::sandbox::name;

/// Where the files lie. It is the root of both sides, so that a path means the same to both.
const ROOT: &str = "/tmp/elf";
/// Differences that are shown.
const SHOWN: usize = 40;

/// A command line to be run.
#[derive(Debug)]
pub(crate) struct Case {
    /// What is wrong with it.
    what: String,
    /// The program, from [`ROOT`].
    path: CString,
    /// The arguments, each with its NUL: flat, because every child is a copy of this.
    argv: Vec<u8>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Came {
    /// The call came back.
    Errno(i32),
    /// It ran and exited.
    Exited(i32),
    /// It ran, or was beyond return, and a signal ended it.
    Signalled(i32),
    /// It did not end.
    Hung,
}

impl Came {
    fn text(self) -> String {
        match self {
            Self::Errno(errno) => name(errno),
            Self::Exited(status) => format!("exit status {status}"),
            Self::Signalled(signal) => format!("signal {signal}"),
            Self::Hung => "it does not end".into(),
        }
    }
}

/// Whether the module may answer `ours` where Linux answers `linux` for what is wrong with a file.
///
/// - Linux gives up the old program before it lays out the new one, so what it finds then (a segment that cannot be mapped) it can
///   only answer by killing, with SIGSEGV (fs/exec.c, `bprm_execve`). The module lays out the new program beside the old one and can
///   still give an error, and the launcher can say what is wrong.
/// - A first instruction outside of the file's segments is in whatever happens to be there: Linux puts its vDSO and the pages of
///   that right below a program without an interpreter, which are no code (SIGILL) or have no page (SIGBUS).
/// - The highest 256 MiB of Linux's addresses are not a guest's (core/src/mm/addr.rs, `GUEST_END`).
fn may_differ(what: &str, linux: Came, ours: Came) -> bool {
    let of_a_path = [libc::ENOENT, libc::EACCES, libc::ELOOP, libc::ENOTDIR, libc::E2BIG, libc::ENAMETOOLONG];
    match (linux, ours) {
        (Came::Signalled(libc::SIGSEGV), Came::Errno(errno)) => errno > 0 && !of_a_path.contains(&errno),
        (Came::Signalled(libc::SIGILL | libc::SIGBUS), Came::Signalled(libc::SIGSEGV)) => true,
        (Came::Exited(_), Came::Errno(libc::EINVAL)) => what.ends_with(mutants::HIGHEST),
        _ => false,
    }
}

/// Runs all cases on both sides.
pub(crate) fn run() -> Outcome {
    let cases = make()?;
    let begun = Instant::now();
    let linux = runner::natively(&cases)?;
    println!("# Linux takes {} s", begun.elapsed().as_secs());
    let log = Log::from_now()?;
    let ours = runner::sandboxed(&cases)?;
    settle(0)?;
    println!("# both take {} s", begun.elapsed().as_secs());
    let mut differences = Vec::new();
    let (mut allowed, mut kinds) = (0, BTreeMap::<Came, u32>::new());
    for (case, (linux, ours)) in cases.iter().zip(linux.into_iter().zip(ours)) {
        *kinds.entry(linux).or_default() += 1;
        if linux == ours {
            continue;
        }
        if may_differ(&case.what, linux, ours) {
            allowed += 1;
        } else {
            differences.push(format!("{}: Linux {}, sandbox {}", case.what, linux.text(), ours.text()));
        }
    }
    let shown = differences.iter().take(SHOWN).map(|line| format!("\n  {line}")).collect::<String>();
    ensure(differences.is_empty(), || format!("{} of {} cases differ:{shown}", differences.len(), cases.len()))?;
    println!("ok elf: {} command lines", cases.len());
    println!("# {allowed} of {} are an error where Linux can only kill", cases.len());
    // A generator that makes nothing but garbage would test little.
    for needed in [
        Came::Errno(libc::ENOEXEC),
        Came::Errno(libc::ENOENT),
        Came::Errno(libc::E2BIG),
        Came::Exited(42),
        Came::Exited(45),
        Came::Signalled(libc::SIGSEGV),
    ] {
        ensure(kinds.contains_key(&needed), || format!("no case natively comes to: {}", needed.text()))?;
    }
    let kinds: Vec<String> = kinds.iter().map(|(came, count)| format!("{count} × {}", came.text())).collect();
    println!("# Linux: {}", kinds.join(", "));
    log.clean()
}

/// Writes all files and lists the cases.
fn make() -> Outcome<Vec<Case>> {
    let failed = |error: std::io::Error| format!("{ROOT}: {error}");
    fs::create_dir_all(ROOT).map_err(failed)?;
    write("interpreter", &image::interpreter().bytes()).map_err(failed)?;
    write("program", &image::program().bytes()).map_err(failed)?;
    let mut cases = files::cases().map_err(failed)?;
    for (index, mutant) in mutants::all().into_iter().enumerate() {
        let file = format!("m{index}");
        write(&file, &mutant.bytes).map_err(failed)?;
        // A spoiled interpreter is asked for by a program of its own.
        let path = if mutant.is_interpreter {
            let user = format!("u{index}");
            write(&user, &image::with_interpreter(format!("/{file}").as_bytes()).bytes()).map_err(failed)?;
            user
        } else {
            file
        };
        cases.push(Case::plain(mutant.what, &path));
    }
    Ok(cases)
}

/// Writes an executable file.
fn write(name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let path = format!("{ROOT}/{name}");
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
}

impl Case {
    /// A program without arguments.
    fn plain(what: String, path: &str) -> Self {
        Self::with_arguments(what, path, &[])
    }

    /// A program with arguments.
    fn with_arguments(what: String, path: &str, arguments: &[Vec<u8>]) -> Self {
        let string = |bytes: &[u8]| CString::new(bytes).expect("the generator makes no NUL in a name");
        let path = string(format!("/{path}").as_bytes());
        let mut argv = path.as_bytes_with_nul().to_vec();
        arguments.iter().for_each(|argument| argv.extend_from_slice(string(argument).as_bytes_with_nul()));
        Self { what, path, argv }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_above_may_differ() {
        let any = |linux, ours| may_differ("program: e_entry = 0x0", linux, ours);
        assert!(any(Came::Signalled(libc::SIGSEGV), Came::Errno(libc::ENOMEM)));
        assert!(!any(Came::Signalled(libc::SIGSEGV), Came::Errno(libc::ENOENT)));
        assert!(!any(Came::Signalled(libc::SIGSEGV), Came::Exited(42)));
        assert!(!any(Came::Errno(libc::ENOEXEC), Came::Errno(libc::EINVAL)));
        assert!(!any(Came::Signalled(libc::SIGILL), Came::Errno(libc::ENOEXEC)));
        assert!(any(Came::Signalled(libc::SIGILL), Came::Signalled(libc::SIGSEGV)));
        assert!(any(Came::Signalled(libc::SIGBUS), Came::Signalled(libc::SIGSEGV)));
        assert!(!any(Came::Signalled(libc::SIGSEGV), Came::Signalled(libc::SIGILL)));
        let highest = |ours| may_differ(&format!("user: {}", mutants::HIGHEST), Came::Exited(45), ours);
        assert!(highest(Came::Errno(libc::EINVAL)) && !any(Came::Exited(45), Came::Errno(libc::EINVAL)));
        assert!(!highest(Came::Signalled(libc::SIGSEGV)));
    }

    #[test]
    fn the_same_seed_gives_the_same_mutants() {
        let (one, other) = (mutants::all(), mutants::all());
        assert!(one.len() > 2000, "{} mutants", one.len());
        assert!(one.iter().zip(&other).all(|(one, other)| one.bytes == other.bytes && one.what == other.what));
    }
}

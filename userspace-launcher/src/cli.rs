//! The command line, and the plan made of it.

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Runs a program in a sandbox of the litebox kernel module.
///
/// Without options the program sees this machine's files, a /tmp of its own in memory, and the standard input, output and error it
/// was given. It may change any file; the changes stay in memory, and are gone when it ends. Mounts are made in the order given; a
/// later one covers an earlier one. What they are mounted on is made if it is missing.
///
/// Exit status: the program's; 128+N if signal N ended it; 125 if the sandbox could not be set up; 126 if the program cannot be
/// executed; 127 if it was not found.
#[derive(Debug, Parser)]
#[command(name = "litebox-launch", version, max_term_width = 100)]
#[command(override_usage = "litebox-launch [OPTIONS] [--] PROGRAM [ARGS]...")]
struct Cli {
    /// Directory that the program sees as /; what it changes stays in memory
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Let the program change nothing in /
    #[arg(long)]
    ro_root: bool,
    /// Most bytes of changes in /, for example 512M [default: what --mem leaves]
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "ro_root")]
    root_size: Option<NonZeroU64>,
    /// Show SRC as DST, writable
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    bind: Vec<PathBuf>,
    /// Show SRC as DST, read-only
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    ro_bind: Vec<PathBuf>,
    /// Show SRC, a directory, as DST, writable; the changes stay in memory
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    tmp_overlay: Vec<PathBuf>,
    /// New, empty file system in memory at DST
    #[arg(long, value_name = "DST")]
    tmpfs: Vec<PathBuf>,
    /// Most memory, for example 512M or 2G [default: the module's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    mem: Option<NonZeroU64>,
    /// Working directory in the sandbox [default: the current one if it is there, else /]
    #[arg(long, value_name = "DIR")]
    chdir: Option<PathBuf>,
    /// Begin with an empty environment
    #[arg(long)]
    clearenv: bool,
    /// Take a variable out of the environment
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<OsString>,
    /// Set a variable, after all of --clearenv and --unsetenv
    #[arg(long, num_args = 2, value_names = ["NAME", "VALUE"])]
    setenv: Vec<OsString>,
    /// Write each system call of the program to standard error
    #[arg(long)]
    trace: bool,
    /// Give the program a terminal of its own even if standard input or output is none
    #[arg(long)]
    tty: bool,
    /// The program, looked up in PATH inside the sandbox, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// What a place shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// A directory or file of this machine.
    Host(PathBuf),
    /// A directory of this machine, and what the program changes in it.
    Overlay {
        /// The directory.
        lower: PathBuf,
        /// Most bytes of changes.
        size: Option<NonZeroU64>,
    },
    /// A new file system in memory.
    Memory,
    /// A procfs.
    Proc,
    /// The sandbox's devices.
    Dev,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where in the guest.
    pub(crate) at: PathBuf,
    /// What.
    pub(crate) show: Show,
    /// Whether the guest cannot change it.
    pub(crate) read_only: bool,
    /// Whether it is left out where the root has no such directory.
    pub(crate) optional: bool,
}

impl Place {
    /// One of the places that are there without being asked for.
    fn usual(at: &str, show: Show) -> Self {
        Self { at: at.into(), show, read_only: false, optional: true }
    }
}

/// Where the program starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cwd {
    /// There, and nowhere else.
    Asked(PathBuf),
    /// There if it exists, else in `/`.
    Inherited(PathBuf),
}

impl Cwd {
    /// The directories to try, in order.
    pub(crate) fn tries(&self) -> Vec<&Path> {
        match self {
            Self::Asked(dir) => vec![dir],
            Self::Inherited(dir) if dir == Path::new("/") => vec![dir],
            Self::Inherited(dir) => vec![dir, Path::new("/")],
        }
    }
}

/// Changes to the environment, in this order.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    clear: bool,
    unset: Vec<OsString>,
    set: Vec<(OsString, OsString)>,
}

impl Variables {
    /// Refuses what is no name: setenv(3) would, too.
    fn check(&self) -> Result<(), clap::Error> {
        let bad = |name: &&OsString| name.is_empty() || name.as_encoded_bytes().contains(&b'=');
        match self.unset.iter().chain(self.set.iter().map(|(name, _)| name)).find(bad) {
            None => Ok(()),
            Some(name) => {
                let text = format!("'{}' is no name of a variable", name.display());
                Err(Cli::command().error(clap::error::ErrorKind::ValueValidation, text))
            }
        }
    }

    /// The environment that `from` becomes.
    fn apply(&self, from: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
        let dropped = |name: &OsString| self.clear || self.unset.contains(name);
        let mut all: Vec<_> = from.filter(|(name, _)| !dropped(name)).collect();
        for (name, value) in &self.set {
            all.retain(|(known, _)| known != name);
            all.push((name.clone(), value.clone()));
        }
        all
    }
}

/// All that is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Mounts, in order.
    pub(crate) places: Vec<Place>,
    /// Most memory, in bytes.
    pub(crate) memory: Option<NonZeroU64>,
    /// Where the program starts.
    pub(crate) cwd: Cwd,
    /// Whether system calls are traced.
    pub(crate) trace: bool,
    /// Whether the program has a terminal even if the launcher has none.
    pub(crate) terminal: bool,
    /// The program's name as given, and its arguments.
    pub(crate) program: Vec<OsString>,
    /// What is changed in the environment.
    pub(crate) variables: Variables,
    /// `NAME=value` strings.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Plan {
    /// From this process's arguments, directory and environment. Ends the process with clap's message if they are wrong.
    pub(crate) fn from_command_line() -> Self {
        // clap would end with 2, which may be the program's.
        let matches = Cli::command().try_get_matches().and_then(|matches| Self::new(&matches));
        let mut plan = matches.unwrap_or_else(|error| {
            // Nothing can be done about a closed standard error.
            let _ = error.print();
            std::process::exit(if error.use_stderr() { 125 } else { 0 })
        });
        plan.environment = plan.variables.apply(std::env::vars_os());
        plan
    }

    fn new(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let cli = Cli::from_arg_matches(matches)?;
        let own_root = cli.root == Path::new("/");
        let mut asked: Vec<(usize, Place)> = Vec::new();
        // Options of different names come back in the order in which they stood.
        let at = |name| matches.indices_of(name).into_iter().flatten();
        let pairs = [("bind", &cli.bind), ("ro_bind", &cli.ro_bind), ("tmp_overlay", &cli.tmp_overlay)];
        for (name, paths) in pairs {
            for (index, pair) in at(name).step_by(2).zip(paths.chunks_exact(2)) {
                let source = pair[0].clone();
                let show = match name {
                    "tmp_overlay" => Show::Overlay { lower: source, size: None },
                    _ => Show::Host(source),
                };
                let place = Place { at: pair[1].clone(), show, read_only: name == "ro_bind", optional: false };
                asked.push((index, place));
            }
        }
        for (index, path) in at("tmpfs").zip(&cli.tmpfs) {
            asked.push((index, Place { at: path.clone(), show: Show::Memory, read_only: false, optional: false }));
        }
        asked.sort_by_key(|(index, _)| *index);
        for (_, place) in &asked {
            absolute(&place.at)?;
        }

        let root = match cli.ro_root {
            true => Show::Host(cli.root),
            false => Show::Overlay { lower: cli.root, size: cli.root_size },
        };
        let mut places = vec![
            Place { at: "/".into(), show: root, read_only: cli.ro_root, optional: false },
            Place::usual("/dev", Show::Dev),
            Place::usual("/proc", Show::Proc),
            Place::usual("/tmp", Show::Memory),
        ];
        places.extend(asked.into_iter().map(|(_, place)| place));
        let cwd = match cli.chdir {
            Some(dir) => Cwd::Asked(absolute(&dir)?.into()),
            None if own_root => {
                let here = std::env::current_dir().ok().filter(|dir| absolute(dir).is_ok());
                Cwd::Inherited(here.unwrap_or_else(|| "/".into()))
            }
            None => Cwd::Inherited("/".into()),
        };
        let set = cli.setenv.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        let variables = Variables { clear: cli.clearenv, unset: cli.unsetenv, set };
        variables.check()?;
        let (memory, trace, terminal, program) = (cli.mem, cli.trace, cli.tty, cli.program);
        Ok(Self { places, memory, cwd, trace, terminal, program, variables, environment: Vec::new() })
    }
}

/// Refuses a guest path that the module would refuse, with its name in the message.
fn absolute(path: &Path) -> Result<&Path, clap::Error> {
    use std::os::unix::ffi::OsStrExt;
    match litebox_ioctl_abi::guest_path(path.as_os_str().as_bytes()) {
        Ok(_) => Ok(path),
        Err(bad) => {
            Err(Cli::command().error(clap::error::ErrorKind::ValueValidation, format!("guest path '{}': {bad}", path.display())))
        }
    }
}

/// `512M` and the like, in bytes.
fn size(text: &str) -> Result<NonZeroU64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().map_err(|_error| "not a number of bytes, with K, M, G or T behind it if you like")?;
    let bytes = number.checked_mul(1 << shift).ok_or("more than 2^64 bytes")?;
    NonZeroU64::new(bytes).ok_or_else(|| "a sandbox needs some memory".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, clap::Error> {
        let args = [&["litebox-launch"], args].concat();
        Cli::command().try_get_matches_from(args).and_then(|matches| Plan::new(&matches))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_options_the_root_is_this_machine_s() {
        let plan = plan(&["--", "ls", "--all", "-x"]).unwrap();
        assert_eq!(plan.program, ["ls", "--all", "-x"]);
        let at: Vec<_> = plan.places.iter().map(|place| (place.at.to_str().unwrap(), place.read_only)).collect();
        assert_eq!(at, [("/", false), ("/dev", false), ("/proc", false), ("/tmp", false)]);
        assert_eq!(plan.places[0].show, Show::Overlay { lower: "/".into(), size: None });
        assert!(matches!(plan.cwd, Cwd::Inherited(_)));
    }

    #[test]
    fn mounts_keep_their_order_across_options() {
        let args =
            ["--ro-bind", "/a", "/1", "--tmpfs", "/2", "--bind", "/b", "/3", "--ro-bind", "/c", "/4", "--bind", "/d", "/5"];
        let plan = plan(&[&args[..], &["--", "true"]].concat()).unwrap();
        let at: Vec<_> = plan.places[4..].iter().map(|place| (place.at.to_str().unwrap(), place.read_only)).collect();
        assert_eq!(at, [("/1", true), ("/2", false), ("/3", false), ("/4", true), ("/5", false)]);
        assert_eq!(plan.places[6].show, Show::Host("/b".into()));
    }

    #[test]
    fn the_root_can_be_read_only_or_bounded() {
        let root = |args: &[&str]| plan(&[args, &["--", "true"]].concat()).map(|plan| plan.places[0].clone());
        let locked = root(&["--ro-root"]).unwrap();
        assert!(locked.read_only && locked.show == Show::Host("/".into()));
        let bounded = root(&["--root", "/srv", "--root-size", "1M"]).unwrap();
        assert_eq!(bounded.show, Show::Overlay { lower: "/srv".into(), size: NonZeroU64::new(1 << 20) });
        assert!(root(&["--ro-root", "--root-size", "1M"]).is_err());
    }

    #[test]
    fn the_environment_is_cleared_then_cut_then_set() {
        let after = |args: &[&str]| {
            let plan = plan(&[args, &["--", "true"]].concat()).unwrap();
            let given = [("A", "1"), ("B", "2")].map(|(name, value)| (name.into(), value.into()));
            let all = plan.variables.apply(given.into_iter());
            all.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(after(&[]), "A=1 B=2");
        assert_eq!(after(&["--setenv", "A", "3", "--unsetenv", "A", "--unsetenv", "B"]), "A=3");
        assert_eq!(after(&["--clearenv", "--setenv", "C", ""]), "C=");
        assert!(plan(&["--unsetenv", "A=1", "--", "true"]).is_err());
    }

    #[test]
    fn options_behind_the_program_are_its_own() {
        let plan = plan(&["--trace", "sh", "-c", "true", "--trace"]).unwrap();
        assert!(plan.trace && plan.program.len() == 4);
    }

    #[test]
    fn wrong_words_are_refused() {
        for args in [
            &["--"][..],
            &["--bind", "/a", "--", "true"],
            &["--tmpfs", "x", "--", "true"],
            &["--bind", "/a", "/b/../c", "--", "true"],
            &["--chdir", "x", "--", "true"],
            &["--mem", "0", "--", "true"],
            &["--mem", "x", "--", "true"],
        ] {
            assert!(plan(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let bytes = |text| size(text).map(NonZeroU64::get).ok();
        assert_eq!(
            (bytes("4096"), bytes("1K"), bytes("2m"), bytes("3G")),
            (Some(4096), Some(1024), Some(2 << 20), Some(3 << 30))
        );
        assert_eq!((bytes(""), bytes("K"), bytes("-1"), bytes("1é"), bytes("99999999T")), (None, None, None, None, None));
    }

    #[test]
    fn an_inherited_directory_may_be_missing() {
        assert_eq!(Cwd::Inherited("/a".into()).tries(), [Path::new("/a"), Path::new("/")]);
        assert_eq!(Cwd::Inherited("/".into()).tries().len(), 1);
        assert_eq!(Cwd::Asked("/a".into()).tries().len(), 1);
    }
}

//! The command line, and the plan made of it.

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Runs a program in a sandbox of the litebox kernel module.
///
/// Without options the program sees this machine's files, read-only, a /tmp of its own in memory, and the standard input,
/// output and error it was given. Mounts are made in the order given; a later one covers an earlier one.
///
/// Exit status: the program's; 128+N if signal N ended it; 125 if the sandbox could not be set up; 126 if the program cannot be
/// executed; 127 if it was not found.
#[derive(Debug, Parser)]
#[command(name = "litebox-launch", version, max_term_width = 100)]
#[command(override_usage = "litebox-launch [OPTIONS] [--] PROGRAM [ARGS]...")]
struct Cli {
    /// Directory that the program sees as /, read-only
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Show SRC as DST, writable
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    bind: Vec<PathBuf>,
    /// Show SRC as DST, read-only
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    ro_bind: Vec<PathBuf>,
    /// New, empty file system in memory at DST
    #[arg(long, value_name = "DST")]
    tmpfs: Vec<PathBuf>,
    /// Most memory, for example 512M or 2G [default: the module's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    mem: Option<NonZeroU64>,
    /// Working directory in the sandbox [default: the current one if it is there, else /]
    #[arg(long, value_name = "DIR")]
    chdir: Option<PathBuf>,
    /// Write each system call of the program to standard error
    #[arg(long)]
    trace: bool,
    /// The program, looked up in PATH inside the sandbox, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// What a place shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// A directory or file of this machine.
    Host(PathBuf),
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
    /// The program's name as given, and its arguments.
    pub(crate) program: Vec<OsString>,
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
        plan.environment = std::env::vars_os().collect();
        plan
    }

    fn new(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let cli = Cli::from_arg_matches(matches)?;
        let own_root = cli.root == Path::new("/");
        let mut asked: Vec<(usize, Place)> = Vec::new();
        // Options of different names come back in the order in which they stood.
        let at = |name| matches.indices_of(name).into_iter().flatten();
        let pairs = [("bind", &cli.bind, false), ("ro_bind", &cli.ro_bind, true)];
        for (name, paths, read_only) in pairs {
            for (index, pair) in at(name).step_by(2).zip(paths.chunks_exact(2)) {
                let place = Place { at: pair[1].clone(), show: Show::Host(pair[0].clone()), read_only, optional: false };
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

        let mut places = vec![
            Place { at: "/".into(), show: Show::Host(cli.root), read_only: true, optional: false },
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
        Ok(Self { places, memory: cli.mem, cwd, trace: cli.trace, program: cli.program, environment: Vec::new() })
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
        assert_eq!(at, [("/", true), ("/dev", false), ("/proc", false), ("/tmp", false)]);
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

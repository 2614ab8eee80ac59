//! The command line, and the plan made of it.

use crate::places::{self, Place, Show};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use litebox_ioctl_abi::{Permissions, Trap};
use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroU64};
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
pub(crate) struct Cli {
    /// Directory, or file with an erofs image, that the program sees as /; what it changes stays in memory
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Show the erofs image in FILE as DST, read-only; without DST as --root. It may be compressed with LZ4; end the options with --
    #[arg(long, num_args = 1..=2, value_names = ["FILE", "DST"])]
    pub(crate) image: Vec<PathBuf>,
    /// Let the program change nothing in /
    #[arg(long)]
    ro_root: bool,
    /// Most bytes of changes in /, for example 512M [default: what --mem leaves]
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "ro_root")]
    root_size: Option<NonZeroU64>,
    /// Show SRC as DST, writable
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    pub(crate) bind: Vec<PathBuf>,
    /// Show SRC as DST, read-only
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    pub(crate) ro_bind: Vec<PathBuf>,
    /// Show SRC, a directory, as DST, writable; the changes stay in memory
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    pub(crate) tmp_overlay: Vec<PathBuf>,
    /// Show LOWER, a directory or an erofs image, as DST, writable; the changes last, in the directory UPPER. DST may be /
    #[arg(long, num_args = 3, value_names = ["LOWER", "UPPER", "DST"])]
    pub(crate) overlay: Vec<PathBuf>,
    /// New, empty file system in memory at DST
    #[arg(long, value_name = "DST")]
    pub(crate) tmpfs: Vec<PathBuf>,
    /// Most bytes of the next --tmpfs or --tmp-overlay, for example 64M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) size: Vec<NonZeroU64>,
    /// Most files of the next --tmpfs
    #[arg(long, value_name = "N")]
    pub(crate) inodes: Vec<NonZeroU64>,
    /// Permissions, in octal, of what the next --tmpfs, --dir or --file makes
    #[arg(long, value_name = "OCTAL", value_parser = permissions)]
    pub(crate) perms: Vec<Permissions>,
    /// The sandbox's devices at DST, besides those at /dev
    #[arg(long, value_name = "DST")]
    pub(crate) dev: Vec<PathBuf>,
    /// The sandbox's processes at DST, besides /proc
    #[arg(long, value_name = "DST")]
    pub(crate) proc: Vec<PathBuf>,
    /// Make a directory, with those on the way to it
    #[arg(long, value_name = "DST")]
    pub(crate) dir: Vec<PathBuf>,
    /// Make a symbolic link to TARGET at DST
    #[arg(long, num_args = 2, value_names = ["TARGET", "DST"])]
    pub(crate) symlink: Vec<PathBuf>,
    /// Make a file at DST with what can be read of descriptor FD
    #[arg(long, num_args = 2, value_names = ["FD", "DST"])]
    pub(crate) file: Vec<PathBuf>,
    /// Most memory, for example 512M or 2G [default: the module's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    mem: Option<NonZeroU64>,
    /// Most tasks, processes and threads together [default: the module's]
    #[arg(long, value_name = "N")]
    tasks: Option<NonZeroU32>,
    /// Name of the machine as the program sees it
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    hostname: Option<String>,
    /// User and group of the program, in the sandbox; GID is UID unless given
    #[arg(long, value_name = "UID[:GID]", value_parser = parse_user, default_value = "0")]
    user: [u32; 2],
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
    /// How the program is kept in ring 3: by the kernel's own entry (ftrace), or as a hardware guest (svm: AMD, slower)
    #[arg(long, value_name = "TRAP", value_parser = trap, default_value = "ftrace")]
    trap: Trap,
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
    /// Most tasks.
    pub(crate) tasks: Option<NonZeroU32>,
    /// The machine's name.
    pub(crate) hostname: Option<String>,
    /// User and group.
    pub(crate) user: [u32; 2],
    /// Where the program starts.
    pub(crate) cwd: Cwd,
    /// How the program is kept in ring 3.
    pub(crate) trap: Trap,
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
        let image = places::root_image(matches);
        if image.is_some() && matches.value_source("root") == Some(ValueSource::CommandLine) {
            let text = "--image without a place and --root are two roots; put -- before the program";
            return Err(Cli::command().error(clap::error::ErrorKind::ArgumentConflict, text));
        }
        let root = image.unwrap_or_else(|| cli.root.clone());
        let own_root = root == Path::new("/");
        let mut asked = places::asked(matches, &cli)?;
        for place in &asked {
            absolute(&place.at)?;
        }

        let root = match cli.ro_root {
            true if root.is_file() => Show::Image(root),
            true => Show::Host(root),
            false => Show::Overlay { lower: root, size: cli.root_size },
        };
        // What was asked for at / is the root itself, or it would hide /dev and the others.
        let root = match asked.iter().rposition(|place| place.at == Path::new("/") && place.is_shown()) {
            Some(at) => Place { read_only: asked[at].read_only || cli.ro_root, ..asked.remove(at) },
            None => Place { at: "/".into(), show: root, read_only: cli.ro_root, optional: false },
        };
        let mut places = vec![
            root,
            Place::usual("/dev", Show::Dev),
            Place::usual("/proc", Show::Proc),
            Place::usual("/tmp", Show::Memory { size: None, files: None, mode: None }),
        ];
        places.extend(asked);
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
        let Cli { mem: memory, tasks, hostname, user, trap, trace, tty: terminal, program, .. } = cli;
        let environment = Vec::new();
        Ok(Self { places, memory, tasks, hostname, user, cwd, trap, trace, terminal, program, variables, environment })
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

/// Permission bits in octal.
fn permissions(text: &str) -> Result<Permissions, String> {
    let bits = u32::from_str_radix(text, 8).ok().and_then(Permissions::new);
    bits.ok_or_else(|| "no permissions in octal, such as 0755".into())
}

/// A machine's name, as sethostname(2) would take it.
fn host_name(text: &str) -> Result<String, String> {
    match text.len() {
        1..=64 if !text.contains('\0') => Ok(text.into()),
        _ => Err("a name has 1 to 64 bytes".into()),
    }
}

/// A trap's name.
fn trap(text: &str) -> Result<Trap, String> {
    match text {
        "ftrace" => Ok(Trap::Usual),
        "svm" => Ok(Trap::Svm),
        _ => Err("there are ftrace and svm".into()),
    }
}

/// `UID` or `UID:GID`.
fn parse_user(text: &str) -> Result<[u32; 2], String> {
    let id = |text: &str| text.parse().ok().filter(|id| *id != u32::MAX).ok_or("no number of a user or group");
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    Ok([id(user)?, id(group)?])
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
    fn limits_and_permissions_are_for_what_comes_next() {
        let args = ["--size", "64K", "--inodes", "9", "--perms", "0700", "--tmpfs", "/1", "--tmpfs", "/2", "--perms", "1777"];
        let more = ["--dir", "/3", "--symlink", "to", "/4", "--file", "7", "/5", "--dev", "/6", "--proc", "/7"];
        let plan = plan(&[&args[..], &more, &["--", "true"]].concat()).unwrap();
        let shows: Vec<_> = plan.places[4..].iter().map(|place| place.show.clone()).collect();
        let number = NonZeroU64::new;
        assert_eq!(
            shows,
            [
                Show::Memory { size: number(64 << 10), files: number(9), mode: Permissions::new(0o700) },
                Show::Memory { size: None, files: None, mode: None },
                Show::Directory(Permissions::new(0o1777)),
                Show::Symlink("to".into()),
                Show::Copy(7, None),
                Show::Dev,
                Show::Proc,
            ]
        );
        assert_eq!(plan.places[7].at, Path::new("/4"));
    }

    #[test]
    fn a_trap_has_a_name() {
        let trap = |args: &[&str]| plan(&[args, &["--", "true"]].concat()).map(|plan| plan.trap).ok();
        assert_eq!(trap(&[]), Some(Trap::Usual));
        assert_eq!((trap(&["--trap", "ftrace"]), trap(&["--trap", "svm"])), (Some(Trap::Usual), Some(Trap::Svm)));
        assert_eq!(trap(&["--trap", "kvm"]), None);
    }

    #[test]
    fn a_user_has_a_group() {
        let user = |text| parse_user(text).ok();
        assert_eq!((user("7"), user("7:8"), user("7:"), user("4294967295")), (Some([7, 7]), Some([7, 8]), None, None));
    }

    #[test]
    fn an_image_is_shown_at_a_place_or_is_the_root() {
        let args = ["--tmpfs", "/1", "--image", "a.erofs", "/2", "--image", "b.erofs", "--ro-bind", "/c", "/3", "--", "true"];
        let plan = plan(&args).unwrap();
        let shows: Vec<_> = plan.places.iter().map(|place| (place.at.to_str().unwrap(), place.show.clone())).collect();
        assert_eq!(shows[0], ("/", Show::Overlay { lower: "b.erofs".into(), size: None }));
        assert_eq!(shows[5], ("/2", Show::Image("a.erofs".into())));
        assert_eq!((shows[4].0, shows[6].0), ("/1", "/3"));
        assert!(plan.places[5].read_only && plan.cwd == Cwd::Inherited("/".into()));
        for wrong in [&["--image", "a", "true"][..], &["--root", "/x", "--image", "a", "--", "true"], &["--image", "--", "true"]]
        {
            assert!(self::plan(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_overlay_lasts_and_may_be_the_root() {
        let plan = plan(&["--overlay", "/a", "/u", "/1", "--overlay", "b.erofs", "/v", "/", "--", "true"]).unwrap();
        let last = |lower: &str, upper: &str| Show::Lasting { lower: lower.into(), upper: upper.into() };
        assert_eq!((plan.places[0].show.clone(), plan.places[4].show.clone()), (last("b.erofs", "/v"), last("/a", "/u")));
        assert_eq!((plan.places.len(), plan.places[1].at.to_str()), (5, Some("/dev")));
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
            &["--size", "1M", "--", "true"],
            &["--size", "1M", "--dir", "/x", "--", "true"],
            &["--perms", "0700", "--bind", "/a", "/b", "--", "true"],
            &["--perms", "7", "--perms", "8", "--dir", "/x", "--", "true"],
            &["--file", "x", "/y", "--", "true"],
            &["--hostname", "", "--", "true"],
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

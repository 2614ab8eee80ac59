//! The strings of `RUN`, packed as the module wants them: one buffer for each place where the program may be.

use crate::cli::{Cwd, Plan};
use crate::report::{Failure, Status};
use litebox_ioctl_abi::{Bad, HostObject, Run, wire};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use zerocopy::IntoBytes;

/// One request, ready to be made.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The strings; the request holds their address.
    _text: Vec<u8>,
    request: wire::Run,
}

impl Packed {
    /// Packs, and asks the module's own decoder whether it would accept.
    fn new(
        device: HostObject,
        program: &Path,
        cwd: &Path,
        args: &[OsString],
        environment: &[(OsString, OsString)],
        [uid, gid]: [u32; 2],
    ) -> Result<Self, Bad> {
        let mut text = Vec::new();
        let mut end = 0;
        let mut lens = [0; 4];
        let mut close = |text: &mut Vec<u8>, part: usize| {
            lens[part] = u32::try_from(text.len() - end).map_err(|_above| Bad::TooBig)?;
            end = text.len();
            Ok(())
        };
        string(&mut text, &[program.as_os_str()]);
        close(&mut text, 0)?;
        string(&mut text, &[cwd.as_os_str()]);
        close(&mut text, 1)?;
        for arg in args {
            string(&mut text, &[arg]);
        }
        close(&mut text, 2)?;
        for (name, value) in environment {
            string(&mut text, &[name, OsStr::new("="), value]);
        }
        close(&mut text, 3)?;
        let count = |len: usize| u32::try_from(len).map_err(|_above| Bad::TooBig);
        let request = Run::encode(device, text.as_ptr().addr() as u64, lens, [count(args.len())?, count(environment.len())?]);
        let request = wire::Run { uid, gid, ..request };
        Run::decode(request.as_bytes())?.strings(&text)?;
        Ok(Self { _text: text, request })
    }

    /// The request; valid as long as `self` is.
    pub(crate) fn request(&self) -> wire::Run {
        self.request
    }
}

/// Appends the pieces and a NUL.
fn string(text: &mut Vec<u8>, pieces: &[&OsStr]) {
    for piece in pieces {
        text.extend_from_slice(piece.as_bytes());
    }
    text.push(0);
}

/// A request for each place where the program may be, in execvp(3)'s order; the first that does not fail is it. The lookup
/// happens in the sandbox, by trying: the launcher does not know what a mount hides.
pub(crate) fn candidates(plan: &Plan, device: HostObject) -> Result<Vec<Packed>, Failure> {
    let Some(name) = plan.program.first().filter(|name| !name.is_empty()) else {
        return Err(Failure::new("cannot run '': no such file").status(Status::NOT_FOUND));
    };
    let search = plan.environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let mut packed = Vec::new();
    for cwd in plan.cwd.tries() {
        for program in places(name, search) {
            let one = Packed::new(device, &program, cwd, &plan.program, &plan.environment, plan.user).map_err(|bad| {
                let failure = Failure::new(format!("cannot run {}: {bad}", name.display()));
                match bad {
                    Bad::TooBig => failure
                        .why("arguments and environment may have 2 MiB in all, a path 4,095 bytes")
                        .cure("fewer or shorter arguments, or env -i")
                        .status(Status::NOT_EXECUTABLE),
                    _ => failure,
                }
            })?;
            packed.push(one);
        }
    }
    Ok(packed)
}

/// What tells a working directory that is not there from a program that is not: the root directory as program, which is found and refused.
/// Only for a directory that was asked for, since nothing else is tried then.
pub(crate) fn probe(plan: &Plan, device: HostObject) -> Option<Packed> {
    let Cwd::Asked(dir) = &plan.cwd else { return None };
    Packed::new(device, Path::new("/"), dir, &plan.program, &[], plan.user).ok()
}

/// Where a program of this name may be.
fn places(name: &OsStr, search: Option<&OsStr>) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.into()];
    }
    let search = search.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    // An empty entry is the working directory, and joins to the bare name.
    search.as_bytes().split(|byte| *byte == b':').map(|dir| Path::new(OsStr::from_bytes(dir)).join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(strings: &[&str]) -> Vec<OsString> {
        strings.iter().map(OsString::from).collect()
    }

    #[test]
    fn what_is_packed_is_what_the_module_reads() {
        let args = os(&["sh", "-c", "", "a b\u{e9}"]);
        let env = [("A".into(), "1=2".into()), ("EMPTY".into(), "".into())];
        let packed = Packed::new(HostObject(3), Path::new("/bin/sh"), Path::new("/home"), &args, &env, [7, 8]).unwrap();
        let run = Run::decode(packed.request().as_bytes()).unwrap();
        assert_eq!(run.text.addr, packed._text.as_ptr().addr() as u64);
        assert_eq!(run.text.len as usize, packed._text.len());
        let text = run.strings(&packed._text).unwrap();
        assert_eq!((text.program, text.cwd), (&b"/bin/sh"[..], &b"/home"[..]));
        assert!(text.args.eq(args.iter().map(|arg| arg.as_bytes())));
        assert!(text.env.eq([&b"A=1=2"[..], b"EMPTY="]));
    }

    #[test]
    fn no_environment_is_none() {
        let packed = Packed::new(HostObject(3), Path::new("x"), Path::new("/"), &os(&["x"]), &[], [0; 2]).unwrap();
        assert_eq!(Run::decode(packed.request().as_bytes()).unwrap().strings(&packed._text).unwrap().env.len(), 0);
    }

    #[test]
    fn what_the_module_would_refuse_is_refused_here() {
        let pack = |program: &str, cwd: &str, args: &[&str]| {
            Packed::new(HostObject(3), Path::new(program), Path::new(cwd), &os(args), &[], [0; 2])
                .map(|packed| packed.request().argc)
        };
        assert_eq!(pack("/x", "/", &["x"]), Ok(1));
        assert_eq!(pack("/x", "/", &[]), Err(Bad::Strings));
        assert_eq!(pack("/x", "y", &["x"]), Err(Bad::Path));
        assert_eq!(pack("/x\0", "/", &["x"]), Err(Bad::Path));
        assert_eq!(pack("/x", "/", &["x\0y"]), Err(Bad::Strings));
        assert_eq!(pack("/x", "/", &["x".repeat(3 << 20).as_str()]), Err(Bad::TooBig));
        assert_eq!(pack(&"x".repeat(4096), "/", &["x"]), Err(Bad::TooBig));
    }

    #[test]
    fn programs_are_looked_for_as_execvp_does() {
        let found = |name: &str, search| places(OsStr::new(name), search);
        assert_eq!(found("./x", Some(OsStr::new("/bin"))), [Path::new("./x")]);
        assert_eq!(found("x", Some(OsStr::new("/a:/b::"))), ["/a/x", "/b/x", "x", "x"].map(PathBuf::from));
        assert_eq!(found("x", None).len(), 3);
    }

    #[test]
    fn every_place_is_tried_in_every_directory() {
        let plan = Plan {
            places: Vec::new(),
            memory: None,
            tasks: None,
            hostname: None,
            user: [0; 2],
            cwd: Cwd::Inherited("/home".into()),
            trap: litebox_ioctl_abi::Trap::Usual,
            trace: false,
            terminal: false,
            program: os(&["x"]),
            variables: crate::cli::Variables::default(),
            environment: vec![("PATH".into(), "/a:/b".into())],
        };
        assert_eq!(candidates(&plan, HostObject(3)).unwrap().len(), 4);
        assert!(probe(&plan, HostObject(3)).is_none());
        assert!(candidates(&Plan { program: os(&[""]), ..plan }, HostObject(3)).is_err());
    }
}

//! Programs by their path: execve(2) up to the point of no return, and what runs.
//!
//! Owns: opening a program, following `#!` and `PT_INTERP`, a fresh address space with the program in it. Not here: the calls
//! themselves, what becomes of the task that makes one (`calls::process`), a sandbox's first program ([`crate::launch`]).
//! Invariants: nothing of the caller's is changed, so a failure leaves it as it was. Linux finds some failures (a segment that
//! cannot be mapped) only when the old memory is gone, and kills; here they are errors like all others.
//! Hostile input: every byte of the files, the strings. Sources: execve(2); Linux `fs/exec.c`, `fs/binfmt_script.c`.

mod running;

pub use running::{Exec, Running};

use crate::elf::{Format, Image, MAX_DEPTH, PREFIX_BYTES, Plan, Stack, StackLimits};
use crate::program::{self, Part, Start};
use crate::regs::Regs;
use crate::signal::Cpu;
use crate::task::{Ids, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use linux_raw_sys::general as raw;
use litebox_core::capabilities::Capabilities;
use litebox_core::errno;
use litebox_core::error::{Errno, Result};
use litebox_core::fs::file::File;
use litebox_core::fs::io::IoDst;
use litebox_core::fs::map::{FileSource, MapAccess};
use litebox_core::fs::mount::MountFlags;
use litebox_core::fs::path::{At, FsContext, Resolve};
use litebox_core::fs::types::{Access, Credentials, FileKind, Mode, OFlags};
use litebox_core::fs::uses::Runs;
use litebox_core::limit::Limit;
use litebox_core::mm::{AddressSpace, MapSource};
use litebox_core::platform::Platform;
use litebox_core::quota::Quota;

/// Bytes of a task's name, its NUL included: `TASK_COMM_LEN`.
const NAME_BYTES: usize = 16;

/// Whether a program may have more than its caller. See execve(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gains {
    /// It may.
    All,
    /// Only if the caller could take other users by itself: somebody who may do less than the superuser traces it.
    Own,
    /// It may not: `PR_SET_NO_NEW_PRIVS`, or a sandbox's first program.
    None,
}

/// Who starts a program, and with what.
#[derive(Clone, Debug)]
pub struct Request<'a, P: Platform> {
    /// Where its paths start.
    pub fs: FsContext<P>,
    /// For permissions.
    pub credentials: Credentials,
    /// For the auxiliary vector; a file may give others.
    pub ids: Ids,
    /// Whether a file gives nothing that its caller has not.
    pub gains: Gains,
    /// Limits of its stack.
    pub limits: StackLimits,
    /// How many areas its memory may have.
    pub areas: Arc<Limit>,
    /// What its memory is charged to.
    pub quota: Arc<Quota>,
    /// Arguments, the program's name first; without NULs.
    pub args: &'a [&'a [u8]],
    /// Environment; without NULs.
    pub env: &'a [&'a [u8]],
}

impl Gains {
    fn of<P: Cpu>(task: &Task<P>) -> Self {
        if task.process().with(|state| state.tuning.no_new_privs) {
            return Self::None;
        }
        let tracer = task.sandbox().process_of(task.sandbox().tracer_of(task.tid()));
        if tracer.is_some_and(|tracer| !tracer.credentials().can(Capabilities::SYS_PTRACE)) { Self::Own } else { Self::All }
    }
}

/// Users and groups of a program that runs from `file`. Linux: `bprm_fill_uid`, `cap_bprm_creds_from_file`.
fn ids_of<P: Platform>(request: &Request<'_, P>, file: &File<P>) -> Result<Ids> {
    let mut ids = request.ids;
    let ([real_user, user, saved_user], [real_group, group, saved_group]) = (&mut ids.users, &mut ids.groups);
    if request.gains != Gains::None && !file.place().mount().flags().contains(MountFlags::NOSUID) {
        let attr = file.place().inode().attr()?;
        if attr.mode.contains(Mode::SETUID) {
            *user = attr.uid.0;
        }
        // Without the group's right to run it, the bit once meant something else.
        if attr.mode.contains(Mode::SETGID | Mode::XGRP) {
            *group = attr.gid.0;
        }
    }
    let may = request.gains == Gains::All || (request.gains == Gains::Own && request.credentials.can(Capabilities::SETUID));
    if !may {
        (*user, *group) = (*real_user, *real_group);
    }
    (*saved_user, *saved_group) = (*user, *group);
    Ok(ids)
}

impl<'a, P: Cpu> Request<'a, P> {
    /// What `task` starts.
    pub fn of(task: &Task<P>, args: &'a [&'a [u8]], env: &'a [&'a [u8]]) -> Self {
        let process = task.process();
        let (ids, limit) = process.with(|state| (state.ids, state.limit(raw::RLIMIT_STACK)));
        Self {
            fs: task.fs(),
            credentials: task.credentials(),
            ids,
            gains: Gains::of(task),
            limits: StackLimits { stack: limit.map_or(u64::MAX, |limit| limit.soft) },
            areas: Arc::clone(&task.sandbox().shared().settings().areas),
            quota: Arc::clone(task.sandbox().quota()),
            args,
            env,
        }
    }

    /// Paths of the working directory.
    #[must_use]
    pub fn at_cwd(&self) -> At<'_, P> {
        self.fs.at_cwd(&self.credentials)
    }
}

/// A program that is ready to run.
pub struct Prepared<P: Platform> {
    /// Its memory.
    pub mm: Arc<AddressSpace<P>>,
    /// Registers of its first instruction.
    pub regs: Regs,
    /// What it is.
    pub exec: Exec<P>,
    /// Keeps others from writing to it.
    pub runs: Runs<P>,
    /// The name that its task gets, NUL-padded.
    pub name: [u8; NAME_BYTES],
    /// Whether it was named by a script.
    pub is_script: bool,
    /// As whom it runs.
    pub ids: Ids,
    /// What it may have that its caller had not.
    pub gains: Gains,
    /// Whether its files may be read by whoever runs it, as which user it is; if not, others may not look into it (`PR_SET_DUMPABLE`).
    pub dumpable: bool,
}

impl<P: Platform> fmt::Debug for Prepared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("exec", &self.exec).field("regs", &self.regs).finish_non_exhaustive()
    }
}

/// A program's file, open, which nobody can write to meanwhile.
#[derive(Debug)]
pub struct Program<P: Platform> {
    file: Arc<File<P>>,
    runs: Runs<P>,
}

/// Opens the program at `path`, to execute it.
///
/// # Errors
/// `ACCESS`: not executable by whoever asks, no regular file, or on a mount without execution. `TXTBSY`: somebody has it open for
/// writing. Those of `path_resolution(7)`.
pub fn open<P: Platform>(at: At<'_, P>, path: &[u8], how: Resolve) -> Result<Program<P>> {
    let place = at.resolve(path, how)?;
    match place.inode().kind() {
        FileKind::Regular => {}
        FileKind::Symlink => return Err(errno!(LOOP, "a symbolic link, and none is to be followed")),
        _ => return Err(errno!(ACCESS, "only regular files are executed")),
    }
    if place.mount().flags().contains(MountFlags::NOEXEC) {
        return Err(errno!(ACCESS, "nothing on this mount is executed"));
    }
    at.may(&place, Access::EXEC)?;
    let runs = Runs::begin(&place)?;
    Ok(Program { file: File::opened(place, OFlags::READ, at.credentials())?, runs })
}

/// Opens the program that a file names as its interpreter.
fn open_interpreter<P: Cpu>(request: &Request<'_, P>, path: &[u8]) -> Result<Program<P>> {
    // Unlike a path from a program, an empty one from within the kernel is the working directory.
    if path.is_empty() {
        return Err(errno!(ACCESS, "an empty path names the working directory, which is no program"));
    }
    open(request.at_cwd(), path, Resolve::FOLLOW)
}

/// A file that a program is read from.
struct Reader<'a, P: Platform>(&'a File<P>);

impl<P: Platform> Image for Reader<'_, P> {
    fn read_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        let mut done = 0usize;
        while let Some(rest) = dst.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = u64::try_from(done).ok().and_then(|done| offset.checked_add(done)).ok_or(errno!(INVAL))?;
            match self.0.read_at(at, &mut IoDst::kernel(rest))? {
                0 => break,
                read => done = done.saturating_add(read),
            }
        }
        Ok(done)
    }
}

/// Makes the memory and the registers of `program`, or of the interpreter that it names. `name` is the path that it was
/// asked for by; of an interpreter's path the request's working directory is the base.
///
/// # Errors
/// - `NOEXEC`: neither ELF nor a script, or malformed.  - `LOOP`: too many scripts that name scripts.
/// - `LIBBAD`, `IO`: the ELF interpreter is malformed or cut off.  - `TOOBIG`: arguments and environment are too large.
/// - `NOMEM`, `INVAL`: it cannot be mapped.  - `TXTBSY`: somebody has an interpreter open for writing. Those of [`open`] for an interpreter.
pub fn prepare<P: Cpu>(request: &Request<'_, P>, program: Program<P>, name: &[u8]) -> Result<Prepared<P>> {
    Stack::check(name, request.args, request.env, request.limits)?;
    let mut program = program;
    let mut readable = may_read(request, &program.file);
    // What stands before the rest of the arguments, the last first.
    let mut front: Vec<Vec<u8>> = Vec::new();
    for _ in 0..=MAX_DEPTH {
        let mut prefix = [0; PREFIX_BYTES];
        Reader(&program.file).read_at(0, &mut prefix)?;
        let script = match Format::of(&prefix)? {
            Format::Elf => return load(request, program, name, &front, readable),
            Format::Script(script) => script,
        };
        if front.is_empty() {
            push(&mut front, name)?;
        }
        if let Some(argument) = script.argument {
            push(&mut front, argument)?;
        }
        push(&mut front, script.interpreter)?;
        program = open_interpreter(request, script.interpreter)?;
        readable &= may_read(request, &program.file);
    }
    Err(errno!(LOOP, "too many scripts name scripts"))
}

fn push(list: &mut Vec<Vec<u8>>, string: &[u8]) -> Result<()> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(string.len()).map_err(|_| errno!(NOMEM))?;
    copy.extend_from_slice(string);
    list.push(copy);
    Ok(())
}

fn may_read<P: Cpu>(request: &Request<'_, P>, file: &File<P>) -> bool {
    request.at_cwd().may(file.place(), Access::READ).is_ok()
}

fn load<P: Cpu>(
    request: &Request<'_, P>,
    program: Program<P>,
    name: &[u8],
    front: &[Vec<u8>],
    readable: bool,
) -> Result<Prepared<P>> {
    let mut args: Vec<&[u8]> = Vec::new();
    let count = request.args.len().saturating_add(front.len());
    args.try_reserve_exact(count).map_err(|_| errno!(NOMEM))?;
    args.extend(front.iter().rev().map(Vec::as_slice));
    // A script's name takes the place of the first argument.
    args.extend(request.args.iter().skip(usize::from(!front.is_empty())));

    let file = &program.file;
    let pages = pages(request, file)?;
    let plan = Plan::of_program(&Reader(file))?;
    let mut readable = readable;
    let interpreter = match &plan.interpreter {
        Some(path) => {
            // It may be written to again when it is loaded.
            let Program { file, runs: _runs } = open_interpreter(request, path)?;
            readable &= may_read(request, &file);
            let plan = Plan::of_interpreter(&Reader(&file))?;
            Some((plan, self::pages(request, &file)?))
        }
        None => None,
    };
    let interpreter = interpreter.as_ref().map(|(plan, pages)| Part { plan, pages: Arc::clone(pages) });

    let mm = Arc::new(AddressSpace::new(&request.quota)?);
    mm.limit_areas(&request.areas);
    let ids = ids_of(request, file)?;
    let ([uid, euid, _], [gid, egid, _]) = (ids.users, ids.groups);
    readable &= ids.are_plain();
    let start = Start { path: name, args: &args, env: request.env, ids: [uid, euid, gid, egid], limits: request.limits };
    let started = program::load(&mm, &Part { plan: &plan, pages }, interpreter.as_ref(), &start)?;
    let exec = Exec {
        place: Arc::clone(file.place()),
        mm: Arc::downgrade(&mm),
        arguments: started.arguments,
        environment: started.environment,
        stack: started.regs.sp,
        auxv: Arc::from(started.auxv),
    };
    let (name, is_script) = (task_name(name), !front.is_empty());
    Ok(Prepared {
        mm,
        regs: started.regs,
        exec,
        runs: program.runs,
        name,
        is_script,
        ids,
        gains: request.gains,
        dumpable: readable,
    })
}

/// The pages of a program's file.
fn pages<P: Cpu>(request: &Request<'_, P>, file: &Arc<File<P>>) -> Result<Arc<dyn MapSource<P>>> {
    let path = match request.fs.path_of(file.place()) {
        Ok(path) => path,
        // In no directory: what is shown is its label.
        Err(_) => file.place().name().as_bytes().to_vec(),
    };
    match FileSource::new(file, path, MapAccess::Private) {
        Ok(source) => Ok(source),
        Err(error) if error.is(Errno::NODEV) => Err(errno!(NOEXEC, "the file cannot be mapped")),
        Err(error) => Err(error),
    }
}

/// The name of a task that runs the program at `path`: what follows the last slash, cut.
fn task_name(path: &[u8]) -> [u8; NAME_BYTES] {
    let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut name = [0; NAME_BYTES];
    for (to, from) in name.iter_mut().zip(base.iter().take(NAME_BYTES.saturating_sub(1))) {
        *to = *from;
    }
    name
}

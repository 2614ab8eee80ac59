//! /proc/sysvipc: the objects of sysvipc(7). Sources: `proc_sysvipc(5)`; Linux ipc/shm.c, sem.c, msg.c, `sysvipc_*_proc_show`.

use super::text::Text;
use crate::calls::shm;
use crate::signal::Cpu;
use crate::task::Sandbox;
use alloc::vec::Vec;
use litebox_core::error::Result;
use litebox_core::fs::types::Timestamp;

fn seconds(time: Option<Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds)
}

/// `/proc/sysvipc/sem`.
pub(super) fn sem<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    text.put(format_args!("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"))?;
    let mut from = 0u32;
    while let Some((id, status)) = sandbox.shared().semaphores().next(from) {
        let (perm, count) = (status.perm, status.count);
        let ((uid, gid), (maker, group)) = (perm.owner, perm.maker);
        text.put(format_args!(
            "{:>10} {id:>10}  {:>4o} {count:>10} {:>5} {:>5} {:>5} {:>5} {:>10} {:>10}\n",
            perm.key.0,
            perm.mode,
            uid.0,
            gid.0,
            maker.0,
            group.0,
            seconds(status.operated),
            status.changed.seconds
        ))?;
        from = id.saturating_add(1);
    }
    Ok(text.finish())
}

/// `/proc/sysvipc/msg`.
pub(super) fn msg<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    text.put(format_args!(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n"
    ))?;
    let mut from = 0u32;
    while let Some((id, status)) = sandbox.shared().messages().next(from) {
        let (perm, [sender, receiver]) = (status.perm, status.pids);
        let ([sent, received, changed], (uid, gid), (maker, group)) = (status.times.map(seconds), perm.owner, perm.maker);
        text.put(format_args!(
            "{:>10} {id:>10}  {:>4o}  {:>10} {:>10} {sender:>5} {receiver:>5} {:>5} {:>5} {:>5} {:>5} {sent:>10} {received:>10} {changed:>10}\n",
            perm.key.0, perm.mode, status.bytes, status.count, uid.0, gid.0, maker.0, group.0
        ))?;
        from = id.saturating_add(1);
    }
    Ok(text.finish())
}

/// `/proc/sysvipc/shm`. Nobody counts which pages of a segment are there.
pub(super) fn shm<P: Cpu>(sandbox: &Sandbox<P>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    text.put(format_args!(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n"
    ))?;
    let mut from = 0u32;
    while let Some((id, status)) = sandbox.shared().segments().next(from) {
        let (perm, [creator, last]) = (status.perm, status.pids);
        let ([attached, detached, changed], (uid, gid), (maker, group)) = (status.times.map(seconds), perm.owner, perm.maker);
        let mode = perm.mode | shm::state(&status);
        text.put(format_args!(
            "{:>10} {id:>10}  {mode:>4o} {:>21} {creator:>5} {last:>5}  {:>5} {:>5} {:>5} {:>5} {:>5} {attached:>10} {detached:>10} {changed:>10} {:>21} {:>21}\n",
            perm.key.0, status.size, status.attachments, uid.0, gid.0, maker.0, group.0, 0, 0
        ))?;
        from = id.saturating_add(1);
    }
    Ok(text.finish())
}

//! What the host says about the module: its references, the processes there are, memory, the log.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use crate::check::{Outcome, ensure};
use crate::sandbox::LONG;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Where the module's references are counted: one for each open device and each space of a guest.
const REFERENCES: &str = "/sys/module/litebox/refcnt";

/// The module's references.
pub(crate) fn references() -> Outcome<u64> {
    let text = read(REFERENCES)?;
    text.trim().parse().map_err(|error| format!("{REFERENCES}: {error}"))
}

/// Waits until the module has no more references than `count`.
pub(crate) fn settle(count: u64) -> Outcome {
    let limit = Instant::now() + LONG;
    loop {
        match references()? {
            found if found <= count => return Ok(()),
            found if Instant::now() > limit => return Err(format!("{found} references to the module instead of {count}")),
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The processes that have memory of their own, zombies included; kernel threads come and go.
pub(crate) fn processes() -> Outcome<Vec<u32>> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    // PF_KTHREAD, field 9 of stat; the name, field 2, may have blanks in it.
    let is_kernel_thread = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let flags = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(6)?.parse::<u32>().ok());
        flags.is_none_or(|flags| flags & 0x0020_0000 != 0)
    };
    let mut found: Vec<u32> = numbers.filter(|pid| !is_kernel_thread(pid)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Bytes that the kernel uses for itself and does not call reclaimable.
pub(crate) fn kernel_memory() -> Outcome<u64> {
    let text = read("/proc/meminfo")?;
    let counted = ["SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:", "VmallocUsed:", "SecPageTables:"];
    let kib = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let number = words.next()?.parse::<u64>().ok()?;
        counted.contains(&name).then_some(number)
    });
    Ok(1024 * kib.sum::<u64>())
}

/// Bytes that programs could have. Free pages that a processor keeps in its own lists, megabytes of them, count as well: the kernel's
/// own figure leaves them out (`proc_zoneinfo(5)`: `count` of a `pageset`).
pub(crate) fn available_memory() -> Outcome<u64> {
    let zones = read("/proc/zoneinfo")?;
    let kept = zones.lines().filter_map(|line| line.trim().strip_prefix("count:")?.trim().parse::<u64>().ok()).sum::<u64>();
    let text = read("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kib.map(|kib| 1024 * kib + PAGE * kept).ok_or_else(|| "/proc/meminfo has no MemAvailable".into())
}

/// The kernel's log from now on.
#[derive(Debug)]
pub(crate) struct Log(fs::File);

impl Log {
    /// Begins to listen.
    pub(crate) fn from_now() -> Outcome<Self> {
        let log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
        let mut log = Self(log.map_err(|error| format!("/dev/kmsg: {error}"))?);
        log.messages();
        Ok(log)
    }

    /// What has come.
    fn messages(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(length) => found.push(String::from_utf8_lossy(&record[..length]).into_owned()),
                // Older ones were overwritten before we came.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_nothing_more) => return found,
            }
        }
    }

    /// Fails if the kernel has warned, or has told of a program's fault. A sandbox's faults are its own business.
    pub(crate) fn clean(mut self) -> Outcome {
        let grave: Vec<String> = self.messages().into_iter().filter(|message| is_grave(message)).collect();
        ensure(grave.is_empty(), || format!("the kernel's log:\n{}", grave.join("\n")))
    }
}

/// Whether a record of /dev/kmsg, `PRIORITY,SEQUENCE,TIME,…;TEXT`, is a warning or worse, or tells of a fault.
fn is_grave(record: &str) -> bool {
    let (head, text) = record.split_once(';').unwrap_or_default();
    let priority = head.split(',').next().and_then(|number| number.parse::<u32>().ok());
    // The lower three bits are the level, and the others the facility: the kernel's own is 0.
    let warns = priority.is_some_and(|priority| priority < 5);
    warns || ["segfault at", "general protection", "trap "].iter().any(|words| text.contains(words))
}

/// A small file's text.
pub(crate) fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_faults_are_grave() {
        assert!(is_grave("4,339,5140900,-;litebox: a guest is kept for ever"));
        assert!(is_grave("6,339,5140900,-;a.out[9]: segfault at 8 ip 0"));
        assert!(!is_grave("6,339,5140900,-;litebox: loaded"));
        assert!(!is_grave("12,339,5140900,-;said by a program"));
    }
}

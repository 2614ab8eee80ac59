//! Capabilities: what the superuser may and others may not, each by itself. Source: capabilities(7).

use bitflags::bitflags;

bitflags! {
    /// A set of capabilities, with their names.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Capabilities: u64 {
        /// Give files away.
        const CHOWN = 1;
        /// Read, write and execute whatever a file's mode says.
        const DAC_OVERRIDE = 1 << 1;
        /// Read files and search directories whatever their modes say.
        const DAC_READ_SEARCH = 1 << 2;
        /// Do what only a file's owner may.
        const FOWNER = 1 << 3;
        /// Keep the set-id bits of files that it changes.
        const FSETID = 1 << 4;
        /// Send signals to anybody.
        const KILL = 1 << 5;
        /// Take other groups.
        const SETGID = 1 << 6;
        /// Take other users.
        const SETUID = 1 << 7;
        /// Change capabilities.
        const SETPCAP = 1 << 8;
        /// Set a file's immutable and append-only marks.
        const LINUX_IMMUTABLE = 1 << 9;
        /// Bind sockets to low ports.
        const NET_BIND_SERVICE = 1 << 10;
        /// Broadcast.
        const NET_BROADCAST = 1 << 11;
        /// Administer the network.
        const NET_ADMIN = 1 << 12;
        /// Use raw sockets.
        const NET_RAW = 1 << 13;
        /// Lock memory.
        const IPC_LOCK = 1 << 14;
        /// Use objects of System V whatever their modes say.
        const IPC_OWNER = 1 << 15;
        /// Load modules.
        const SYS_MODULE = 1 << 16;
        /// Use ports.
        const SYS_RAWIO = 1 << 17;
        /// Change the root directory.
        const SYS_CHROOT = 1 << 18;
        /// Trace anybody.
        const SYS_PTRACE = 1 << 19;
        /// Account for processes.
        const SYS_PACCT = 1 << 20;
        /// Mount, and whatever has no capability of its own.
        const SYS_ADMIN = 1 << 21;
        /// Restart the machine.
        const SYS_BOOT = 1 << 22;
        /// Raise priorities.
        const SYS_NICE = 1 << 23;
        /// Exceed limits.
        const SYS_RESOURCE = 1 << 24;
        /// Set the clock.
        const SYS_TIME = 1 << 25;
        /// Configure terminals.
        const SYS_TTY_CONFIG = 1 << 26;
        /// Make device nodes.
        const MKNOD = 1 << 27;
        /// Lease files.
        const LEASE = 1 << 28;
        /// Write to the audit log.
        const AUDIT_WRITE = 1 << 29;
        /// Configure auditing.
        const AUDIT_CONTROL = 1 << 30;
        /// Give files capabilities.
        const SETFCAP = 1 << 31;
        /// Override mandatory access control.
        const MAC_OVERRIDE = 1 << 32;
        /// Configure it.
        const MAC_ADMIN = 1 << 33;
        /// Use the kernel's log.
        const SYSLOG = 1 << 34;
        /// Wake the machine.
        const WAKE_ALARM = 1 << 35;
        /// Keep the machine from sleeping.
        const BLOCK_SUSPEND = 1 << 36;
        /// Read the audit log.
        const AUDIT_READ = 1 << 37;
        /// Observe the machine.
        const PERFMON = 1 << 38;
        /// Use BPF.
        const BPF = 1 << 39;
        /// Restore processes.
        const CHECKPOINT_RESTORE = 1 << 40;
    }
}

//! `/proc/PID/net`: the network of a sandbox, which has sockets between its own processes, and no other.
//!
//! Tables of other protocols are there with their heads, since programs that list sockets read all of them.
//! Sources: `proc_pid_net(5)`; Linux `unix_seq_show`, `dev_seq_show`, `tcp4_seq_show`.

use super::text::Text;
use super::{Who, process::Table};
use crate::signal::Cpu;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use litebox_core::errno;
use litebox_core::error::Result;
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::proc::{ProcFile, ProcId, ProcNames};
use litebox_core::fs::types::{FileKind, Gid, InodeId, Mode, Name, Uid};
use litebox_core::net::unix::{Address, SocketKind};

/// Of what a file consists.
enum Content {
    /// Always this, padded with blanks to a width, and a line's end.
    Head(&'static str, usize),
    /// The sockets.
    Sockets,
}

/// Columns of `tcp`, `udp` and `raw`.
const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const UDP: &str =
    "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
const DEV: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0";

/// The files, by name.
const FILES: [(&str, Content); 9] = [
    ("arp", Content::Head("IP address       HW type     Flags       HW address            Mask     Device", 0)),
    ("dev", Content::Head(DEV, 0)),
    ("netlink", Content::Head("sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode", 0)),
    ("packet", Content::Head("sk               RefCnt Type Proto  Iface R Rmem   User   Inode", 0)),
    ("raw", Content::Head(UDP, 0)),
    ("route", Content::Head("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT", 127)),
    ("tcp", Content::Head(TCP, 149)),
    ("udp", Content::Head(UDP, 127)),
    ("unix", Content::Sockets),
];

/// Rows of a process's directory end below this; these files are numbered from here.
const FIRST: u64 = 0x9000;
/// Of a socket that waits for connections. Linux: `__SO_ACCEPTCON`.
const LISTENS: u32 = 1 << 16;

/// The directory.
struct Files<P: Cpu>(Who<P>);

impl<P: Cpu> fmt::Debug for Files<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The names of `who`.
pub(super) fn names<P: Cpu>(who: Who<P>) -> Arc<dyn ProcNames<P>> {
    Arc::new(Files(who))
}

/// `unix`.
fn sockets<P: Cpu>(who: &Who<P>) -> Result<Vec<u8>> {
    let mut text = Text::default();
    text.bytes(b"Num       RefCount Protocol Flags    Type St Inode Path\n")?;
    for socket in who.sandbox()?.shared().unix().sockets() {
        let kind = match socket.kind() {
            SocketKind::Stream => 1,
            SocketKind::Datagram => 2,
            SocketKind::SeqPacket => 5,
        };
        let flags = if socket.is_listening() { LISTENS } else { 0 };
        let state = if socket.is_connected() { 3 } else { 1 };
        let (references, inode) = (2, socket.id().number);
        text.put(format_args!("{:016}: {references:08X} {:08X} {flags:08X} {kind:04X} {state:02X} {inode:5}", 0, 0))?;
        match socket.address() {
            Address::Unnamed => {}
            Address::Path(path) => {
                text.bytes(b" ")?;
                text.bytes(&path)?;
            }
            Address::Abstract(name) => {
                text.bytes(b" @")?;
                // A NUL would end the path.
                let shown: Vec<u8> = name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }).collect();
                text.bytes(&shown)?;
            }
        }
        text.bytes(b"\n")?;
    }
    Ok(text.finish())
}

impl<P: Cpu> ProcNames<P> for Files<P> {
    fn lookup(&self, name: Name<'_>) -> Result<InodeRef<P>> {
        let mut rows = (FIRST..).zip(&FILES);
        let (row, (_, content)) = rows.find(|(_, (known, _))| known.as_bytes() == name.as_bytes()).ok_or(errno!(NOENT))?;
        let who = self.0.clone();
        let id = InodeId { device: who.device, number: Table::number(&who, row) };
        let id = ProcId { id, mode: Mode::from_bits_retain(0o444), uid: Uid(0), gid: Gid(0) };
        let sandbox = who.sandbox()?;
        Ok(match content {
            Content::Sockets => ProcFile::readable(id, sandbox.quota(), move || sockets(&who)),
            Content::Head(head, width) => {
                ProcFile::readable(id, sandbox.quota(), move || super::text::line(format_args!("{head:<width$}\n")))
            }
        })
    }

    fn next(&self, from: u64) -> Option<(u64, Vec<u8>, u64, FileKind)> {
        let (name, _) = FILES.get(usize::try_from(from).ok()?)?;
        let number = Table::number(&self.0, FIRST.saturating_add(from));
        Some((from, name.as_bytes().to_vec(), number, FileKind::Regular))
    }
}

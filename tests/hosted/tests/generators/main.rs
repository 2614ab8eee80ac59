//! Random operations with a fixed seed: on a file, against a model of its bytes; on a tree, against the file system of the machine that
//! the test runs on. Each runs on a file system in memory and on an overlay.

mod data;
mod tree;

use litebox_core::capabilities::Capabilities;
use litebox_core::fs::inode::InodeRef;
use litebox_core::fs::memory::MemoryFs;
use litebox_core::fs::mount::{MountFlags, MountNamespace, NewMount};
use litebox_core::fs::overlay;
use litebox_core::fs::path::FsContext;
use litebox_core::fs::types::{Credentials, DeviceId, Gid, Mode, NewNode, Uid};
use litebox_core::quota::Quota;
use litebox_platform_hosted::{Hosted, Random};

const ALL: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

fn root_user() -> Credentials {
    Credentials { capabilities: Capabilities::all(), ..Credentials::default() }
}

fn memory(minor: u32) -> InodeRef<Hosted> {
    let root = NewNode { mode: ALL, uid: Uid(0), gid: Gid(0) };
    MemoryFs::new(DeviceId { major: 0, minor }, &Quota::new(64 << 20), root).expect("a root")
}

fn context(root: InodeRef<Hosted>) -> FsContext<Hosted> {
    let mount = NewMount { root, flags: MountFlags::empty(), kind: "test", source: "none".into() };
    FsContext::new(MountNamespace::new(mount, &Quota::new(64 << 20)).expect("a namespace"))
}

fn over(lower: InodeRef<Hosted>) -> FsContext<Hosted> {
    context(overlay::root(DeviceId { major: 0, minor: 3 }, &Quota::new(64 << 20), lower, &memory(2)).expect("an overlay"))
}

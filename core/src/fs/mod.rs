//! Files: what is named, opened, read and written.
//!
//! A call goes [`path`] (which place) → [`dentry`] (the place) → [`inode`] (what is there) → [`mod@file`] (opened) → a file system:
//! [`memory`], [`pipe`] and the others. [`fd_table`] gives opened files their numbers, [`mount`] puts file systems together.
//! Not here: permissions to have an address space see a page (`mm`), Linux's numbers and structures (`shim-linux`).

mod crc;
pub mod dentry;
pub mod devices;
pub mod fd_table;
pub mod file;
pub mod host;
pub mod hostdir;
pub mod image;
pub mod inode;
pub mod io;
pub mod journal;
pub mod locks;
pub mod map;
pub mod memory;
pub mod mount;
pub mod notify;
pub mod overlay;
pub mod path;
mod path_ops;
pub mod pipe;
pub mod poll;
pub mod proc;
pub mod pseudo;
pub mod types;
pub mod uses;
mod written;
pub mod xattr;

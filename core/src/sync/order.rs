//! The whole lock order, outermost first.
//!
//! | rank | lock | held around a guest copy |
//! |---|---|---|
//! | 0 | owners of futexes; a process's timers, under which processor time is asked for | yes; timers no |
//! | 1 | sandbox tasks: its tree, then the list of one process | no: it would hold up the whole sandbox |
//! | 2 | process state | yes |
//! | 3 | descriptor table | yes |
//! | 4 | file offset; a memory file's lock of writes; a pipe's reader lock; a proc file's text; a socket's reader lock | yes |
//! | 5 | a namespace's rename lock | no |
//! | 6 | directory entries: a dentry's children (two only under rank 5), a host directory's open handle; within it an overlay's copying, then its changes, then those of the layer above | no |
//! | 7 | mounts | no |
//! | 8 | address space | no: a fault takes it |
//! | 9 | a file system's pages, an image's made pages, a mapping's source | no: a fault takes it |
//! | leaf | a dentry's place, a pipe's ring, watchers, recent directories, pending signals, a task's carrier (under which it is kicked), futex waiters, file locks, a socket's state and names, an event descriptor's state, an epoll set's lists; the list of terminals, then the state of one; timers of descriptors, then the queue of all timers | no |
//!
//! Watchers nest: who is woken may wake its own watchers, as an epoll set in another does; sets cannot be nested in a circle.
//!
//! A file's end may take any of them: a terminal's master that goes hangs up a session, and so asks for rank 1. Files that were held by a
//! descriptor, a socket or a mapping are let go with no lock held.
//!
//! A copy to or from a guest may fault, and a fault takes ranks 8 and 9. The order is kept by review so far: nothing checks
//! it at run time yet.

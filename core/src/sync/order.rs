//! The whole lock order, outermost first.
//!
//! | rank | lock | held around a guest copy |
//! |---|---|---|
//! | 1 | sandbox tasks | yes |
//! | 2 | process state | yes |
//! | 3 | descriptor table | yes |
//! | 4 | file offset | yes |
//! | 5 | rename | no |
//! | 6 | directory entries | no |
//! | 7 | address space | no: a fault takes it |
//! | 8 | wait queue | no |
//!
//! A copy to or from a guest may fault, and a fault takes the address space's lock and those behind it.

//! Address spaces of guest processes: which page is where, and with which rights.

mod addr;

pub use addr::{GUEST_END, GUEST_START, GuestAddr, PAGE_BYTES, PAGE_SHIFT, PAGE_SIZE, PageRange, Prot, round_up};

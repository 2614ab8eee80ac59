// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Guest memory as the host sees it: page frames, page-table entries, faults and copies. Which page is where is not decided here.

pub(crate) mod fault;
pub(crate) mod frame;
pub(crate) mod space;
pub(crate) mod user_copy;

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! x
use kernel::prelude::*;
extern crate alloc;
mod alloc_shim;
mod sys;
module! { type: Litebox, name: "litebox", authors: ["The LiteBox-in-the-kernel authors"], description: "x", license: "Dual MIT/GPL", }
struct Litebox;
impl kernel::Module for Litebox {
    fn init(_m: &'static ThisModule) -> Result<Self> { 
        let b = alloc::boxed::Box::new(77u64);
        pr_info!("loaded {}\n", *b); Ok(Litebox) }
}

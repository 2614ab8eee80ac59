//! The hardware-guest trap: a program's ring 3 as a virtual machine that has nothing else in it.
//!
//! Each system call, fault and interrupt of such a guest is an exit of the machine, so it arrives at the host and nowhere else. This crate
//! knows the processors' structures: what they are told ([`svm::vmcb`], [`vmx::controls`]), how an exit reads ([`exit::Exit`]), the one
//! page that a guest's segments need ([`gdt`]), and the few instructions of the way in and out ([`svm::enter`]).
//! Not here: pages, pinning to a processor, interrupts of other processors, what a fault means. Those are the platform's; two platforms
//! use this crate and neither is its home.
//! Invariants: nothing allocates, panics or calls a host. An exit that nobody expects is [`exit::Exit::Dead`].
//! Hostile input: the guest's registers, and through them which exits come; the guest can write no structure of a processor's.
//! Sources: AMD APM (24593) volume 2, chapter 15, appendices B and C; Intel SDM (325384) volume 3, chapters 25 to 28, appendices A to C.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::float_arithmetic
    )
)]

#[cfg(test)]
extern crate std;

pub mod exit;
pub mod gdt;
pub mod instruction;
pub mod registers;
pub mod svm;
pub mod vmx;
pub mod xstate;

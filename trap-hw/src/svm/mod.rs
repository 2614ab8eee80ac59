//! AMD's virtualisation, SVM.

pub mod asid;
pub mod cpu;
pub mod enter;
pub mod exit;
pub mod guest;
pub mod intercept;
pub mod vmcb;

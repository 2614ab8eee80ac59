//! The VM that tests share: booted when the first needs it, and anew when one has broken it.

use anyhow::{Result, bail};

use super::report::Report;
use crate::vm::{Config, Vm};

/// After so many crashes, more of them say nothing new.
const LOST_LIMIT: u32 = 5;

/// What kernel tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// Debian's.
    Stock,
    /// The one with every checker.
    Debug,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    kernel: Kernel,
    vm: Option<Vm>,
    lost: u32,
}

impl Kernel {
    /// How much longer everything takes on this kernel.
    pub(super) fn slowness(self) -> u32 {
        match self {
            Self::Stock => 1,
            Self::Debug => 10,
        }
    }
}

impl Shared {
    /// No VM yet; it will run `kernel`.
    pub(super) fn new(kernel: Kernel) -> Self {
        Self { kernel, vm: None, lost: 0 }
    }

    /// What kernel the tests run on.
    pub(super) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The VM.
    ///
    /// # Errors
    /// A VM that does not boot, or that too many tests have broken.
    pub(super) fn vm(&mut self) -> Result<&mut Vm> {
        if self.lost == LOST_LIMIT {
            bail!("{} VMs were lost; from here on nothing is run", self.lost);
        }
        let vm = match self.vm.take() {
            Some(vm) => vm,
            None => boot(self.kernel, &Config::default())?,
        };
        Ok(self.vm.insert(vm))
    }

    /// Gives the VM up: it is of no use any more.
    pub(super) fn lose(&mut self) {
        self.lost += 1;
        self.vm = None;
    }

    /// Ends the VM, if there is one. The module must go, and the kernel's log must be clean.
    pub(super) fn close(self, report: &mut Report) {
        if let Some(vm) = self.vm {
            match vm.power_off(true) {
                Ok(()) => report.pass("vm/unload-and-clean-log", ""),
                Err(error) => report.fail("vm/unload-and-clean-log", &format!("{error:#}")),
            }
        }
    }
}

/// Boots a VM with `kernel` and the module.
///
/// # Errors
/// Those of set-up and of the boot.
pub(super) fn boot(kernel: Kernel, config: &Config) -> Result<Vm> {
    Vm::boot(&Config { module: true, debug_kernel: kernel == Kernel::Debug, ..config.clone() })
}

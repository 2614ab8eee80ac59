//! The VM that tests share: booted when the first needs it, and anew when one has broken it.

use anyhow::{Result, bail};

use super::report::Report;
use crate::setup::{Scope, Setup};
use crate::vm::{Config, Vm};
use crate::{paths, tested};

/// After so many crashes, more of them say nothing new.
const LOST_LIMIT: u32 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shared {
    vm: Option<Vm>,
    lost: u32,
}

impl Shared {
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
            None => boot(&Config::default())?,
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

/// Boots a VM with the module.
///
/// # Errors
/// Those of set-up and of the boot.
pub(super) fn boot(config: &Config) -> Result<Vm> {
    let cache = paths::cache();
    let artefacts = Setup::new(cache.clone()).ensure(Scope::Sandbox)?;
    let vm = Vm::boot(&cache, artefacts, &Config { module: true, ..config.clone() })?;
    tested::note(vm.release());
    Ok(vm)
}

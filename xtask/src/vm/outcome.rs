//! A job whose input is known and whose output is kept.

use std::thread;

use anyhow::{Result, anyhow};
use litebox_vm_init::{Ending, Job, ToVm};

use super::{Output, Vm};

/// What a job gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How it ended.
    pub(crate) ending: Ending,
    /// Its standard output.
    pub(crate) stdout: Vec<u8>,
    /// Its standard error.
    pub(crate) stderr: Vec<u8>,
}

impl Vm {
    /// Runs a job with `stdin` as its input.
    ///
    /// # Errors
    /// A VM that fails; see [`Vm::run`].
    pub(crate) fn outcome(&mut self, job: &Job, stdin: &[u8]) -> Result<Outcome> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let input = self.input();
        let mut feeding = None;
        let ending = self.run(
            job,
            |output| {
                match output {
                    Output::Stdout(bytes) => stdout.extend(bytes),
                    Output::Stderr(bytes) => stderr.extend(bytes),
                }
                Ok(())
            },
            || {
                // The job has been sent when this is first called, so its input follows it.
                feeding.get_or_insert_with(|| {
                    let (input, stdin) = (input.clone(), stdin.to_vec());
                    thread::spawn(move || -> Result<()> {
                        if !stdin.is_empty() {
                            input.send(&ToVm::Stdin(stdin))?;
                        }
                        input.send(&ToVm::StdinEnd)
                    })
                });
                Ok(())
            },
        )?;
        if let Some(feeding) = feeding {
            // The next job's messages must come after this one's.
            feeding.join().map_err(|_| anyhow!("the thread that sends input has died"))??;
        }
        Ok(Outcome { ending, stdout, stderr })
    }
}

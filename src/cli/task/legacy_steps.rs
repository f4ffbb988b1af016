//! Runs a task on a peer without durable jobs: `d` runs the steps one by one as ordinary commands.

use super::on;
use crate::args::Common;
use crate::exec::{self, Enough, Exec};
use crate::exit::{CANCELLED, CliError, NOT_STARTED};
use crate::output;
use crate::task::catalog::Step;

/// A task on one peer.
pub(super) struct Task<'a> {
    pub(super) name: &'a str,
    pub(super) steps: &'a [Step],
    /// The number of all steps, including those not in this list.
    pub(super) of: usize,
    pub(super) peer: &'a str,
}

impl Task<'_> {
    /// Runs until the end or the first step that fails; returns its code.
    pub(super) async fn run(&self, common: &Common, enough: &mut Enough) -> Result<u8, CliError> {
        let Self { name, steps, of, peer } = *self;
        for (at, step) in (1..).zip(steps) {
            let line = &step.line;
            output::say(&format!("{peer}: {name} {at}/{of} in {}: {line}", step.directory));
            let stopped =
                |why: &str| output::say(&format!("{peer}: {name} stopped at step {at} of {of}: {why}"));
            match exec::run(common, as_exec(step, peer)).await {
                // A command may handle an interrupt and exit with 0; the user wanted to end
                // everything.
                Ok(0) if at < steps.len() && enough.was_said() => {
                    stopped("it was interrupted");
                    return Ok(CANCELLED);
                }
                Ok(0) => {}
                Ok(code) => {
                    stopped(&format!("it exited {code}"));
                    return Ok(code);
                }
                Err(failure) => {
                    if failure.code == NOT_STARTED || at > 1 {
                        stopped(line);
                    }
                    return Err(failure);
                }
            }
        }
        Ok(0)
    }
}

fn as_exec(step: &Step, peer: &str) -> Exec {
    Exec {
        directory: Some(step.directory.clone()),
        sh: Some(step.line.clone()),
        env: step.env.clone().into_iter().map(Into::into).collect(),
        user: step.user.clone(),
        timeout: step.timeout,
        ..on(peer)
    }
}

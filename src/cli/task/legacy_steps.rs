//! A task on a peer whose daemon knows no durable jobs: `d` has each step run in turn, as any other command.

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
    /// How many steps there are with those that are none of these.
    pub(super) of: usize,
    pub(super) peer: &'a str,
}

impl Task<'_> {
    /// Runs it to its end, or to the first step that fails: the code of that.
    pub(super) async fn run(&self, common: &Common, enough: &mut Enough) -> Result<u8, CliError> {
        let Self { name, steps, of, peer } = *self;
        for (at, step) in (1..).zip(steps) {
            let line = &step.line;
            output::say(&format!("{peer}: {name} {at}/{of} in {}: {line}", step.directory));
            let stopped =
                |why: &str| output::say(&format!("{peer}: {name} stopped at step {at} of {of}: {why}"));
            match exec::run(common, as_exec(step, peer)).await {
                // A command may take an interrupt and end well; the person wanted all to end.
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

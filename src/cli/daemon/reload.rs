//! `d daemon reload`: has the daemon read its policy again, and says what became of that.
//!
//! Guarantee: what is said, the daemon itself has written down, of the file as it is now: the digest of
//! what it read is the file's. Nothing else is read again: for other settings there is `restart`.

use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::{Instant, timeout_at};

use super::locate::{self, LocatedDaemon, Running};
use super::start::directory_of;
use crate::args::{Common, duration};
use crate::exit::{CliError, NOT_RUNNING, OTHER};
use crate::output;
use peerbus_daemon::policy::{PolicyState, digest};
use peerbus_process::{DirectoryWatch, Signal};

/// What `d daemon reload` is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct Reload {
    /// How long it may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

/// `d daemon reload`
pub(super) async fn run(common: &Common, args: &Reload) -> Result<u8, CliError> {
    let directory = directory_of(common)?;
    let failed = |error| CliError::other(format!("watching {}: {error}", directory.display()));
    let LocatedDaemon::Runs(running) = locate::look(&directory)? else {
        return Err(CliError::new(NOT_RUNNING, format!("no daemon runs on {}", directory.display())));
    };
    let before = policy_of(&running)?;
    let watch = DirectoryWatch::of(&directory).map_err(failed)?;
    let deadline = Instant::now() + args.timeout;
    running
        .process
        .signal(Signal::HUP)
        .map_err(|error| CliError::other(format!("asking the daemon, process {}: {error}", running.pid())))?;
    loop {
        // After the watch was made, so that no change is missed.
        let now = match locate::look(&directory)? {
            LocatedDaemon::Runs(now) if now.identity == running.identity => now,
            _ => return Err(CliError::other(format!("the daemon, process {}, has ended", running.pid()))),
        };
        let policy = policy_of(&now)?;
        if policy.reads > before.reads && policy.digest == digest(&policy.path) {
            return conclude(&now, &policy);
        }
        let changed = async {
            tokio::select! {
                changed = watch.changed() => changed,
                ended = now.process.ended() => ended,
            }
        };
        match timeout_at(deadline, changed).await {
            Ok(changed) => changed.map_err(failed)?,
            Err(_) => {
                let why = format!(
                    "it was asked to, and has not read it within {:?} ({})",
                    args.timeout,
                    now.doing()
                );
                return Err(CliError::other(format!("policy {}: {why}", policy.path.display())));
            }
        }
    }
}

fn policy_of(running: &Running) -> Result<PolicyState, CliError> {
    let known = running.state.as_ref().and_then(|state| state.policy.clone());
    known.ok_or_else(|| {
        let next = "it is an older one, or has just been started: `d daemon restart`, or try again";
        CliError::other(format!("the daemon, process {}, says nothing of a policy; {next}", running.pid()))
    })
}

fn conclude(running: &Running, policy: &PolicyState) -> Result<u8, CliError> {
    let path = policy.path.display();
    match (&policy.mistake, policy.rules) {
        (Some(mistake), _) => {
            Err(CliError::new(OTHER, format!("policy {path}: {mistake}; the rules stay as they were")))
        }
        (None, rules) => {
            let policy = rules
                .map_or_else(|| "policy=none".to_owned(), |rules| format!("policy={path} rules={rules}"));
            output::line(&format!("reloaded {} {policy}", running.facts()))?;
            Ok(0)
        }
    }
}

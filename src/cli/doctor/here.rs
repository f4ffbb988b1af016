//! This machine: its configuration, who may read it, and its daemon.

use std::path::{Path, PathBuf};

use super::check::{Check, Report};
use crate::args::Common;
use crate::connect::is_refused;
use crate::render::without_secrets;
use crate::settings::file::File;
use crate::settings::{Settings, own_config};
use crate::status;
use peerbus_bus as bus;
use peerbus_daemon::state::{self, DaemonState, OffTheBus, ReadError, RunState};
use peerbus_process::host;

const HERE: &str = "here";

/// Access rights of others than the owner.
const OTHERS: u32 = 0o077;

/// Looks at this machine.
pub(super) async fn look(common: &Common, report: &mut Report) {
    let file = own_config(common);
    match Settings::read(common) {
        Ok(settings) => {
            report.add(configuration(&file));
            report.add(rights(&file, &settings));
            report.add(network(&settings).await);
            report.add(daemon(common, &settings.state_dir()).await);
            report.add(program(&settings.state_dir()));
        }
        Err(failure) => {
            let next = "mend the file; `d config show` says when it is right";
            report.add(Check::fail(HERE, "configuration", failure.message, next));
        }
    }
}

fn configuration(file: &Path) -> Check {
    let there = if file.exists() { "" } else { " (there is none: defaults)" };
    Check::pass(HERE, "configuration", format!("{}{there}", file.display()))
}

/// What holds secrets is its owner's alone.
fn rights(file: &Path, settings: &Settings<'_>) -> Check {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let secret = without_secrets(&text) != text;
    let state_dir = settings.state_dir();
    let File { creds, daemon_creds, fleet_keys, .. } = &settings.file;
    let kept = [creds, daemon_creds, fleet_keys].into_iter().flatten().map(PathBuf::as_path);
    let mut watched = kept.chain([state_dir.as_path()]).chain(secret.then_some(file));
    let open = |path: &Path| host::mode_of(path).is_ok_and(|mode| mode & OTHERS != 0);
    match watched.find(|path| open(path)) {
        Some(path) => {
            let path = path.display();
            let next = format!("`chmod go= {path}`");
            Check::fail(HERE, "file rights", format!("{path}: others than its owner may use it"), next)
        }
        None => Check::pass(HERE, "file rights", "what holds secrets or the journal is its owner's alone"),
    }
}

/// Where nobody is asked who they are, the network is the boundary.
async fn network(settings: &Settings<'_>) -> Check {
    const NAME: &str = "network";
    let bus = match settings.bus("d") {
        Ok(bus) => bus,
        Err(failure) => return Check::skip(HERE, NAME, failure.message),
    };
    if bus.credentials.are_an_identity() {
        return Check::pass(HERE, NAME, "the bus is joined with an identity");
    }
    match bus::public_server(&bus.address).await {
        None => Check::pass(HERE, NAME, format!("{} is on this machine or a private network", bus.address)),
        Some(public) if settings.trusts_the_network() => {
            let next =
                "give the fleet identities (`d init`), or unset trusted_network and use a private network";
            let detail =
                format!("{public}, and nobody is asked who they are there; trusted_network allows it");
            Check::fail(HERE, NAME, detail, next)
        }
        Some(public) => {
            let next = "`creds` gives it an identity; or name the bus by an address in a private network";
            Check::fail(HERE, NAME, format!("{public}; a daemon without an identity does not join it"), next)
        }
    }
}

async fn daemon(common: &Common, state_dir: &Path) -> Check {
    let found = match state::read(state_dir) {
        Ok(state) => state.truth(),
        Err(ReadError::Missing(_)) => {
            return Check::skip(HERE, "daemon", format!("none was ever started on {}", state_dir.display()));
        }
        Err(error) => {
            let next = "`d daemon status` and the daemon's log tell more";
            return Check::fail(HERE, "daemon", error.to_string(), next);
        }
    };
    let who = format!("{} {}", found.role.as_str(), found.peer_id);
    if found.state != RunState::Ready {
        let next = "`d daemon start` (`systemctl start peerbus` where it is installed as a unit)";
        return Check::fail(HERE, "daemon", format!("{who} is not ready: {}", found.state_reason), next);
    }
    if let Some(OffTheBus { since, why }) = &found.off_the_bus {
        let next = match is_refused(why) {
            true => {
                "the bus does not let this machine in: `d identities` where the fleet's keys are says whether it was revoked"
            }
            false => "is the network up (`wg show`), and is a nats-server running there?",
        };
        let since = crate::time::local_time(since);
        return Check::fail(HERE, "daemon", format!("{who} is off the bus since {since}: {why}"), next);
    }
    match status::look(common).await {
        Ok(own) if own.connected => {
            Check::pass(HERE, "daemon", format!("{who} is ready, and the leader hears it"))
        }
        Ok(status::LocalDaemon { unasked: Some(why), .. }) => {
            Check::skip(HERE, "daemon", format!("{who} is ready; whether the leader hears it: {why}"))
        }
        _ => {
            let next =
                "is the leader running, and on the same bus? `d status` shows which bus the daemon uses";
            Check::fail(HERE, "daemon", format!("{who} is ready, but no leader hears it"), next)
        }
    }
}

/// Whether the daemon runs what lies where it was started from.
fn program(state_dir: &Path) -> Check {
    const NAME: &str = "program";
    let running =
        state::read(state_dir).ok().map(DaemonState::truth).filter(|state| state.state == RunState::Ready);
    let Some(DaemonState { version, program: Some(program), .. }) = running else {
        return Check::skip(HERE, NAME, "no daemon is ready that says what it was started from");
    };
    let path = program.path.display();
    match &program.next {
        Some(next) if next.is_refused => {
            let next_step = format!(
                "put a program there that starts (the one before may be {path}.previous), or `d daemon upgrade --from FILE`"
            );
            Check::fail(HERE, NAME, status::versions(&version, Some(next)), next_step)
        }
        next => Check::pass(HERE, NAME, format!("{path}, {}", status::versions(&version, next.as_ref()))),
    }
}

//! `d daemon status`: whether the daemon runs, and how.
//!
//! Exits 0 when it serves, 3 when it does not run, and 1 when it is on its way, off the bus, or nobody can say.

use clap::Args as ClapArgs;
use serde::Serialize;

use super::detached::log_path;
use super::locate::{self, LocatedDaemon, Running};
use super::unit::Unit;
use crate::args::Common;
use crate::exit::{CliError, NOT_RUNNING, OTHER};
use crate::output::Table;
use crate::settings::Settings;
use crate::{output, status, time};
use peerbus_daemon::self_upgrade::UpgradeOutcome;
use peerbus_daemon::state::{DaemonState, OffTheBus, RunState, SupervisedBy};

/// What `d daemon status` is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct DaemonStatus {
    /// As JSON: one object in one line
    #[arg(long)]
    json: bool,
}

/// What is shown, under the keys of the JSON. What is not known is null.
#[derive(Debug, Serialize)]
struct Report {
    running: bool,
    /// Whether it serves now: ready, and not known to be off the bus.
    ready: bool,
    /// `starting`, `ready`, `stopping`, `stopped`, `failed`, or `never_started`.
    state: String,
    /// Why; of a daemon that does not run, why it ended.
    reason: Option<String>,
    /// Since when it is in that state, UTC.
    since: Option<String>,
    pid: Option<u32>,
    peer_id: Option<String>,
    role: Option<String>,
    nats: Option<String>,
    /// Whether it answers over the bus.
    on_the_bus: Option<bool>,
    /// Whether the leader hears it.
    connected_to_leader: Option<bool>,
    version: Option<String>,
    /// The file it was started from.
    program: Option<String>,
    /// The other version it knows of.
    next: Option<UpgradeOutcome>,
    /// `systemd`, `detached` or `foreground`.
    run_by: Option<SupervisedBy>,
    /// What systemd says of its unit, where there is one.
    unit: Option<String>,
    state_dir: String,
    /// The log file, where there is one.
    log: Option<String>,
}

/// `d daemon status`
pub(super) async fn run(common: &Common, args: &DaemonStatus) -> Result<u8, CliError> {
    let settings = Settings::read(common)?;
    let directory = locate::state_dir(&settings);
    let unit = Unit::installed()?.map(|unit| unit.words());
    let (running, state) = match locate::look(&directory)? {
        LocatedDaemon::Runs(running) => (Some(running), None),
        LocatedDaemon::Not(last) => (None, last),
    };
    let mut report = report(running.as_ref(), state.as_ref());
    report.unit = unit;
    report.state_dir = directory.display().to_string();
    report.log =
        Some(log_path(&directory)).filter(|path| path.exists()).map(|path| path.display().to_string());
    if let Some(state) = running.and_then(|running| running.state) {
        let off_the_bus = state.off_the_bus.clone();
        let own = status::ask(common, &settings, state).await?;
        if own.unasked.is_none() {
            report.on_the_bus = Some(own.on_the_bus);
            report.connected_to_leader = Some(own.connected);
        }
        report.note_bus(off_the_bus.as_ref());
    }
    if args.json {
        output::json(&report)?;
    } else {
        output::table(&facts(&report))?;
    }
    Ok(match (report.running, report.ready) {
        (true, true) => 0,
        (true, false) => OTHER,
        (false, _) => NOT_RUNNING,
    })
}

impl Report {
    /// Whether it has the bus: its own word where it has lost it, else what an echo has shown.
    fn note_bus(&mut self, off: Option<&OffTheBus>) {
        if let Some(OffTheBus { since, why }) = off {
            self.on_the_bus = Some(false);
            self.connected_to_leader = Some(false);
            self.since = Some(since.clone());
            self.reason = Some(format!("off the bus: {why}"));
        } else if self.ready && self.on_the_bus == Some(false) {
            self.reason = Some("it gave no answer over the bus".to_owned());
        }
        self.ready &= self.on_the_bus != Some(false);
    }
}

fn report(running: Option<&Running>, last: Option<&DaemonState>) -> Report {
    let state = running.and_then(|running| running.state.as_ref()).or(last);
    let word = match (running, state) {
        (_, Some(state)) => status::word(state.state),
        (Some(_), None) => status::word(RunState::Starting),
        (None, None) => "never_started",
    };
    let program = state.and_then(|state| state.program.as_ref());
    Report {
        running: running.is_some(),
        ready: running.is_some_and(Running::is_ready),
        state: word.to_owned(),
        reason: state.map(|state| state.state_reason.clone()),
        since: state.map(|state| state.since.clone()),
        pid: running.map(Running::pid),
        peer_id: state.map(|state| state.peer_id.to_string()),
        role: state.map(|state| state.role.as_str().to_owned()),
        nats: state.map(|state| state.nats.clone()),
        on_the_bus: None,
        connected_to_leader: None,
        version: state.map(|state| state.version.clone()),
        program: program.map(|program| program.path.display().to_string()),
        next: program.and_then(|program| program.next.clone()).filter(|_| running.is_some()),
        run_by: state.and_then(|state| state.run_by),
        unit: None,
        state_dir: String::new(),
        log: None,
    }
}

fn facts(report: &Report) -> Table {
    let yes = |yes: bool, good: &str, bad: &str| if yes { good.to_owned() } else { bad.to_owned() };
    let reason = report.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let run_by = report.run_by.map(|by| match by {
        SupervisedBy::Systemd => "by systemd",
        SupervisedBy::Detached => "detached, by `d daemon start`",
        SupervisedBy::Foreground => "in the foreground, by `d daemon run`",
    });
    let facts = [
        ("daemon", Some(yes(report.running, "runs", "does not run"))),
        ("state", Some(format!("{}{reason}", report.state.replace('_', " ")))),
        ("since", report.since.as_deref().map(time::local_time)),
        ("process", report.pid.map(|pid| pid.to_string())),
        ("peer", report.peer_id.clone()),
        ("role", report.role.clone()),
        ("bus", report.nats.clone()),
        ("on the bus", report.on_the_bus.map(|on| yes(on, "yes", "no"))),
        ("leader", report.connected_to_leader.map(|heard| yes(heard, "hears us", "does not hear us"))),
        ("version", report.version.as_ref().map(|version| status::versions(version, report.next.as_ref()))),
        ("program", report.program.clone()),
        ("run", run_by.map(str::to_owned)),
        ("unit", report.unit.clone()),
        ("files", Some(report.state_dir.clone())),
        ("log", report.log.clone()),
    ];
    let mut table = Table::of_facts();
    for (name, fact) in facts {
        fact.into_iter().for_each(|fact| table.fact(name, fact));
    }
    table
}

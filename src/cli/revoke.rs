//! `d revoke`: an identity loses access, and every member refuses it.
//!
//! The revocation is recorded first and is permanent. Then the server is told, which closes the
//! connections, and then the members. If either is unreachable, the leader's daemon retries; this
//! is reported, and the exit code is not 0.

use std::time::Duration;

use clap::Args as ClapArgs;
use futures::stream::StreamExt;

use super::args::Common;
use super::connect::{connect, must_see_jobs};
use super::exit::{BUS_UNREACHABLE, CliError, OTHER};
use super::jobs::Found;
use super::settings::Settings;
use super::{keys, output};
use peerbus_bus::{Bus, Credentials};
use peerbus_client::{control, jobs};
use peerbus_leader::fleet::{PushError, push, tell};
use peerbus_protocol::PeerId;
use peerbus_protocol::identity::Name;
use peerbus_protocol::jobs::JobQuery;

/// Timeout until one job has ended.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// What `d revoke` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d revoke vps          a machine that was lost\n  d revoke alice        a person; an invitation that is still open, too\n  d revoke alice --stop-jobs  and what she has left running\n\nDurable jobs go on without who started them: those that still run are shown, as far as their peers answer."
)]
pub(super) struct Revoke {
    /// Whose identity, or open invitation, it is
    #[arg(value_parser = keys::name)]
    name: Name,
    /// Stop the durable jobs that it has left running
    #[arg(long)]
    stop_jobs: bool,
}

/// `d revoke`
pub(super) async fn run(common: &Common, args: Revoke) -> Result<u8, CliError> {
    let Revoke { name, stop_jobs } = args;
    let authority = keys::open(common)?;
    let settings = Settings::read(common)?;
    if let Ok(Credentials::Identity(own)) = settings.daemons_credentials()
        && own.own().standing.is_machine()
        && own.own().name == name
    {
        return Err(CliError::usage(format!(
            "{name} is this machine, which has the fleet's keys: without it nobody could be invited or revoked"
        )));
    }
    let address = settings.address()?;
    let account = authority.revoke(&name).map_err(|error| keys::failed(&error))?;
    let told = async {
        push(&address, &authority, &account).await?;
        tell(&address, &authority, &account).await
    };
    told.await.map_err(|error| {
        let code = if matches!(error, PushError::Bus(_)) { BUS_UNREACHABLE } else { OTHER };
        CliError::new(
            code,
            format!(
                "{name} is revoked in the fleet's books, and the fleet was not told: {error}; the leader's daemon tells \
                 it as soon as it can, and `d revoke {name}` tries again"
            ),
        )
    })?;
    output::line(&format!("revoked {name}: the server has dropped its connections, and the fleet was told"))?;
    let asked = async {
        let bus = connect(common).await?;
        let (left, silent) = left_running(&bus, &name).await?;
        Ok::<_, CliError>((bus, left, silent))
    };
    match asked.await {
        Ok((bus, left, silent)) => {
            let stopped = see_to(&bus, &name, &left, stop_jobs).await?;
            for peer in &silent {
                output::say(&format!("{peer} gave no answer; whether {name} has jobs there is not known"));
            }
            Ok(if stopped && (silent.is_empty() || !stop_jobs) { 0 } else { OTHER })
        }
        Err(failure) => {
            let next = "`d jobs`, as an operator, shows what runs";
            output::say(&format!("which jobs of {name} still run is not known: {}; {next}", failure.message));
            Ok(if stop_jobs { OTHER } else { 0 })
        }
    }
}

/// The running durable jobs of an identity, and the peers that did not answer.
async fn left_running(bus: &Bus, name: &Name) -> Result<(Vec<Found>, Vec<PeerId>), CliError> {
    must_see_jobs(bus)?;
    let rows = super::peers::all(bus).await?;
    let (online, away): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.is_online);
    let mut silent: Vec<PeerId> = away.into_iter().map(|row| row.peer_id).collect();
    let mut left = Vec::new();
    let query = JobQuery::default();
    let online = online.into_iter().map(|row| row.peer_id).collect();
    let mut coming = std::pin::pin!(jobs::of_all(bus, online, &query));
    while let Some((peer, answer)) = coming.next().await {
        match answer {
            Ok(all) => left.extend(
                all.into_iter()
                    .filter(|job| job.durable && job.principal.as_ref() == Some(name))
                    .map(|job| Found { peer: peer.clone(), job }),
            ),
            Err(_) => silent.push(peer),
        }
    }
    silent.retain(|peer| peer.as_str() != name.as_str());
    Ok((left, silent))
}

/// Lists the jobs, and stops them if requested; returns whether all requested jobs were stopped.
async fn see_to(bus: &Bus, name: &Name, left: &[Found], stop_jobs: bool) -> Result<bool, CliError> {
    let mut all_stopped = true;
    for Found { peer, job } in left {
        let (short, command) = (job.id.short(), &job.command);
        let what = format!("{peer}/{short}  {command}");
        if !stop_jobs {
            output::line(&format!("still runs: {what}"))?;
            continue;
        }
        match control::stop(bus, peer, job.id, &format!("{name} was revoked"), STOPPED_WITHIN).await {
            Ok(_) => output::line(&format!("stopped: {what}"))?,
            Err(error) => {
                all_stopped = false;
                output::say(&format!("not stopped: {what}: {}", error));
            }
        }
    }
    if !stop_jobs && !left.is_empty() {
        output::say(&format!("`d revoke {name} --stop-jobs` stops what it has left running"));
    }
    Ok(all_stopped)
}

//! Joining the bus for one command line.

use super::args::Common;
use super::exit::{BUS_UNREACHABLE, CliError, REFUSED};
use super::settings::{MACHINES_CONFIG, Settings, machines_config_is_hidden, variable};
use peerbus_bus::{Bus, ReconnectPolicy, Signing};
use peerbus_protocol::attach::Within;
use peerbus_protocol::exec::{JOB_VARIABLE, PEER_VARIABLE};
use peerbus_protocol::identity::Standing;

/// What is said where the leader is needed and cannot be asked.
pub(super) const NO_LEADER: &str = "Not connected to leader";

/// Connects, or says why not within the time that was given.
pub(super) async fn connect(common: &Common) -> Result<Bus, CliError> {
    let settings = Settings::read(common)?.bus("d")?;
    let address = settings.address.to_string();
    let own = settings.member().map(|member| member.own().name.clone());
    let bus = Bus::open(settings, ReconnectPolicy::FirstAttemptCounts);
    bus.connected(common.connect_timeout).await.map_err(|error| {
        let said = error.to_string();
        let next = match own {
            Some(own) if is_refused(&said) => {
                format!("the identity of {own} was revoked, has expired, or is of another fleet")
            }
            None if is_refused(&said) => NO_CREDENTIALS.to_owned(),
            _ if machines_config_is_hidden() => format!(
                "{MACHINES_CONFIG} is not for you to read, so nothing says where the bus of this machine is: --nats or \
                 NATS_URL names it"
            ),
            _ => "is a nats-server running there, and is --nats or NATS_URL right?".to_owned(),
        };
        let what = if said.contains(&address) {
            said
        } else {
            format!("connecting to the bus at {address}: {said}")
        };
        CliError::new(BUS_UNREACHABLE, format!("bus unreachable: {what}; {next}"))
            .in_known_words_for_seeds(NO_LEADER)
    })?;
    Ok(bus)
}

/// What helps where a server is there and does not let in who comes with nothing, or with the wrong thing.
const NO_CREDENTIALS: &str = "a nats-server runs there and wants to know who connects. A managed broker has a token, \
     which `d` reads by itself for the user its daemon runs as (and root); others put it into the URL, \
     nats://TOKEN@HOST:PORT. A fleet with identities wants an invitation: `d join TOKEN`";

/// The job that this `d` was started in, where it was: what it prints, that one prints.
pub(super) fn own_job() -> Option<Within> {
    let peer = variable(PEER_VARIABLE)?.parse().ok()?;
    let job = variable(JOB_VARIABLE)?.parse().ok()?;
    Some(Within { peer, job })
}

/// Whether a server answered, and did not let us in.
pub(super) fn is_refused(said: &str) -> bool {
    said.to_lowercase().contains("authori")
}

/// Refuses to see and steer jobs to whom no peer would let, where that is known here.
pub(super) fn must_see_jobs(bus: &Bus) -> Result<(), CliError> {
    match bus.member().map(Signing::own) {
        Some(own) if own.standing != Standing::Operator => Err(CliError::new(
            REFUSED,
            format!("refused: only operators may see the jobs, and {} ({}) is none", own.name, own.standing),
        )),
        _ => Ok(()),
    }
}

/// Refuses what only an operator may do, where that is known here: the bus would not even carry it.
pub(super) fn must_be_an_operator(bus: &Bus) -> Result<(), CliError> {
    match bus.member().map(Signing::own) {
        Some(own) if own.standing == Standing::Inspector => Err(CliError::new(
            REFUSED,
            format!("refused: {} is an inspector, who may look and change nothing", own.name),
        )),
        _ => Ok(()),
    }
}

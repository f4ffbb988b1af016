//! Joining the bus for one command line.

use super::args::Common;
use super::exit::{BUS_UNREACHABLE, Failure, REFUSED};
use super::settings::Settings;
use crate::bus::{Bus, Member, Persistence};
use crate::protocol::identity::Standing;

/// What is said where the leader is needed and cannot be asked.
pub(super) const NO_LEADER: &str = "Not connected to leader";

/// Connects, or says why not within the time that was given.
pub(super) async fn connect(common: &Common) -> Result<Bus, Failure> {
    let settings = Settings::read(common)?.bus("d")?;
    let address = settings.address.to_string();
    let own = settings.member().map(|member| member.own().name.clone());
    let bus = Bus::open(settings, Persistence::FirstAttemptCounts);
    bus.connected(common.connect_timeout).await.map_err(|error| {
        let said = error.to_string();
        let next = match own {
            Some(own) if said.contains("authorization") => {
                format!("the identity of {own} was revoked, has expired, or is of another fleet")
            }
            _ => "is a nats-server running there, and is --nats or NATS_URL right?".to_owned(),
        };
        let what = if said.contains(&address) {
            said
        } else {
            format!("connecting to the bus at {address}: {said}")
        };
        Failure::new(BUS_UNREACHABLE, format!("bus unreachable: {what}; {next}"))
            .in_known_words_for_seeds(NO_LEADER)
    })?;
    Ok(bus)
}

/// Refuses to see and steer jobs to whom no peer would let, where that is known here.
pub(super) fn must_see_jobs(bus: &Bus) -> Result<(), Failure> {
    match bus.member().map(Member::own) {
        Some(own) if own.standing != Standing::Operator => Err(Failure::new(
            REFUSED,
            format!("refused: only operators may see the jobs, and {} ({}) is none", own.name, own.standing),
        )),
        _ => Ok(()),
    }
}

/// Refuses what only an operator may do, where that is known here: the bus would not even carry it.
pub(super) fn must_be_an_operator(bus: &Bus) -> Result<(), Failure> {
    match bus.member().map(Member::own) {
        Some(own) if own.standing == Standing::Inspector => Err(Failure::new(
            REFUSED,
            format!("refused: {} is an inspector, who may look and change nothing", own.name),
        )),
        _ => Ok(()),
    }
}

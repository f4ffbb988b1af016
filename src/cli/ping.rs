//! `d ping`: the round trip to a peer's daemon.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::args::{Common, duration, peer_name};
use super::connect::connect;
use super::exit::{CliError, OFFLINE, TIMED_OUT};
use super::output;
use peerbus_bus::{Bus, BusError};
use peerbus_client::peers::{PingError, ping};
use peerbus_protocol::PeerId;
use peerbus_protocol::heartbeat::Heartbeat;

/// What `d ping` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct Ping {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    peer: String,
    /// How many times
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// How long to wait for each answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    timeout: Duration,
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// `d ping`
pub(super) async fn run(common: &Common, args: &Ping) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    let mut peer = super::exec::target(&bus, &args.peer).await?;
    for _ in 0..args.count {
        let (beat, took) = answer(&bus, args, &mut peer).await?;
        let ms = took.as_secs_f64() * 1000.0;
        let Heartbeat { instance, daemon_version, hostname, jobs, .. } = beat;
        if args.json {
            output::json(&serde_json::json!({
                "peer_id": peer, "ms": ms, "instance": instance, "daemon_version": daemon_version,
            }))?;
        } else {
            output::line(&format!(
                "{peer}: {ms:.3} ms (peerbus {daemon_version} on {hostname}, {jobs} jobs)"
            ))?;
        }
    }
    Ok(0)
}

/// One answer, and the time it took. Where nobody has the word that was typed as an id, the peer
/// becomes the one whose hostname or address it is.
async fn answer(bus: &Bus, args: &Ping, peer: &mut PeerId) -> Result<(Heartbeat, Duration), CliError> {
    loop {
        match ping(bus, peer, args.timeout).await {
            Ok(answer) => return Ok(answer),
            Err(PingError::Bus(BusError::NoResponders(_))) => {
                *peer = super::exec::elsewhere(bus, &args.peer, peer).await?;
            }
            Err(error @ PingError::Bus(BusError::Timeout { .. })) => {
                return Err(CliError::new(TIMED_OUT, format!("timed out: {peer}: {error}")));
            }
            Err(error) => return Err(CliError::new(OFFLINE, format!("no answer: {peer}: {error}"))),
        }
    }
}

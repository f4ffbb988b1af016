//! `d ping`: the round trip to a peer's daemon.

use std::time::Duration;

use super::args::{Common, Ping};
use super::connect::connect;
use super::exit::{Failure, OFFLINE, TIMED_OUT};
use super::output;
use crate::bus::{Bus, BusError};
use crate::client::peers::{PingError, ping};
use crate::protocol::PeerId;
use crate::protocol::heartbeat::Heartbeat;

/// `d ping`
pub(super) async fn run(common: &Common, args: &Ping) -> Result<u8, Failure> {
    let bus = connect(common).await?;
    let mut peer = super::exec::target(&bus, &args.peer).await?;
    for _ in 0..args.count {
        let (beat, took) = answer(&bus, args, &mut peer).await?;
        let ms = took.as_secs_f64() * 1000.0;
        let line = if args.json {
            serde_json::json!({ "peer_id": peer, "ms": ms, "instance": beat.instance, "daemon_version": beat.daemon_version })
                .to_string()
        } else {
            format!(
                "{peer}: {ms:.3} ms (peerbus {} on {}, {} jobs)",
                beat.daemon_version, beat.hostname, beat.jobs
            )
        };
        output::line(&line)?;
    }
    Ok(0)
}

/// One answer, and the time it took. Where nobody has the word that was typed as an id, the peer
/// becomes the one whose hostname or address it is.
async fn answer(bus: &Bus, args: &Ping, peer: &mut PeerId) -> Result<(Heartbeat, Duration), Failure> {
    loop {
        match ping(bus, peer, args.timeout).await {
            Ok(answer) => return Ok(answer),
            Err(PingError::Bus(BusError::NoResponders(_))) => {
                *peer = super::exec::elsewhere(bus, &args.peer, peer).await?;
            }
            Err(error @ PingError::Bus(BusError::Timeout { .. })) => {
                return Err(Failure::new(TIMED_OUT, format!("timed out: {peer}: {error}")));
            }
            Err(error) => return Err(Failure::new(OFFLINE, format!("no answer: {peer}: {error}"))),
        }
    }
}

//! `d ping`: the round trip to a peer's daemon.

use super::args::{Common, Ping};
use super::connect::connect;
use super::exit::{Failure, OFFLINE, TIMED_OUT};
use super::output;
use crate::bus::BusError;
use crate::client::peers::{PingError, ping};

/// `d ping`
pub(super) async fn run(common: &Common, args: &Ping) -> Result<u8, Failure> {
    let bus = connect(common).await?;
    let peer = super::exec::target(&bus, &args.peer).await?;
    for _ in 0..args.count {
        let (beat, took) = match ping(&bus, &peer, args.timeout).await {
            Ok(answer) => answer,
            Err(PingError::Bus(BusError::NoResponders(_))) => {
                return Err(super::exec::absent(&bus, &args.peer, &peer).await);
            }
            Err(error @ PingError::Bus(BusError::Timeout { .. })) => {
                return Err(Failure::new(TIMED_OUT, format!("timed out: {peer}: {error}")));
            }
            Err(error) => return Err(Failure::new(OFFLINE, format!("no answer: {peer}: {error}"))),
        };
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

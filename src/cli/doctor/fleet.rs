//! The bus and the registry.

use std::time::Instant;

use super::check::{Check, Report};
use super::peer::Known;
use crate::args::Common;
use crate::connect::{connect, is_refused};
use crate::exit::{BUS_UNREACHABLE, CliError};
use crate::{exec, peers};
use peerbus_bus::Bus;
use peerbus_client::peers as registry;
use peerbus_protocol::peers::PeerRow;

const FLEET: &str = "fleet";

/// Joins the bus.
pub(super) async fn bus(common: &Common, report: &mut Report) -> Option<Bus> {
    let began = Instant::now();
    match connect(common).await {
        Ok(bus) => {
            let took = began.elapsed();
            let server = bus.server();
            let version = server
                .as_ref()
                .map_or_else(String::new, |server| format!("nats-server {}, ", server.version));
            let open = server.is_some_and(|server| !server.auth_required);
            let open = if open { "; it asks nobody who they are: the network is the boundary" } else { "" };
            let detail = format!("{version}joined in {:.1} ms{open}", took.as_secs_f64() * 1000.0);
            report.add(Check::pass(FLEET, "bus", detail));
            Some(bus)
        }
        Err(failure) => {
            let next = match is_refused(&failure.message) {
                true => {
                    "the server is there and does not let this identity in: `d identities` where the fleet's keys are \
                     says whether it was revoked; a new invitation (`d invite`, `d join TOKEN`) makes a new one"
                }
                false => {
                    "is the network up (`wg show`), is a nats-server running there, and is `d config show` right?"
                }
            };
            report.add(Check::fail(FLEET, "bus", failure.message, next));
            report.add(Check::skip(FLEET, "registry", "there is no bus to ask on"));
            None
        }
    }
}

/// Asks the leader; returns whom to look at.
pub(super) async fn registry(
    bus: &Bus,
    name: Option<&str>,
    report: &mut Report,
) -> Result<Vec<Known>, CliError> {
    let began = Instant::now();
    match registry::census(bus).await {
        Ok(census) => {
            let took = began.elapsed().as_secs_f64() * 1000.0;
            let online = census.rows.iter().filter(|row| row.is_online).count();
            let age = crate::time::span(census.age_ms / 1000);
            report.add(Check::pass(
                FLEET,
                "registry",
                format!(
                    "{} knows {} peers, {online} online; it listens since {age}; {took:.1} ms",
                    census.leader,
                    census.rows.len()
                ),
            ));
            report.add(versions(&census.rows));
            match name {
                None => Ok(census.rows.into_iter().map(Known::of).collect()),
                Some(name) => Ok(vec![Known::of(peers::one(bus, name).await?)]),
            }
        }
        Err(error) => {
            let next =
                "is a daemon with --role leader running on this bus? Its log says why it does not answer";
            report.add(Check::fail(FLEET, "registry", error.to_string(), next));
            let Some(name) = name else { return Ok(Vec::new()) };
            match exec::target(bus, name).await {
                Ok(peer) => Ok(vec![Known { peer, row: None }]),
                // Nobody can say who that is; what failed is in the report already.
                Err(failure) if failure.code == BUS_UNREACHABLE => Ok(Vec::new()),
                Err(failure) => Err(failure),
            }
        }
    }
}

fn versions(rows: &[PeerRow]) -> Check {
    let older: Vec<String> = rows
        .iter()
        .filter(|row| row.is_online && row.daemon_version != peerbus_protocol::VERSION)
        .map(|row| format!("{} runs {}", row.peer_id, row.daemon_version))
        .collect();
    if older.is_empty() {
        return Check::pass(
            FLEET,
            "versions",
            format!("all that are online run {}, as this d", peerbus_protocol::VERSION),
        );
    }
    // Peers are brought forward one after the other, so different versions are no failure.
    Check::pass(FLEET, "versions", format!("this d is {}; {}", peerbus_protocol::VERSION, older.join(", ")))
}

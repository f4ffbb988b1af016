//! The newest jobs of the fleet, without the peers that do not answer.

use futures::stream::StreamExt;

use super::Row;
use crate::exit::CliError;
use peerbus_bus::Bus;
use peerbus_client::jobs;
use peerbus_protocol::jobs::{JobFilter, JobQuery};

/// At most this many jobs of each online peer.
pub(crate) async fn newest(bus: &Bus, of_each: u32) -> Result<Vec<Row>, CliError> {
    let online = crate::peers::all(bus).await?.into_iter().filter(|row| row.is_online);
    let query = JobQuery { state: JobFilter::All, limit: Some(of_each), ..JobQuery::default() };
    let peers = online.map(|row| row.peer_id).collect();
    let mut coming = std::pin::pin!(jobs::of_all(bus, peers, &query));
    let mut rows = Vec::new();
    while let Some((peer, answer)) = coming.next().await {
        rows.extend(answer.unwrap_or_default().into_iter().map(|job| Row { peer: peer.clone(), job }));
    }
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.job.id));
    Ok(rows)
}

//! Audit queries to a peer, page by page.

use std::time::Duration;

use super::peers::{PingError, sentence};
use super::verify;
use peerbus_bus::Bus;
use peerbus_protocol::audit::chain::{Chain, Verdict};
use peerbus_protocol::audit::{AuditPage, AuditQuery, Checkpoint, QUERY_TYPE};
use peerbus_protocol::reply::ERROR_HEADER;
use peerbus_protocol::{BadMessage, PeerId, decode, subjects};

/// Timeout of one page. The peer reads at most a few MiB from disk.
const PATIENCE: Duration = Duration::from_secs(15);

/// Most bytes of a log's lines. A peer that sends more might never stop.
pub const LOG_MOST: u64 = 16 << 30;

/// The same for logs held in memory.
pub const HELD_MOST: u64 = 1 << 30;

/// Memory cost of a held line beside its bytes, so that the limit covers short lines too.
const LINE_COST: u64 = 64;

/// How often to restart a verification after rotation removed lines under it.
const ATTEMPTS: usize = 3;

/// Queries one page.
///
/// # Errors
/// As [`crate::peers::ping`]. A daemon without an audit log declines.
pub async fn page(bus: &Bus, peer: &PeerId, query: &AuditQuery) -> Result<AuditPage, PingError> {
    let query = AuditQuery { kind: Some(QUERY_TYPE.to_owned()), ..query.clone() };
    let payload = decode::to_json(&query).into();
    let answer = bus.request(&subjects::audit(peer), payload, PATIENCE).await?;
    verify::is_of(bus, peer, &answer).map_err(PingError::Unproven)?;
    if answer.headers.get(ERROR_HEADER).is_some() {
        return Err(PingError::Malformed(BadMessage(sentence(&answer))));
    }
    let page = AuditPage::decode(&answer.payload)?;
    match (page.next, query.cursor) {
        (Some(next), Some(before)) if (next.file, next.offset) <= (before.file, before.offset) => {
            Err(BadMessage("its pages do not advance".to_owned()).into())
        }
        (Some(_), _) if page.lines.is_empty() && query.limit != Some(0) => {
            Err(BadMessage("a page has no line, and others follow".to_owned()).into())
        }
        _ => Ok(page),
    }
}

/// Counts the fetched bytes of a log against a limit.
#[derive(Debug)]
pub struct FetchCount {
    most: u64,
    bytes: u64,
}

impl FetchCount {
    /// A counter with a limit of `most` bytes.
    #[must_use]
    pub fn at_most(most: u64) -> Self {
        Self { most, bytes: 0 }
    }

    /// Counts the lines of a page.
    ///
    /// # Errors
    /// If they exceed the limit.
    pub fn add(&mut self, lines: &[String]) -> Result<(), PingError> {
        self.bytes += lines.iter().map(|line| line.len() as u64 + LINE_COST).sum::<u64>();
        match self.bytes > self.most {
            true => Err(BadMessage(format!("it goes on beyond {} GiB", self.most >> 30)).into()),
            false => Ok(()),
        }
    }
}

/// Fetches the whole log of a peer and verifies its hash chain locally; `known` holds checkpoints of other
/// sources.
///
/// # Errors
/// As [`page`].
pub async fn verify(bus: &Bus, peer: &PeerId, known: &[(String, Checkpoint)]) -> Result<Verdict, PingError> {
    let mut attempt = 1;
    loop {
        let (verdict, skipped) = verify_once(bus, peer, known).await?;
        if !skipped || attempt == ATTEMPTS {
            return Ok(verdict);
        }
        attempt += 1;
    }
}

async fn verify_once(
    bus: &Bus,
    peer: &PeerId,
    known: &[(String, Checkpoint)],
) -> Result<(Verdict, bool), PingError> {
    let mut chain = Chain::default();
    for (kept_by, head) in known {
        chain.went_to(kept_by, head.clone());
    }
    let (mut query, mut skipped, mut fetched) = (AuditQuery::default(), false, FetchCount::at_most(LOG_MOST));
    loop {
        let page = page(bus, peer, &query).await?;
        fetched.add(&page.lines)?;
        skipped |= page.skipped;
        match page.head {
            Some(head) if query.cursor.is_none() => chain.went_to("its daemon", head),
            Some(_) => {}
            None => chain.note("its daemon cannot write the log now".to_owned()),
        }
        for line in &page.lines {
            chain.line(peer.as_str(), line.as_bytes());
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            return Ok((chain.finish(), skipped));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_an_end_however_short_its_lines_are() {
        for line in [String::new(), "x".repeat(1 << 16)] {
            let mut fetched = FetchCount::at_most(HELD_MOST >> 8);
            let (page, held) = (vec![line.clone(); 64], 64 * (line.len() as u64 + LINE_COST));
            let pages = std::iter::repeat(&page).take_while(|page| fetched.add(page).is_ok()).count();
            assert_eq!(pages as u64, (HELD_MOST >> 8) / held);
        }
    }
}

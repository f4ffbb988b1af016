//! Answers `peers.list`, `peers.get` and `peers.remove` from the roster.
//!
//! Guarantees: an answer is complete and fits into one message, or it is an error. A page is sorted
//! by id. Following `next` shows every peer that exists throughout exactly once.

use peerbus_protocol::decode::{self, BadMessage};
use peerbus_protocol::peers::{
    Found, GET_TYPE, GetAnswer, GetRequest, ListRequest, NAME_MAX, PAGE_MAX, PAGE_TYPE, PEER_TYPE, PeerPage,
    PeerRow, REMOVE_TYPE, REMOVED_TYPE, is_name, is_short_name, normal_name,
};
use peerbus_protocol::reply::ErrorBody;
use peerbus_protocol::{Instance, PeerId};

use super::roster::Roster;

/// Bytes reserved beside an answer's body, since the server counts headers too.
const HEADER_ROOM: usize = 1_024;

/// Longest error message, in characters.
const SENTENCE_MAX: usize = 300;

/// Most ids in an answer for an ambiguous name.
const MANY_MAX: usize = 1_000;

/// Most ids shown of peers that claim a name.
const CLAIMANTS_MAX: usize = 10;

/// An error answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The fixed error name.
    pub(super) word: &'static str,
    /// The code, as in HTTP.
    pub(super) code: u16,
    /// The message.
    pub(super) message: String,
}

impl Refusal {
    fn bad_request(message: &str) -> Self {
        Self { word: "bad_request", code: 400, message: Self::brief(message) }
    }

    /// Shortens an error message that quotes a client's input.
    pub(super) fn brief(sentence: &str) -> String {
        match sentence.char_indices().nth(SENTENCE_MAX) {
            Some((at, _)) => format!("{}…", &sentence[..at]),
            None => sentence.to_owned(),
        }
    }

    fn unavailable(why: &str) -> Self {
        let message = format!("the leader has not read its registry yet: {why}");
        Self { word: "registry_unavailable", code: 503, message }
    }

    /// The database is unavailable, so no peer can be removed now.
    pub(super) fn unwritten(why: &str) -> Self {
        let message = format!("the registry cannot be written now, so nobody was removed: {why}");
        Self { word: "registry_unavailable", code: 503, message }
    }

    /// The database became unavailable before the removal was written.
    pub(super) fn not_yet_written(why: &str) -> Self {
        let message = format!("removed from the roster, and from the registry as soon as it is back: {why}");
        Self { word: "registry_unavailable", code: 503, message }
    }

    /// The database refuses to delete the row.
    pub(super) fn kept(why: &str) -> Self {
        let message =
            format!("removed from the roster until the leader starts again; the registry keeps it: {why}");
        Self { word: "registry_refused", code: 500, message }
    }

    /// The request is not signed by a client with the right to make it.
    pub(super) fn unproven(why: &str) -> Self {
        Self { word: "unproven", code: 403, message: why.to_owned() }
    }

    fn too_large(what: &str) -> Self {
        let message = format!("{what} does not fit into one message; the server's max_payload is too small");
        Self { word: "too_large", code: 500, message }
    }

    /// The body.
    pub(super) fn body(&self) -> Vec<u8> {
        decode::to_json(&ErrorBody::new(self.word, self.message.clone()))
    }
}

impl From<BadMessage> for Refusal {
    fn from(bad: BadMessage) -> Self {
        Self::bad_request(&bad.0)
    }
}

/// The state that every answer is made from.
pub(super) struct QueryHandler<'a> {
    /// All peers.
    pub(super) roster: &'a Roster,
    /// The leader that answers.
    pub(super) leader: &'a PeerId,
    /// Its instance.
    pub(super) instance: Instance,
    /// How long it has listened, in milliseconds.
    pub(super) age_ms: u64,
    /// The largest message the server takes, in bytes.
    pub(super) max_payload: usize,
    /// Why the registry is unavailable; only used while it is.
    pub(super) waiting_for: &'a str,
    /// Whether a name finds a peer only if its certificate has it: in a fleet with identities.
    pub(super) certified_only: bool,
}

impl QueryHandler<'_> {
    /// Answers `peers.list`.
    pub(super) fn list(&self, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let request = ListRequest::decode(payload)?;
        let limit = request.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX);
        if limit == 0 {
            return Err(Refusal::bad_request(&format!("field `limit`: 0 is not within 1..={PAGE_MAX}")));
        }
        self.must_be_loaded()?;
        self.page(request.after.as_ref(), limit as usize)
    }

    /// Answers `peers.get`.
    pub(super) fn get(&self, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let asked = asked(payload, GET_TYPE)?;
        self.must_be_loaded()?;
        let found = self.find(&asked);
        self.about_one(PEER_TYPE, asked, found)
    }

    /// Finds the peer for `peers.remove`. Refuses while the database cannot be written.
    pub(super) fn to_remove(&self, payload: &[u8]) -> Result<(String, Found), Refusal> {
        let asked = asked(payload, REMOVE_TYPE)?;
        self.must_be_loaded()?;
        if self.waiting_for.is_empty() {
            let found = self.find(&asked);
            Ok((asked, found))
        } else {
            Err(Refusal::unwritten(self.waiting_for))
        }
    }

    /// The answer to `peers.remove`.
    pub(super) fn removed(&self, asked: String, found: Found) -> Result<Vec<u8>, Refusal> {
        self.about_one(REMOVED_TYPE, asked, found)
    }

    fn about_one(&self, kind: &str, asked: String, found: Found) -> Result<Vec<u8>, Refusal> {
        let certificate = match &found {
            Found::One { peer } if self.certified_only => self.roster.certificate(&peer.peer_id),
            _ => None,
        };
        let claimed_by = match (self.certified_only, &found) {
            (true, Found::None {}) => self.claimants(normal_name(&asked).as_ref()),
            _ => Vec::new(),
        };
        let certificate = certificate.map(str::to_owned);
        let (kind, leader) = (kind.to_owned(), self.leader.clone());
        let answer = GetAnswer { kind, asked, found, leader, claimed_by, certificate };
        let body = decode::to_json(&answer);
        if body.len() <= self.room() { Ok(body) } else { Err(Refusal::too_large("the answer")) }
    }

    fn must_be_loaded(&self) -> Result<(), Refusal> {
        if self.roster.is_loaded() { Ok(()) } else { Err(Refusal::unavailable(self.waiting_for)) }
    }

    /// A page with at most `limit` rows, as many as fit.
    fn page(&self, after: Option<&PeerId>, limit: usize) -> Result<Vec<u8>, Refusal> {
        let mut page = PeerPage {
            kind: PAGE_TYPE.to_owned(),
            peers: Vec::new(),
            next: None,
            after: after.cloned(),
            leader: self.leader.clone(),
            leader_instance: self.instance,
            age_ms: self.age_ms,
            left_out: self.roster.has_left_out(),
        };
        // The envelope, with room for `next` and the longest id in it.
        let mut size = decode::to_json(&page).len() + peerbus_protocol::ids::PEER_ID_MAX;
        let mut rows = self.roster.after(after).peekable();
        while let Some(row) = rows.peek() {
            size += decode::to_json(row).len() + 1;
            if page.peers.len() == limit || size > self.room() {
                break;
            }
            page.peers.extend(rows.next().cloned());
        }
        if let Some(row) = rows.peek() {
            page.next = page.peers.last().map(|last| last.peer_id.clone());
            if page.next.is_none() {
                return Err(Refusal::too_large(&format!("the row of {}", row.peer_id)));
            }
        }
        Ok(decode::to_json(&page))
    }

    /// Searches by id, then with identities by certified names, else by hostname, then by address,
    /// then by the short form of a full hostname.
    fn find(&self, asked: &str) -> Found {
        let asked = &*normal_name(asked);
        if let Some(row) = asked.parse().ok().and_then(|id| self.roster.get(&id)) {
            return Found::One { peer: Box::new(row.clone()) };
        }
        if self.certified_only {
            let named = |row: &PeerRow, is: fn(&str, &str) -> bool| {
                row.names.iter().flatten().any(|own| is(asked, own))
            };
            let exactly = self.matching(|row| named(row, is_name));
            let Found::None {} = exactly else { return exactly };
            return self.matching(|row| named(row, is_short_name));
        }
        let by_hostname = self.matching(|row| is_name(asked, &row.hostname));
        let Found::None {} = by_hostname else { return by_hostname };
        let by_address =
            self.matching(|row| row.ip_address.as_deref().is_some_and(|own| is_name(asked, own)));
        let Found::None {} = by_address else { return by_address };
        self.matching(|row| is_short_name(asked, &row.hostname))
    }

    /// Peers that claim a name in their own heartbeats.
    fn claimants(&self, asked: &str) -> Vec<PeerId> {
        let claims = |row: &&PeerRow| {
            let own = [Some(row.hostname.as_str()), row.ip_address.as_deref()];
            own.into_iter().flatten().any(|own| is_name(asked, own) || is_short_name(asked, own))
        };
        self.roster.after(None).filter(claims).take(CLAIMANTS_MAX).map(|row| row.peer_id.clone()).collect()
    }

    fn matching(&self, is_meant: impl Fn(&PeerRow) -> bool) -> Found {
        let found: Vec<&PeerRow> =
            self.roster.after(None).filter(|row| is_meant(row)).take(MANY_MAX).collect();
        match found.as_slice() {
            [] => Found::None {},
            [row] => Found::One { peer: Box::new((*row).clone()) },
            rows => Found::Many { ids: rows.iter().map(|row| row.peer_id.clone()).collect() },
        }
    }

    fn room(&self) -> usize {
        self.max_payload.saturating_sub(HEADER_ROOM).max(self.max_payload / 2)
    }
}

/// The name that a query asks for.
fn asked(payload: &[u8], kind: &'static str) -> Result<String, Refusal> {
    let GetRequest { peer: asked, .. } = GetRequest::decode(payload, kind)?;
    if asked.is_empty() || asked.len() > NAME_MAX {
        let length = asked.len();
        return Err(Refusal::bad_request(&format!("field `peer`: {length} bytes, not 1..={NAME_MAX}")));
    }
    Ok(asked)
}

/// The query a leader sends to find another leader.
pub(super) fn shortest_list() -> Vec<u8> {
    let kind = Some(peerbus_protocol::peers::LIST_TYPE.to_owned());
    decode::to_json(&ListRequest { kind, after: None, limit: Some(1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::tests::row;
    use std::time::Duration;

    fn roster(rows: Vec<PeerRow>) -> Roster {
        let mut roster = Roster::new(100_000);
        roster.loaded(rows, Duration::ZERO);
        roster
    }

    fn ask<T>(roster: &Roster, max_payload: usize, answer: impl FnOnce(&QueryHandler<'_>) -> T) -> T {
        let leader = "lead".parse().expect("valid");
        let instance = Instance::new();
        answer(&QueryHandler {
            roster,
            leader: &leader,
            instance,
            age_ms: 7,
            max_payload,
            waiting_for: "a disk",
            certified_only: false,
        })
    }

    fn list(roster: &Roster, question: &str, max_payload: usize) -> Result<PeerPage, Refusal> {
        let body = ask(roster, max_payload, |handler| handler.list(question.as_bytes()))?;
        assert!(body.len() <= max_payload, "{} > {max_payload}", body.len());
        Ok(serde_json::from_slice(&body).expect("a page"))
    }

    fn get(roster: &Roster, name: &str) -> Found {
        let question =
            decode::to_json(&GetRequest { kind: Some(GET_TYPE.to_owned()), peer: name.to_owned() });
        let body = ask(roster, 1 << 20, |handler| handler.get(&question)).expect("an answer");
        serde_json::from_slice::<GetAnswer>(&body).expect("an answer").found
    }

    #[test]
    fn pages_show_every_row_exactly_once() {
        let ids: Vec<String> = (0..10_000).map(|at| format!("p{at:05}")).collect();
        let roster = roster(ids.iter().map(|id| row(id)).collect());
        let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = list(&roster, &format!("{{{after}}}"), 64 << 10).expect("a page");
            pages += 1;
            seen.extend(page.peers.iter().map(|row| row.peer_id.to_string()));
            let Some(next) = page.next else { break };
            after = format!("\"after\":\"{next}\"");
        }
        assert_eq!(seen, ids);
        assert!((10..200).contains(&pages), "{pages}");
    }

    #[test]
    fn the_last_page_has_no_next_even_when_it_is_full() {
        let roster = roster(vec![row("a"), row("b")]);
        assert_eq!(list(&roster, r#"{"limit":2}"#, 1 << 20).expect("a page").next, None);
        let page = list(&roster, r#"{"limit":1}"#, 1 << 20).expect("a page");
        assert_eq!((page.peers.len(), page.next), (1, "a".parse().ok()));
        assert_eq!(list(&roster, r#"{"after":"b"}"#, 1 << 20).expect("a page").peers, []);
        assert_eq!(list(&roster, "", 1 << 20).expect("a page").age_ms, 7);
    }

    #[test]
    fn a_row_that_fits_nowhere_is_an_error_and_not_a_short_list() {
        let mut long = row("a");
        long.hostname = "x".repeat(3_000);
        let refusal = list(&roster(vec![long]), "", 2_048).expect_err("too long");
        assert_eq!((refusal.word, refusal.code), ("too_large", 500));
        assert!(refusal.message.contains("the row of a"), "{}", refusal.message);
    }

    #[test]
    fn an_id_beats_a_hostname_beats_an_address() {
        let mut rows = ["a", "b", "c", "d"].map(row);
        rows[1].hostname = "A".to_owned();
        rows[2].hostname = "Twin".to_owned();
        rows[3].hostname = "tWIN".to_owned();
        rows[0].ip_address = Some("10.0.0.1".to_owned());
        let roster = roster(rows.to_vec());
        let one = |name: &str| match get(&roster, name) {
            Found::One { peer } => peer.peer_id.to_string(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!((one("a"), one("A"), one("10.0.0.1")), ("a".into(), "b".into(), "a".into()));
        assert_eq!(get(&roster, "nobody"), Found::None {});
        let twins = ["c", "d"].map(|id| id.parse().expect("valid")).to_vec();
        assert_eq!(get(&roster, "twin"), Found::Many { ids: twins });
    }

    #[test]
    fn a_name_is_found_in_whatever_form_it_is_typed() {
        let mut rows = ["a", "b", "c", "d"].map(row);
        rows[0].hostname = "box.example.org".to_owned();
        rows[1].hostname = "web.example.org".to_owned();
        rows[2].hostname = "web".to_owned();
        rows[3].hostname = "d.".to_owned();
        rows[0].ip_address = Some("::1".to_owned());
        rows[1].ip_address = Some("10.0.0.1".to_owned());
        let roster = roster(rows.to_vec());
        for (name, id) in [
            ("b.", "b"),
            ("box.example.org.", "a"),
            ("Box", "a"),
            ("web", "c"),
            ("D", "d"),
            ("[::1]", "a"),
            ("0:0:0:0:0:0:0:1", "a"),
            ("::ffff:10.0.0.1", "b"),
        ] {
            match get(&roster, name) {
                Found::One { peer } => assert_eq!(peer.peer_id.as_str(), id, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        for name in ["box.example", "10", "10.0.0", "example"] {
            assert_eq!(get(&roster, name), Found::None {}, "{name}");
        }
    }

    #[test]
    fn a_bad_question_is_told_which_field_is_bad() {
        let roster = roster(vec![]);
        for (question, field) in
            [(r#"{"limit":0}"#, "limit"), (r#"{"limit":"x"}"#, "limit"), (r#"{"after":"A b"}"#, "after")]
        {
            let refusal = list(&roster, question, 1 << 20).expect_err(question);
            assert_eq!((refusal.word, refusal.code), ("bad_request", 400));
            assert!(refusal.message.contains(field), "{}", refusal.message);
        }
        for question in ["", "{}", r#"{"peer":7}"#, r#"{"peer":""}"#] {
            ask(&roster, 1 << 20, |handler| handler.get(question.as_bytes())).expect_err(question);
        }
    }

    #[test]
    fn without_a_registry_nothing_is_listed() {
        let empty = Roster::new(10);
        let refusal = list(&empty, "", 1 << 20).expect_err("not loaded");
        assert_eq!((refusal.word, refusal.code), ("registry_unavailable", 503));
        assert!(refusal.message.contains("a disk"), "{}", refusal.message);
    }
}

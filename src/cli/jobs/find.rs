//! Finds a job from what the user typed: a full id, the last characters of one, or a session's
//! name. `PEER/` before it restricts the search to one peer, and `OWNER/` before a name selects
//! another user's session.
//!
//! Nothing is cached: a wrong job is worse than a slow answer. If some peer does not answer, a job
//! counts only if no other job can match: by a full id, or by as many characters as `d` itself
//! shows.

use futures::stream::StreamExt;

use super::{listed, no_answer, state, who};
use crate::args::peer_name;
use crate::exit::{CliError, NOT_FOUND, OFFLINE, TIMED_OUT};
use crate::output;
use peerbus_bus::{Bus, BusError};
use peerbus_client::jobs;
use peerbus_client::policy::PolicyQueryError;
use peerbus_protocol::identity::Name;
use peerbus_protocol::ids::SHORT_JOB_ID;
use peerbus_protocol::jobs::{Job, JobFilter, JobQuery, JobStatus, MATCH_MAX, is_name_of, means_id};
use peerbus_protocol::{JobId, PeerId};

/// The effect of a peer's missing answer.
const UNKNOWN_THERE: &str = "whether it has the job, nobody can say";

/// Most peers to name that might have the job.
const NAMED: usize = 5;

/// The parsed input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    peer: Option<String>,
    word: String,
}

/// Parses the input.
pub(crate) fn wanted(text: &str) -> Result<Wanted, String> {
    let (peer, word) = match text.split_once('/') {
        Some((peer, word)) => (Some(peer_name(peer)?), word),
        None => (None, text),
    };
    // One more slash may separate a session's owner from its name.
    let parts = word.split('/').count();
    let plain = |c: char| !c.is_control() && !c.is_whitespace();
    match word.len() {
        0 => {
            Err("it is empty; a job's id, the last characters of one, or a session's name is wanted"
                .to_owned())
        }
        1..=MATCH_MAX if parts <= 2 && !word.split('/').any(str::is_empty) && word.chars().all(plain) => {
            Ok(Wanted { peer, word: word.to_owned() })
        }
        _ => Err(format!(
            "{:?} means no job: an id, the last characters of one, or a session's name does",
            word
        )),
    }
}

/// A job that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Its peer.
    pub(crate) peer: PeerId,
    /// Its state when it was found.
    pub(crate) job: Job,
}

impl Wanted {
    /// The input, without its peer.
    pub(crate) fn word(&self) -> &str {
        &self.word
    }

    /// The only peer to query, by any of its names.
    pub(crate) fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    fn id(&self) -> Option<JobId> {
        self.word.parse().ok()
    }

    /// The same, with the part before the slash as a session's owner.
    fn behind_owner(&self) -> Option<Self> {
        let owner: Name = self.peer.as_deref()?.parse().ok()?;
        let is_whole = !self.word.contains('/') && self.id().is_none();
        is_whole.then(|| Self { peer: None, word: format!("{owner}/{}", self.word) })
    }

    /// Whether the id is long enough to be unique.
    fn is_certain(&self) -> bool {
        let digits =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        self.id().is_some() || (self.word.len() >= SHORT_JOB_ID && digits(&self.word))
    }
}

/// Finds the one job that matches.
pub(crate) async fn find(bus: &Bus, wanted: &Wanted) -> Result<Found, CliError> {
    let query = JobQuery { wanted: Some(wanted.word.clone()), state: JobFilter::All, ..JobQuery::default() };
    let own = bus.member().map(|member| member.own().name.clone());
    let (found, silent) = match &wanted.peer {
        Some(name) => match on_one(bus, name, &query).await {
            // No peer has this name, so it is a session's owner on any peer.
            Err(failure) if failure.code == NOT_FOUND && own.is_some() => match wanted.behind_owner() {
                Some(owned) => {
                    let query = JobQuery { wanted: Some(owned.word.clone()), ..query };
                    let (found, silent) = on_all(bus, &owned, &query).await?;
                    return choose(&owned, found, &silent, own.as_ref());
                }
                None => return Err(failure),
            },
            answer => answer?,
        },
        None => on_all(bus, wanted, &query).await?,
    };
    choose(wanted, found, &silent, own.as_ref())
}

type Silent = Vec<(PeerId, CliError)>;

async fn on_one(bus: &Bus, name: &str, query: &JobQuery) -> Result<(Vec<Found>, Silent), CliError> {
    let mut peer = crate::exec::target(bus, name).await?;
    loop {
        match jobs::all(bus, &peer, query).await {
            Ok(all) => {
                return Ok((
                    all.into_iter().map(|job| Found { peer: peer.clone(), job }).collect(),
                    Vec::new(),
                ));
            }
            Err(PolicyQueryError::Bus(BusError::NoResponders(_))) => {
                peer = crate::exec::elsewhere(bus, name, &peer).await?;
            }
            Err(error) => return Err(no_answer(&peer, &error, UNKNOWN_THERE)),
        }
    }
}

async fn on_all(bus: &Bus, wanted: &Wanted, query: &JobQuery) -> Result<(Vec<Found>, Silent), CliError> {
    let rows = crate::peers::all(bus)
        .await
        .map_err(|failure| failure.with_next(&format!("PEER/{} asks one peer without it", wanted.word)))?;
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    let online = rows.iter().filter(|row| row.is_online).map(|row| row.peer_id.clone()).collect();
    let mut coming = std::pin::pin!(jobs::of_all(bus, online, query));
    while let Some((peer, answer)) = coming.next().await {
        match answer {
            Ok(all) => found.extend(all.into_iter().map(|job| Found { peer: peer.clone(), job })),
            Err(error) => silent.push((peer.clone(), no_answer(&peer, &error, UNKNOWN_THERE))),
        }
        // An id belongs to only one job.
        if wanted.id().is_some() && !found.is_empty() {
            return Ok((found, Vec::new()));
        }
    }
    // Offline peers were not queried and may have the job.
    silent.extend(rows.into_iter().filter(|row| !row.is_online).map(|row| {
        let why = format!("offline: Peer is offline: {}", row.peer_id);
        (row.peer_id, CliError::new(OFFLINE, why))
    }));
    silent.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok((found, silent))
}

/// The only match, if it is unambiguous.
fn choose(
    wanted: &Wanted,
    mut found: Vec<Found>,
    silent: &Silent,
    own: Option<&Name>,
) -> Result<Found, CliError> {
    let Wanted { word, .. } = wanted;
    // A bare name means the user's own session; another user's needs its owner.
    let by_bare_name =
        |found: &Found| found.job.name.as_deref() == Some(word) && !means_id(word, found.job.id);
    let is_anothers = |found: &Found| own.is_some() && found.job.principal.as_ref() != own;
    let others: Vec<Found> =
        found.extract_if(.., |found| by_bare_name(found) && is_anothers(found)).collect();
    if found.is_empty()
        && let [first, ..] = others.as_slice()
    {
        return Err(anothers(word, first));
    }
    // A running session takes precedence over ended ones with the same name.
    let runs = |found: &Found| found.job.state != JobStatus::Ended && is_name_of(word, &found.job);
    if found.iter().filter(|found| runs(found)).count() == 1
        && found.iter().all(|found| is_name_of(word, &found.job))
    {
        found.retain(runs);
    }
    let others = listed(silent.iter().map(|(peer, _)| peer).collect::<Vec<_>>().into_iter(), NAMED);
    let hung = silent.iter().map(|(_, why)| why.code).filter(|code| *code != OFFLINE).max();
    match (found.len(), hung) {
        (0, None) if silent.is_empty() => Err(not_found(word, "")),
        (0, None) => Err(not_found(word, &format!("; offline, and not asked: {others}"))),
        (0, Some(_)) => {
            let what = format!(
                "timed out: no job {word} was found, and no answer came from {others}, which may have it"
            );
            Err(CliError::new(TIMED_OUT, what))
        }
        (1, Some(_)) if !wanted.is_certain() => {
            let (peer, job) = (&found[0].peer, &found[0].job);
            let what = format!(
                "timed out: {peer} has a job {word}, and no answer came from {others}, which may have another"
            );
            Err(CliError::new(
                TIMED_OUT,
                format!("{what}; {peer}/{} means the one on {peer}", job.id.short()),
            ))
        }
        (1, hung) => {
            if hung.is_some() {
                output::say(&format!("no answer from {others}"));
            }
            Ok(found.remove(0))
        }
        _ => Err(ambiguous(word, &found)),
    }
}

fn anothers(word: &str, Found { peer, job }: &Found) -> CliError {
    let of = job.principal.as_ref().map_or_else(|| "nobody who is known".to_owned(), ToString::to_string);
    let next = match &job.principal {
        Some(owner) => format!("{peer}/{owner}/{word} means it"),
        None => format!("{peer}/{} means it", job.id.short()),
    };
    let what = format!("not found: no job of yours is called {word}; the one on {peer} is of {of}");
    CliError::new(NOT_FOUND, format!("{what}; {next}"))
}

fn not_found(word: &str, but: &str) -> CliError {
    let what = format!("not found: no job has the id, the last characters of it, or the name {word}{but}");
    CliError::new(NOT_FOUND, format!("{what}; `d jobs -a` shows which there are, `d queue list` what waits"))
}

fn ambiguous(word: &str, found: &[Found]) -> CliError {
    const SHOWN: usize = 20;
    let shown = |Found { peer, job }: &Found| {
        format!("{peer}/{}  {}  {}  {}", job.id, state(job), who(job), job.command)
    };
    let mut lines: Vec<String> = found.iter().take(SHOWN).map(shown).collect();
    lines.extend((found.len() > SHOWN).then(|| format!("and {} more", found.len() - SHOWN)));
    CliError::usage(format!("{word} means {} jobs; name one of them by its whole id:", found.len()))
        .with_lines(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_taken_apart() {
        let is = |text: &str, peer: Option<&str>, word: &str| {
            assert_eq!(wanted(text), Ok(Wanted { peer: peer.map(str::to_owned), word: word.to_owned() }));
        };
        is("0000cafe", None, "0000cafe");
        is("vps/build", Some("vps"), "build");
        is("vps/ann/build", Some("vps"), "ann/build");
        for wrong in ["", "vps/", "/build", "a/b/c/d", "a//b", "two words", "x\n"] {
            assert!(wanted(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn as_much_of_an_id_as_is_shown_is_enough() {
        let certain = |text: &str| wanted(text).expect(text).is_certain();
        assert!(certain("0000cafe") && certain(&JobId::new().to_string()));
        assert!(!certain("cafe") && !certain("my-build") && !certain("buildbuild"));
    }
}

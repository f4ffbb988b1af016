//! Completes jobs: short ids and session names, after `PEER/` if the user typed that.
//!
//! Running jobs change quickly, so each TAB queries the peers, with a short timeout. Late answers
//! are offered at the next TAB, from the file `$XDG_CACHE_HOME/peerbus/jobs-….json`. The file is
//! only a hint: the final command looks the job up again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::StyledStr;
use clap_complete::engine::CompletionCandidate;
use serde::{Deserialize, Serialize};

use super::refresh::answer_of;
use crate::args::Common;
use crate::connect::connect;
use crate::exit::{CliError, OTHER};
use crate::jobs::{Row, newest, state};
use crate::settings::Settings;
use crate::{cache, output};
use peerbus_bus::NatsAddress;
use peerbus_protocol::attach::is_name;
use peerbus_protocol::jobs::JobStatus;

/// The verb that fetches the list.
const VERB: &str = "refresh-jobs";

/// The `type` of the file.
const TYPE: &str = "peerbus.job_cache.v1";

/// How long a TAB waits for the peers' answers.
const PATIENCE: Duration = Duration::from_millis(400);

/// Timeout for fetching a list.
const LIMIT: Duration = Duration::from_secs(5);

/// A younger list is not fetched again, for repeated TABs on one word.
const FRESH: Duration = Duration::from_secs(2);

/// An older list is not offered.
const STALE: Duration = Duration::from_secs(600);

/// Most jobs to offer per peer.
const OF_EACH: u32 = 50;

/// Longest command in a description, in characters.
const COMMAND: usize = 40;

/// The kind of jobs to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// Jobs that have not ended.
    Running,
    /// Jobs with a log, ended or not.
    Kept,
    /// Running terminals.
    Terminals,
}

/// The cached jobs of one bus.
#[derive(Serialize, Deserialize)]
struct Memory {
    #[serde(rename = "type")]
    kind: String,
    /// The bus, without credentials.
    bus: String,
    rows: Vec<Row>,
}

impl Memory {
    fn decode(bus: &NatsAddress, text: &[u8]) -> Option<Vec<Row>> {
        let memory: Self = serde_json::from_slice(text).ok()?;
        (memory.kind == TYPE && memory.bus == bus.to_string()).then_some(memory.rows)
    }
}

/// `d refresh-jobs`: fetches the list, caches it, and prints it.
pub(crate) async fn refresh(common: &Common) -> Result<u8, CliError> {
    let list = async {
        let bus = connect(common).await?;
        let rows = newest(&bus, OF_EACH).await?;
        let memory = Memory { kind: TYPE.to_owned(), bus: bus.address().to_string(), rows };
        Ok::<_, CliError>((bus.address().clone(), peerbus_protocol::decode::to_json(&memory)))
    };
    let too_long = CliError::new(OTHER, "the list of jobs took too long");
    let (bus, text) = tokio::time::timeout(LIMIT, list).await.map_err(|_| too_long)??;
    // A write error only means no cache next time.
    let _ = keep(&bus, &text);
    output::json_line(&String::from_utf8_lossy(&text))?;
    Ok(0)
}

fn path(bus: &NatsAddress) -> Option<PathBuf> {
    let digest = blake3::hash(bus.to_string().as_bytes()).to_hex();
    Some(cache::directory()?.join(format!("jobs-{}.json", &digest[..16])))
}

fn keep(bus: &NatsAddress, text: &[u8]) -> Option<()> {
    // Created with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(cache::made_directory()?).ok()?;
    file.write_all(text).ok()?;
    file.persist(path(bus)?).ok().map(|_: File| ())
}

/// The cached jobs and their age.
fn remembered(bus: &NatsAddress) -> Option<(Vec<Row>, Duration)> {
    let path = path(bus)?;
    let age = fs::metadata(&path).ok()?.modified().ok()?.elapsed().ok()?;
    Some((Memory::decode(bus, &cache::bounded(&path)?)?, age))
}

/// The jobs with a name that starts with the typed text.
pub(super) fn candidates(common: &Common, offer: Offer, typed: &OsStr) -> Vec<CompletionCandidate> {
    let bus = Settings::read(common).ok().and_then(|settings| settings.address().ok());
    let (Some(typed), Some(bus)) = (typed.to_str(), bus) else { return Vec::new() };
    let old = remembered(&bus);
    let rows = match old {
        Some((rows, age)) if age < FRESH => Some(rows),
        old => answer_of(common, VERB, PATIENCE)
            .and_then(|text| Memory::decode(&bus, &text))
            .or_else(|| old.filter(|(_, age)| *age < STALE).map(|(rows, _)| rows)),
    };
    matching(&rows.unwrap_or_default(), offer, typed)
}

fn matching(rows: &[Row], offer: Offer, typed: &str) -> Vec<CompletionCandidate> {
    let offered = rows.iter().filter(|row| match offer {
        Offer::Running => row.job.state != JobStatus::Ended,
        Offer::Kept => row.job.durable,
        Offer::Terminals => row.job.tty && row.job.state == JobStatus::Running,
    });
    offered
        .flat_map(|row| words(row).map(move |word| (word, row)))
        .map(
            |(word, row)| {
                if typed.contains('/') { (format!("{}/{word}", row.peer), row) } else { (word, row) }
            },
        )
        .filter(|(word, _)| word.starts_with(typed))
        .map(|(word, row)| CompletionCandidate::new(word).help(Some(StyledStr::from(help(row)))))
        .collect()
}

/// A job's names that are safe on a shell's command line, whatever the peer sent.
fn words(row: &Row) -> impl Iterator<Item = String> {
    let name = row.job.name.clone().filter(|name| is_name(name));
    [Some(row.job.id.short()), name].into_iter().flatten()
}

/// A one-line description.
fn help(row: &Row) -> String {
    let command: String = row.job.command.chars().filter(|c| !c.is_control()).take(COMMAND).collect();
    format!("{} {} {command}", row.peer, state(&row.job))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(end: &str, peer: &str, more: serde_json::Value) -> Row {
        let mut row = serde_json::json!({
            "peer_id": peer, "id": format!("0197c0de-0000-7000-8000-0000{end}"), "state": "running", "durable": false,
            "tty": false, "name": null, "started_at": "2026-11-21T10:11:12Z", "age_ms": 1, "principal": null, "from": null,
            "command": "make\u{1b}", "directory": null, "user": null, "viewers": 0, "ending": null,
            "ended_at": null, "duration_ms": null, "out": null, "err": null, "first_out": null, "first_err": null,
        });
        row.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        serde_json::from_value(row).expect("a row")
    }

    fn offered(offer: Offer, typed: &str) -> Vec<String> {
        let rows = [
            row("0000cafe", "vps", serde_json::json!({ "name": "build", "durable": true })),
            row("0000beef", "w1", serde_json::json!({ "name": "$(reboot)", "tty": true })),
            row("00005678", "w1", serde_json::json!({ "state": "ended", "durable": true, "tty": true })),
        ];
        matching(&rows, offer, typed)
            .iter()
            .map(|one| one.get_value().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn what_runs_is_offered_by_its_end_and_its_name() {
        assert_eq!(offered(Offer::Running, ""), ["0000cafe", "build", "0000beef"]);
        assert_eq!(offered(Offer::Running, "0000c"), ["0000cafe"]);
        assert_eq!(offered(Offer::Running, "vps/"), ["vps/0000cafe", "vps/build"]);
        assert_eq!(offered(Offer::Running, "w1/0"), ["w1/0000beef"]);
        assert_eq!(offered(Offer::Running, "$"), [""; 0]);
    }

    #[test]
    fn where_output_is_wanted_what_has_a_log_is_offered() {
        assert_eq!(offered(Offer::Kept, ""), ["0000cafe", "build", "00005678"]);
    }

    #[test]
    fn who_sits_down_is_offered_terminals_that_go_on() {
        assert_eq!(offered(Offer::Terminals, ""), ["0000beef"]);
    }

    #[test]
    fn descriptions_are_plain_text() {
        assert_eq!(help(&row("0000cafe", "vps", serde_json::json!({}))), "vps running make");
    }
}

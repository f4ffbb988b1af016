//! The jobs of a peer and their states, queried on `exec.<peer>.jobs`.
//!
//! Newest first, by the time in their ids, which comes from the clock of the job's creator. So a page
//! can continue where the previous one ended, even if new jobs started meanwhile.

use serde::{Deserialize, Serialize};

use super::attach::Within;
use super::decode::{self, BadMessage};
use super::identity::Name;
use super::task::StepProgress;
use super::{Ending, Instance, JobId, PeerId};

/// The `type` of a query.
pub const QUERY_TYPE: &str = "peerbus.jobs_query.v1";

/// The `type` of a page of jobs.
pub const PAGE_TYPE: &str = "peerbus.jobs.v1";

/// Most jobs on one page.
pub const PAGE_MAX: u32 = 1_000;

/// Shortest suffix of an id that selects a job.
pub const SUFFIX_MIN: usize = 4;

/// Longest job selector, in bytes: much longer than any job name.
pub const MATCH_MAX: usize = 128;

/// Longest time to hold back an answer, in milliseconds.
pub const WAIT_MAX_MS: u64 = 20_000;

/// A query for jobs. Without fields: the first page of running jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobQuery {
    /// [`QUERY_TYPE`]; may be left out.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only jobs that this selects: a whole id, its last characters, or a job name, alone or as
    /// `owner/name`. Then the answer includes refused requests.
    #[serde(default, rename = "match")]
    pub wanted: Option<String>,
    /// Which states.
    #[serde(default)]
    pub state: JobFilter,
    /// Only jobs older than this one: `next` of the previous page.
    #[serde(default)]
    pub after: Option<JobId>,
    /// At most this many jobs on the page.
    #[serde(default)]
    pub limit: Option<u32>,
    /// If `match` is a whole id: hold back the answer this long while that job runs.
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// A filter by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobFilter {
    /// Jobs that have not ended.
    #[default]
    Running,
    /// Ended jobs too, as long as the peer remembers them.
    All,
}

impl JobQuery {
    /// Decodes a query; an empty payload asks for the first page.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        if payload.is_empty() {
            return Ok(Self::default());
        }
        let query: Self = decode::json(payload)?;
        decode::check_type(query.kind.as_deref(), QUERY_TYPE)?;
        let wrong = |text: &str| Err(BadMessage(text.to_owned()));
        match query.wanted.as_deref() {
            Some("") => return wrong("field `match`: it is empty"),
            Some(word) if word.len() > MATCH_MAX => {
                return wrong("field `match`: it is longer than anything that means a job");
            }
            _ => {}
        }
        if query.limit == Some(0) {
            return wrong("field `limit`: 0 jobs are no page");
        }
        Ok(query)
    }
}

/// Whether a selector matches a job: its id, at least [`SUFFIX_MIN`] of its last characters, or the
/// job's name, alone or as `owner/name`.
#[must_use]
pub fn means(word: &str, job: &Job) -> bool {
    is_name_of(word, job) || means_id(word, job.id)
}

/// Whether a selector is a job's name, alone or behind its owner.
#[must_use]
pub fn is_name_of(word: &str, job: &Job) -> bool {
    let Some(name) = job.name.as_deref() else { return false };
    let owned = |owner: &Name| word.strip_prefix(owner.as_str()).and_then(|rest| rest.strip_prefix('/'));
    name == word || job.principal.as_ref().and_then(owned) == Some(name)
}

/// The same for its id alone.
#[must_use]
pub fn means_id(word: &str, id: JobId) -> bool {
    word.len() >= SUFFIX_MIN && id.to_string().ends_with(word)
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It is running or about to start.
    Running,
    /// It has ended.
    Ended,
    /// It has started, its end is unknown, and nothing supervises it now. Its daemon is looking for it,
    /// or will end it at the next start.
    Lost,
    /// A state of a later version.
    #[serde(other)]
    Other,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its state.
    pub state: JobStatus,
    /// Whether it survives its caller and its daemon.
    pub durable: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Its name.
    pub name: Option<String>,
    /// When the peer accepted it, by the peer's clock: UTC.
    pub started_at: String,
    /// Age in milliseconds.
    pub age_ms: u64,
    /// The proven sender.
    pub principal: Option<Name>,
    /// The sender by its own claim; unproven.
    pub from: Option<String>,
    /// Its command, shortened.
    pub command: String,
    /// The requested directory; `None` means the peer's default.
    pub directory: Option<String>,
    /// The requested user.
    pub user: Option<String>,
    /// Current number of viewers.
    pub viewers: u32,
    /// How it ended.
    pub ending: Option<Ending>,
    /// Why output is missing that was still pending when its command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_cut: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// How long it ran.
    pub duration_ms: Option<u64>,
    /// Bytes of stdout so far; `None` if its daemon died.
    pub out: Option<u64>,
    /// Bytes of stderr so far.
    pub err: Option<u64>,
    /// Offset of the first kept byte of stdout; equals `out` if nothing is kept any more. `None` if the
    /// job is not durable and never keeps output.
    pub first_out: Option<u64>,
    /// The same for stderr.
    pub first_err: Option<u64>,
    /// The running step of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepProgress>,
    /// Why it waits for disk space, if it does: the peer cannot write its output or its ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for_disk: Option<String>,
    /// The jobs that display its output now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched_from: Vec<Within>,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPage {
    /// Always [`PAGE_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The peer that owns the jobs.
    pub peer: PeerId,
    /// The daemon instance that answers.
    pub instance: Instance,
    /// Newest first.
    pub jobs: Vec<Job>,
    /// The `after` for the next page; `None` on the last page.
    pub next: Option<JobId>,
}

impl JobPage {
    /// Decodes an answer.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let page: Self = decode::json(payload)?;
        decode::check_type(Some(&page.kind), PAGE_TYPE)?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_meant_by_its_id_its_end_or_its_name() {
        let id: JobId = "0197c0de-0000-7000-8000-00000000cafe".parse().expect("an id");
        let job = |name: Option<&str>| Job {
            id,
            state: JobStatus::Running,
            durable: true,
            tty: true,
            name: name.map(str::to_owned),
            started_at: String::new(),
            age_ms: 0,
            principal: Some("ann".parse().expect("a name")),
            from: None,
            command: String::new(),
            directory: None,
            user: None,
            viewers: 0,
            ending: None,
            output_cut: None,
            ended_at: None,
            duration_ms: None,
            out: None,
            err: None,
            first_out: None,
            first_err: None,
            step: None,
            waits_for_disk: None,
            watched_from: Vec::new(),
        };
        for word in ["0197c0de-0000-7000-8000-00000000cafe", "0000cafe", "cafe"] {
            assert!(means(word, &job(None)), "{word}");
        }
        for word in ["afe", "", "0197c0de", "CAFE", "x0197c0de-0000-7000-8000-00000000cafe"] {
            assert!(!means(word, &job(None)), "{word}");
        }
        let named = job(Some("it"));
        assert!(means("it", &named) && means("ann/it", &named));
        assert!(!means("its", &named) && !means("bob/it", &named) && !means("annit", &named));
    }

    #[test]
    fn a_wrong_question_names_its_field() {
        for (text, named) in [
            (r#"{"state":"dead"}"#, "`state`"),
            (r#"{"after":"7"}"#, "`after`"),
            (r#"{"match":""}"#, "`match`"),
            (r#"{"limit":0}"#, "`limit`"),
            (r#"{"type":"peerbus.jobs.v9"}"#, "`type`"),
        ] {
            let bad = JobQuery::decode(text.as_bytes()).expect_err(text);
            assert!(bad.0.contains(named), "{text}: {bad}");
        }
        let long = format!(r#"{{"match":"{}"}}"#, "a".repeat(MATCH_MAX + 1));
        assert!(JobQuery::decode(long.as_bytes()).is_err());
    }
}

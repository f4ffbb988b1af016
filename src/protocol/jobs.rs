//! The jobs of a peer: which there are, and how each stands; asked for on `exec.<peer>.jobs`.
//!
//! Newest first, by the time in their ids: that is the clock of whoever made the job. So a page can
//! go on where another ended, whatever began meanwhile.

use serde::{Deserialize, Serialize};

use super::attach::Within;
use super::decode::{self, BadMessage};
use super::identity::Name;
use super::task::StepProgress;
use super::{Ending, Instance, JobId, PeerId};

/// The `type` of a question.
pub const QUERY_TYPE: &str = "peerbus.jobs_query.v1";

/// The `type` of a page of jobs.
pub const PAGE_TYPE: &str = "peerbus.jobs.v1";

/// Most jobs of one page.
pub const PAGE_MAX: u32 = 1_000;

/// Fewest of an id's last characters that mean a job.
pub const SUFFIX_MIN: usize = 4;

/// Longest word that can mean a job, in bytes: far more than a session's name has.
pub const MATCH_MAX: usize = 128;

/// Longest an answer is held back, in milliseconds.
pub const WAIT_MAX_MS: u64 = 20_000;

/// A question for jobs. Without anything: the first page of those that run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobQuery {
    /// [`QUERY_TYPE`]; may be left out.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only what this means: a whole id, its last characters, or a session's name, alone or as
    /// `owner/name`. Then requests that were refused are found too.
    #[serde(default, rename = "match")]
    pub wanted: Option<String>,
    /// Which of them.
    #[serde(default)]
    pub state: JobFilter,
    /// Only jobs older than this one: `next` of the page before.
    #[serde(default)]
    pub after: Option<JobId>,
    /// At most this many on the page.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Where `match` is a whole id: hold the answer back this long while that job runs.
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// Which jobs are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobFilter {
    /// Those that have not ended.
    #[default]
    Running,
    /// Those that have ended, as well, as long as they are remembered.
    All,
}

impl JobQuery {
    /// Decodes a question; an empty payload asks for the first page.
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

/// Whether a word means a job: it is the id, or its last characters, [`SUFFIX_MIN`] at least, or the
/// job's name, alone or as `owner/name`.
#[must_use]
pub fn means(word: &str, job: &Job) -> bool {
    is_name_of(word, job) || means_id(word, job.id)
}

/// Whether a word is a job's name, alone or behind its owner.
#[must_use]
pub fn is_name_of(word: &str, job: &Job) -> bool {
    let Some(name) = job.name.as_deref() else { return false };
    let owned = |owner: &Name| word.strip_prefix(owner.as_str()).and_then(|rest| rest.strip_prefix('/'));
    name == word || job.principal.as_ref().and_then(owned) == Some(name)
}

/// The same of its id alone.
#[must_use]
pub fn means_id(word: &str, id: JobId) -> bool {
    word.len() >= SUFFIX_MIN && id.to_string().ends_with(word)
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It runs, or is just about to.
    Running,
    /// It has ended.
    Ended,
    /// It has begun and no end of it is known, and nobody attends to it now: its daemon looks for it,
    /// or will end it at its next start.
    Lost,
    /// Something that a later version says.
    #[serde(other)]
    Other,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which.
    pub id: JobId,
    /// How it stands.
    pub state: JobStatus,
    /// Whether it goes on without its caller and its daemon.
    pub durable: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// A session's name.
    pub name: Option<String>,
    /// When it was taken, by the peer's clock: UTC.
    pub started_at: String,
    /// How long ago that was, in milliseconds.
    pub age_ms: u64,
    /// Who asked, as far as it is proved.
    pub principal: Option<Name>,
    /// Who asked, by its own word: a claim.
    pub from: Option<String>,
    /// What was to run, shortened.
    pub command: String,
    /// Where, as asked; none for the peer's own default.
    pub directory: Option<String>,
    /// As whom, as asked.
    pub user: Option<String>,
    /// How many read along now.
    pub viewers: u32,
    /// How it ended.
    pub ending: Option<Ending>,
    /// Why output is missing that was still to come when its command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_cut: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// How long it ran.
    pub duration_ms: Option<u64>,
    /// Bytes of stdout so far; unknown where its daemon died.
    pub out: Option<u64>,
    /// Bytes of stderr so far.
    pub err: Option<u64>,
    /// Where what is kept of stdout begins: at `out` where nothing is any more. None where no output
    /// is kept at all: that of a job that is not durable.
    pub first_out: Option<u64>,
    /// The same of stderr.
    pub first_err: Option<u64>,
    /// The step that runs, of one that is a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepProgress>,
    /// Why it waits for room on the peer's disk, where it does: its output or its end cannot be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for_disk: Option<String>,
    /// The jobs from within which it is followed now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched_from: Vec<Within>,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPage {
    /// Always [`PAGE_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose jobs.
    pub peer: PeerId,
    /// Which start of its daemon answers.
    pub instance: Instance,
    /// Newest first.
    pub jobs: Vec<Job>,
    /// Ask again with this as `after`; none on the last page.
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

//! The jobs of a peer: how they are asked for, and what is answered.

use peerbus::protocol::Ending;
use peerbus::protocol::attach::Within;
use peerbus::protocol::jobs::{Job, JobFilter, JobPage, JobQuery, JobStatus, PAGE_TYPE, QUERY_TYPE};
use peerbus::protocol::task::StepProgress;

use crate::wire::{golden_by, instance, job, peer, text};

fn running() -> Job {
    Job {
        id: job(),
        state: JobStatus::Running,
        durable: true,
        tty: true,
        name: text("build"),
        started_at: "2026-11-21T10:11:12Z".to_owned(),
        age_ms: 61_000,
        principal: Some("alice".parse().unwrap()),
        from: text("alice@desk"),
        command: "make -j8".to_owned(),
        directory: text("/opt/app"),
        user: text("deploy"),
        viewers: 2,
        ending: None,
        output_cut: None,
        ended_at: None,
        duration_ms: None,
        out: Some(70_000_000),
        err: Some(17),
        first_out: Some(8_388_608),
        first_err: Some(0),
        step: None,
        waits_for_disk: None,
        watched_from: Vec::new(),
    }
}

#[test]
fn a_question() {
    let query = JobQuery {
        kind: text(QUERY_TYPE),
        wanted: text("0000cafe"),
        state: JobFilter::All,
        after: Some(job()),
        limit: Some(100),
        wait_ms: Some(10_000),
    };
    golden_by("jobs_query", &query, JobQuery::decode);
    // What a person types.
    assert_eq!(JobQuery::decode(b""), Ok(JobQuery::default()));
    assert_eq!(JobQuery::decode(b"{}"), Ok(JobQuery::default()));
}

#[test]
fn a_page() {
    let ended = Job {
        state: JobStatus::Ended,
        durable: false,
        tty: false,
        name: None,
        principal: None,
        from: None,
        directory: None,
        user: None,
        viewers: 0,
        ending: Some(Ending::Exited { code: 2 }),
        output_cut: text("nobody waited for the rest of it"),
        ended_at: text("2026-11-21T10:12:13Z"),
        duration_ms: Some(60_250),
        first_out: None,
        first_err: None,
        ..running()
    };
    let lost = Job { state: JobStatus::Lost, out: None, err: None, ..running() };
    let page = JobPage {
        kind: PAGE_TYPE.to_owned(),
        peer: peer("vps"),
        instance: instance(),
        jobs: vec![running(), ended, lost],
        next: Some(job()),
    };
    golden_by("jobs_page", &page, JobPage::decode);
    let task =
        Job { name: text("deploy"), tty: false, step: Some(StepProgress { n: 2, of: 3 }), ..running() };
    golden_by("jobs_page_task", &JobPage { jobs: vec![task], next: None, ..page.clone() }, JobPage::decode);
    let watched = Job { watched_from: vec![Within { peer: peer("desk"), job: job() }], ..running() };
    golden_by("jobs_page_watched", &JobPage { jobs: vec![watched], next: None, ..page }, JobPage::decode);
}

/// What a later version says of a job is a state to this one.
#[test]
fn a_state_of_a_later_version() {
    let state: JobStatus = serde_json::from_str(r#""queued""#).unwrap();
    assert_eq!(state, JobStatus::Other);
}

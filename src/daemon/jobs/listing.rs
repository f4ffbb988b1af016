//! One page of jobs, put together.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::context::Context;
use crate::journal::Record;
use crate::running_jobs::JobStats;
use peerbus_protocol::ending::sentence;
use peerbus_protocol::exec::{JobResult, StreamTotal};
use peerbus_protocol::jobs::{Job, JobFilter, JobQuery, JobStatus, PAGE_MAX, means, means_id};
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_protocol::{Ending, JobId, decode};
use peerbus_shim::JobDir;
use peerbus_shim::log::{Extent, Reader};

/// The jobs a question asks for, newest first, and where the next page goes on. Blocking.
///
/// # Errors
/// When the journal cannot be read.
pub(super) fn page(
    context: &Context,
    query: &JobQuery,
    room: usize,
) -> io::Result<(Vec<Job>, Option<JobId>)> {
    let open = context.journal.open_ids()?;
    // A whole id is one job's only: nothing else need be looked at, however many there are.
    let whole: Option<JobId> = query.wanted.as_ref().and_then(|word| word.parse().ok());
    let ids = match (whole, query.state) {
        (Some(id), _) => BTreeSet::from([id]),
        (None, JobFilter::Running) => open.clone(),
        (None, JobFilter::All) => context.journal.all_ids()?,
    };
    let kept: BTreeSet<JobId> = match (whole, &query.wanted) {
        (None, Some(_)) => {
            JobDir::all(&context.settings.state_dir)?.into_iter().map(|(job, _)| job).collect()
        }
        _ => BTreeSet::new(),
    };
    let most = query.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX) as usize;
    let (mut jobs, mut used): (Vec<Job>, usize) = (Vec::new(), 0);
    let mut older = ids.into_iter().rev().filter(|id| query.after.is_none_or(|after| *id < after));
    // The oldest that was looked at.
    let mut last = None;
    for id in older.by_ref() {
        // Only what runs or has a log is looked into for its name: there may be very many others.
        let may_be = |word: &str| means_id(word, id) || open.contains(&id) || kept.contains(&id);
        let job = match &query.wanted {
            Some(word) if !may_be(word) => None,
            _ => job(context, id)?.filter(|job| is_asked_for(job, query)),
        };
        if let Some(job) = job {
            used += decode::to_json(&job).len() + 1;
            // One that is too large for any message is told as such by whoever sends it.
            if jobs.len() == most || (used > room && !jobs.is_empty()) {
                return Ok((jobs, last));
            }
            jobs.push(job);
        }
        last = Some(id);
    }
    Ok((jobs, None))
}

fn is_asked_for(job: &Job, query: &JobQuery) -> bool {
    if query.state == JobFilter::Running && job.state == JobStatus::Ended {
        // Since its name was read.
        return false;
    }
    match &query.wanted {
        Some(word) => means(word, job),
        // What was refused never became a job; the audit log has it.
        None => !matches!(job.ending, Some(Ending::Refused { .. })),
    }
}

/// The record of a job, and its place on the roll while it has not ended. A job enters the roll before
/// its record is begun, and leaves it after that was ended.
fn look(context: &Context, id: JobId) -> io::Result<Option<(Record, Option<Arc<JobStats>>)>> {
    let mut missed = false;
    loop {
        let Some(record) = context.journal.find(id)? else { return Ok(None) };
        let present = context.running_jobs.find(id);
        // Without an ending and off the roll: it may have ended between the two looks.
        if record.result.is_some() || present.is_some() || missed {
            return Ok(Some((record, present)));
        }
        missed = true;
    }
}

/// One job; none where it was forgotten meanwhile.
fn job(context: &Context, id: JobId) -> io::Result<Option<Job>> {
    let (record, present) = match look(context, id) {
        Ok(Some(seen)) => seen,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Some(unreadable(id, &error))),
        Err(error) => return Err(error),
    };
    let mut job = recorded(&record);
    if job.durable && present.is_none() {
        tell_kept(context, &mut job);
    }
    match present {
        _ if record.result.is_some() => {}
        None => job.state = JobStatus::Lost,
        Some(present) => {
            let totals = present.totals();
            (job.out, job.err) = (Some(totals.out), Some(totals.err));
            let first = present.first();
            (job.first_out, job.first_err) = (first.map(|it| it.out), first.map(|it| it.err));
            job.viewers = present.viewers();
            job.step = present.step();
            job.waits_for_disk = present.trouble();
            job.watched_from = present.watched_from();
        }
    }
    Ok(Some(job))
}

/// Says where the log of a durable job begins that nobody attends to: it may have been dropped.
fn tell_kept(context: &Context, job: &mut Job) {
    let log = JobDir::of(&context.settings.state_dir, job.id).log();
    let Extent { first, end } = match Reader::open(&log).extent() {
        Ok(extent) => extent,
        Err(error) => return tracing::warn!(job = %job.id, %error, "reading the log of a job"),
    };
    // Where nobody counted, the log did.
    let (out, err) = (job.out.unwrap_or(end.out), job.err.unwrap_or(end.err));
    let first = if end.sum() == 0 { StreamOffsets { out, err } } else { first };
    (job.out, job.err) = (Some(out), Some(err));
    (job.first_out, job.first_err) = (Some(first.out), Some(first.err));
}

/// What its record says of a job.
fn recorded(record: &Record) -> Job {
    let begun = &record.begun;
    let result = record.result.as_ref();
    let bytes = |of: fn(&JobResult) -> &Option<StreamTotal>| Some(of(result?).as_ref()?.bytes);
    Job {
        id: begun.id,
        state: if result.is_some() { JobStatus::Ended } else { JobStatus::Running },
        durable: begun.durable,
        tty: begun.tty,
        name: begun.name.clone(),
        started_at: begun.at.clone(),
        age_ms: age_ms(&begun.at),
        principal: begun.principal.clone(),
        from: begun.from.clone(),
        command: begun.command.clone(),
        directory: Some(begun.directory.clone()).filter(|directory| !directory.is_empty()),
        user: begun.user.clone(),
        viewers: 0,
        ending: result.map(|result| result.ending.clone()),
        output_cut: result.and_then(|result| result.output_cut.clone()),
        ended_at: record.ended_at.clone(),
        duration_ms: result.map(|result| result.duration_ms),
        out: bytes(|result| &result.out),
        err: bytes(|result| &result.err),
        first_out: None,
        first_err: None,
        step: None,
        waits_for_disk: None,
        watched_from: Vec::new(),
    }
}

/// A record that is none is still a job that somebody started.
fn unreadable(id: JobId, error: &io::Error) -> Job {
    let why = sentence(format!("its record cannot be read: {error}"));
    Job {
        id,
        state: JobStatus::Lost,
        durable: false,
        tty: false,
        name: None,
        started_at: String::new(),
        age_ms: 0,
        principal: None,
        from: None,
        command: String::new(),
        directory: None,
        user: None,
        viewers: 0,
        ending: Some(Ending::Unknown { why }),
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
    }
}

fn age_ms(at: &str) -> u64 {
    let Ok(at) = at.parse::<jiff::Timestamp>() else { return 0 };
    u64::try_from(jiff::Timestamp::now().duration_since(at).as_millis()).unwrap_or_default()
}

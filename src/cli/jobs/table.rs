//! Jobs as a table for people.

use super::Row;
use crate::exit::counts_as_cut;
use crate::output::{Cell, Table};
use crate::time;
use peerbus_protocol::Ending;
use peerbus_protocol::jobs::{Job, JobStatus};
use peerbus_protocol::task::StepProgress;

const HEADING: [&str; 6] = ["JOB", "PEER", "STATE", "AGE", "WHO", "COMMAND"];
const WIDE: [&str; 11] =
    ["JOB", "PEER", "STATE", "AGE", "WHO", "NAME", "USER", "DIRECTORY", "BYTES", "VIEWERS", "COMMAND"];

/// All rows below their heading.
pub(super) fn table(rows: &[Row], wide: bool) -> Table {
    let mut table = Table::of(if wide { &WIDE } else { &HEADING }).wide(wide);
    rows.iter().for_each(|row| table.row(cells(row, wide)));
    table
}

fn cells(row: &Row, wide: bool) -> Vec<Cell> {
    let job = &row.job;
    let or_dash = |text: Option<&String>| Cell::from(text.map_or("-", String::as_str));
    let mut cells = vec![
        job.id.short().into(),
        row.peer.as_str().into(),
        state(job),
        time::span(job.age_ms / 1_000).into(),
        who(job).into(),
    ];
    if wide {
        cells.extend([
            or_dash(job.name.as_ref()),
            or_dash(job.user.as_ref()),
            or_dash(job.directory.as_ref()),
            bytes(job).into(),
            job.viewers.to_string().into(),
        ]);
    }
    cells.push(job.command.as_str().into());
    cells
}

/// The state in a word or two.
pub(crate) fn state(job: &Job) -> Cell {
    match (job.state, &job.ending) {
        (JobStatus::Running, _) if job.waits_for_disk.is_some() => Cell::bad("waits for disk"),
        (JobStatus::Running, _) => match job.step {
            Some(StepProgress { n, of }) => Cell::good(&format!("running {n}/{of}")),
            None => Cell::good("running"),
        },
        (JobStatus::Lost, _) => Cell::bad("lost"),
        (JobStatus::Other, _) => "other".into(),
        (JobStatus::Ended, Some(ending)) if job.output_cut.is_some() && counts_as_cut(ending) => {
            Cell::bad("output cut")
        }
        (JobStatus::Ended, Some(ending)) => ended(ending),
        (JobStatus::Ended, None) => "ended".into(),
    }
}

fn ended(ending: &Ending) -> Cell {
    match ending {
        Ending::Exited { code: 0 } => "exited 0".into(),
        Ending::Exited { code } => Cell::bad(&format!("exited {code}")),
        Ending::Signalled { signal, .. } => format!("signal {signal}").into(),
        Ending::TimedOut {} => "timed out".into(),
        Ending::Cancelled { .. } => "cancelled".into(),
        Ending::Refused { .. } => "refused".into(),
        Ending::NotStarted { .. } => "not started".into(),
        Ending::Offline {} => "offline".into(),
        Ending::Unknown { .. } => Cell::bad("unknown"),
    }
}

/// The verified principal, or else the claimed one.
pub(crate) fn who(job: &Job) -> String {
    match (&job.principal, &job.from) {
        (Some(principal), _) => principal.to_string(),
        (None, Some(from)) => from.clone(),
        (None, None) => "-".to_owned(),
    }
}

/// Bytes of both outputs.
fn bytes(job: &Job) -> String {
    match (job.out, job.err) {
        (Some(out), Some(err)) => out.saturating_add(err).to_string(),
        _ => "?".to_owned(),
    }
}

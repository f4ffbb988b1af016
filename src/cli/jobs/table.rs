//! Jobs as a table for people.

use super::Row;
use crate::cli::log::escaped;
use crate::cli::render::{self, Judgement};
use crate::protocol::Ending;
use crate::protocol::jobs::{Job, State};
use crate::protocol::task::Reached;

/// Longest command in a row, in characters; `-o wide` and `--json` have more.
const COMMAND: usize = 60;

const HEADING: [&str; 6] = ["JOB", "PEER", "STATE", "AGE", "WHO", "COMMAND"];
const WIDE: [&str; 11] =
    ["JOB", "PEER", "STATE", "AGE", "WHO", "NAME", "USER", "DIRECTORY", "BYTES", "VIEWERS", "COMMAND"];

/// All rows below their heading.
pub(super) fn rendered(rows: &[Row], wide: bool) -> String {
    let heading = if wide { WIDE.as_slice() } else { HEADING.as_slice() };
    let mut lines = vec![heading.iter().map(|word| (*word).to_owned()).collect()];
    lines.extend(rows.iter().map(|row| cells(row, wide)));
    render::table(&lines)
}

fn cells(row: &Row, wide: bool) -> Vec<String> {
    let job = &row.job;
    let or_dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| escaped(text));
    let mut cells = vec![
        job.id.short(),
        row.peer.to_string(),
        coloured_state(job),
        render::span(job.age_ms / 1_000),
        who(job),
    ];
    if wide {
        cells.extend([
            or_dash(job.name.as_ref()),
            or_dash(job.user.as_ref()),
            or_dash(job.directory.as_ref()),
            bytes(job),
            job.viewers.to_string(),
        ]);
    }
    let command = escaped(&job.command);
    cells.push(match command.char_indices().nth(COMMAND).filter(|_| !wide) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command,
    });
    cells
}

/// How it stands, in a word or two; in colour where stdout is a terminal.
fn coloured_state(job: &Job) -> String {
    let word = state(job);
    match (job.state, &job.ending) {
        (State::Running, _) => render::judged(&word, Judgement::Good),
        (State::Lost, _) => render::judged(&word, Judgement::Bad),
        (State::Ended, Some(Ending::Exited { code: 1.. } | Ending::Unknown { .. })) => {
            render::judged(&word, Judgement::Bad)
        }
        _ => word,
    }
}

/// How it stands, as plain text: for descriptions and messages, which are not a terminal's stdout.
pub(in crate::cli) fn state(job: &Job) -> String {
    match (job.state, &job.ending) {
        (State::Running, _) => match job.step {
            Some(Reached { n, of }) => format!("running {n}/{of}"),
            None => "running".to_owned(),
        },
        (State::Lost, _) => "lost".to_owned(),
        (State::Other, _) => "other".to_owned(),
        (State::Ended, Some(ending)) => ended(ending),
        (State::Ended, None) => "ended".to_owned(),
    }
}

fn ended(ending: &Ending) -> String {
    match ending {
        Ending::Exited { code } => format!("exited {code}"),
        Ending::Signalled { signal, .. } => format!("signal {}", escaped(signal)),
        Ending::TimedOut {} => "timed out".to_owned(),
        Ending::Cancelled { .. } => "cancelled".to_owned(),
        Ending::Refused { .. } => "refused".to_owned(),
        Ending::NotStarted { .. } => "not started".to_owned(),
        Ending::Offline {} => "offline".to_owned(),
        Ending::Unknown { .. } => "unknown".to_owned(),
    }
}

/// Who was proved to have asked, or else who says so.
pub(in crate::cli) fn who(job: &Job) -> String {
    match (&job.asker, &job.from) {
        (Some(asker), _) => asker.to_string(),
        (None, Some(from)) => escaped(from),
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

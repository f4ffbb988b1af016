//! Reads the log: one page for a client, or all of it to verify its chain.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;

use super::checkpoint;
use super::files::{self, Lines, LogFile};
use peerbus_protocol::audit::chain::{Chain, Verdict};
use peerbus_protocol::audit::{AuditQuery, Cursor, PAGE_MAX};
use peerbus_protocol::{JobId, decode};

/// How often a verification starts over because rotation removed files.
const ATTEMPTS: usize = 3;

/// How many of the last lines to search for endings: more than the jobs that end at the moment a daemon dies.
const LATELY: u32 = 1_024;

/// The lines of a page.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) lines: Vec<String>,
    pub(super) next: Option<Cursor>,
    /// Whether the requested start position no longer exists.
    pub(super) skipped: bool,
}

#[derive(Deserialize)]
struct Written {
    at: String,
}

/// Reads a page of at most `room` bytes as JSON.
///
/// # Errors
/// If the log cannot be read.
pub(super) fn page(state_dir: &Path, query: &AuditQuery, room: usize) -> io::Result<Read> {
    let mut all = files::all(&state_dir.join(files::FOLDER))?;
    let since = query.since.as_deref().map(super::time).transpose().map_err(io::Error::other)?;
    let mut read = Read::default();
    let from = match (query.cursor, query.last) {
        (Some(cursor), _) => {
            read.skipped = !all.iter().any(|file| file.first == cursor.file);
            Some(cursor)
        }
        (None, Some(count)) => files::last(&all, count)?,
        (None, None) => {
            if let Some(since) = since {
                all = files::since(all, SystemTime::from(since));
            }
            None
        }
    };
    let since = since.map(super::shown);
    let most = query.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX) as usize;
    let (mut lines, mut used) = (Lines::from(all, from)?, 0);
    let mut next = lines.next()?;
    while let Some(line) = next {
        next = lines.next()?;
        if !line.whole && next.is_none() {
            // This line is still being written.
            break;
        }
        if since.as_deref().is_some_and(|since| is_before(&line.bytes, since)) {
            continue;
        }
        let text = String::from_utf8_lossy(&line.bytes).into_owned();
        used += decode::to_json(&text).len() + 1;
        if read.lines.len() == most || (used > room && !read.lines.is_empty()) {
            read.next = Some(line.at);
            break;
        }
        read.lines.push(text);
    }
    Ok(read)
}

/// The fields of an ending's line that matter here.
#[derive(Deserialize)]
struct End {
    event: String,
    job: JobId,
}

/// The jobs whose ending is among the last lines. A daemon may have died after writing such a line and before
/// updating the journal.
///
/// # Errors
/// If the log cannot be read.
pub(super) fn ended_lately(state_dir: &Path) -> io::Result<HashSet<JobId>> {
    let all = files::all(&state_dir.join(files::FOLDER))?;
    let from = files::last(&all, LATELY)?;
    let (mut lines, mut ended) = (Lines::from(all, from)?, HashSet::new());
    while let Some(line) = lines.next()? {
        if let Ok(End { event, job }) = decode::json(&line.bytes)
            && event == "ended"
        {
            ended.insert(job);
        }
    }
    Ok(ended)
}

/// Whether a line was certainly written before a time.
fn is_before(line: &[u8], since: &str) -> bool {
    decode::json::<Written>(line).is_ok_and(|written| written.at.as_str() < since)
}

/// Verifies the log of a state directory. `None` if there is no log.
///
/// # Errors
/// If it cannot be read.
pub fn verify(state_dir: &Path) -> io::Result<Option<Verdict>> {
    let folder = state_dir.join(files::FOLDER);
    let mut verdict = None;
    for _ in 0..ATTEMPTS {
        // Read the head before the lines: a running daemon appends lines meanwhile.
        let known = checkpoint::read(state_dir);
        let all = files::all(&folder)?;
        if all.is_empty() && matches!(known, Ok(None)) {
            return Ok(None);
        }
        let oldest = all.first().map(|file| file.first);
        let found = check(state_dir, all, known)?;
        let sound = found.is_sound();
        verdict = Some(found);
        if sound || files::all(&folder)?.first().map(|file| file.first) == oldest {
            break;
        }
    }
    Ok(verdict)
}

fn check(
    state_dir: &Path,
    all: Vec<LogFile>,
    known: io::Result<Option<peerbus_protocol::audit::Checkpoint>>,
) -> io::Result<Verdict> {
    let mut chain = Chain::default();
    let name = checkpoint::path(state_dir);
    let name = name.display();
    let seq = match known {
        Ok(Some(head)) => {
            let seq = head.seq;
            chain.went_to(&name.to_string(), head);
            seq
        }
        Ok(None) => {
            chain.fault(format!("{name} is missing, which says how far the log went"));
            0
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            chain.fault(format!("{name}: {error}"));
            0
        }
        Err(error) => return Err(error),
    };
    let mut lines = Lines::from(all, None)?;
    let (mut file, mut number) = (0, 0);
    let mut next = lines.next()?;
    while let Some(line) = next {
        next = lines.next()?;
        number = if line.at.file == file { number + 1 } else { 1 };
        file = line.at.file;
        let place = format!("{}:{number}", files::path(Path::new(files::FOLDER), file).display());
        let went_far_enough = chain.last().is_some_and(|last| last.seq >= seq);
        if !line.whole && next.is_none() && went_far_enough {
            chain.note(format!("{place}: half a line: it is being written, or its daemon was killed; the next start sees to it"));
        } else {
            chain.line(&place, &line.bytes);
            if !line.whole {
                chain.fault(format!("{place}: it has no end"));
            }
        }
    }
    Ok(chain.finish())
}

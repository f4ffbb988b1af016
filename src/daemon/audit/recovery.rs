//! Finds the end of an earlier daemon's log, and checks that it is as that daemon left it.
//!
//! ```text
//!  head ── its line exists ──► valid lines after it ──► continue after them
//!    │           │                  │ incomplete last line: removed, and recorded
//!    │           ▼                  ▼
//!    └──► missing or different   lines that do not continue the chain
//!                    └──────────┬─────────┘
//!                               ▼
//!         recorded; the log continues in a new file, and nothing found is changed
//! ```

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::checkpoint;
use super::files::{self, Line, Lines, LogFile};
use peerbus_protocol::audit::{AuditEvent, Checkpoint, LineHash};
use peerbus_protocol::decode;

/// The end of a log.
#[derive(Debug)]
pub(super) struct LogEnd {
    /// Its last line.
    pub(super) last: Checkpoint,
    /// The file to continue. `None` starts a new one.
    pub(super) file: Option<PathBuf>,
    /// Events to record in the log.
    pub(super) tell: Vec<AuditEvent>,
}

#[derive(Deserialize)]
struct Link {
    seq: u64,
    prev: LineHash,
}

fn link(line: &Line) -> Option<Link> {
    if line.whole { decode::json(&line.bytes).ok() } else { None }
}

/// Finds the end of the log and repairs what a killed daemon left.
pub(super) fn find_end(state_dir: &Path, folder: &Path) -> io::Result<LogEnd> {
    let all = files::all(folder)?;
    let head_file = checkpoint::path(state_dir);
    match checkpoint::read(state_dir) {
        Ok(Some(head)) => after(&head, folder, all),
        Ok(None) if all.is_empty() => {
            Ok(LogEnd { last: Checkpoint::of_nothing(), file: None, tell: Vec::new() })
        }
        Ok(None) => without_head(all, format!("{} was removed", head_file.display())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            without_head(all, format!("{} was changed: {error}", head_file.display()))
        }
        Err(error) => Err(error),
    }
}

/// Finds the end by the files alone.
fn without_head(all: Vec<LogFile>, what: String) -> io::Result<LogEnd> {
    let newest = all.into_iter().next_back();
    let mut last = newest.as_ref().map_or_else(Checkpoint::of_nothing, |file| Checkpoint {
        // A number that no line has, so the next line continues none of them.
        seq: file.first.saturating_add(1),
        hash: LineHash::of_nothing(),
    });
    let mut lines = Lines::from(newest.into_iter().collect(), None)?;
    while let Some(line) = lines.next()? {
        if let Some(link) = link(&line) {
            last = Checkpoint { seq: link.seq, hash: LineHash::of(&line.bytes) };
        }
    }
    Ok(LogEnd { last, file: None, tell: vec![AuditEvent::Damaged { what }] })
}

/// Finds the end starting from the head.
fn after(head: &Checkpoint, folder: &Path, all: Vec<LogFile>) -> io::Result<LogEnd> {
    let start = all.iter().rposition(|file| file.first <= head.seq.max(1)).unwrap_or(all.len());
    let later = all[start..].to_vec();
    let mut lines = Lines::from(later.clone(), None)?;
    let mut end = (head.seq == 0).then(|| head.clone());
    let mut end_file = None;
    while let Some(line) = lines.next()? {
        let seq = link(&line).map(|link| link.seq);
        match &mut end {
            None if seq == Some(head.seq) => {
                if LineHash::of(&line.bytes) != head.hash {
                    let what = format!("line {} is not the one that was written", head.seq);
                    return damaged(head, all, what);
                }
                (end, end_file) = (Some(head.clone()), Some(line.at.file));
            }
            None => {}
            Some(end) => match link(&line) {
                Some(link) if link.seq == end.seq + 1 && link.prev == end.hash => {
                    *end = Checkpoint { seq: link.seq, hash: LineHash::of(&line.bytes) };
                    end_file = Some(line.at.file);
                }
                _ if !line.whole && lines.next()?.is_none() => {
                    let path = files::path(folder, line.at.file);
                    let tell = vec![cut_off(&path, &line)?];
                    // A file must start with the line that says where the log starts.
                    let file = (line.at.offset > 0).then_some(path);
                    return Ok(LogEnd { last: end.clone(), file, tell });
                }
                _ => {
                    let (file, offset) = (files::path(folder, line.at.file), line.at.offset);
                    let what = format!(
                        "what stands in {} from byte {offset} on was not written by a daemon",
                        file.display()
                    );
                    return damaged(&end.clone(), all, what);
                }
            },
        }
    }
    match end {
        Some(last) => {
            Ok(LogEnd { last, file: end_file.map(|file| files::path(folder, file)), tell: Vec::new() })
        }
        None => damaged(head, all, format!("the log ends before line {}, which was its last", head.seq)),
    }
}

/// Continues the log after `last`, ignoring later content. Moves files with higher numbers aside.
fn damaged(last: &Checkpoint, all: Vec<LogFile>, mut what: String) -> io::Result<LogEnd> {
    for file in all.into_iter().filter(|file| file.first > last.seq) {
        if let Some(strange) = make_way(&file.path)? {
            what = format!("{what}; {strange}");
        }
    }
    tracing::error!(what, "the audit log is not as it was left");
    Ok(LogEnd { last: last.clone(), file: None, tell: vec![AuditEvent::Damaged { what }] })
}

/// Moves a file aside if its name is needed. Returns what it did, or `None` if there is no file or it is empty.
pub(super) fn make_way(path: &Path) -> io::Result<Option<String>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        // A daemon was killed, or its disk was full, before the first write.
        Ok(there) if there.is_file() && there.len() == 0 => fs::remove_file(path).map(|()| None),
        Ok(_) => {
            let aside = path.with_extension(format!("strange-{}", super::now().replace(':', "")));
            fs::rename(path, &aside)?;
            Ok(Some(format!("{} is none of its files and was put aside", path.display())))
        }
    }
}

/// Removes an incomplete line.
fn cut_off(path: &Path, line: &Line) -> io::Result<AuditEvent> {
    OpenOptions::new().write(true).open(path)?.set_len(line.at.offset)?;
    let (bytes, blake3) = (line.bytes.len() as u64, blake3::hash(&line.bytes).to_hex().to_string());
    tracing::warn!(path = %path.display(), bytes, "half a line of the audit log was cut off: a daemon was killed while it wrote");
    Ok(AuditEvent::Healed { bytes, blake3 })
}

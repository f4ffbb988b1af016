//! The log as a table for people: one row a request.

use std::collections::HashMap;

use crate::{output, time};
use peerbus_protocol::audit::{
    AuditDecision, AuditEntry, AuditEvent, AuditedControl, AuditedOutcome, AuditedRequest, RejectSummary,
};
use peerbus_protocol::identity::Principal;
use peerbus_protocol::{JobId, decode};

const HEADING: [&str; 9] = ["WHEN", "JOB", "WHO", "AS", "DIRECTORY", "DECISION", "ENDING", "TOOK", "COMMAND"];

/// Rows so far.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// The row of each command that has not ended.
    begun: HashMap<JobId, usize>,
}

impl Table {
    /// Adds a line.
    pub(super) fn add(&mut self, line: &str) {
        let Ok(entry) = decode::json::<AuditEntry>(line.as_bytes()) else {
            return self.aside("", format!("not a line of an audit log: {line}"));
        };
        let when = time::local_time(&entry.at);
        match entry.event {
            AuditEvent::Begun(request) => {
                self.begun.insert(request.job, self.rows.len());
                self.rows.push(row(when, &request, String::new(), String::new()));
            }
            AuditEvent::Ended { request, outcome } => self.end(when, &request, &outcome),
            AuditEvent::Refused { request, ending } => {
                self.rows.push(row(when, &request, ending.to_string(), String::new()));
            }
            AuditEvent::Malformed(flood) => self.aside(&when, many(&flood, "malformed")),
            AuditEvent::ManyRefused(flood) => self.aside(&when, many(&flood, "further refused")),
            AuditEvent::ManySteered(flood) => self.aside(&when, many(&flood, "further steering")),
            AuditEvent::Steered(steered) => self.rows.push(steered_row(when, &steered, None)),
            AuditEvent::SteerRefused { control, why } => {
                self.rows.push(steered_row(when, &control, Some(&why)));
            }
            AuditEvent::Started { version, user, .. } => {
                self.aside(&when, format!("the daemon {version} was started as {user}"));
            }
            AuditEvent::Stopped { .. } => self.aside(&when, "the daemon was stopped".to_owned()),
            AuditEvent::Gap { lost, why, .. } => {
                self.aside(&when, format!("{lost} lines could not be written: {why}"));
            }
            AuditEvent::Damaged { what } => self.aside(&when, format!("damaged: {what}")),
            AuditEvent::Healed { .. } => {
                self.aside(&when, "half a line was cut off: the daemon had been killed".to_owned());
            }
            AuditEvent::Other => self.aside(&when, "something this version does not know".to_owned()),
            AuditEvent::File { .. } => {}
        }
    }

    /// The end of a command goes into the row of its begin, where that is among the lines.
    fn end(&mut self, when: String, request: &AuditedRequest, outcome: &AuditedOutcome) {
        let took = format!("{:.1}s", outcome.duration_ms as f64 / 1000.0);
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        let ending = format!("{}, {}+{} B", outcome.ending, bytes(outcome.out), bytes(outcome.err));
        match self.begun.remove(&request.job).and_then(|row| self.rows.get_mut(row)) {
            Some(begun) => {
                begun[6] = ending;
                begun[7] = took;
            }
            None => self.rows.push(row(when, request, ending, took)),
        }
    }

    /// Something that is no request.
    fn aside(&mut self, when: &str, what: String) {
        let dash = || "-".to_owned();
        let row = vec![when.to_owned(), dash(), dash(), dash(), dash(), dash(), dash(), dash(), what];
        self.rows.push(row);
    }

    pub(super) fn shown(self, wide: bool) -> output::Table {
        let mut table = output::Table::of(&HEADING).wide(wide);
        self.rows.into_iter().for_each(|row| table.row(row));
        table
    }
}

fn row(when: String, request: &AuditedRequest, ending: String, took: String) -> Vec<String> {
    let none = || "-".to_owned();
    let principal = match &request.from {
        // Who it says it is beside who it was proved to be, which may be nobody.
        Some(from) => format!("{} ({from})", request.principal()),
        None => request.principal().to_string(),
    };
    let or_dash = |text: String| if text.is_empty() { none() } else { text };
    let short = request.job.to_string();
    let short = short[short.len() - peerbus_protocol::ids::SHORT_JOB_ID..].to_owned();
    let decision = match &request.rule {
        Some(rule) => format!("{} by {rule}", request.decision),
        None => request.decision.to_string(),
    };
    vec![
        when,
        short,
        principal,
        request.user.as_deref().map_or_else(none, str::to_owned),
        request.directory.as_deref().map_or_else(none, str::to_owned),
        decision,
        or_dash(ending),
        or_dash(took),
        request.command.clone(),
    ]
}

fn steered_row(when: String, steered: &AuditedControl, refused: Option<&str>) -> Vec<String> {
    let none = || "-".to_owned();
    let who = match (&steered.principal, steered.standing) {
        (Some(name), Some(standing)) => Principal::Known { name: name.clone(), standing },
        _ => Principal::Anyone,
    };
    let detail = steered.detail.as_deref().map(|text| format!(" {text}")).unwrap_or_default();
    let of = steered.owner.as_ref().map(|owner| format!(" (job of {owner})")).unwrap_or_default();
    let what = format!("{}{detail}{of}", steered.word);
    let decision = refused.map_or_else(none, |_| AuditDecision::Refused.to_string());
    let ending = refused.map_or_else(none, |why| format!("refused: {why}"));
    vec![when, steered.job.short(), who.to_string(), none(), none(), decision, ending, none(), what]
}

fn many(flood: &RejectSummary, what: &str) -> String {
    let example = flood.examples.first().map(|example| format!(", such as: {}", &example.why));
    let of = flood.principal.as_ref().map(|principal| format!(" of {principal}")).unwrap_or_default();
    format!("{} {what} requests{of}{}", flood.count, example.unwrap_or_default())
}

//! The NATS services API, by hand: three small documents, so that `nats micro ls` shows the fleet.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Instance, PeerId, subjects};

/// The name of the service every peer is an instance of.
pub const NAME: &str = "exec";

/// A subject that reaches every peer of the fleet.
pub const PING_ALL: &str = "$SRV.PING.exec";

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceQuery {
    /// Who is there?
    Ping,
    /// What do you offer?
    Info,
    /// What have you done?
    Stats,
}

/// Reads the question off a subject such as `$SRV.PING.exec`; none where it is no question for
/// this service and instance.
#[must_use]
pub fn question(subject: &str, instance: Instance) -> Option<ServiceQuery> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let meant = match tokens.get(2..)? {
        [] => true,
        [name] => name.eq_ignore_ascii_case(NAME),
        [name, id] => name.eq_ignore_ascii_case(NAME) && *id == instance.to_string(),
        _ => false,
    };
    match tokens[1] {
        _ if !meant => None,
        "PING" => Some(ServiceQuery::Ping),
        "INFO" => Some(ServiceQuery::Info),
        "STATS" => Some(ServiceQuery::Stats),
        _ => None,
    }
}

/// The subjects to hear questions on.
#[must_use]
pub fn question_subjects(instance: Instance) -> [String; 3] {
    ["$SRV.*".to_owned(), format!("$SRV.*.{NAME}"), format!("$SRV.*.{NAME}.{instance}")]
}

/// One peer as an instance of the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceDocument {
    /// `io.nats.micro.v1.…_response`.
    #[serde(rename = "type")]
    pub kind: String,
    /// [`NAME`].
    pub name: String,
    /// The daemon's instance.
    pub id: String,
    /// The daemon's version.
    pub version: String,
    /// peer, hostname, address, os, version.
    pub metadata: BTreeMap<String, String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When the daemon started, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// What is offered, or was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Endpoint>>,
}

/// The one endpoint of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// [`NAME`].
    pub name: String,
    /// Where requests go.
    pub subject: String,
    /// The queue group of those who take them.
    pub queue_group: String,
    /// Requests taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_requests: Option<u64>,
    /// Requests refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_errors: Option<u64>,
    /// The last refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Nanoseconds spent on jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processing_time: Option<u64>,
    /// The same, for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_processing_time: Option<u64>,
}

/// What a daemon has done since its start.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Requests taken.
    pub requests: u64,
    /// Requests refused.
    pub errors: u64,
    /// The last refusal.
    pub last_error: String,
    /// Nanoseconds spent on jobs.
    pub processing_ns: u64,
}

/// What every answer says of the peer.
#[derive(Debug, Clone)]
pub struct ServiceIdentity {
    /// The peer.
    pub peer: PeerId,
    /// The daemon's instance.
    pub instance: Instance,
    /// The daemon's version.
    pub version: String,
    /// The daemon's start, RFC 3339.
    pub started: String,
    /// peer, hostname, address, os, version.
    pub metadata: BTreeMap<String, String>,
}

/// Answers a question.
#[must_use]
pub fn answer(question: ServiceQuery, identity: &ServiceIdentity, counts: &Counts) -> ServiceDocument {
    let endpoint = Endpoint {
        name: NAME.to_owned(),
        subject: subjects::exec(&identity.peer),
        queue_group: subjects::EXEC_QUEUE.to_owned(),
        num_requests: None,
        num_errors: None,
        last_error: None,
        processing_time: None,
        average_processing_time: None,
    };
    let mut document = ServiceDocument {
        kind: "io.nats.micro.v1.ping_response".to_owned(),
        name: NAME.to_owned(),
        id: identity.instance.to_string(),
        version: identity.version.clone(),
        metadata: identity.metadata.clone(),
        description: None,
        started: None,
        endpoints: None,
    };
    match question {
        ServiceQuery::Ping => {}
        ServiceQuery::Info => {
            "io.nats.micro.v1.info_response".clone_into(&mut document.kind);
            document.description = Some("runs commands on this peer".to_owned());
            document.endpoints = Some(vec![endpoint]);
        }
        ServiceQuery::Stats => {
            "io.nats.micro.v1.stats_response".clone_into(&mut document.kind);
            document.started = Some(identity.started.clone());
            document.endpoints = Some(vec![Endpoint {
                num_requests: Some(counts.requests),
                num_errors: Some(counts.errors),
                last_error: Some(counts.last_error.clone()),
                processing_time: Some(counts.processing_ns),
                average_processing_time: Some(counts.processing_ns / counts.requests.max(1)),
                ..endpoint
            }]);
        }
    }
    document
}

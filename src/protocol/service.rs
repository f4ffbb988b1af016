//! The NATS services API, implemented by hand: three small documents, so that `nats micro ls` shows the
//! fleet.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Instance, PeerId, subjects};

/// The service name; every peer is an instance of it.
pub const NAME: &str = "exec";

/// A subject that reaches every peer of the fleet.
pub const PING_ALL: &str = "$SRV.PING.exec";

/// A query of the services API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceQuery {
    /// Is the service there?
    Ping,
    /// What does it offer?
    Info,
    /// What has it done?
    Stats,
}

/// Parses the query of a subject such as `$SRV.PING.exec`; `None` if it does not address this service
/// and instance.
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

/// The subjects of queries.
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
    /// A description for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When the daemon started, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// The endpoints, with their statistics where requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Endpoint>>,
}

/// The one endpoint of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// [`NAME`].
    pub name: String,
    /// The subject of requests.
    pub subject: String,
    /// The queue group of the daemons.
    pub queue_group: String,
    /// Accepted requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_requests: Option<u64>,
    /// Refused requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_errors: Option<u64>,
    /// The last refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Nanoseconds spent on jobs, in total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processing_time: Option<u64>,
    /// Nanoseconds spent on jobs, per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_processing_time: Option<u64>,
}

/// Counters of a daemon since its start.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Accepted requests.
    pub requests: u64,
    /// Refused requests.
    pub errors: u64,
    /// The last refusal.
    pub last_error: String,
    /// Nanoseconds spent on jobs, in total.
    pub processing_ns: u64,
}

/// The peer's description in every answer.
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

/// Answers a query.
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

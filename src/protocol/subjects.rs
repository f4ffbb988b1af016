//! The NATS subjects.
//!
//! | subject | publisher | subscriber |
//! |---|---|---|
//! | `exec.<peer>` | operators | the daemon, queue group `exec` |
//! | `exec.<peer>.ping` | leader, operators | the daemon |
//! | `exec.<peer>.health` | operators | the daemon |
//! | `exec.<peer>.audit` | operators | the daemon |
//! | `exec.<peer>.policy` | operators | the daemon |
//! | `exec.<peer>.jobs` | operators | the daemon |
//! | `exec.<peer>.<job>.<verb>` | operators | the daemon |
//! | `queue.<peer>.<job>` | operators | the stream `QUEUE`, from which the peer fetches |
//! | `exec.<peer>.<job>.credit.<viewer>` | the server, when this viewer is gone | the daemon |
//! | `peers.alive` | daemons | leaders |
//! | `peers.list`, `peers.get` | anyone allowed | leaders, queue group `registry` |
//! | `peers.remove` | operators | leaders, queue group `registry` |
//! | `peers.event.<kind>.<peer>` | leader | anyone allowed |
//! | `fleet.account` | members | leaders, queue group `registry` |
//! | `fleet.account.changed` | leader | members |
//! | `fleet.join.<invitation>` | guests | leaders, queue group `registry` |
//! | `$SRV.<question>[.exec[.<instance>]]` | anyone allowed | daemons |

use std::fmt;
use std::str::FromStr;

use super::identity::Name;
use super::peers::EventKind;
use super::{JobId, PeerId};

/// Heartbeats.
pub const ALIVE: &str = "peers.alive";
/// One page of the registry.
pub const LIST: &str = "peers.list";
/// One peer of the registry.
pub const GET: &str = "peers.get";
/// Takes one peer out of the registry.
pub const REMOVE: &str = "peers.remove";
/// Returns the newest account of a fleet with identities.
pub const ACCOUNT: &str = "fleet.account";
/// Announces a new account.
pub const ACCOUNT_CHANGED: &str = "fleet.account.changed";
/// Queue group of a peer's daemons: exactly one of them receives a request.
pub const EXEC_QUEUE: &str = "exec";
/// Queue group of leaders.
pub const REGISTRY_QUEUE: &str = "registry";
/// Prefix of all reply subjects.
const INBOX: &str = "_INBOX";

/// The control requests of a running or ended job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// How much output the peer may send, and how much the caller has written.
    Credit,
    /// Bytes for the command's standard input.
    Stdin,
    /// A signal for the command.
    Signal,
    /// Restart sending at an offset.
    Resume,
    /// Read a durable job, and optionally write to it.
    Attach,
    /// A new size of a viewer's terminal.
    Resize,
    /// Rename a durable job.
    Rename,
    /// Detach all viewers of a durable job.
    Detach,
    /// Stop waiting for output that other processes still hold open.
    Release,
    /// Stop the job, and report its state.
    Cancel,
    /// Report how the job ended.
    Result,
}

impl Verb {
    const ALL: [Self; 11] = [
        Self::Credit,
        Self::Stdin,
        Self::Signal,
        Self::Resume,
        Self::Attach,
        Self::Resize,
        Self::Rename,
        Self::Detach,
        Self::Release,
        Self::Cancel,
        Self::Result,
    ];

    /// The last token of the subject.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Stdin => "stdin",
            Self::Signal => "signal",
            Self::Resume => "resume",
            Self::Attach => "attach",
            Self::Resize => "resize",
            Self::Rename => "rename",
            Self::Detach => "detach",
            Self::Release => "release",
            Self::Cancel => "cancel",
            Self::Result => "result",
        }
    }
}

impl FromStr for Verb {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text).ok_or(())
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Starts a job on a peer.
#[must_use]
pub fn exec(peer: &PeerId) -> String {
    format!("exec.{peer}")
}

/// Everything below a peer's `exec` subject.
#[must_use]
pub fn below_exec(peer: &PeerId) -> String {
    format!("exec.{peer}.>")
}

/// Asks a peer for a heartbeat.
#[must_use]
pub fn ping(peer: &PeerId) -> String {
    format!("exec.{peer}.ping")
}

/// Asks a peer for its health.
#[must_use]
pub fn health(peer: &PeerId) -> String {
    format!("exec.{peer}.health")
}

/// Asks a peer for its audit log.
#[must_use]
pub fn audit(peer: &PeerId) -> String {
    format!("exec.{peer}.audit")
}

/// Asks a peer what its policy allows.
#[must_use]
pub fn policy(peer: &PeerId) -> String {
    format!("exec.{peer}.policy")
}

/// Asks a peer for its jobs.
#[must_use]
pub fn jobs(peer: &PeerId) -> String {
    format!("exec.{peer}.jobs")
}

/// Carries a control request of a job.
#[must_use]
pub fn job(peer: &PeerId, job: JobId, verb: Verb) -> String {
    format!("exec.{peer}.{job}.{verb}")
}

/// All queued jobs of all peers.
pub const QUEUE_ALL: &str = "queue.*.*";

/// Queues a job for a peer.
#[must_use]
pub fn queue(peer: &PeerId, job: JobId) -> String {
    format!("queue.{peer}.{job}")
}

/// All queued jobs of a peer.
#[must_use]
pub fn queue_of(peer: &PeerId) -> String {
    format!("queue.{peer}.*")
}

/// Parses the subject of a queued job.
///
/// # Errors
/// A sentence, if it is not such a subject.
pub fn parse_queue(subject: &str) -> Result<(PeerId, JobId), String> {
    match subject.split('.').collect::<Vec<_>>().as_slice() {
        ["queue", peer, job] => {
            let peer = peer.parse().map_err(|bad| format!("in the subject: {bad}"))?;
            Ok((peer, job.parse().map_err(|bad| format!("in the subject: {bad}"))?))
        }
        _ => Err("the subject is not queue.<peer>.<job>".to_owned()),
    }
}

/// The reply subject of everything sent to a viewer of a durable job. The server reports there that the
/// viewer is gone.
#[must_use]
pub fn viewer(peer: &PeerId, job: JobId, number: u64) -> String {
    format!("exec.{peer}.{job}.{}.{number}", Verb::Credit)
}

/// Redeems an invitation.
#[must_use]
pub fn join(invitation: &Name) -> String {
    format!("fleet.join.{invitation}")
}

/// All redemptions of invitations.
pub const JOIN_ALL: &str = "fleet.join.*";

/// The leader's events about a peer.
#[must_use]
pub fn event(kind: EventKind, peer: &PeerId) -> String {
    format!("peers.event.{}.{peer}", kind.as_str())
}

/// The meaning of a subject below `exec.<peer>.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Below {
    /// A ping.
    Ping,
    /// A health query.
    Health,
    /// An audit query.
    Audit,
    /// A policy query.
    Policy,
    /// A jobs query.
    Jobs,
    /// A control request of a job.
    Job(JobId, Verb),
    /// Credit of one viewer of a durable job, or the report that it is gone.
    Viewer(JobId, u64),
    /// Unknown to this version; the sentence says why.
    Strange(String),
}

/// Parses a subject below `exec.<peer>.`.
#[must_use]
pub fn parse_below(subject: &str) -> Below {
    let tokens: Vec<&str> = subject.split('.').skip(2).collect();
    match tokens.as_slice() {
        ["ping"] => Below::Ping,
        ["health"] => Below::Health,
        ["audit"] => Below::Audit,
        ["policy"] => Below::Policy,
        ["jobs"] => Below::Jobs,
        [job, verb] => match (job.parse(), verb.parse()) {
            (Ok(job), Ok(verb)) => Below::Job(job, verb),
            (Err(bad), _) => Below::Strange(format!("in the subject: {bad}")),
            (_, Err(())) => Below::Strange(format!("in the subject: there is no verb {verb:?}")),
        },
        [job, "credit", number] => match (job.parse(), number.parse()) {
            (Ok(job), Ok(number)) => Below::Viewer(job, number),
            (Err(bad), _) => Below::Strange(format!("in the subject: {bad}")),
            (_, Err(_)) => {
                Below::Strange(format!("in the subject: {number:?} is not the number of a viewer"))
            }
        },
        _ => {
            Below::Strange("the subject is neither exec.<peer>.ping nor exec.<peer>.<job>.<verb>".to_owned())
        }
    }
}

/// Prefix of the reply subjects of a name; without a name, of clients without identity.
#[must_use]
pub fn inbox(name: Option<&Name>) -> String {
    match name {
        Some(name) => format!("{INBOX}_{name}"),
        None => INBOX.to_owned(),
    }
}

/// Whether a reply subject is an inbox of exactly this name.
#[must_use]
pub fn is_inbox_of(subject: &str, name: &Name) -> bool {
    is_inbox(subject) && subject.split('.').next() == Some(&inbox(Some(name)))
}

/// Whether a reply subject is an inbox, such as `_INBOX.x.y` or `_INBOX_name.x`. A daemon answers only
/// to inboxes. Otherwise a caller could make it publish on any subject.
#[must_use]
pub fn is_inbox(subject: &str) -> bool {
    let word = |token: &str| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    };
    let mut tokens = subject.split('.');
    let first = tokens.next().unwrap_or_default();
    let named = first == INBOX || first.strip_prefix(INBOX).is_some_and(|rest| rest.starts_with('_'));
    let mut rest = tokens.peekable();
    named && word(first) && rest.peek().is_some() && rest.all(word) && subject.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inboxes_are_inboxes() {
        for good in ["_INBOX.a", "_INBOX.a.b-C_1", "_INBOX_bob.x.y"] {
            assert!(is_inbox(good), "{good}");
        }
        let long = format!("_INBOX.{}", "a".repeat(300));
        for bad in [
            "",
            "_INBOX",
            "_INBOX.",
            "_INBOX.*",
            "_INBOX.>",
            "_INBOX.a..b",
            "_INBOXER.x",
            "exec.w1",
            "_INBOX.a b",
            &long,
        ] {
            assert!(!is_inbox(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_built_can_be_taken_apart() {
        let peer: PeerId = "w1".parse().expect("valid");
        let id = JobId::new();
        for verb in Verb::ALL {
            assert_eq!(parse_below(&job(&peer, id, verb)), Below::Job(id, verb));
        }
        assert_eq!(parse_queue(&queue(&peer, id)), Ok((peer.clone(), id)));
        for strange in ["", "queue", "queue.w1", "queue.w1.x", &format!("queue.W1.{id}"), "exec.w1.x"] {
            assert!(parse_queue(strange).is_err(), "{strange}");
        }
        assert_eq!(parse_below(&viewer(&peer, id, 7)), Below::Viewer(id, 7));
        assert_eq!(parse_below(&ping(&peer)), Below::Ping);
        assert_eq!(parse_below(&health(&peer)), Below::Health);
        assert_eq!(parse_below(&audit(&peer)), Below::Audit);
        assert_eq!(parse_below(&policy(&peer)), Below::Policy);
        assert_eq!(parse_below(&jobs(&peer)), Below::Jobs);
        for strange in [
            "exec.w1.x",
            "exec.w1.nojob.credit",
            &format!("exec.w1.{id}.dance"),
            "exec.w1.a.b.c",
            "exec.w1.a.credit.1",
            &format!("exec.w1.{id}.credit.x"),
        ] {
            assert!(matches!(parse_below(strange), Below::Strange(_)), "{strange}");
        }
    }
}

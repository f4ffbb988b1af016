//! The queue: requests wait on the server until their peer fetches them.
//!
//! It is one JetStream stream, [`STREAM`]. Each job is a message on `queue.<peer>.<job>`, and each peer
//! with queued jobs has a consumer named after it. A message is a signed [`ExecRequest`] with an
//! expiry. [`super::jetstream`] contains the JetStream requests.
//!
//! Guarantees: a request's id contains its creation time, and it expires at most [`LONGEST`] later. So
//! a peer that remembers ids for that long never runs a request twice, however late its delivery. The
//! stream never drops a job to make room for another one.

use std::time::Duration;

use super::decode::BadMessage;
use super::exec::ExecRequest;
use super::subjects::QUEUE_ALL;
use super::{JobId, PeerId};

/// The stream's name.
pub const STREAM: &str = "QUEUE";

/// Longest lifetime of a queued request: as long as peers remember ids.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Most queued jobs in a fleet.
pub const MOST_JOBS: i64 = 100_000;

/// Most queued bytes in a fleet.
pub const MOST_BYTES: i64 = 256 << 20;

/// How long the stream keeps undelivered messages: longer than their lifetime, so that a late peer can
/// report each as expired.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The server's deduplication window for message ids.
pub const KNOWN_FOR: Duration = Duration::from_secs(600);

/// Time for a peer to acknowledge a delivery before redelivery.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

/// Most unacknowledged deliveries to one peer.
pub const MOST_UNCONFIRMED: i64 = 256;

/// Idle time after which the server deletes a peer's consumer. Messages stay, and the peer re-creates
/// the consumer.
pub const CONSUMER_IDLE: Duration = Duration::from_secs(8 * 24 * 3600);

/// Header by which the server deduplicates messages.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";

/// The required stream configuration. Other settings of an administrator stay unchanged.
#[must_use]
pub fn stream() -> serde_json::Value {
    serde_json::json!({
        "name": STREAM,
        "subjects": [QUEUE_ALL],
        "retention": "workqueue",
        "storage": "file",
        // Refuse a new job rather than lose an old one.
        "discard": "new",
        "discard_new_per_subject": true,
        "max_msgs_per_subject": 1,
        "max_msgs": MOST_JOBS,
        "max_bytes": MOST_BYTES,
        "max_age": nanoseconds(KEPT_FOR),
        "duplicate_window": nanoseconds(KNOWN_FOR),
    })
}

/// The requested configuration of a peer's consumer.
#[must_use]
pub fn consumer(peer: &PeerId) -> serde_json::Value {
    serde_json::json!({
        "stream_name": STREAM,
        "config": {
            "name": peer,
            "durable_name": peer,
            "filter_subject": super::subjects::queue_of(peer),
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(CONFIRM_WITHIN),
            // The delivery count is irrelevant: the peer's journal decides.
            "max_deliver": -1,
            "max_ack_pending": MOST_UNCONFIRMED,
            "inactive_threshold": nanoseconds(CONSUMER_IDLE),
        },
    })
}

/// A duration as JetStream expects it.
#[must_use]
pub fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// The lifetime of a queued request, in milliseconds since 1970 by its caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLifetime {
    /// Creation time of its id.
    pub made_ms: i64,
    /// The request must not start at or after this time.
    pub expires_ms: i64,
}

impl QueueLifetime {
    /// The lifetime of a request with this id.
    ///
    /// # Errors
    /// Names the field that is missing or invalid for a queued request.
    pub fn of(request: &ExecRequest, id: JobId) -> Result<Self, BadMessage> {
        let bad = |text: &str| Err(BadMessage(text.to_owned()));
        if request.id != Some(id) {
            return bad("field `id`: it is not the job of the subject");
        }
        if request.stream.is_some() || request.stdin {
            return bad("field `stream`: nobody waits for what a queued job writes");
        }
        let Some(expires_ms) = request.expires_ms else {
            return bad("field `expires_ms`: a queued request says until when it may be begun");
        };
        let made_ms = id.made_ms();
        let longest_ms = i64::try_from(LONGEST.as_millis()).unwrap_or(i64::MAX);
        if expires_ms <= made_ms {
            return bad("field `expires_ms`: it is before the time at which the id was made");
        }
        if expires_ms.saturating_sub(made_ms) > longest_ms {
            return bad("field `expires_ms`: it is more than seven days after the id was made");
        }
        Ok(Self { made_ms, expires_ms })
    }

    /// Whether the request may start at this time of the peer's clock. The peer remembers all ids
    /// created after `remembered_ms`.
    #[must_use]
    pub fn judged(&self, now_ms: i64, remembered_ms: i64) -> QueueDue {
        let Self { made_ms, expires_ms } = *self;
        if now_ms < made_ms {
            return QueueDue::NotYet { for_ms: made_ms.abs_diff(now_ms) };
        }
        if now_ms >= expires_ms {
            return QueueDue::Expired;
        }
        if made_ms <= remembered_ms {
            return QueueDue::PerhapsForgotten;
        }
        QueueDue::Now
    }
}

/// Whether a queued request may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueDue {
    /// It may start.
    Now,
    /// By the peer's clock it was created in the future, so that clock cannot tell whether it has
    /// expired.
    NotYet {
        /// Difference of the clocks, in milliseconds.
        for_ms: u64,
    },
    /// It has expired.
    Expired,
    /// It is older than the peer's memory, and may have run.
    PerhapsForgotten,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::EXAMPLE;

    fn request(id: JobId, expires_ms: Option<i64>) -> ExecRequest {
        let example = ExecRequest::decode(EXAMPLE.as_bytes()).expect("the example");
        ExecRequest { id: Some(id), expires_ms, ..example }
    }

    #[test]
    fn a_request_says_until_when_and_not_longer_than_it_is_remembered() {
        let id = JobId::new();
        let longest = i64::try_from(LONGEST.as_millis()).expect("small");
        let made = id.made_ms();
        for good in [made + 1, made + longest] {
            let span = QueueLifetime::of(&request(id, Some(good)), id).expect("good");
            assert_eq!((span.made_ms, span.expires_ms), (made, good));
        }
        for (bad, named) in [
            (request(id, None), "says until when"),
            (request(id, Some(made)), "is before"),
            (request(id, Some(i64::MIN)), "is before"),
            (request(id, Some(made + longest + 1)), "seven days"),
            (request(id, Some(i64::MAX)), "seven days"),
            (request(JobId::new(), Some(made + 1)), "`id`"),
            (
                ExecRequest {
                    stream: Some(crate::exec::StreamOptions { window: 1 }),
                    ..request(id, Some(made + 1))
                },
                "`stream`",
            ),
        ] {
            let error = QueueLifetime::of(&bad, id).expect_err(named);
            assert!(error.0.contains(named), "{error}");
        }
    }

    #[test]
    fn it_is_begun_in_its_time_and_only_where_it_would_be_remembered() {
        let span = QueueLifetime { made_ms: 1_000, expires_ms: 2_000 };
        assert_eq!(span.judged(1_000, 0), QueueDue::Now);
        assert_eq!(span.judged(1_999, 999), QueueDue::Now);
        assert_eq!(span.judged(2_000, 0), QueueDue::Expired);
        assert_eq!(span.judged(i64::MAX, i64::MAX), QueueDue::Expired);
        assert_eq!(span.judged(1_500, 1_000), QueueDue::PerhapsForgotten);
        // A clock that was reset cannot prove that a request is still valid.
        assert_eq!(span.judged(999, 0), QueueDue::NotYet { for_ms: 1 });
        assert_eq!(span.judged(0, i64::MAX), QueueDue::NotYet { for_ms: 1_000 });
    }
}

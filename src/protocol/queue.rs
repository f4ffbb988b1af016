//! The queue: requests that wait on the server until their peer is there to take them.
//!
//! It is one JetStream stream, [`STREAM`], with a message for each job on `queue.<peer>.<job>`, and one
//! consumer for each peer that something waits, or waited, for, of that peer's name. A message is a sealed
//! [`ExecRequest`] that says until when it may be begun. What is asked of JetStream itself is in
//! [`super::jetstream`].
//!
//! Guarantees: a request has an id that says when it was made and an end at most [`LONGEST`] later, so that
//! a peer that remembers its ids for that long never runs one twice, however late it is delivered. The
//! stream never drops a job to make room for another one.

use std::time::Duration;

use super::decode::BadMessage;
use super::exec::ExecRequest;
use super::subjects::QUEUE_ALL;
use super::{JobId, PeerId};

/// The stream's name.
pub const STREAM: &str = "QUEUE";

/// The longest time a request may wait: as long as a peer remembers ids.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Most jobs that wait in a fleet.
pub const MOST_JOBS: i64 = 100_000;

/// Most bytes that wait in a fleet.
pub const MOST_BYTES: i64 = 256 << 20;

/// How long the stream keeps what nobody took: longer than it may run, so that a peer that comes back late
/// can say of each that it expired.
pub const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long the server knows a message by its id, in which the same is taken once.
pub const KNOWN_FOR: Duration = Duration::from_secs(600);

/// How long a peer may take to confirm a delivery before it is delivered again.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

/// Most deliveries to one peer that are not confirmed.
pub const MOST_UNCONFIRMED: i64 = 256;

/// When a consumer whose peer asks for nothing is taken away. What waits stays, and the consumer is made again.
pub const CONSUMER_IDLE: Duration = Duration::from_secs(8 * 24 * 3600);

/// Header that makes the server take a message once.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";

/// What the stream has to be. Anything else an administrator has set stays as it is.
#[must_use]
pub fn stream() -> serde_json::Value {
    serde_json::json!({
        "name": STREAM,
        "subjects": [QUEUE_ALL],
        "retention": "workqueue",
        "storage": "file",
        // Rather refuse a new job than lose an old one.
        "discard": "new",
        "discard_new_per_subject": true,
        "max_msgs_per_subject": 1,
        "max_msgs": MOST_JOBS,
        "max_bytes": MOST_BYTES,
        "max_age": nanoseconds(KEPT_FOR),
        "duplicate_window": nanoseconds(KNOWN_FOR),
    })
}

/// The consumer of a peer, as it is asked for.
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
            // How often something was delivered decides nothing: the peer's journal does.
            "max_deliver": -1,
            "max_ack_pending": MOST_UNCONFIRMED,
            "inactive_threshold": nanoseconds(CONSUMER_IDLE),
        },
    })
}

/// A time as JetStream counts it.
#[must_use]
pub fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// When a request that may wait was made, and until when it may be begun, in milliseconds since 1970 by its
/// caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLifetime {
    /// When its id was made.
    pub made_ms: i64,
    /// From then on it is not begun any more.
    pub expires_ms: i64,
}

impl QueueLifetime {
    /// That of a request that was found under this id.
    ///
    /// # Errors
    /// Names the field that a request that waits cannot have, or not so.
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

    /// Whether it may be begun at this time of the peer's clock, by a peer that knows of every id that was
    /// made after `remembered_ms` whether it has seen it.
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

/// Whether a request that has waited may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueDue {
    /// It may.
    Now,
    /// By the peer's clock it was not made yet, so that clock cannot say whether it is over.
    NotYet {
        /// How far the clocks are apart, in milliseconds.
        for_ms: u64,
    },
    /// Its time is over.
    Expired,
    /// It is older than what the peer remembers, and may have run.
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
        // A clock that has lost its time cannot say that something is still good.
        assert_eq!(span.judged(999, 0), QueueDue::NotYet { for_ms: 1 });
        assert_eq!(span.judged(0, i64::MAX), QueueDue::NotYet { for_ms: 1_000 });
    }
}

//! Attaching to a durable job, running or ended: where to start reading, and whether to write too.
//!
//! A *viewer* is an inbox that receives the same frames as the job's caller, from any position of the
//! job's log, at its own pace. A position is a *combined offset*: how many bytes of stdout and stderr
//! together precede it in the log.

use serde::{Deserialize, Serialize};

use super::tty::TtySize;
use super::{Instance, JobId, PeerId};

/// The `type` of the answer to a request for a durable job without `stream`.
pub const STARTED_TYPE: &str = "peerbus.started.v1";

/// The error code for a viewer whose position in the log is unreadable. Nothing follows it.
pub const UNREADABLE: &str = "unreadable";

/// The error code for a viewer that would make a job display itself.
pub const LOOP: &str = "loop";

/// Longest name of a job, in characters.
pub const NAME_MAX: usize = 63;

/// Attaches to a durable job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Epoch of the coming frames: 1, or one more than the last epoch when attaching again.
    pub epoch: u64,
    /// The intended instance; without it, any daemon that has the job answers.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Where to start.
    pub from: AttachFrom,
    /// Bytes of output that the peer may send before the first credit.
    pub window: u64,
    /// Whether the viewer will send stdin, signals and sizes.
    #[serde(default)]
    pub write: bool,
    /// Size of the viewer's terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
    /// Whether to sign every frame, in a fleet with identities. A viewer that detaches before the
    /// result needs this, because only the result would prove the frames.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sealed: bool,
    /// The jobs that would display this output; prevents a job from displaying itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Within>,
}

/// A job that displays the output of another job, because it runs a viewer of that job.
///
/// In a request, a list: the job that contains the sender, followed by the jobs that display that one,
/// as far as known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Within {
    /// The peer it runs on.
    pub peer: PeerId,
    /// Its id.
    pub job: JobId,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Where a viewer starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "Place")]
pub enum AttachFrom {
    /// At this combined offset.
    Byte(u64),
    /// At the beginning.
    Start,
    /// At the current end, with new output only.
    Now,
    /// With the terminal's current screen, followed by new output.
    Screen,
}

/// The serialized form: a word, or an object, to which later versions may add fields.
#[derive(Deserialize)]
#[serde(untagged, expecting = "it is neither {\"byte\":n} nor \"start\", \"now\" or \"screen\"")]
enum Place {
    Byte { byte: u64 },
    Word(Word),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Start,
    Now,
    Screen,
}

impl std::convert::From<Place> for AttachFrom {
    fn from(place: Place) -> Self {
        match place {
            Place::Byte { byte } => Self::Byte(byte),
            Place::Word(Word::Start) => Self::Start,
            Place::Word(Word::Now) => Self::Now,
            Place::Word(Word::Screen) => Self::Screen,
        }
    }
}

/// A new size of a viewer's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeRequest {
    /// Counts the sizes of one viewer, from 1.
    pub n: u64,
    /// The intended instance.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// Whether this viewer answers the terminal's queries, by output position: the body of the frame
/// `asked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Responder {
    /// The changes, in order. The first one also applies to all earlier positions.
    pub turns: Vec<ResponderChange>,
}

/// From a position on, this viewer answers the terminal's queries, or stops doing so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponderChange {
    /// The position: a combined offset.
    pub at: u64,
    /// Whether this viewer answers.
    pub asked: bool,
}

impl Responder {
    /// Whether this viewer answers a query at this position.
    #[must_use]
    pub fn is_at(&self, at: u64) -> bool {
        let begun = self.turns.iter().take_while(|turn| turn.at <= at).last();
        begun.or(self.turns.first()).is_some_and(|turn| turn.asked)
    }
}

/// The size of the terminal, by output position: the body of the frame `sized`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The known sizes, in order.
    pub sizes: Vec<SizeFrom>,
}

/// The size of the terminal from a position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeFrom {
    /// The position: a combined offset.
    pub at: u64,
    /// The size.
    #[serde(flatten)]
    pub size: TtySize,
}

impl Sizes {
    /// The size at this position, if known.
    #[must_use]
    pub fn at(&self, at: u64) -> Option<TtySize> {
        self.sizes.iter().take_while(|size| size.at <= at).last().map(|size| size.size)
    }

    /// The next position where the size changes.
    #[must_use]
    pub fn next_after(&self, at: u64) -> Option<u64> {
        self.sizes.iter().map(|size| size.at).find(|next| *next > at)
    }
}

/// Renames a durable job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameRequest {
    /// The intended instance; without it, any daemon that has the job answers.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Its new name.
    pub name: String,
    /// The current name; `None` if it has none. If the job has another name by now, it keeps that, so a
    /// late or repeated request undoes nothing.
    #[serde(default)]
    pub was: Option<String>,
}

/// The `type` of the answer to a rename.
pub const RENAMED_TYPE: &str = "peerbus.renamed.v1";

/// The job has this name now, and the name is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// Always [`RENAMED_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The job.
    pub id: JobId,
    /// The instance that answers.
    pub instance: Instance,
    /// Its name.
    pub name: String,
}

/// Detaches all current viewers of a durable job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachRequest {
    /// The intended instance; without it, any daemon that has the job answers.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// The sender by its own claim, shown to the viewers; unproven, as in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The `type` of the answer to a detach.
pub const DETACHED_TYPE: &str = "peerbus.detached.v1";

/// The viewers are detached: the peer sends them nothing more and accepts nothing more from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachAnswer {
    /// Always [`DETACHED_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The job.
    pub id: JobId,
    /// The instance that answers.
    pub instance: Instance,
    /// How many viewers it detached.
    pub viewers: u32,
}

/// The body of the frame `detached`, which each detached viewer gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// Who detached them: a proven name, or the sender's own claim.
    pub by: String,
}

/// A durable job has started: the answer to a request without `stream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Always [`STARTED_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The job.
    pub id: JobId,
    /// The peer it runs on.
    pub peer: PeerId,
    /// The instance that answers.
    pub instance: Instance,
}

/// Whether a text is a valid job name. Users type it wherever they can type an id.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(word)
        && name.parse::<JobId>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_or_a_number_of_bytes() {
        for (text, from) in [
            (r#"{"byte":7}"#, AttachFrom::Byte(7)),
            ("\"start\"", AttachFrom::Start),
            ("\"now\"", AttachFrom::Now),
            ("\"screen\"", AttachFrom::Screen),
        ] {
            assert_eq!(serde_json::from_str::<AttachFrom>(text).expect(text), from);
            assert_eq!(serde_json::to_string(&from).expect(text), text);
        }
        assert!(serde_json::from_str::<AttachFrom>(r#"{"byte":-1}"#).is_err());
    }

    #[test]
    fn a_name_is_none_that_could_be_something_else() {
        for good in ["work", "2", "a.b-c_d", &"x".repeat(NAME_MAX)] {
            assert!(is_name(good), "{good}");
        }
        let id = JobId::new().to_string();
        for bad in ["", "-a", ".", "a/b", "a b", "grün", &"x".repeat(NAME_MAX + 1), &id] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}

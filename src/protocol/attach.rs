//! Reading a durable job that runs already, or has ended: from where, and whether to write to it too.
//!
//! Whoever reads it is a *viewer*: an inbox that gets the same frames as the caller of a job, from any place of
//! the job's log, at its own pace. A place is a *combined offset*: how many bytes of stdout and stderr together
//! stand before it in the log.

use serde::{Deserialize, Serialize};

use super::tty::TtySize;
use super::{Instance, JobId, PeerId};

/// The `type` of the answer to a request for a durable job without a stream.
pub const STARTED_TYPE: &str = "peerbus.started.v1";

/// The word of the answer to a viewer who gets no more, because the log cannot be read there. Nothing follows it.
pub const UNREADABLE: &str = "unreadable";

/// The word of the answer to who would have a job show itself.
pub const LOOP: &str = "loop";

/// Longest name of a session, in characters.
pub const NAME_MAX: usize = 63;

/// Read a durable job, and perhaps write to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// The epoch of the frames to come: 1, or one more than the last for who attaches anew.
    pub epoch: u64,
    /// The instance this is meant for; any daemon that has the job answers.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Where to begin.
    pub from: AttachFrom,
    /// How many bytes of output may be sent before the first credit.
    pub window: u64,
    /// Whether stdin, signals and sizes will come from here.
    #[serde(default)]
    pub write: bool,
    /// The size of the terminal it is looked at in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
    /// Whether every frame is to be signed, where members sign: for who leaves before there is a result, which
    /// would prove the others.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sealed: bool,
    /// In which jobs that would be seen, so that none shows itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Within>,
}

/// A job from within which another is followed: what that one prints, this one prints.
///
/// As a list, in a request: the job that whoever asks runs in, and then those from within which that one is followed in
/// turn, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Within {
    /// Where it runs.
    pub peer: PeerId,
    /// Which it is.
    pub job: JobId,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Where a viewer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "Place")]
pub enum AttachFrom {
    /// At this combined offset.
    Byte(u64),
    /// At the beginning.
    Start,
    /// At what comes next.
    Now,
    /// With what the terminal shows, and then what comes next.
    Screen,
}

/// The same as it is written: an object, which may say more in a later version, or a word.
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

/// The terminal is looked at in another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeRequest {
    /// Counts the sizes a viewer says from 1.
    pub n: u64,
    /// The instance this is meant for.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// Who answers what a command asks its terminal, from whichever place of its output: the body of the frame `asked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Responder {
    /// In order. What comes before the first belongs to it.
    pub turns: Vec<ResponderChange>,
}

/// From a place on it is this viewer who is asked, or it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponderChange {
    /// The place: a combined offset.
    pub at: u64,
    /// Whether it is.
    pub asked: bool,
}

impl Responder {
    /// Whether it is asked what stands at this place.
    #[must_use]
    pub fn is_at(&self, at: u64) -> bool {
        let begun = self.turns.iter().take_while(|turn| turn.at <= at).last();
        begun.or(self.turns.first()).is_some_and(|turn| turn.asked)
    }
}

/// How large a terminal is, from whichever place of its output: the body of the frame `sized`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// In order, as far as they are remembered.
    pub sizes: Vec<SizeFrom>,
}

/// From a place on it has this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeFrom {
    /// The place: a combined offset.
    pub at: u64,
    /// The size.
    #[serde(flatten)]
    pub size: TtySize,
}

impl Sizes {
    /// The size at this place, where it is known.
    #[must_use]
    pub fn at(&self, at: u64) -> Option<TtySize> {
        self.sizes.iter().take_while(|size| size.at <= at).last().map(|size| size.size)
    }

    /// The next place where it changes.
    #[must_use]
    pub fn next_after(&self, at: u64) -> Option<u64> {
        self.sizes.iter().map(|size| size.at).find(|next| *next > at)
    }
}

/// A durable job is to be called otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameRequest {
    /// The instance this is meant for; any daemon that has the job answers.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Its new name.
    pub name: String,
    /// The name it has now; none where it has none. A job that is called otherwise by now keeps its name, so a word
    /// that comes late or twice undoes nothing.
    #[serde(default)]
    pub was: Option<String>,
}

/// The `type` of the answer to that.
pub const RENAMED_TYPE: &str = "peerbus.renamed.v1";

/// A durable job has this name now, and it is written down.
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

/// Everybody who reads a durable job now is to leave it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachRequest {
    /// The instance this is meant for; any daemon that has the job answers.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// Who asks, by its own word, for those who are to leave: a claim, as in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The `type` of the answer to that.
pub const DETACHED_TYPE: &str = "peerbus.detached.v1";

/// They have left: nothing more is sent to them, and nothing more taken from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachAnswer {
    /// Always [`DETACHED_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The job.
    pub id: JobId,
    /// The instance that answers.
    pub instance: Instance,
    /// How many there were.
    pub viewers: u32,
}

/// What each of them is told: the body of the frame `detached`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// Who wanted it: a proved name, or what somebody says of itself.
    pub by: String,
}

/// A durable job runs: the answer to a request without a stream.
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

/// Whether a session may have this name: people type it, where they would type an id.
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

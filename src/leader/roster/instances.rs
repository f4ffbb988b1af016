//! The instances heard under one peer id, in the order in which they took over.
//!
//! One voice is the rule. A second one that was not heard before is a restart: it takes over, and
//! the first falls silent. Only when one that was followed by another speaks again are there two
//! daemons under one id.

use std::time::Duration;

use peerbus_protocol::Instance;
use peerbus_protocol::heartbeat::{Heartbeat, PeerState};

/// How many of its own intervals an instance may be silent before it counts as gone.
pub(super) const PATIENCE: u32 = 3;

/// Most instances remembered of one peer. More than that within three intervals is garbage, or a
/// daemon that crashes at once, and the newest tell enough.
const VOICES_MAX: usize = 8;

/// What a heartbeat is among those heard before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// From the instance expected, or from one that takes over.
    New,
    /// From the instance expected, but nothing newer than was heard of it before.
    Again,
    /// From an instance that had been followed by another.
    Rival,
    /// A farewell.
    Left,
    /// Late: it says nothing about now.
    Stale,
}

/// The instances heard of late.
#[derive(Debug, Default)]
pub(super) struct Instances(Vec<HeardInstance>);

#[derive(Debug)]
struct HeardInstance {
    instance: Instance,
    heard: Duration,
    patience: Duration,
    seq: u64,
    /// It said farewell.
    left: bool,
    /// Another one took over, and this one has been silent since.
    followed: bool,
}

impl HeardInstance {
    fn is_here(&self) -> bool {
        !self.left && !self.followed
    }

    fn is_remembered(&self, now: Duration) -> bool {
        now < self.heard + self.patience
    }
}

impl Instances {
    /// Takes a heartbeat in.
    pub(super) fn hear(&mut self, beat: &Heartbeat, now: Duration) -> Heard {
        self.0.retain(|voice| voice.is_remembered(now));
        let Some(at) = self.0.iter().position(|voice| voice.instance == beat.instance) else {
            return self.take_over(beat, now);
        };
        let others_here = self.0.iter().enumerate().any(|(other, voice)| other != at && voice.is_here());
        let voice = &mut self.0[at];
        let is_newer = beat.seq > voice.seq;
        if !is_newer && (voice.followed || voice.left) {
            return Heard::Stale;
        }
        voice.heard = now;
        voice.patience = Duration::from_millis(beat.interval_ms) * PATIENCE;
        voice.seq = voice.seq.max(beat.seq);
        voice.left = beat.state == PeerState::Leaving;
        let was_followed = voice.followed;
        voice.followed = was_followed && voice.left;
        match (voice.left, was_followed) {
            (true, true) => Heard::Stale,
            (true, false) => Heard::Left,
            (false, true) if others_here => Heard::Rival,
            (false, _) if is_newer => Heard::New,
            (false, _) => Heard::Again,
        }
    }

    /// A new instance: whoever spoke before is expected to be silent from now on.
    fn take_over(&mut self, beat: &Heartbeat, now: Duration) -> Heard {
        if self.0.len() >= VOICES_MAX {
            self.0.remove(0);
        }
        let left = beat.state == PeerState::Leaving;
        let patience = Duration::from_millis(beat.interval_ms) * PATIENCE;
        let (instance, seq) = (beat.instance, beat.seq);
        self.0.iter_mut().for_each(|voice| voice.followed = true);
        self.0.push(HeardInstance { instance, heard: now, patience, seq, left, followed: false });
        if left { Heard::Left } else { Heard::New }
    }

    /// Forgets who left, and counts the silence of the others from now on.
    pub(super) fn begin_anew(&mut self, now: Duration) {
        self.0.retain(|voice| !voice.left);
        for voice in &mut self.0 {
            voice.heard = now;
        }
    }

    /// How long the current instance may be silent.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.0.last().map(|voice| voice.patience)
    }

    /// Whether this instance is remembered.
    pub(super) fn knows(&self, instance: Instance) -> bool {
        self.0.iter().any(|voice| voice.instance == instance)
    }

    /// Whether any instance did neither leave nor fall silent for another.
    pub(super) fn any(&self) -> bool {
        self.0.iter().any(HeardInstance::is_here)
    }

    /// Whether any of those was heard within its three intervals.
    pub(super) fn any_at(&self, now: Duration) -> bool {
        self.0.iter().any(|voice| voice.is_here() && voice.is_remembered(now))
    }

    /// How many instances were heard within their three intervals, whatever they said.
    pub(super) fn heard(&self, now: Duration) -> usize {
        self.0.iter().filter(|voice| voice.is_remembered(now)).count()
    }

    /// Names those who speak under one id.
    pub(super) fn rivalry(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|voice| voice.instance.to_string()).collect();
        format!("{} instances speak under this id: {}", names.len(), names.join(", "))
    }
}

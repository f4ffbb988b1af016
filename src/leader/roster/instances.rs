//! The instances heard under one peer id, in the order in which they took over.
//!
//! Normally there is one. A second instance that was not heard before is a restart: it takes over,
//! and the first one must fall silent. Two daemons have one id only if a superseded instance sends
//! again.

use std::time::Duration;

use peerbus_protocol::Instance;
use peerbus_protocol::heartbeat::{Heartbeat, PeerState};

/// An instance counts as gone after this many of its own intervals without a heartbeat.
pub(super) const PATIENCE: u32 = 3;

/// Most instances remembered per peer. More than that within three intervals are garbage or a crash
/// loop, and the newest are enough.
const VOICES_MAX: usize = 8;

/// A heartbeat's relation to those received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// From the current instance, or from one that takes over.
    New,
    /// From the current instance, but with no higher sequence number.
    Again,
    /// From a superseded instance that sends again.
    Rival,
    /// A farewell.
    Left,
    /// A late message that does not concern the present.
    Stale,
}

/// The instances heard recently.
#[derive(Debug, Default)]
pub(super) struct Instances(Vec<HeardInstance>);

#[derive(Debug)]
struct HeardInstance {
    instance: Instance,
    heard: Duration,
    patience: Duration,
    seq: u64,
    /// It sent a farewell.
    left: bool,
    /// Another instance took over, and this one has been silent since.
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
    /// Handles a heartbeat.
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

    /// Adds a new instance; it supersedes all others.
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

    /// Forgets instances that left, and counts the silence of the others from now on.
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

    /// Whether any instance has neither left nor been superseded.
    pub(super) fn any(&self) -> bool {
        self.0.iter().any(HeardInstance::is_here)
    }

    /// Whether any such instance was heard within its three intervals.
    pub(super) fn any_at(&self, now: Duration) -> bool {
        self.0.iter().any(|voice| voice.is_here() && voice.is_remembered(now))
    }

    /// How many instances were heard within their three intervals, whether they left or not.
    pub(super) fn heard(&self, now: Duration) -> usize {
        self.0.iter().filter(|voice| voice.is_remembered(now)).count()
    }

    /// Lists the instances that use the id.
    pub(super) fn rivalry(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|voice| voice.instance.to_string()).collect();
        format!("{} instances speak under this id: {}", names.len(), names.join(", "))
    }
}

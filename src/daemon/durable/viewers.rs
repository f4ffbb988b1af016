//! The viewers of a job.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::VIEWERS_MOST;
use super::control::AttachMode;
use super::viewer::{self, Viewer, ViewerCommand};
use crate::nonces::Attachment;
use peerbus_protocol::attach::Within;

/// The viewers of one job, by inbox.
pub(super) struct Viewers {
    handles: HashMap<String, Handle>,
    /// Numbers are never reused, not even those of earlier daemons. So an event about one viewer is never taken for
    /// one about another.
    last_number: u64,
    leave: mpsc::UnboundedSender<EndedViewer>,
    left: mpsc::UnboundedReceiver<EndedViewer>,
}

/// The inbox and the number of a viewer that has ended.
pub(super) type EndedViewer = (String, u64);

struct Handle {
    number: u64,
    epoch: u64,
    /// Whether it may write to the job.
    write: bool,
    /// The combined offset up to which it has credit.
    room: u64,
    seat: ResponderRank,
    /// Whether it has typed anything.
    typed: bool,
    /// The job that the client runs in, if any.
    within: Option<Within>,
    /// The nonce that its control messages are signed over, if members sign.
    attachment: Option<Attachment>,
    words: mpsc::UnboundedSender<ViewerCommand>,
}

/// The rank of a viewer when the responder is chosen. The highest one wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ResponderRank {
    /// Whether it has a terminal: it has reported a size.
    pub(super) has_terminal: bool,
    /// When it last typed or reported a size, by the job's activity counter.
    pub(super) active: u64,
}

impl Viewers {
    pub(super) fn new() -> Self {
        let (leave, left) = mpsc::unbounded_channel();
        // The range above is large enough for all future viewers.
        let last_number = rand::random::<u64>() >> 1;
        Self { handles: HashMap::new(), last_number, leave, left }
    }

    pub(super) fn are_none(&self) -> bool {
        self.handles.is_empty()
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.handles.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is no room for another viewer.
    pub(super) fn are_full(&self) -> bool {
        self.handles.len() >= VIEWERS_MOST
    }

    /// The epoch of a viewer. `None` if there is no such viewer.
    pub(super) fn epoch_of(&self, inbox: &str) -> Option<u64> {
        self.handles.get(inbox).map(|handle| handle.epoch)
    }

    /// The nonce that a viewer's control messages are signed over, if members sign.
    pub(super) fn nonce_of(&self, inbox: &str) -> Option<String> {
        let attachment = self.handles.get(inbox)?.attachment.as_ref();
        attachment.map(|attachment| attachment.nonce().to_owned())
    }

    /// Records that a viewer typed. Returns whether this was the first time.
    pub(super) fn types_first(&mut self, inbox: &str) -> bool {
        let handle = self.handles.get_mut(inbox);
        handle.is_some_and(|handle| !std::mem::replace(&mut handle.typed, true))
    }

    /// Whether this viewer may write. `None` if there is no such viewer.
    pub(super) fn may_write(&self, inbox: &str) -> Option<bool> {
        self.handles.get(inbox).map(|handle| handle.write)
    }

    /// Starts a viewer. Replaces one with the same inbox.
    pub(super) fn begin(&mut self, begin: viewer::Begin, attachment: Option<Attachment>, manner: AttachMode) {
        let AttachMode { write, seat, within, .. } = manner;
        self.last_number += 1;
        let (words, listen) = mpsc::unbounded_channel();
        let (number, inbox, epoch) = (self.last_number, begin.inbox.clone(), begin.epoch);
        let leave = self.leave.clone();
        let room = begin.begins.offset().saturating_add(begin.window);
        let typed = self.handles.get(&inbox).is_some_and(|handle| handle.typed);
        let handle = Handle { number, epoch, write, room, seat, typed, within, attachment, words };
        self.handles.insert(inbox.clone(), handle);
        tokio::spawn(async move {
            Viewer::new(begin, number).live(listen).await;
            // The job may be gone.
            let _ = leave.send((inbox, number));
        });
    }

    /// Sends a command to a viewer. Returns whether there is such a viewer.
    pub(super) fn say(&mut self, inbox: &str, word: ViewerCommand) -> bool {
        let Some(handle) = self.handles.get_mut(inbox) else { return false };
        match &word {
            ViewerCommand::Resume { epoch, received, window, .. } => {
                handle.epoch = handle.epoch.max(*epoch);
                handle.room = received.sum().saturating_add(*window);
            }
            ViewerCommand::Credit(credit) => handle.room = handle.room.max(credit.limit),
            _ => {}
        }
        handle.words.send(word).is_ok()
    }

    /// The responder rank of a viewer.
    pub(super) fn seat_of(&self, inbox: &str) -> Option<ResponderRank> {
        self.handles.get(inbox).map(|handle| handle.seat)
    }

    /// Sets the responder rank of a viewer, if it exists.
    pub(super) fn set_seat(&mut self, inbox: &str, seat: ResponderRank) {
        if let Some(handle) = self.handles.get_mut(inbox) {
            handle.seat = seat;
        }
    }

    /// The viewers that may write.
    pub(super) fn writers(&self) -> impl Iterator<Item = (&str, ResponderRank)> {
        let writers = self.handles.iter().filter(|(_, handle)| handle.write);
        writers.map(|(inbox, handle)| (inbox.as_str(), handle.seat))
    }

    /// The jobs from within which clients follow this one.
    pub(super) fn within(&self) -> impl Iterator<Item = &Within> {
        self.handles.values().filter_map(|handle| handle.within.as_ref())
    }

    /// Detaches all viewers with this last frame. Returns their inboxes.
    pub(super) fn leave(&mut self, told: &Bytes) -> Vec<String> {
        let all = std::mem::take(&mut self.handles).into_iter();
        all.map(|(inbox, handle)| {
            // A viewer whose task is gone has already left.
            let _ = handle.words.send(ViewerCommand::Leave(told.clone()));
            inbox
        })
        .collect()
    }

    /// The highest offset up to which a writer has credit. `None` without writers.
    pub(super) fn room(&self) -> Option<u64> {
        self.handles.values().filter(|handle| handle.write).map(|handle| handle.room).max()
    }

    /// Drops a viewer whose inbox is gone. The log has all that it missed, and a resume starts it again.
    pub(super) fn drop_number(&mut self, number: u64) {
        self.handles.retain(|_, handle| handle.number != number);
    }

    /// Removes a viewer that is leaving. Its task has received the same message.
    pub(super) fn let_go(&mut self, inbox: &str) {
        self.handles.remove(inbox);
    }

    /// Waits for a viewer to end. Cancel safe.
    pub(super) async fn one_leaves(&mut self) -> EndedViewer {
        match self.left.recv().await {
            Some(gone) => gone,
            // This struct holds a sender, so the channel never closes.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_attends_next_numbers_its_viewers_otherwise() {
        let numbers: std::collections::BTreeSet<u64> = (0..100).map(|_| Viewers::new().last_number).collect();
        assert_eq!(numbers.len(), 100);
        assert!(numbers.iter().all(|number| *number <= u64::MAX / 2));
    }
}

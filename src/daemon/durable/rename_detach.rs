//! Renaming a durable job, and detaching all its viewers.
//!
//! The journal has a new name before it is confirmed, so every list and the next daemon show it at once. The daemon
//! tells the shim the name, and tells it again on each connection where the shim reports another one.
//!
//! A detached client stops being a viewer at once: the job takes no more input from it and sends it no more output.
//! A client that is offline at that moment is told when it comes back, unless the daemon was replaced in between.

use std::collections::{HashSet, VecDeque};

use super::job::DurableJob;
use crate::answer;
use crate::job::blocking;
use crate::journal::NotNamed;
use crate::request_summary::{self, ControlSummary};
use peerbus_protocol::attach::{DetachRequest, Detached, RenameRequest};
use peerbus_protocol::decode;
use peerbus_protocol::frame::Accepted;
use peerbus_protocol::identity::Principal;
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_shim::ToShim;

/// Inboxes to remember: more than a job can have viewers at once.
const REMEMBERED: usize = 256;

/// The viewers that somebody detached.
#[derive(Debug, Default)]
pub(super) struct DetachedViewers {
    /// Their inboxes, and who detached them.
    left: VecDeque<(String, String)>,
    /// Detach requests already applied, by inbox, with the number of viewers they detached: a request may be
    /// repeated.
    obeyed: VecDeque<(String, u32)>,
    /// Who last detached all viewers.
    everybody: Option<String>,
    /// The viewers that attached since then, as far as remembered.
    came: HashSet<String>,
}

impl DetachedViewers {
    /// Who detached this viewer, if anyone.
    pub(super) fn by(&self, inbox: &str) -> Option<&str> {
        find(&self.left, inbox).map(String::as_str)
    }

    /// The same for a client that resumes and may have been a viewer of an earlier daemon. If it has not attached
    /// here since, it was a viewer when all viewers were detached.
    fn by_on_return(&self, inbox: &str) -> Option<&str> {
        let missed = self.everybody.as_deref().filter(|_| !self.came.contains(inbox));
        self.by(inbox).or(missed)
    }

    /// Records that a viewer attaches.
    pub(super) fn comes(&mut self, inbox: &str) {
        if self.everybody.is_none() {
            return;
        }
        self.came.insert(inbox.to_owned());
        if self.came.len() > REMEMBERED {
            // Better to keep a detached viewer than to detach one that attached later.
            (self.everybody, self.came) = (None, HashSet::new());
        }
    }
}

fn find<'a, T>(of: &'a VecDeque<(String, T)>, inbox: &str) -> Option<&'a T> {
    of.iter().find(|(one, _)| one == inbox).map(|(_, what)| what)
}

fn remember<T>(of: &mut VecDeque<(String, T)>, inbox: String, what: T) {
    if of.len() >= REMEMBERED {
        of.pop_front();
    }
    of.push_back((inbox, what));
}

impl DurableJob {
    pub(super) async fn on_rename(&mut self, rename: RenameRequest, from: &str, principal: &Principal) {
        let (context, id) = (std::sync::Arc::clone(&self.context), self.id);
        let RenameRequest { name, was, .. } = rename;
        if self.ended.is_some() {
            return self.has_ended_before(from).await;
        }
        let now = self.begun.name.clone();
        if now.as_ref() == Some(&name) {
            return answer::renamed(&context, from, id, &name).await;
        }
        if now != was {
            let called = |name: &Option<String>| name.clone().unwrap_or_else(|| "nothing".to_owned());
            let sentence = format!("{id} is called {} now, and not {}", called(&now), called(&was));
            return answer::cannot(&context, from, "changed", 409, &sentence).await;
        }
        match self.write_name(&name).await {
            Ok(()) => {
                self.tell(from, principal, ControlSummary::Rename(&name)).await;
                self.begun.name = Some(name.clone());
                self.tell_name();
                answer::renamed(&context, from, id, &name).await;
            }
            Err(taken @ NotNamed::Taken { .. }) => {
                answer::cannot(&context, from, "taken", 409, &taken.to_string()).await;
            }
            Err(NotNamed::Io(error)) => {
                tracing::error!(job = %id, %error, "writing a name to the journal");
                let sentence = format!("the journal cannot be written, so {id} keeps its name: {error}");
                answer::cannot(&context, from, "journal", 500, &sentence).await;
            }
        }
    }

    async fn write_name(&mut self, name: &str) -> Result<(), NotNamed> {
        let Some(mut entry) = self.entry.take() else {
            return Err(std::io::Error::other("its record is not open").into());
        };
        let wanted = name.to_owned();
        let written = blocking(move || {
            let renamed = entry.rename(&wanted);
            Ok((entry, renamed))
        });
        match written.await {
            Ok((entry, renamed)) => {
                self.entry = Some(entry);
                renamed
            }
            Err(panic) => {
                let (journal, id) = (self.context.journal.clone(), self.id);
                self.entry = blocking(move || journal.take_up(id)).await.unwrap_or_default();
                Err(panic.into())
            }
        }
    }

    /// Tells the shim the name that the journal has.
    pub(super) fn tell_name(&self) {
        self.shim.say(ToShim::Rename { name: self.begun.name.clone() });
    }

    pub(super) async fn on_detach(&mut self, detach: DetachRequest, from: &str, principal: &Principal) {
        if let Some(viewers) = find(&self.departed.obeyed, from) {
            return answer::have_left(&self.context, from, self.id, *viewers).await;
        }
        if self.ended.is_some() {
            return self.has_ended_before(from).await;
        }
        let by = match principal {
            Principal::Known { name, .. } => name.to_string(),
            Principal::Anyone => detach.from.map_or_else(|| "somebody".to_owned(), request_summary::name),
        };
        self.tell(from, principal, ControlSummary::Detach).await;
        let told = decode::to_json(&Detached { by: by.clone() });
        let left = self.viewers.leave(&told.into());
        let viewers = u32::try_from(left.len()).unwrap_or(u32::MAX);
        tracing::info!(job = %self.id, by, viewers, "had the viewers of a durable job leave");
        for inbox in left {
            if inbox != self.begun.caller {
                self.forget_writer(&inbox);
            }
            remember(&mut self.departed.left, inbox, by.clone());
        }
        remember(&mut self.departed.obeyed, from.to_owned(), viewers);
        (self.departed.everybody, self.departed.came) = (Some(by), HashSet::new());
        answer::have_left(&self.context, from, self.id, viewers).await;
    }

    /// Tells a resuming client that it was detached. Returns whether it was.
    pub(super) async fn has_left(&self, from: &str, epoch: u64, at: StreamOffsets) -> bool {
        let returns = epoch > 1 && self.viewers.epoch_of(from).is_none();
        let by = if returns { self.departed.by_on_return(from) } else { self.departed.by(from) };
        let Some(by) = by else { return false };
        let accepted = Accepted { from: Some(at), ..self.accepted(from) };
        answer::detached(&self.context, from, self.id, epoch, &accepted, by).await;
        true
    }

    async fn has_ended_before(&self, from: &str) {
        let sentence = format!("{} has ended", self.id);
        answer::cannot(&self.context, from, "ended", 409, &sentence).await;
    }
}

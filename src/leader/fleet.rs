//! The leader of a fleet with identities, on the machine with the fleet's keys: it admits new
//! members, and gives servers and members the newest account JWT.
//!
//! | file | what it is |
//! |---|---|
//! | `join` | `fleet.join.<invitation>`: admits a guest |
//! | `account_push` | sends an account to the servers and the members |
//!
//! Guarantees: servers and members get a revocation by `d revoke` as soon as they can be reached.
//! On every new connection the account is sent again. An account from an older version is reissued
//! with the permissions that this version's members need. Limits: the authority's files are polled
//! once a second.

mod account_push;
mod join;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;

use peerbus_bus::{Bus, Incoming, Outgoing, Signing};
use peerbus_identity::authority::Authority;
use peerbus_protocol::fleet::AccountMessage;
use peerbus_protocol::{decode, subjects};

pub use account_push::{PushError, push, tell};

/// How often the authority's files are polled.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Polls to skip before retrying a server that did not take the account.
const TRY_AGAIN_AFTER: u32 = 5;

/// Most queued requests.
const QUESTIONS_MAX: usize = 256;

/// Most join requests handled at the same time.
const GUESTS_AT_ONCE: usize = 16;

/// The fleet's keys, and the daemon's own membership.
pub(super) struct Keys {
    authority: Arc<Authority>,
    member: Signing,
}

impl Keys {
    /// Opens the folder with the fleet's keys.
    ///
    /// # Errors
    /// If the keys cannot be used; the error is a sentence for the log.
    pub(super) fn open(directory: &Path, bus: &Bus) -> Result<Self, String> {
        let authority = Authority::open(directory).map_err(|error| error.to_string())?;
        let keys = directory.display();
        let member = bus.member().cloned().ok_or_else(|| {
            format!("fleet_keys names the keys of a fleet, {keys}, and this daemon has no identity of it")
        })?;
        if member.trust().fleet() != authority.fleet() {
            return Err(format!("the keys in {keys} are of another fleet than this daemon's identity"));
        }
        Ok(Self { authority: Arc::new(authority), member })
    }

    /// Serves until it is dropped.
    pub(super) async fn serve(self, bus: Bus) {
        let queue = Some(subjects::REGISTRY_QUEUE);
        let questions = bus.subscribe(subjects::ACCOUNT, queue, QUESTIONS_MAX).await;
        let guests = bus.subscribe(subjects::JOIN_ALL, queue, QUESTIONS_MAX).await;
        tokio::join!(
            answer(bus.clone(), self.member.clone(), questions),
            attend(bus.clone(), Arc::clone(&self.authority), self.member.clone(), guests),
            keep_spread(bus, self.authority, self.member),
        );
    }
}

/// Answers requests for the newest account.
async fn answer(bus: Bus, member: Signing, mut questions: mpsc::Receiver<Incoming>) {
    while let Some(question) = questions.recv().await {
        let Some(reply) = question.reply.filter(|reply| subjects::is_inbox(reply)) else { continue };
        let body = decode::to_json(&AccountMessage::new(member.trust().account_token()));
        say(&bus, Outgoing::to(&reply).payload(body)).await;
    }
}

/// Handles join requests, several at once since each waits for the disk.
async fn attend(bus: Bus, authority: Arc<Authority>, member: Signing, mut guests: mpsc::Receiver<Incoming>) {
    let places = Arc::new(Semaphore::new(GUESTS_AT_ONCE));
    while let Some(question) = guests.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (bus, authority, member) = (bus.clone(), Arc::clone(&authority), member.clone());
        tokio::spawn(async move {
            if let Some(letter) = join::answered(&bus, &authority, &member, &question).await {
                say(&bus, letter).await;
            }
            drop(place);
        });
    }
}

async fn say(bus: &Bus, message: Outgoing) {
    if let Err(error) = bus.publish(message.sealed()).await {
        tracing::debug!(%error, "an answer was not sent");
    }
}

/// Sends the current account to servers and members, now and after each change.
async fn keep_spread(bus: Bus, authority: Arc<Authority>, member: Signing) {
    let mut spread = PushedAccount::default();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        match read(&authority, spread.read.clone()).await {
            Ok(account) => spread.look(&bus, &authority, &member, account).await,
            Err(why) => spread.complain("reading the fleet's account", &why),
        }
    }
}

async fn read(authority: &Arc<Authority>, known: String) -> Result<String, String> {
    let authority = Arc::clone(authority);
    let read = move || match authority.account_token()? {
        account if account == known => Ok(account),
        _ => {
            if authority.renew_rights()? {
                tracing::info!(
                    "the fleet's account gives the rights of an older version; it is written anew"
                );
            }
            authority.account_token()
        }
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(panic) => Err(panic.to_string()),
    }
}

/// The account that was sent, and the generation of the connection it was sent on.
#[derive(Default)]
struct PushedAccount {
    read: String,
    told: Option<(String, u64)>,
    pushed: Option<(String, u64)>,
    looks_to_wait: u32,
    complaint: String,
}

impl PushedAccount {
    async fn look(&mut self, bus: &Bus, authority: &Authority, member: &Signing, read: String) {
        if self.read != read {
            match member.trust().learn(&read) {
                Ok(true) => tracing::info!("the fleet's account has changed"),
                Ok(false) => {}
                Err(bad) => return self.complain("reading the fleet's account", &bad.to_string()),
            }
            self.read = read;
        }
        // Never sends an older account than one received before, even after a restore from a
        // backup.
        let account = member.trust().account_token();
        let link = *bus.link().borrow();
        let now = Some((account.clone(), link.generation));
        if !link.up || (self.told == now && self.pushed == now) {
            return;
        }
        // The server comes first: it is what blocks a revoked member.
        if self.pushed != now {
            self.push(bus, authority, &account, link.generation).await;
        }
        if self.told != now {
            let message = Outgoing::to(subjects::ACCOUNT_CHANGED);
            let body: Bytes = decode::to_json(&AccountMessage::new(account)).into();
            if bus.publish(message.payload(body).sealed()).await.is_ok() {
                self.told = now;
            }
        }
    }

    async fn push(&mut self, bus: &Bus, authority: &Authority, account: &str, generation: u64) {
        if self.looks_to_wait > 0 {
            self.looks_to_wait -= 1;
            return;
        }
        match push(bus.address(), authority, account).await {
            Ok(()) => {
                self.pushed = Some((account.to_owned(), generation));
                self.complaint.clear();
            }
            Err(error) => {
                self.looks_to_wait = TRY_AGAIN_AFTER;
                self.complain("handing the fleet's account to the server; trying again", &error.to_string());
            }
        }
    }

    /// Logs an error once, until it changes.
    fn complain(&mut self, doing: &str, why: &str) {
        if self.complaint != why {
            tracing::warn!(why, "{doing}");
            why.clone_into(&mut self.complaint);
        }
    }
}

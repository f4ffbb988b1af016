//! The authority, which issues identities: the fleet's keys, its account, and its files of identities
//! and invitations.
//!
//! Everything is a file in one directory. Only its owner can read the keys. Whoever holds these keys
//! controls the fleet. A lock makes every change atomic, so a leader and a command line can use the
//! directory at the same time.
//!
//! ```text
//!  invite ──▶ invitation: name, standing, a guest's key, expiry ──redeem──▶ identity ──revoke──▶ revoked
//! ```
//! An invitation can be redeemed once, by one key. A repeated request by the same key gets the same
//! identity, because the first answer may have been lost.

mod server;
mod store;

use std::collections::btree_map;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::account::{Account, BadAccount};
use super::file::IdentityFile;
use super::invite_token::{InviteClaims, InviteToken};
use super::key::{Key, PublicKey};
use super::trust_store::{self, Signer, now};
use peerbus_protocol::identity::{Name, Standing};
use peerbus_protocol::peers::is_name;
pub use server::ServerDocuments;
use store::Store;

/// Why an operation of the authority failed.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{what} {path}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The file or directory.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file has invalid content.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Other users can access the directory.
    #[error(
        "the fleet's keys in {path} have the rights {mode:o}: others could use them; `chmod -R go= {path}` takes them away"
    )]
    Exposed {
        /// The directory or file.
        path: String,
        /// Its mode bits.
        mode: u32,
    },
    /// A fleet exists already.
    #[error("{0} holds the keys of a fleet already")]
    Exists(String),
    /// The name is in use.
    #[error("{0} is the name of a {1} already; `d revoke {0}` frees it")]
    Taken(Name, Standing),
    /// Another machine has that hostname or address.
    #[error("{0} leads to {1} already; `d revoke {1}` frees it")]
    Leads(String, Name),
    /// The name is unknown.
    #[error("nobody is called {0}")]
    Unknown(Name),
    /// The invitation does not exist, or no longer.
    #[error("there is no such invitation: {0}")]
    NotInvited(&'static str),
}

/// How long a used or expired invitation stays on file, in seconds, so that late attempts get the exact
/// reason.
const KEPT_SECONDS: i64 = 7 * 24 * 3600;

/// The record of one identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// Its name.
    pub name: Name,
    /// Its standing.
    pub standing: Standing,
    /// Its key.
    pub key: PublicKey,
    /// Issue time, in seconds since 1970.
    pub issued: i64,
    /// Expiry, in seconds since 1970; `None` means no expiry.
    pub expires: Option<i64>,
    /// Revocation time, in seconds since 1970.
    pub revoked: Option<i64>,
    /// Hostnames and addresses that resolve to this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

impl IdentityRecord {
    /// Whether the identity is valid at that time.
    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| expires > now)
    }
}

/// The record of one invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationRecord {
    /// Its id, which is the guest's name on the bus.
    pub id: Name,
    /// The name it is for.
    pub name: Name,
    /// The standing it gives.
    pub standing: Standing,
    /// Latest redemption, in seconds since 1970.
    pub until: i64,
    /// Expiry of the resulting identity; `None` means no expiry.
    pub identity_expires: Option<i64>,
    /// The key that redeemed it.
    pub taken_by: Option<PublicKey>,
    /// Revocation time, in seconds since 1970.
    pub revoked: Option<i64>,
    /// Hostnames and addresses that will resolve to this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// The parameters of an invitation.
#[derive(Debug, Clone, Copy)]
pub struct Invited<'a> {
    /// The name.
    pub name: &'a Name,
    /// The standing.
    pub standing: Standing,
    /// The server address.
    pub bus: &'a str,
    /// Latest redemption, in seconds since 1970.
    pub until: i64,
    /// Expiry of the resulting identity; `None` means no expiry.
    pub identity_expires: Option<i64>,
    /// Hostnames and addresses that will resolve to this machine.
    pub names: &'a [String],
}

/// The fleet's keys and records.
#[derive(Debug)]
pub struct Authority {
    store: Store,
    fleet: Key,
    account: Key,
}

impl Authority {
    /// Creates a fleet, in a directory that must not contain one.
    ///
    /// # Errors
    /// If the directory contains a fleet, or cannot be written.
    pub fn create(directory: &Path) -> Result<Self, AuthorityError> {
        let store = Store::create(directory)?;
        let _lock = store.lock()?;
        if store.holds("fleet.nk") {
            return Err(AuthorityError::Exists(directory.display().to_string()));
        }
        for (name, key) in [("account.nk", Key::of_account()), ("system.nk", Key::of_account())] {
            store.write(name, &key.seed())?;
        }
        for standing in Standing::ALL {
            store.write(&signing(standing), &Key::of_account().seed())?;
        }
        // Written last: this file marks the fleet as complete.
        let fleet = Key::of_fleet();
        let account = store.key("account.nk")?;
        let this = Self { store, fleet, account };
        this.publish(this.first_account()?)?;
        this.store.write("fleet.nk", &this.fleet.seed())?;
        Ok(this)
    }

    /// Opens a fleet.
    ///
    /// # Errors
    /// If the directory contains no fleet, or other users can access it.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let store = Store::open(directory)?;
        let (fleet, account) = (store.key("fleet.nk")?, store.key("account.nk")?);
        Ok(Self { store, fleet, account })
    }

    fn first_account(&self) -> Result<Account, AuthorityError> {
        let vouching = Standing::ALL.into_iter();
        let vouching = vouching.map(|standing| Ok((standing, self.signing(standing)?.public().clone())));
        Ok(Account {
            key: self.account.public().clone(),
            issued: now(),
            vouching: vouching.collect::<Result<_, AuthorityError>>()?,
            unknown: Vec::new(),
            revoked: [].into(),
        })
    }

    fn signing(&self, standing: Standing) -> Result<Key, AuthorityError> {
        self.store.key(&signing(standing))
    }

    /// The signing key of a standing; creates it if the fleet is older than the standing.
    fn signing_or_new(&self, standing: Standing) -> Result<Key, AuthorityError> {
        if !self.store.holds(&signing(standing)) {
            self.store.write(&signing(standing), &Key::of_account().seed())?;
        }
        self.signing(standing)
    }

    fn publish(&self, account: Account) -> Result<(), AuthorityError> {
        self.store.write("account.jwt", &account.signed("peerbus", &self.fleet))
    }

    /// The fleet's public key.
    #[must_use]
    pub fn fleet(&self) -> &PublicKey {
        self.fleet.public()
    }

    /// The newest account, signed.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn account_token(&self) -> Result<String, AuthorityError> {
        self.store.read("account.jwt")
    }

    /// Rewrites an account of an older version that gave other permissions or lacked a standing; returns whether it did.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn renew_rights(&self) -> Result<bool, AuthorityError> {
        let _lock = self.store.lock()?;
        self.renew_under_lock()
    }

    fn renew_under_lock(&self) -> Result<bool, AuthorityError> {
        let mut account = self.account()?;
        if account.gives_todays_rights(&self.account_token()?) {
            return Ok(false);
        }
        for standing in Standing::ALL {
            if let btree_map::Entry::Vacant(missing) = account.vouching.entry(standing) {
                missing.insert(self.signing_or_new(standing)?.public().clone());
            }
        }
        account.issued = now().max(account.issued + 1);
        self.publish(account)?;
        Ok(true)
    }

    fn account(&self) -> Result<Account, AuthorityError> {
        let wrong = |bad: BadAccount| self.store.malformed("account.jwt", &bad);
        Account::read(&self.account_token()?, self.fleet()).map_err(wrong)
    }

    /// Creates an identity with a new key, on this machine.
    ///
    /// # Errors
    /// If the name is in use, or the records cannot be written.
    pub fn make(
        &self,
        name: &Name,
        standing: Standing,
        expires: Option<i64>,
    ) -> Result<IdentityFile, AuthorityError> {
        let key = Key::of_identity();
        let _lock = self.store.lock()?;
        let (_, token) = self.enter(name, standing, key.public(), expires, Vec::new())?;
        Ok(IdentityFile { token, key, fleet: self.fleet().clone(), account: self.account_token()? })
    }

    /// Fails if the name, a hostname or an address is in use. The caller holds the lock.
    fn refuse_taken(&self, name: &Name, names: &[String]) -> Result<(), AuthorityError> {
        for other in self.identities()?.into_iter().filter(|entry| entry.holds(now())) {
            if other.name == *name {
                return Err(AuthorityError::Taken(name.clone(), other.standing));
            }
            let also = names.iter().find(|also| is_name(also, other.name.as_str()));
            let led = names.iter().map(String::as_str).chain([name.as_str()]);
            let mut led = led.filter(|led| other.names.iter().any(|own| is_name(led, own)));
            if let Some(leads) = also.map(String::as_str).or_else(|| led.next()) {
                return Err(AuthorityError::Leads(leads.to_owned(), other.name));
            }
        }
        Ok(())
    }

    /// Records an identity; returns its token. The caller holds the lock.
    fn enter(
        &self,
        name: &Name,
        standing: Standing,
        key: &PublicKey,
        expires: Option<i64>,
        names: Vec<String>,
    ) -> Result<(IdentityRecord, String), AuthorityError> {
        self.refuse_taken(name, &names)?;
        if !self.account()?.vouching.contains_key(&standing) {
            self.renew_under_lock()?;
        }
        let mut book: Vec<IdentityRecord> = self.store.book("identities.json")?;
        // Must be later than any revocation of an older key of this name, and of this key.
        let issued = now().max(self.account()?.issued + 1);
        let key = key.clone();
        let entry =
            IdentityRecord { name: name.clone(), standing, key, issued, expires, revoked: None, names };
        let token = self.token_of(&entry)?;
        book.push(entry.clone());
        self.store.write_book("identities.json", &book)?;
        Ok((entry, token))
    }

    fn token_of(&self, entry: &IdentityRecord) -> Result<String, AuthorityError> {
        let IdentityRecord { name, standing, key, issued, expires, names, .. } = entry.clone();
        let by = self.signing(standing)?;
        Ok(trust_store::issue(
            &Signer { name, standing, key, issued, expires, names },
            self.account.public(),
            &by,
        ))
    }

    /// Creates an invitation; returns the token to hand over.
    ///
    /// # Errors
    /// If the name is in use, or the records cannot be written.
    pub fn invite(&self, whom: &Invited<'_>) -> Result<InviteToken, AuthorityError> {
        let _lock = self.store.lock()?;
        self.refuse_taken(whom.name, whom.names)?;
        if !self.account()?.vouching.contains_key(&whom.standing) {
            // The leader checks for a new account every second, so servers and members get it in time.
            self.renew_under_lock()?;
        }
        let wanted = InviteClaims {
            name: whom.name,
            standing: whom.standing,
            bus: whom.bus,
            fleet: self.fleet(),
            account: self.account.public(),
            issued: now(),
            until: whom.until,
        };
        let ticket = wanted.signed(&self.signing(Standing::Guest)?);
        let ticket = ticket.map_err(|bad| self.store.malformed("an invitation", &bad))?;
        let mut invitations: Vec<InvitationRecord> = self.store.book("invitations.json")?;
        invitations.retain(|old| old.until + KEPT_SECONDS > now());
        invitations.push(InvitationRecord {
            id: ticket.guest.id.clone(),
            name: whom.name.clone(),
            standing: whom.standing,
            until: whom.until,
            identity_expires: whom.identity_expires,
            taken_by: None,
            revoked: None,
            names: whom.names.to_vec(),
        });
        self.store.write_book("invitations.json", &invitations)?;
        Ok(ticket)
    }

    /// Redeems an invitation with a key; returns the token of the new identity.
    ///
    /// # Errors
    /// If the invitation does not exist, or another key redeemed it.
    pub fn take_up(&self, id: &Name, key: &PublicKey) -> Result<(IdentityRecord, String), AuthorityError> {
        let _lock = self.store.lock()?;
        let mut invitations: Vec<InvitationRecord> = self.store.book("invitations.json")?;
        let Some(invitation) = invitations.iter_mut().find(|invitation| invitation.id == *id) else {
            return Err(AuthorityError::NotInvited("it is not in the book, or long over"));
        };
        match &invitation.taken_by {
            _ if invitation.revoked.is_some() => return Err(AuthorityError::NotInvited("it was revoked")),
            Some(other) if other != key => {
                return Err(AuthorityError::NotInvited("it was taken up already, by another key"));
            }
            None if invitation.until <= now() => return Err(AuthorityError::NotInvited("it is over")),
            Some(_) | None => {}
        }
        let is_new = invitation.taken_by.replace(key.clone()).is_none();
        let InvitationRecord { name, standing, identity_expires, names, .. } = invitation.clone();
        if is_new {
            self.refuse_taken(&name, &names)?;
            self.store.write_book("invitations.json", &invitations)?;
        }
        let book: Vec<IdentityRecord> = self.store.book("identities.json")?;
        match book.into_iter().rfind(|entry| entry.key == *key) {
            // A crash between the two writes may have left the invitation used but the identity
            // unrecorded.
            None => self.enter(&name, standing, key, identity_expires, names),
            Some(entry) if entry.holds(now()) => self.token_of(&entry).map(|token| (entry, token)),
            Some(_) => Err(AuthorityError::NotInvited("what it became was revoked, or has expired")),
        }
    }

    /// Revokes the identity of that name and the open invitations for it; returns the new account,
    /// which the caller must send to servers and members.
    ///
    /// # Errors
    /// If the name is unknown, or the records cannot be written.
    pub fn revoke(&self, name: &Name) -> Result<String, AuthorityError> {
        let _lock = self.store.lock()?;
        let at = now();
        let mut book: Vec<IdentityRecord> = self.store.book("identities.json")?;
        let mut invitations: Vec<InvitationRecord> = self.store.book("invitations.json")?;
        let mut account = self.account()?;
        let mut found = false;
        for entry in book.iter_mut().filter(|entry| entry.name == *name) {
            found = true;
            entry.revoked.get_or_insert(at);
            account.revoked.insert(entry.key.clone(), entry.issued.max(at));
        }
        for invitation in invitations.iter_mut().filter(|invitation| invitation.name == *name) {
            // Includes a redeemed invitation without a recorded identity, which a crash can leave
            // behind.
            found |= invitation.revoked.is_none();
            invitation.revoked.get_or_insert(at);
        }
        if !found {
            return Err(AuthorityError::Unknown(name.clone()));
        }
        account.issued = at.max(account.issued + 1);
        // Write the account first: a revocation that is only in the records would reach no one.
        self.publish(account)?;
        self.store.write_book("identities.json", &book)?;
        self.store.write_book("invitations.json", &invitations)?;
        self.account_token()
    }

    /// All identities ever issued, oldest first.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub fn identities(&self) -> Result<Vec<IdentityRecord>, AuthorityError> {
        self.store.book("identities.json")
    }

    /// Open and recently closed invitations.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub fn invitations(&self) -> Result<Vec<InvitationRecord>, AuthorityError> {
        self.store.book("invitations.json")
    }
}

fn signing(standing: Standing) -> String {
    format!("vouches-for-{standing}s.nk")
}

#[cfg(test)]
mod tests;

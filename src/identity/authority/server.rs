//! What the fleet's servers are told: the documents they check identities with, and the identities that are
//! made for the moment in which something is told to them.

use std::path::Path;

use super::{Authority, AuthorityError};
use crate::file::IdentityFile;
use crate::jwt::Claims;
use crate::key::{Key, PublicKey};
use crate::trust_store::{self, Signer, now};
use peerbus_protocol::identity::Standing;

/// How long an identity for the moment holds.
const HOLDS_FOR_SECONDS: i64 = 600;

/// The documents of a server.
#[derive(Debug, Clone)]
pub struct ServerDocuments {
    /// Who vouches for the accounts.
    pub operator: String,
    /// The key of the server's own account.
    pub system_account: PublicKey,
    /// The server's own account.
    pub system: String,
    /// The key of the fleet's account.
    pub account_key: PublicKey,
    /// The fleet's account.
    pub account: String,
}

impl ServerDocuments {
    /// The lines of a server's configuration by which it lets in the fleet's members and nobody else. What it is
    /// told later, of members that were revoked, it keeps in `resolver`.
    #[must_use]
    pub fn configuration(&self, resolver: &Path) -> String {
        format!(
            "operator: {operator}\n\
             system_account: {system}\n\
             resolver: {{ type: full, dir: {resolver:?}, allow_delete: false, interval: \"2m\" }}\n\
             resolver_preload: {{\n  {system}: {system_token}\n  {account}: {account_token}\n}}\n",
            operator = self.operator,
            system = self.system_account,
            system_token = self.system,
            resolver = resolver.display().to_string(),
            account = self.account_key,
            account_token = self.account,
        )
    }
}

impl Authority {
    /// What a server has to know: the documents of its operator and of its two accounts.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn for_server(&self) -> Result<ServerDocuments, AuthorityError> {
        let system = self.store.key("system.nk")?;
        let operator = serde_json::json!({
            "type": "operator", "version": 2, "system_account": system.public(),
        });
        let limits = serde_json::json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1,
        });
        let account = serde_json::json!({
            "type": "account", "version": 2, "limits": limits,
            "default_permissions": { "pub": {}, "sub": {} },
        });
        let fleet = &self.fleet;
        Ok(ServerDocuments {
            operator: Claims::about(fleet.public(), "peerbus", fleet, now(), operator).signed(fleet),
            system_account: system.public().clone(),
            system: Claims::about(system.public(), "SYS", fleet, now(), account).signed(fleet),
            account_key: self.account.public().clone(),
            account: self.account_token()?,
        })
    }

    /// An identity of the server's own account, made for the moment: to hand it a new account.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn system_user(&self) -> Result<(String, Key), AuthorityError> {
        let (system, key) = (self.store.key("system.nk")?, Key::of_identity());
        let nats = serde_json::json!({
            "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
        });
        let mut claims = Claims::about(key.public(), "authority", &system, now(), nats);
        claims.exp = Some(now() + HOLDS_FOR_SECONDS);
        Ok((claims.signed(&system), key))
    }

    /// An identity of this folder's holder, made for the moment: to tell the members of a new account. It is in no
    /// book and may what a leader may.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn herald(&self) -> Result<IdentityFile, AuthorityError> {
        let (by, key) = (self.signing(Standing::Leader)?, Key::of_identity());
        let id = format!("herald-{}", uuid::Uuid::new_v4().simple());
        let signer = Signer {
            name: id.parse().map_err(|bad| self.store.malformed("a herald's name", &bad))?,
            standing: Standing::Leader,
            key: key.public().clone(),
            issued: now(),
            expires: Some(now() + HOLDS_FOR_SECONDS),
            names: Vec::new(),
        };
        let token = trust_store::issue(&signer, self.account.public(), &by);
        Ok(IdentityFile { token, key, fleet: self.fleet().clone(), account: self.account_token()? })
    }
}

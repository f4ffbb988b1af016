//! Configuration of the fleet's servers: the documents that verify identities, and short-lived
//! identities that send updates to servers and members.

use std::path::Path;

use super::{Authority, AuthorityError};
use crate::file::IdentityFile;
use crate::jwt::Claims;
use crate::key::{Key, PublicKey};
use crate::trust_store::{self, Signer, now};
use peerbus_protocol::identity::Standing;

/// Lifetime of a short-lived identity.
const HOLDS_FOR_SECONDS: i64 = 600;

/// The documents of a server.
#[derive(Debug, Clone)]
pub struct ServerDocuments {
    /// The operator's JWT, which signs the accounts.
    pub operator: String,
    /// The key of the server's system account.
    pub system_account: PublicKey,
    /// The JWT of the server's system account.
    pub system: String,
    /// The key of the fleet's account.
    pub account_key: PublicKey,
    /// The JWT of the fleet's account.
    pub account: String,
}

impl ServerDocuments {
    /// The lines of a server configuration that admit the fleet's members and no one else. The server
    /// stores later account updates, such as revocations, in `resolver`.
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
    /// The documents a server needs: those of its operator and its two accounts.
    ///
    /// # Errors
    /// If a file cannot be read.
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

    /// A short-lived user of the system account, which sends a new account to the server.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn system_user(&self) -> Result<(String, Key), AuthorityError> {
        let (system, key) = (self.store.key("system.nk")?, Key::of_identity());
        let nats = serde_json::json!({
            "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
        });
        let mut claims = Claims::about(key.public(), "authority", &system, now(), nats);
        claims.exp = Some(now() + HOLDS_FOR_SECONDS);
        Ok((claims.signed(&system), key))
    }

    /// A short-lived identity that announces a new account to the members. It has a leader's
    /// permissions and no record.
    ///
    /// # Errors
    /// If a file cannot be read.
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

//! The trust store of a member: the fleet's key and the newest account received.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::account::{Account, BadAccount};
use super::jwt::{BadToken, Claims};
use super::key::{Key, PublicKey};
use super::signature::{self, SignatureError, SigningInput};
use peerbus_protocol::identity::{Name, Principal, Standing};

/// Capacity of the cache of verified tokens. When it is full, the cache is cleared.
const REMEMBERED: usize = 16_384;

/// A verified identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
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
    /// Hostnames and addresses of this machine, as its inviter stated them.
    pub names: Vec<String>,
}

impl Signer {
    /// The principal for authorization.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal::Known { name: self.name.clone(), standing: self.standing }
    }
}

/// Why a token proves no membership.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MembershipError {
    /// Not a token, or forged.
    #[error("the identity cannot be read: {0}")]
    Token(#[from] BadToken),
    /// Not signed by this fleet.
    #[error("the identity is not of this fleet")]
    Stranger,
    /// Its name is invalid.
    #[error("the identity's name: {0}")]
    Name(#[from] peerbus_protocol::identity::BadName),
    /// Expired.
    #[error("the identity of {0} has expired")]
    Expired(Name),
    /// Revoked.
    #[error("the identity of {0} was revoked")]
    Revoked(Name),
}

/// The NATS part of an identity token.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IdentityClaims {
    #[serde(rename = "type")]
    kind: String,
    version: u32,
    issuer_account: PublicKey,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

/// Prefix of a tag that holds a name of a machine.
const NAME_TAG: &str = "name:";

/// The claims of an identity token of this account.
pub(super) fn claims(signer: &Signer, account: &PublicKey, by: &PublicKey) -> Claims<IdentityClaims> {
    Claims {
        jti: uuid::Uuid::new_v4().simple().to_string(),
        iat: signer.issued,
        exp: signer.expires,
        iss: by.clone(),
        sub: signer.key.clone(),
        name: signer.name.to_string(),
        nats: IdentityClaims {
            kind: "user".to_owned(),
            version: 2,
            issuer_account: account.clone(),
            tags: signer.names.iter().map(|name| format!("{NAME_TAG}{name}")).collect(),
        },
    }
}

/// Reads an identity token that this account signed. Does not check revocation or expiry.
pub(super) fn identity(token: &str, account: &Account) -> Result<Signer, MembershipError> {
    signer(Claims::read(token)?, account)
}

/// The same for a token from our own private file.
pub(super) fn own_identity(token: &str, account: &Account) -> Result<Signer, MembershipError> {
    signer(Claims::read_own(token)?, account)
}

fn signer(claims: Claims<IdentityClaims>, account: &Account) -> Result<Signer, MembershipError> {
    let standing = account.standing(&claims.iss).ok_or(MembershipError::Stranger)?;
    if claims.nats.issuer_account != account.key || claims.nats.kind != "user" {
        return Err(MembershipError::Stranger);
    }
    let tags = claims.nats.tags.iter();
    Ok(Signer {
        names: tags.filter_map(|tag| tag.strip_prefix(NAME_TAG)).map(str::to_owned).collect(),
        name: claims.name.parse()?,
        standing,
        key: claims.sub,
        issued: claims.iat,
        expires: claims.exp,
    })
}

/// Issues an identity token, signed by `by`, the account's key for the standing.
pub(super) fn issue(signer: &Signer, account: &PublicKey, by: &Key) -> String {
    claims(signer, account, by.public()).signed(by)
}

/// The keys and account that this member trusts. Cheap to clone.
#[derive(Clone)]
pub struct TrustStore(Arc<Inner>);

struct Inner {
    fleet: PublicKey,
    newest: RwLock<Newest>,
    checked: Mutex<HashMap<String, Signer>>,
}

struct Newest {
    token: String,
    account: Account,
}

impl TrustStore {
    /// Trusts the fleet with this key, and its given account.
    ///
    /// # Errors
    /// If the fleet did not sign the account.
    pub fn new(fleet: PublicKey, account: &str) -> Result<Self, BadAccount> {
        let read = Account::read(account, &fleet)?;
        Ok(Self::of(fleet, account, read))
    }

    /// The same, with a decoded account.
    pub(super) fn of(fleet: PublicKey, token: &str, account: Account) -> Self {
        let newest = RwLock::new(Newest { account, token: token.to_owned() });
        Self(Arc::new(Inner { fleet, newest, checked: Mutex::default() }))
    }

    /// Accepts a newer account; returns false if it is not newer.
    ///
    /// # Errors
    /// If the fleet did not sign it.
    pub fn learn(&self, token: &str) -> Result<bool, BadAccount> {
        if self.newest(|newest| newest.token == token) {
            return Ok(false);
        }
        let account = Account::read(token, &self.0.fleet)?;
        let mut newest = self.0.newest.write().unwrap_or_else(PoisonError::into_inner);
        if account.key != newest.account.key {
            return Err(BadAccount::NotTheAccount);
        }
        if account.issued <= newest.account.issued {
            return Ok(false);
        }
        *newest = Newest { token: token.to_owned(), account };
        // The new account may revoke cached identities.
        self.checked().clear();
        Ok(true)
    }

    /// The newest account, signed.
    #[must_use]
    pub fn account_token(&self) -> String {
        self.newest(|newest| newest.token.clone())
    }

    /// The newest account.
    #[must_use]
    pub fn account(&self) -> Account {
        self.newest(|newest| newest.account.clone())
    }

    /// The fleet's key.
    #[must_use]
    pub fn fleet(&self) -> &PublicKey {
        &self.0.fleet
    }

    fn newest<T>(&self, look: impl FnOnce(&Newest) -> T) -> T {
        look(&self.0.newest.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Signer>> {
        self.0.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The currently valid member that a token identifies.
    ///
    /// # Errors
    /// If the token identifies no valid member.
    pub fn member(&self, token: &str) -> Result<Signer, MembershipError> {
        self.newest(|newest| {
            let known = self.checked().get(token).cloned();
            let signer = match known {
                Some(signer) => signer,
                None => {
                    let signer = identity(token, &newest.account)?;
                    let mut checked = self.checked();
                    if checked.len() >= REMEMBERED {
                        checked.clear();
                    }
                    checked.insert(token.to_owned(), signer.clone());
                    signer
                }
            };
            if newest.account.is_revoked(&signer.key, signer.issued) {
                return Err(MembershipError::Revoked(signer.name));
            }
            if signer.expires.is_some_and(|expires| expires <= now()) {
                return Err(MembershipError::Expired(signer.name));
            }
            Ok(signer)
        })
    }

    /// The verified member that signed exactly this message.
    ///
    /// # Errors
    /// If the signature is missing, not a member's, or of another message.
    pub fn signer(&self, parts: &SigningInput<'_>) -> Result<Signer, SignatureError> {
        let token = parts.header(signature::IDENTITY).ok_or(SignatureError::Unsigned)?;
        let signature = parts.header(signature::SIGNATURE).ok_or(SignatureError::Unsigned)?;
        let signer = self.member(token)?;
        if !signer.key.signed(&parts.bytes(), &signature::signature(signature)?) {
            return Err(SignatureError::Changed(signer.name));
        }
        Ok(signer)
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

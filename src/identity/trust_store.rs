//! Whom a member believes: the fleet's key, the newest account it has heard, and what follows from both.

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

/// Identities whose tokens were checked already. Beyond that, all are checked again.
const REMEMBERED: usize = 16_384;

/// Who signed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub standing: Standing,
    /// Its key.
    pub key: PublicKey,
    /// When the identity was issued, in seconds since 1970.
    pub issued: i64,
    /// Until when it holds, likewise; none: until it is revoked.
    pub expires: Option<i64>,
    /// Hostnames and addresses that are this machine's, as whoever invited it has said.
    pub names: Vec<String>,
}

impl Signer {
    /// Who that is, for whoever decides.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal::Known { name: self.name.clone(), standing: self.standing }
    }
}

/// Why a token makes nobody a member.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MembershipError {
    /// Not a token, or forged.
    #[error("the identity cannot be read: {0}")]
    Token(#[from] BadToken),
    /// Not vouched for by this fleet.
    #[error("the identity is not of this fleet")]
    Stranger,
    /// Its name is none.
    #[error("the identity's name: {0}")]
    Name(#[from] peerbus_protocol::identity::BadName),
    /// Over.
    #[error("the identity of {0} has expired")]
    Expired(Name),
    /// Taken back.
    #[error("the identity of {0} was revoked")]
    Revoked(Name),
}

/// What the token of an identity says besides.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IdentityClaims {
    #[serde(rename = "type")]
    kind: String,
    version: u32,
    issuer_account: PublicKey,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

/// What begins a tag that holds a name of a machine.
const NAME_TAG: &str = "name:";

/// What a token of an identity of this account says.
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

/// Reads the token of an identity that this account vouches for. Says nothing of revocation or expiry.
pub(super) fn identity(token: &str, account: &Account) -> Result<Signer, MembershipError> {
    signer(Claims::read(token)?, account)
}

/// The same out of a file that is ours alone.
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

/// The token of an identity, vouched for by `by`, the account's key for a standing.
pub(super) fn issue(signer: &Signer, account: &PublicKey, by: &Key) -> String {
    claims(signer, account, by.public()).signed(by)
}

/// Whom this member believes. Cheap to clone.
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
    /// Believes the fleet with this key, and this account of it.
    ///
    /// # Errors
    /// When the account is not the fleet's.
    pub fn new(fleet: PublicKey, account: &str) -> Result<Self, BadAccount> {
        let read = Account::read(account, &fleet)?;
        Ok(Self::of(fleet, account, read))
    }

    /// The same, with an account that was read already.
    pub(super) fn of(fleet: PublicKey, token: &str, account: Account) -> Self {
        let newest = RwLock::new(Newest { account, token: token.to_owned() });
        Self(Arc::new(Inner { fleet, newest, checked: Mutex::default() }))
    }

    /// Takes a newer account; false where it is none.
    ///
    /// # Errors
    /// When it is not the fleet's.
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
        // What was checked against the old one may be revoked in the new one.
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

    /// The member a token makes somebody now.
    ///
    /// # Errors
    /// When it makes nobody one.
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

    /// Who sealed a message, if anybody of this fleet did, and this very message.
    ///
    /// # Errors
    /// When it is not sealed, or not by a member, or not this message.
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

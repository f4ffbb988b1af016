//! The fleet's account: one document, signed by the fleet's key, with the signing key and permissions
//! of each standing and the revocations. The newest one applies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::jwt::{BadToken, Claims};
use super::key::{Key, PublicKey};
use peerbus_protocol::identity::Standing;

/// How long a machine may answer a message, in nanoseconds: 24 hours, the longest that a job's caller
/// may be silent.
const ANSWER_FOR_NS: i64 = 24 * 3600 * 1_000_000_000;

/// Why an account is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadAccount {
    /// Not a token, or its signature is wrong.
    #[error("the fleet's account cannot be read: {0}")]
    Token(#[from] BadToken),
    /// Another kind of document of this fleet.
    #[error("it is not the account that vouches for the fleet's members")]
    NotTheAccount,
    /// The account of another fleet.
    #[error("the account is signed by {by}, and this fleet's key is {fleet}")]
    AnotherFleet {
        /// Its signer.
        by: PublicKey,
        /// The expected signer.
        fleet: PublicKey,
    },
}

/// The NATS permissions of a standing. `{{name()}}` stands for the identity's own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubjectPermissions {
    /// Subjects it may subscribe to. Queue groups cannot be named here: the server drops a template
    /// with a second word.
    pub hear: &'static [&'static str],
    /// Subjects it may publish to.
    pub say: &'static [&'static str],
    /// Whether it may answer received messages, for 24 hours.
    pub answer: bool,
}

impl SubjectPermissions {
    /// The permissions of a standing.
    #[must_use]
    pub fn of(standing: Standing) -> Self {
        match standing {
            Standing::Worker => Self {
                hear: &[
                    "exec.{{name()}}",
                    "exec.{{name()}}.>",
                    "$SRV.*",
                    "$SRV.*.exec",
                    "$SRV.*.exec.*",
                    "fleet.account.changed",
                    "_INBOX_{{name()}}.>",
                ],
                say: &[
                    "peers.alive",
                    "exec.{{name()}}.ping",
                    "fleet.account",
                    "_INBOX_{{name()}}.>",
                    "$JS.API.CONSUMER.MSG.NEXT.QUEUE.{{name()}}",
                    "$JS.ACK.QUEUE.{{name()}}.>",
                    // The form of later NATS servers, with domain and account before the stream.
                    "$JS.ACK.*.*.QUEUE.{{name()}}.>",
                ],
                answer: true,
            },
            Standing::Leader => Self {
                hear: &[
                    "exec.{{name()}}",
                    "exec.{{name()}}.>",
                    "$SRV.*",
                    "$SRV.*.exec",
                    "$SRV.*.exec.*",
                    "fleet.>",
                    "peers.>",
                    "_INBOX_{{name()}}.>",
                ],
                say: &[
                    "peers.alive",
                    "peers.list",
                    "peers.get",
                    "peers.event.>",
                    "exec.*.ping",
                    "$SRV.PING.exec",
                    "fleet.account",
                    "fleet.account.changed",
                    "_INBOX_{{name()}}.>",
                    "$JS.API.CONSUMER.MSG.NEXT.QUEUE.{{name()}}",
                    "$JS.ACK.QUEUE.{{name()}}.>",
                    "$JS.ACK.*.*.QUEUE.{{name()}}.>",
                    "$JS.API.STREAM.INFO.QUEUE",
                    "$JS.API.STREAM.CREATE.QUEUE",
                    "$JS.API.STREAM.UPDATE.QUEUE",
                    "$JS.API.CONSUMER.CREATE.QUEUE.*",
                ],
                answer: true,
            },
            Standing::Operator => Self {
                hear: &["peers.event.>", "_INBOX_{{name()}}.>"],
                say: &[
                    "exec.>",
                    "queue.*.*",
                    "peers.list",
                    "peers.get",
                    "peers.remove",
                    "$SRV.>",
                    "fleet.account",
                    "$JS.API.STREAM.INFO.QUEUE",
                    "$JS.API.STREAM.MSG.GET.QUEUE",
                    "$JS.API.STREAM.MSG.DELETE.QUEUE",
                    "$JS.API.CONSUMER.INFO.QUEUE.*",
                ],
                answer: false,
            },
            Standing::Inspector => Self {
                hear: &["peers.alive", "peers.event.>", "_INBOX_{{name()}}.>"],
                say: &["exec.*.ping", "exec.*.health", "peers.list", "peers.get", "$SRV.>", "fleet.account"],
                answer: false,
            },
            // An operator's permissions without `peers.remove`: users of a gateway must not remove peers.
            Standing::Gateway => Self {
                hear: &["peers.event.>", "_INBOX_{{name()}}.>"],
                say: &[
                    "exec.>",
                    "queue.*.*",
                    "peers.list",
                    "peers.get",
                    "$SRV.>",
                    "fleet.account",
                    "$JS.API.STREAM.INFO.QUEUE",
                    "$JS.API.STREAM.MSG.GET.QUEUE",
                    "$JS.API.STREAM.MSG.DELETE.QUEUE",
                    "$JS.API.CONSUMER.INFO.QUEUE.*",
                ],
                answer: false,
            },
            Standing::Guest => {
                Self { hear: &["_INBOX_{{name()}}.>"], say: &["fleet.join.{{name()}}"], answer: false }
            }
        }
    }
}

/// The signing keys and the revocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account's own key.
    pub key: PublicKey,
    /// Issue time, in seconds since 1970. Each account is later than its predecessor.
    pub issued: i64,
    /// The signing key of each standing. An account of an older version lacks the standings unknown to it.
    pub vouching: BTreeMap<Standing, PublicKey>,
    /// Signing keys of standings that only a newer version knows, as it wrote them. This version trusts none of
    /// them, but keeps them in the account, because their members still belong to the fleet.
    pub unknown: Vec<serde_json::Value>,
    /// Revoked keys: identities issued up to that second are invalid.
    pub revoked: BTreeMap<PublicKey, i64>,
}

impl Account {
    /// Reads an account that this fleet's key signed.
    ///
    /// # Errors
    /// If it is invalid, or of another fleet.
    pub fn read(token: &str, fleet: &PublicKey) -> Result<Self, BadAccount> {
        Self::of(Claims::read(token)?, fleet)
    }

    /// The same for an account from our own private file.
    pub(super) fn read_own(token: &str, fleet: &PublicKey) -> Result<Self, BadAccount> {
        Self::of(Claims::read_own(token)?, fleet)
    }

    fn of(claims: Claims<AccountClaims>, fleet: &PublicKey) -> Result<Self, BadAccount> {
        if claims.iss != *fleet {
            return Err(BadAccount::AnotherFleet { by: claims.iss, fleet: fleet.clone() });
        }
        let (mut vouching, mut unknown) = (BTreeMap::new(), Vec::new());
        for signing_key in claims.nats.signing_keys {
            match Scope::read(&signing_key) {
                Some((standing, scope)) => drop(vouching.insert(standing, scope.key)),
                None => unknown.push(signing_key),
            }
        }
        // The fleet also signs the server's system account, which signs no members.
        if claims.nats.kind != "account" || vouching.is_empty() {
            return Err(BadAccount::NotTheAccount);
        }
        Ok(Self { key: claims.sub, issued: claims.iat, vouching, unknown, revoked: claims.nats.revocations })
    }

    /// The signed document.
    #[must_use]
    pub fn signed(&self, name: &str, fleet: &Key) -> String {
        let claims = AccountClaims {
            kind: "account".to_owned(),
            version: 2,
            limits: Limits::default(),
            signing_keys: self.signing_keys(),
            revocations: self.revoked.clone(),
            default_permissions: serde_json::json!({ "pub": {}, "sub": {} }),
        };
        Claims::about(&self.key, name, fleet, self.issued, claims).signed(fleet)
    }

    fn signing_keys(&self) -> Vec<serde_json::Value> {
        let known = self.vouching.iter().map(|(standing, key)| Scope::of(*standing, key));
        let known = known.map(|scope| serde_json::json!(scope));
        known.chain(self.unknown.iter().cloned()).collect()
    }

    /// Whether this account, as signed, has every standing of this version, with the permissions of this version.
    #[must_use]
    pub(super) fn gives_todays_rights(&self, token: &str) -> bool {
        let Ok(claims) = Claims::<AccountClaims>::read_own(token) else { return false };
        let mut known = claims.nats.signing_keys.iter().filter_map(Scope::read);
        let is_todays = |(standing, scope): (Standing, Scope)| scope == Scope::of(standing, &scope.key);
        self.vouching.len() == Standing::ALL.len() && known.all(is_todays)
    }

    /// The standing whose identities this key signs.
    #[must_use]
    pub fn standing(&self, key: &PublicKey) -> Option<Standing> {
        self.vouching.iter().find(|(_, vouching)| *vouching == key).map(|(standing, _)| *standing)
    }

    /// Whether an identity with this key, issued at that second, is revoked.
    #[must_use]
    pub fn is_revoked(&self, key: &PublicKey, issued: i64) -> bool {
        self.revoked.get(key).is_some_and(|until| issued <= *until)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct AccountClaims {
    #[serde(rename = "type")]
    kind: String,
    version: u32,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    signing_keys: Vec<serde_json::Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    revocations: BTreeMap<PublicKey, i64>,
    #[serde(default)]
    default_permissions: serde_json::Value,
}

/// All limits are -1, which means unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Limits {
    subs: i64,
    data: i64,
    payload: i64,
    imports: i64,
    exports: i64,
    wildcards: bool,
    conn: i64,
    leaf: i64,
    mem_storage: i64,
    disk_storage: i64,
    streams: i64,
    consumer: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            subs: -1,
            data: -1,
            payload: -1,
            imports: -1,
            exports: -1,
            wildcards: true,
            conn: -1,
            leaf: -1,
            mem_storage: -1,
            disk_storage: -1,
            streams: -1,
            consumer: -1,
        }
    }
}

/// A signing key, and the permissions of the identities it signs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scope {
    kind: String,
    key: PublicKey,
    role: String,
    template: serde_json::Value,
}

impl Scope {
    /// A signing key, if this version knows its standing.
    fn read(signing_key: &serde_json::Value) -> Option<(Standing, Self)> {
        let scope = Self::deserialize(signing_key).ok()?;
        Some((scope.role.parse().ok()?, scope))
    }

    fn of(standing: Standing, key: &PublicKey) -> Self {
        let SubjectPermissions { hear, say, answer } = SubjectPermissions::of(standing);
        let mut template = serde_json::json!({
            "pub": { "allow": say },
            "sub": { "allow": hear },
            "subs": -1, "data": -1, "payload": -1,
        });
        if answer {
            template["resp"] = serde_json::json!({ "max": -1, "ttl": ANSWER_FOR_NS });
        }
        Self { kind: "user_scope".to_owned(), key: key.clone(), role: standing.to_string(), template }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        let vouching = Standing::ALL.map(|standing| (standing, Key::of_account().public().clone()));
        Account {
            key: Key::of_account().public().clone(),
            issued: 100,
            vouching: vouching.into(),
            unknown: Vec::new(),
            revoked: [(Key::of_identity().public().clone(), 50)].into(),
        }
    }

    #[test]
    fn it_is_read_as_it_was_signed_and_only_of_its_fleet() {
        let (fleet, other) = (Key::of_fleet(), Key::of_fleet());
        let token = account().signed("home", &fleet);
        let read = Account::read(&token, fleet.public()).expect("an account");
        let again = Account::read(&read.signed("home", &fleet), fleet.public());
        assert_eq!(again.as_ref(), Ok(&read));
        assert_eq!(read.vouching.len(), Standing::ALL.len());
        for (standing, key) in &read.vouching {
            assert_eq!(read.standing(key), Some(*standing));
        }
        let error = Account::read(&token, other.public()).expect_err("another fleet's");
        assert!(matches!(error, BadAccount::AnotherFleet { .. }), "{error}");
    }

    #[test]
    fn an_account_of_an_older_version_is_known() {
        let (account, fleet) = (account(), Key::of_fleet());
        let token = account.signed("home", &fleet);
        assert!(account.gives_todays_rights(&token));
        let mut claims = Claims::<AccountClaims>::read_own(&token).expect("claims");
        let worker = claims.nats.signing_keys.iter_mut().find(|scope| scope["role"] == "worker");
        worker.expect("a worker's")["template"]["pub"]["allow"] = serde_json::json!(["peers.alive"]);
        let older = claims.signed(&fleet);
        assert!(!account.gives_todays_rights(&older));
        Account::read(&older, fleet.public()).expect("it is the fleet's all the same");
    }

    #[test]
    fn an_account_is_read_without_some_standings_and_with_unknown_ones() {
        let (account, fleet) = (account(), Key::of_fleet());
        let mut claims = Claims::<AccountClaims>::read_own(&account.signed("home", &fleet)).expect("claims");
        claims.nats.signing_keys.retain(|key| key["role"] != "gateway");
        let older = Account::read(&claims.signed(&fleet), fleet.public()).expect("an account");
        assert!(!older.gives_todays_rights(&claims.signed(&fleet)), "it lacks a standing");
        assert_eq!(older.vouching.len(), Standing::ALL.len() - 1);
        let oracle = serde_json::json!({
            "kind": "user_scope", "key": Key::of_account().public(), "role": "oracle", "template": {}, "more": 1,
        });
        let unscoped = serde_json::json!(Key::of_account().public());
        claims.nats.signing_keys.extend([oracle, unscoped]);
        let newer = Account::read(&claims.signed(&fleet), fleet.public()).expect("an account");
        assert_eq!((newer.vouching.len(), newer.unknown.len()), (older.vouching.len(), 2));
        let again = Account::read(&newer.signed("home", &fleet), fleet.public());
        assert_eq!(again.as_ref(), Ok(&newer), "what is unknown is kept");
    }

    #[test]
    fn an_account_that_vouches_for_nobody_is_not_the_fleets() {
        let fleet = Key::of_fleet();
        let none = Account { vouching: [].into(), ..account() };
        let bad = Account::read(&none.signed("SYS", &fleet), fleet.public());
        assert_eq!(bad, Err(BadAccount::NotTheAccount));
    }

    #[test]
    fn what_was_issued_until_its_revocation_is_revoked() {
        let account = account();
        let key = account.revoked.keys().next().expect("one").clone();
        assert!(account.is_revoked(&key, 50) && !account.is_revoked(&key, 51));
        assert!(!account.is_revoked(Key::of_identity().public(), 1));
    }

    #[test]
    fn nobody_may_say_or_hear_what_is_anothers() {
        for standing in Standing::ALL {
            let SubjectPermissions { hear, say, .. } = SubjectPermissions::of(standing);
            for subject in hear.iter().chain(say) {
                assert!(!subject.starts_with("_INBOX.") && *subject != ">", "{standing}: {subject}");
                assert!(!subject.starts_with("_INBOX") || subject.starts_with("_INBOX_{{name()}}."));
            }
            assert!(hear.iter().all(|subject| !subject.starts_with("exec.*") && *subject != "exec.>"));
        }
    }
}

//! An invite token: one line with everything a new member needs to request an identity.
//!
//! It holds a guest's secret, which permits nothing but redeeming this one invitation, and the fleet's
//! key, which verifies the answers. It does not hold the guest's own JWT. The reader rebuilds that from
//! the line's data and its signature, which halves the length. The JWT's claims include a digest of the
//! rest of the line.
//!
//! Guarantees: a modified token is invalid. A token creates only the identity it names.
//! Limit: anyone who reads the token before its use can use it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use thiserror::Error;

use super::jwt::Claims;
use super::key::{Key, PACKED, PublicKey, RAW};
use super::trust_store::{self, IdentityClaims, Signer};
use peerbus_protocol::identity::{Name, Standing};

/// Prefix of a token.
const PREFIX: &str = "pbj1_";

/// Length of a signature, in bytes.
const SIGNATURE: usize = 64;

/// Why a text is not an invite token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("it is no whole invitation: a character is missing or was changed")]
pub struct BadInviteToken;

/// The holder of an invitation, as a client of the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitee {
    /// The invitation's id, which is also the guest's name.
    pub id: Name,
    /// The guest's JWT.
    pub token: String,
    /// The guest's key.
    pub key: Key,
}

/// An invitation, to be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteToken {
    /// The name of the new identity.
    pub name: Name,
    /// Its standing.
    pub standing: Standing,
    /// The server address.
    pub bus: String,
    /// The fleet's key.
    pub fleet: PublicKey,
    /// Creation time, in seconds since 1970.
    pub issued: i64,
    /// Latest redemption, in seconds since 1970.
    pub until: i64,
    /// The guest that redeems it.
    pub guest: Invitee,
    account: PublicKey,
    by: PublicKey,
    signature: Vec<u8>,
}

/// The data of an invitation.
pub(super) struct InviteClaims<'a> {
    pub(super) name: &'a Name,
    pub(super) standing: Standing,
    pub(super) bus: &'a str,
    pub(super) fleet: &'a PublicKey,
    pub(super) account: &'a PublicKey,
    pub(super) issued: i64,
    pub(super) until: i64,
}

impl InviteClaims<'_> {
    /// The guest's claims. Their id is a digest of the rest of the line.
    fn claims(&self, key: &PublicKey, by: &PublicKey) -> Result<Claims<IdentityClaims>, BadInviteToken> {
        let signer = Signer {
            name: id(key)?,
            standing: Standing::Guest,
            key: key.clone(),
            issued: self.issued,
            expires: Some(self.until),
            names: Vec::new(),
        };
        let mut claims = trust_store::claims(&signer, self.account, by);
        let said = format!("{} {} {} {}", self.standing, self.name, self.fleet, self.bus);
        claims.jti = digest(said.as_bytes());
        Ok(claims)
    }

    fn ticket(self, key: Key, by: PublicKey, signature: Vec<u8>) -> Result<InviteToken, BadInviteToken> {
        let token = self.claims(key.public(), &by)?.with_signature(&signature);
        // This check detects any modification.
        Claims::<IdentityClaims>::read(&token).map_err(|_| BadInviteToken)?;
        let Self { name, standing, bus, fleet, account, issued, until } = self;
        Ok(InviteToken {
            name: name.clone(),
            standing,
            bus: bus.to_owned(),
            fleet: fleet.clone(),
            issued,
            until,
            guest: Invitee { id: id(key.public())?, token, key },
            account: account.clone(),
            by,
            signature,
        })
    }

    /// Signs it with the account's key for guests.
    pub(super) fn signed(self, by: &Key) -> Result<InviteToken, BadInviteToken> {
        let key = Key::of_identity();
        let signature = by.sign(self.claims(key.public(), by.public())?.said().as_bytes());
        self.ticket(key, by.public().clone(), signature)
    }
}

/// The id of the invitation that this guest redeems.
fn id(key: &PublicKey) -> Result<Name, BadInviteToken> {
    digest(key.as_str().as_bytes()).parse().map_err(|_| BadInviteToken)
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_owned()
}

impl InviteToken {
    /// Whether a text looks like an invite token.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The token as text.
    #[must_use]
    pub fn text(&self) -> String {
        let lifetime = u32::try_from(self.until - self.issued).unwrap_or(u32::MAX);
        // Neither length exceeds 63 bytes.
        let length = u8::try_from(self.name.as_str().len()).unwrap_or(u8::MAX);
        let parts: [&[u8]; 11] = [
            &self.guest.key.raw(),
            &self.by.packed(),
            &self.account.packed(),
            &self.fleet.packed(),
            &self.signature,
            &self.issued.to_be_bytes(),
            &lifetime.to_be_bytes(),
            &[letter(self.standing)],
            &[length],
            self.name.as_str().as_bytes(),
            self.bus.as_bytes(),
        ];
        format!("{PREFIX}{}", BASE64.encode(parts.concat()))
    }

    /// Parses a token.
    ///
    /// # Errors
    /// If it is not an invite token, or was modified.
    pub fn read(text: &str) -> Result<Self, BadInviteToken> {
        let packed = text.trim().strip_prefix(PREFIX).ok_or(BadInviteToken)?;
        let bytes = BASE64.decode(packed).map_err(|_| BadInviteToken)?;
        let mut rest = bytes.as_slice();
        let key = Key::of_identity_from(fixed::<RAW>(&mut rest)?).map_err(|_| BadInviteToken)?;
        let mut public = || PublicKey::from_packed(&fixed::<PACKED>(&mut rest)?).map_err(|_| BadInviteToken);
        let (by, account, fleet) = (public()?, public()?, public()?);
        let signature = fixed::<SIGNATURE>(&mut rest)?.to_vec();
        let issued = i64::from_be_bytes(fixed(&mut rest)?);
        let lifetime = u32::from_be_bytes(fixed(&mut rest)?);
        let [standing, length] = fixed(&mut rest)?;
        let standing = Standing::ALL.into_iter().find(|of| letter(*of) == standing).ok_or(BadInviteToken)?;
        let (name, bus) = rest.split_at_checked(length.into()).ok_or(BadInviteToken)?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| BadInviteToken);
        let name: Name = text(name)?.parse().map_err(|_| BadInviteToken)?;
        let until = issued.checked_add(lifetime.into()).ok_or(BadInviteToken)?;
        let wanted = InviteClaims {
            name: &name,
            standing,
            bus: text(bus)?,
            fleet: &fleet,
            account: &account,
            issued,
            until,
        };
        wanted.ticket(key, by, signature)
    }
}

/// Takes `N` bytes off the front.
fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadInviteToken> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(BadInviteToken)?;
    *rest = left;
    Ok(*taken)
}

/// A standing as one byte.
fn letter(standing: Standing) -> u8 {
    match standing {
        Standing::Worker => b'w',
        Standing::Leader => b'l',
        Standing::Operator => b'o',
        Standing::Inspector => b'i',
        Standing::Gateway => b'v',
        Standing::Guest => b'g',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> InviteToken {
        let (fleet, account, by) = (Key::of_fleet(), Key::of_account(), Key::of_account());
        let name: Name = "vps".parse().expect("a name");
        let wanted = InviteClaims {
            name: &name,
            standing: Standing::Worker,
            bus: "nats://10.0.0.1:4222",
            fleet: fleet.public(),
            account: account.public(),
            issued: 1_790_000_000,
            until: 1_790_003_600,
        };
        wanted.signed(&by).expect("a ticket")
    }

    #[test]
    fn a_line_is_read_as_it_was_made_and_is_short() {
        let ticket = ticket();
        let line = ticket.text();
        assert_eq!(InviteToken::read(&line).expect("whole"), ticket);
        assert!(InviteToken::is_one(&line) && !InviteToken::is_one("10.0.0.1"));
        assert!(line.len() < 350, "{}", line.len());
        assert!(line.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'), "{line}");
    }

    #[test]
    fn a_changed_character_or_a_missing_one_makes_it_worthless() {
        let line = ticket().text();
        for at in 0..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ascii");
            assert_eq!(InviteToken::read(&changed), Err(BadInviteToken), "{at}");
            assert_eq!(InviteToken::read(&line[..at]), Err(BadInviteToken), "{at}");
        }
        assert_eq!(InviteToken::read(&format!("{line}A")), Err(BadInviteToken));
        assert_eq!(InviteToken::read(""), Err(BadInviteToken));
    }
}

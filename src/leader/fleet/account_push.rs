//! Handing an account to the servers, and telling the members: both on a connection of their own, by
//! identities that are made for the moment.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use peerbus_bus::{
    AddressPolicy, Bus, BusError, Credentials, NatsAddress, Outgoing, ReconnectPolicy, Settings, Signing,
};
use peerbus_identity::authority::{Authority, AuthorityError};
use peerbus_protocol::fleet::AccountMessage;
use peerbus_protocol::{decode, subjects};

/// How long a server may take to let us in, and again to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a server takes accounts.
const CLAIMS_UPDATE: &str = "$SYS.REQ.CLAIMS.UPDATE";

/// Why the servers or the members do not know an account.
#[derive(Debug, Error)]
pub enum PushError {
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] AuthorityError),
    /// The bus cannot be reached.
    #[error("{0}")]
    Bus(#[from] BusError),
    /// It lets nobody hand it an account.
    #[error(
        "the server at {0} takes no accounts: it wants `resolver: {{ type: full … }}`, as `d init` has written it"
    )]
    NoResolver(NatsAddress),
    /// It does not take this one.
    #[error("the server at {address} refuses the account: {why}")]
    Refused {
        /// Where it is.
        address: NatsAddress,
        /// Its reason.
        why: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Said>,
    error: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    description: String,
}

/// Hands an account to the server, which passes it on to its cluster and drops the connections of whoever is
/// revoked in it.
///
/// # Errors
/// When the server cannot be reached, or does not take it.
pub async fn push(address: &NatsAddress, authority: &Authority, account: &str) -> Result<(), PushError> {
    let (jwt, key) = authority.system_user()?;
    let bus = connect(address, Credentials::Jwt { jwt, seed: key.seed() }).await?;
    let answer = bus.request(CLAIMS_UPDATE, account.to_owned().into(), PATIENCE).await;
    bus.close().await;
    let answer = match answer {
        Err(BusError::NoResponders(_)) => return Err(PushError::NoResolver(address.clone())),
        answer => answer?,
    };
    let refused = |why: String| Err(PushError::Refused { address: address.clone(), why });
    match serde_json::from_slice::<Answer>(&answer.payload) {
        Ok(Answer { data: Some(said), error: None }) if said.code == 200 => Ok(()),
        Ok(Answer { data, error }) => {
            let said = error.or(data).map(|said| format!("{}{}", said.description, said.message));
            refused(said.unwrap_or_default())
        }
        Err(bad) => refused(bad.to_string()),
    }
}

/// Tells the members of an account.
///
/// # Errors
/// When the bus cannot be reached.
pub async fn tell(address: &NatsAddress, authority: &Authority, account: &str) -> Result<(), PushError> {
    let unusable = |why: String| PushError::Refused { address: address.clone(), why };
    let herald = Signing::new(&authority.herald()?).map_err(unusable)?;
    let bus = connect(address, Credentials::Identity(Box::new(herald))).await?;
    let body = decode::to_json(&AccountMessage::new(account.to_owned()));
    let told = bus.publish(Outgoing::to(subjects::ACCOUNT_CHANGED).payload(body).sealed()).await;
    // A question is the way to know that the server has what was said before it.
    let _ = bus.request(subjects::ACCOUNT, bytes::Bytes::new(), PATIENCE).await;
    bus.close().await;
    Ok(told?)
}

/// A connection for one errand.
///
/// # Errors
/// When there is none in time.
async fn connect(address: &NatsAddress, credentials: Credentials) -> Result<Bus, BusError> {
    let settings = Settings {
        address: address.clone(),
        credentials,
        reach: AddressPolicy::Anywhere,
        name: "peerbus-authority".to_owned(),
    };
    let bus = Bus::open(settings, ReconnectPolicy::FirstAttemptCounts);
    bus.connected(PATIENCE).await?;
    Ok(bus)
}

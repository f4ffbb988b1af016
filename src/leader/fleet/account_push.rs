//! Sends an account JWT to the servers and the members. Each uses its own connection with a
//! temporary identity.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use peerbus_bus::{
    AddressPolicy, Bus, BusError, Credentials, NatsAddress, Outgoing, ReconnectPolicy, Settings, Signing,
};
use peerbus_identity::authority::{Authority, AuthorityError};
use peerbus_protocol::fleet::AccountMessage;
use peerbus_protocol::{decode, subjects};

/// Timeout for connecting, and again for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server's subject for new accounts.
const CLAIMS_UPDATE: &str = "$SYS.REQ.CLAIMS.UPDATE";

/// Why the servers or the members did not get an account.
#[derive(Debug, Error)]
pub enum PushError {
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] AuthorityError),
    /// The bus cannot be reached.
    #[error("{0}")]
    Bus(#[from] BusError),
    /// The server accepts no accounts.
    #[error(
        "the server at {0} takes no accounts: it wants `resolver: {{ type: full … }}`, as `d init` has written it"
    )]
    NoResolver(NatsAddress),
    /// The server refuses this account.
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

/// Sends the account to the server. The server passes it on to its cluster and disconnects revoked
/// members.
///
/// # Errors
/// If the server cannot be reached or refuses the account.
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

/// Publishes an account to the members.
///
/// # Errors
/// If the bus cannot be reached.
pub async fn tell(address: &NatsAddress, authority: &Authority, account: &str) -> Result<(), PushError> {
    let unusable = |why: String| PushError::Refused { address: address.clone(), why };
    let herald = Signing::new(&authority.herald()?).map_err(unusable)?;
    let bus = connect(address, Credentials::Identity(Box::new(herald))).await?;
    let body = decode::to_json(&AccountMessage::new(account.to_owned()));
    let told = bus.publish(Outgoing::to(subjects::ACCOUNT_CHANGED).payload(body).sealed()).await;
    // The answer to this request shows that the server has processed the message before it.
    let _ = bus.request(subjects::ACCOUNT, bytes::Bytes::new(), PATIENCE).await;
    bus.close().await;
    Ok(told?)
}

/// A connection for one message.
///
/// # Errors
/// If no connection is made in time.
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

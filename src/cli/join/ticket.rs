//! `d join TOKEN`: makes this machine or user a member of a fleet with identities.
//!
//! The key is created here and never leaves this machine. The leader gets only the public key, from
//! the guest identity in the token. The answer is verified only with the fleet's key in the token,
//! so a foreign bus cannot forge it.
//!
//! Guarantees: the key is kept until the end, so that a retry with the same token on the same
//! machine continues after a lost answer. Only its owner can read the private key. For a machine,
//! success means that the leader hears its daemon.

mod asking;
mod pending;

use std::time::Duration;

use tokio::time::{Instant, sleep};
use toml_edit::Value;

use super::{leads_nobody, not_overruled};
use crate::args::Common;
use crate::config::Edit;
use crate::exit::{BUS_UNREACHABLE, CliError, REFUSED};
use crate::keys::{self, FleetPaths};
use crate::{daemon, output, time};
use asking::{NotTakenIn, ask};
use peerbus_bus::{AddressPolicy, Bus, Credentials, NatsAddress, ReconnectPolicy, Settings as BusSettings};
use peerbus_identity::{IdentityFile, InviteToken};
use peerbus_protocol::identity::Standing;
use pending::Pending;

/// Timeout until the leader hears a ready daemon.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// Pause between two queries to the leader.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// `d join TOKEN`
pub(super) async fn run(
    common: &Common,
    text: &str,
    id: Option<&str>,
    stop_leading: bool,
) -> Result<u8, CliError> {
    let ticket = InviteToken::read(text).map_err(|bad| CliError::usage(format!("TOKEN: {bad}")))?;
    let (name, standing) = (&ticket.name, ticket.standing);
    if standing.is_machine() && !stop_leading {
        leads_nobody(common)?;
    }
    if id.is_some_and(|id| id != name.as_str()) {
        return Err(CliError::usage(format!("--id: the invitation is for {name}, and for nobody else")));
    }
    if standing.is_machine() {
        not_overruled("PEERBUS_ROLE", "worker")?;
        not_overruled("PEERBUS_PEER_ID", name.as_str())?;
    }
    let places = FleetPaths::of(common)?;
    // An explicit URL overrides the token's: the route from here may differ.
    let url = common.nats.clone().unwrap_or_else(|| ticket.bus.clone());
    let bus = connect(common, &ticket, &url).await?;
    let (identity, pending) = taken_in(&bus, &ticket, &places).await?;
    let creds = places.creds(name);
    identity.write(&creds).map_err(|error| CliError::other(error.to_string()))?;
    configure(&places, &ticket, &url)?;
    if standing.is_machine() {
        let common = Common { nats: Some(url.clone()), creds: None, ..common.clone() };
        let heard = heard(&common, &bus, &ticket, &identity).await;
        heard.map_err(|failure| {
            let message = format!(
                "{name} is a member now, and the leader does not hear it yet: {}; the same command tries again",
                failure.message
            );
            CliError::new(failure.code, message)
        })?;
    }
    pending.done();
    bus.close().await;
    output::line(&match standing.is_machine() {
        true => format!("joined as {name}; the leader hears it"),
        false if standing == Standing::Gateway => {
            format!("joined as {name} ({standing}); its identity is in {}", creds.display())
        }
        false => format!("joined as {name} ({standing}); d acts for {name} from now on"),
    })?;
    Ok(0)
}

/// A connection to the bus as the guest of this invitation.
async fn connect(common: &Common, ticket: &InviteToken, url: &str) -> Result<Bus, CliError> {
    let address: NatsAddress =
        url.parse().map_err(|bad: peerbus_bus::BadAddress| CliError::usage(bad.to_string()))?;
    let credentials = Credentials::Guest(Box::new(ticket.guest.clone()));
    let settings = BusSettings {
        address: address.clone(),
        credentials,
        reach: AddressPolicy::Anywhere,
        name: "d".to_owned(),
    };
    let bus = Bus::open(settings, ReconnectPolicy::FirstAttemptCounts);
    bus.connected(common.connect_timeout).await.map_err(|error| {
        let said = error.to_string();
        if !said.to_lowercase().contains("authori") {
            let next = "does this machine reach it? --nats names another way there";
            return CliError::new(BUS_UNREACHABLE, format!("bus unreachable: {said}; {next}"));
        }
        let (now, until) = (keys::now(), ticket.until);
        let time = |seconds| time::local_time(&keys::utc(seconds));
        let why = if until <= now {
            format!("the invitation is over since {}, and by this machine's clock it is {}", time(until), time(now))
        } else {
            format!("the bus at {address} does not know the invitation: it is another fleet's, or it is over and this \
                     machine's clock, where it is {}, is wrong", time(now))
        };
        CliError::new(REFUSED, format!("refused: {why}"))
    })?;
    Ok(bus)
}

/// Becomes a member, with the key of an earlier attempt or a new one.
async fn taken_in(
    bus: &Bus,
    ticket: &InviteToken,
    places: &FleetPaths,
) -> Result<(IdentityFile, Pending), CliError> {
    places.make_identity_folder()?;
    let pending = Pending::open(places, ticket)?;
    match ask(bus, ticket, pending.key()).await {
        Ok(taken) => Ok((taken.identity, pending)),
        Err(NotTakenIn::NotInvited(why)) => {
            // This machine may have redeemed the invitation itself.
            let own = IdentityFile::read(&places.creds(&ticket.name)).ok().flatten();
            let own = own.filter(|own| own.fleet == ticket.fleet);
            if let Some(own) = own
                && let Ok(taken) = ask(bus, ticket, &own.key).await
            {
                return Ok((taken.identity, pending));
            }
            pending.done();
            Err(NotTakenIn::NotInvited(why).into())
        }
        Err(other) => Err(other.into()),
    }
}

/// Writes the identity of this machine or user into the configuration.
fn configure(places: &FleetPaths, ticket: &InviteToken, url: &str) -> Result<(), CliError> {
    let mut edit = Edit::open(places.config.clone())?;
    let creds = Value::from(places.creds(&ticket.name).display().to_string());
    edit.set("nats", Value::from(url))?;
    if ticket.standing.is_machine() {
        edit.set("peer_id", Value::from(ticket.name.as_str()))?;
        edit.set("role", Value::from("worker"))?;
        edit.set("daemon_creds", creds)?;
    } else if ticket.standing != Standing::Gateway {
        // A gateway's identity is only for the gateway, so users of `d` here keep their own.
        edit.set("creds", creds)?;
    }
    edit.save()
}

/// Makes the daemon run with the new identity, and waits until the leader hears it.
async fn heard(
    common: &Common,
    bus: &Bus,
    ticket: &InviteToken,
    identity: &IdentityFile,
) -> Result<(), CliError> {
    daemon::settle(common).await?;
    let deadline = Instant::now() + HEARD_WITHIN;
    loop {
        // The guest asks, since a worker may not query the registry.
        let why = match ask(bus, ticket, &identity.key).await {
            Ok(taken) if taken.is_heard => return Ok(()),
            Ok(_) => "`d daemon logs` says what the daemon does".to_owned(),
            Err(error) => CliError::from(error).message,
        };
        if Instant::now() >= deadline {
            return Err(CliError::new(BUS_UNREACHABLE, format!("not within {HEARD_WITHIN:?}: {why}")));
        }
        sleep(ASK_AGAIN).await;
    }
}

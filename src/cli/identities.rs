//! `d identities`: the members, former members and invitations of the fleet.
//!
//! "Last seen" comes from the registry for machines, and for all identities from the server's
//! connections, which it remembers only since its start. It is left out if neither can be queried.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde::{Deserialize, Serialize};

use super::args::Common;
use super::connect::connect;
use super::exit::CliError;
use super::output::Table;
use super::peers::Format;
use super::settings::Settings;
use super::{keys, output, time};
use peerbus_bus::{self as bus, AddressPolicy, Bus, Credentials, Outgoing, ReconnectPolicy};
use peerbus_client::peers;
use peerbus_identity::authority::{Authority, IdentityRecord, InvitationRecord};
use peerbus_protocol::identity::Standing;

/// Timeout until a server lists its connections.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait for further servers of a cluster after the first answer.
const OTHERS_WITHIN: Duration = Duration::from_millis(200);

/// Most connections to request per server: the most recent ones.
const CONNECTIONS: u32 = 4096;

/// What `d identities` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct Identities {
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Show everything, however wide the terminal is
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

/// One line of it.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    standing: Standing,
    /// valid, expired, revoked; invited, or what became of the invitation.
    state: &'static str,
    issued: Option<String>,
    expires: Option<String>,
    last_seen: Option<String>,
    revoked: Option<String>,
    /// Hostnames and addresses in its certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

/// `d identities`
pub(super) async fn run(common: &Common, args: &Identities) -> Result<u8, CliError> {
    let authority = keys::open(common)?;
    let entries = authority.identities().map_err(|error| keys::failed(&error))?;
    let invitations = authority.invitations().map_err(|error| keys::failed(&error))?;
    let mut seen = on_the_server(common, &authority).await.unwrap_or_else(|why| {
        output::say(&format!("the server cannot be asked who is connected: {why}"));
        HashMap::new()
    });
    if entries.iter().any(|entry| entry.standing.is_machine()) {
        match in_the_registry(common, &entries).await {
            Ok(rows) => rows.into_iter().for_each(|(key, at)| later(&mut seen, key, at)),
            Err(failure) => output::say(&format!("the registry cannot be asked: {}", failure.message)),
        }
    }
    let now = keys::now();
    let mut lines: Vec<Line> =
        entries.iter().map(|entry| Line::of(entry, seen.get(entry.key.as_str()).cloned(), now)).collect();
    lines.extend(invitations.iter().filter_map(|invitation| Line::invited(invitation, now)));
    lines.sort_by(|one, other| (&one.name, &one.issued).cmp(&(&other.name, &other.issued)));
    if args.json {
        lines.iter().try_for_each(output::json)?;
        return Ok(0);
    }
    let mut table = Table::of(&["NAME", "STANDING", "STATE", "ISSUED", "EXPIRES", "LAST SEEN", "REVOKED"])
        .wide(args.output == Some(Format::Wide));
    lines.iter().for_each(|line| table.row(line.cells()));
    output::list(&table, "nobody belongs to the fleet")?;
    Ok(0)
}

impl Line {
    fn of(entry: &IdentityRecord, last_seen: Option<String>, now: i64) -> Self {
        let state = match entry.revoked {
            Some(_) => "revoked",
            None if entry.holds(now) => "valid",
            None => "expired",
        };
        Self {
            name: entry.name.to_string(),
            standing: entry.standing,
            state,
            issued: Some(keys::utc(entry.issued)),
            expires: entry.expires.map(keys::utc),
            last_seen,
            revoked: entry.revoked.map(keys::utc),
            names: entry.names.clone(),
        }
    }

    /// A row for an invitation; `None` if it was redeemed, since the identity has its own row.
    fn invited(invitation: &InvitationRecord, now: i64) -> Option<Self> {
        if invitation.taken_by.is_some() {
            return None;
        }
        let state = match invitation.revoked {
            Some(_) => "invitation revoked",
            None if invitation.until > now => "invited",
            None => "invitation expired",
        };
        Some(Self {
            name: invitation.name.to_string(),
            standing: invitation.standing,
            state,
            issued: None,
            expires: Some(keys::utc(invitation.until)),
            last_seen: None,
            revoked: invitation.revoked.map(keys::utc),
            names: invitation.names.clone(),
        })
    }

    fn cells(&self) -> Vec<String> {
        let shown = |at: &Option<String>| at.as_deref().map_or_else(|| "-".to_owned(), time::local_time);
        vec![
            self.name.clone(),
            self.standing.to_string(),
            self.state.to_owned(),
            shown(&self.issued),
            shown(&self.expires),
            shown(&self.last_seen),
            shown(&self.revoked),
        ]
    }
}

/// Keeps the later of two times; their text order is their time order.
fn later(seen: &mut HashMap<String, String>, key: String, at: String) {
    let known = seen.entry(key).or_default();
    if *known < at {
        *known = at;
    }
}

/// When machines were last heard, by their current key.
async fn in_the_registry(
    common: &Common,
    entries: &[IdentityRecord],
) -> Result<Vec<(String, String)>, CliError> {
    let bus = connect(common).await?;
    let rows = peers::list(&bus).await.map_err(|error| super::peers::no_registry(&error))?;
    bus.close().await;
    let of =
        |id: &str| entries.iter().rfind(|entry| entry.standing.is_machine() && entry.name.as_str() == id);
    let seen = rows.into_iter().filter_map(|row| {
        let entry = of(row.peer_id.as_str())?;
        // Earlier times belong to an earlier identity with this name.
        (row.last_seen >= keys::utc(entry.issued)).then(|| (entry.key.to_string(), row.last_seen))
    });
    Ok(seen.collect())
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Connections>,
}

#[derive(Deserialize)]
struct Connections {
    now: String,
    connections: Option<Vec<Connection>>,
}

#[derive(Deserialize)]
struct Connection {
    authorized_user: Option<String>,
    stop: Option<String>,
}

/// When each key was last connected, as far as the servers remember; now for connected keys.
async fn on_the_server(common: &Common, authority: &Authority) -> Result<HashMap<String, String>, String> {
    let address = Settings::read(common).and_then(|settings| settings.address());
    let address = address.map_err(|failure| failure.message)?;
    let (jwt, key) = authority.system_user().map_err(|error| error.to_string())?;
    let credentials = Credentials::Jwt { jwt, seed: key.seed() };
    let settings = bus::Settings {
        address,
        credentials,
        reach: AddressPolicy::Anywhere,
        name: "peerbus-authority".to_owned(),
    };
    let bus = Bus::open(settings, ReconnectPolicy::FirstAttemptCounts);
    bus.connected(common.connect_timeout).await.map_err(|error| error.to_string())?;
    let account = authority.for_server().map_err(|error| error.to_string())?.account_key;
    // 2: those that were closed, too.
    let question = serde_json::json!({
        "acc": account.as_str(), "auth": true, "state": 2, "sort": "last", "limit": CONNECTIONS,
    });
    let mut answers = bus.mailbox();
    let asked = Outgoing::to("$SYS.REQ.SERVER.PING.CONNZ").reply(answers.subject());
    bus.publish(asked.payload(question.to_string())).await.map_err(|error| error.to_string())?;
    let (mut seen, mut patience, mut answered) = (HashMap::new(), PATIENCE, false);
    while let Ok(answer) = tokio::time::timeout(patience, answers.next()).await {
        let Ok(Answer { data: Some(data) }) = serde_json::from_slice(&answer.payload) else { continue };
        (patience, answered) = (OTHERS_WITHIN, true);
        for connection in data.connections.unwrap_or_default() {
            let Some(key) = connection.authorized_user else { continue };
            let at = connection.stop.unwrap_or_else(|| data.now.clone());
            let at = at.parse::<jiff::Timestamp>().map(|at| keys::utc(at.as_second()));
            later(&mut seen, key, at.map_err(|error| error.to_string())?);
        }
    }
    bus.close().await;
    if answered { Ok(seen) } else { Err("it does not answer".to_owned()) }
}

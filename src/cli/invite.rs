//! `d invite`: one line with which a machine or a person joins the fleet.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args as ClapArgs;

use super::args::Common;
use super::exit::CliError;
use super::settings::Settings;
use super::{keys, output, time};
use peerbus_identity::authority::Invited;
use peerbus_protocol::identity::{Name, Standing};
use peerbus_protocol::peers::normal_name;

/// What `d invite` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d invite vps                       then, on that machine: d join TOKEN\n  d invite vps | ssh root@vps d join -\n  d invite vps --name vps.example --address 10.0.0.7\n                                     these lead to it too, and nothing it says of itself\n  d invite --operator alice          a person, who may run commands\n  d invite --inspector carol         a person, who may look\n  d invite --gateway web             a program that runs commands for people who are no members\n  d invite vps --nats nats://10.0.0.1:4222"
)]
pub(super) struct Invite {
    /// The machine's name, which is its peer id
    #[arg(value_name = "PEER", value_parser = keys::name, required_unless_present_any = ["operator", "inspector", "gateway"])]
    machine: Option<Name>,
    /// A person who may run commands
    #[arg(long, value_name = "NAME", value_parser = keys::name, conflicts_with_all = ["machine", "inspector", "gateway"])]
    operator: Option<Name>,
    /// A person who may look and not touch
    #[arg(long, value_name = "NAME", value_parser = keys::name, conflicts_with_all = ["machine", "gateway"])]
    inspector: Option<Name>,
    /// A program that runs commands for people, and says for whom
    #[arg(long, value_name = "NAME", value_parser = keys::name, conflicts_with = "machine")]
    gateway: Option<Name>,
    /// A hostname that is to lead to the machine beside its id; may be given again
    #[arg(long = "name", value_name = "HOSTNAME", value_parser = hostname, conflicts_with_all = ["operator", "inspector", "gateway"])]
    names: Vec<String>,
    /// An address that is to lead to it; may be given again
    #[arg(long = "address", value_name = "IP", conflicts_with_all = ["operator", "inspector", "gateway"])]
    addresses: Vec<IpAddr>,
    /// How long it can be taken up, such as 2d, or until when, such as 2026-11-21
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = time::until)]
    lasts: Duration,
    /// How long what it makes holds [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = time::until)]
    identity_for: Option<Duration>,
}

/// Most names and addresses in a certificate, which goes with every message.
const NAMES_MAX: usize = 8;

/// Most bytes they take together.
const NAMES_BYTES_MAX: usize = 512;

/// Reads a hostname as it is compared.
fn hostname(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = normal_name(text).to_ascii_lowercase();
    match name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        true if name.parse::<IpAddr>().is_ok() => Err("it is an address: --address gives it".to_owned()),
        true => Ok(name),
        false => Err(format!("{text:?} is no hostname")),
    }
}

/// `d invite`
pub(super) fn run(common: &Common, args: Invite) -> Result<u8, CliError> {
    let Invite { machine, operator, inspector, gateway, mut names, addresses, lasts, identity_for } = args;
    names.extend(addresses.iter().map(|address| address.to_canonical().to_string()));
    if names.len() > NAMES_MAX || names.iter().map(String::len).sum::<usize>() > NAMES_BYTES_MAX {
        let most = format!("at most {NAMES_MAX} names and addresses, of {NAMES_BYTES_MAX} bytes together");
        return Err(CliError::usage(format!("a certificate holds {most}")));
    }
    let wished = [
        (machine, Standing::Worker),
        (operator, Standing::Operator),
        (inspector, Standing::Inspector),
        (gateway, Standing::Gateway),
    ];
    let wished = wished.into_iter().find_map(|(name, standing)| Some((name?, standing)));
    let (name, standing) = wished.ok_or_else(|| CliError::usage("nobody is named"))?;
    let authority = keys::open(common)?;
    let address = Settings::read(common)?.address()?;
    let after = |time: Duration| keys::now().saturating_add_unsigned(time.as_secs().max(1));
    let invited = Invited {
        name: &name,
        standing,
        bus: &address.to_string(),
        until: after(lasts),
        identity_expires: identity_for.map(after),
        names: &names,
    };
    let ticket = authority.invite(&invited).map_err(|error| keys::failed(&error))?;
    let host = address.first().0;
    if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        output::say(&format!(
            "the bus is at {address}, which only this machine reaches: `d invite --nats URL` names it as others do, and \
             `d config set broker_listen ADDRESS` has it listen there"
        ));
    }
    output::say(&format!(
        "for {name} ({standing}), once, until {}: `d join TOKEN` there, with this line for TOKEN",
        time::local_time(&keys::utc(ticket.until))
    ));
    output::line(&ticket.text())?;
    Ok(0)
}

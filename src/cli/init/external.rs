//! A fleet whose bus is a nats-server that somebody else runs: what that server needs to be told.

use std::io::Write;
use std::path::Path;

use crate::exit::CliError;
use crate::keys::{self, FleetPaths};
use crate::output;
use peerbus_bus::{BadAddress, NatsAddress};
use peerbus_identity::authority::Authority;

/// Where that server keeps what it is told later, from where it is started.
const RESOLVER: &str = "peerbus-accounts";

/// Where the bus is.
pub(super) fn address(url: &str) -> Result<NatsAddress, CliError> {
    let url = if url.contains("://") { url.to_owned() } else { format!("nats://{url}") };
    let address: NatsAddress =
        url.parse().map_err(|bad: BadAddress| CliError::usage(format!("--external: {bad}")))?;
    match address.userinfo() {
        Some(_) => Err(CliError::usage("--external: in a fleet with identities nobody has a password")),
        None => Ok(address),
    }
}

/// Writes the server's configuration, and says what is to be done with it.
pub(super) fn hand_over(
    authority: &Authority,
    places: &FleetPaths,
    address: &NatsAddress,
) -> Result<(), CliError> {
    let documents = authority.for_server().map_err(|error| keys::failed(&error))?;
    let (_, port) = address.first();
    let text = format!(
        "# The bus of a fleet with identities, written by `d init`. There are no secrets in here.\n\
         # Where the server listens is yours to say; it wants to be started from a directory that it may write.\n\
         port: {port}\nping_interval: \"10s\"\nping_max: 2\nwrite_timeout: retry\n\
         # What waits for peers that are away.\n\
         jetstream {{ store_dir: \"peerbus-queue\", max_memory_store: 64MB, max_file_store: 1GB, sync_interval: always }}\n{}",
        documents.configuration(Path::new(RESOLVER))
    );
    let path = places.fleet.join("nats-server.conf");
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&places.fleet)?;
        file.write_all(text.as_bytes())?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|error| CliError::other(format!("writing {}: {error}", path.display())))?;
    for line in [
        format!("the server's configuration is {}", path.display()),
        "on the server's machine: `nats-server -t -c nats-server.conf` checks it, `nats-server -c nats-server.conf` starts it"
            .to_owned(),
        format!("then here: `d daemon start`, which waits for the bus at {address}, and `d doctor`"),
    ] {
        output::say(&line);
    }
    Ok(())
}

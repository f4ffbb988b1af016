//! Where the bus of a new fleet listens.
//!
//! What is said on the bus is signed and not encrypted: that is left to the network. So an address is chosen
//! by itself only where it is known to be encrypted, that of a WireGuard interface.

use std::net::{SocketAddr, TcpListener};

use crate::exit::CliError;
use crate::output;
use peerbus_daemon::broker::{self, DEFAULT_PORT};
use peerbus_process::host;

/// The address, where none was named.
pub(super) fn chosen() -> Result<SocketAddr, CliError> {
    let private = |ip: &std::net::IpAddr| broker::check_listen((*ip, DEFAULT_PORT).into()).is_ok();
    let found: Vec<_> = host::wireguard_addresses().into_iter().filter(private).collect();
    match found.as_slice() {
        [] => {
            output::say(
                "the bus listens on 127.0.0.1, so no other machine can join: --listen ADDRESS names an address that the \
                 others reach over an encrypted network, such as WireGuard",
            );
            Ok(([127, 0, 0, 1], DEFAULT_PORT).into())
        }
        [one] => {
            output::say(&format!("the bus listens on {one}, the address of WireGuard"));
            Ok((*one, DEFAULT_PORT).into())
        }
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(CliError::usage(format!(
                "--listen ADDRESS: this machine has several: {}",
                several.join(", ")
            )))
        }
    }
}

/// Whether a server could listen there now.
pub(super) fn check(address: SocketAddr) -> Result<(), CliError> {
    if address.port() == 0 {
        return Err(CliError::usage("--listen: a port that the others can be told of is wanted, not 0"));
    }
    TcpListener::bind(address).map(drop).map_err(|error| {
        CliError::other(format!(
            "the bus cannot listen on {address}: {error}; --listen ADDRESS names another one"
        ))
    })
}

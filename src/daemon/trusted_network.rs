//! Trusted mode: without identities the network is the trust boundary. So it must be private, or the configuration
//! must call it trusted.

use super::context::{Context, DaemonSettings};
use super::state::{RunState, StateFile};
use peerbus_bus::{self as bus, AddressPolicy};
use peerbus_process::host;

/// What a daemon may connect to, by what it is to the bus and what it was told.
#[must_use]
pub fn reach(credentials: &bus::Credentials, trusted_network: bool) -> AddressPolicy {
    match credentials.are_an_identity() || trusted_network {
        true => AddressPolicy::Anywhere,
        false => AddressPolicy::Private,
    }
}

/// Refuses a bus that everybody may reach, before anything is sent to it.
///
/// # Errors
/// A sentence that names the address, and what to do.
pub(super) async fn check(settings: &DaemonSettings, state: &mut StateFile) -> anyhow::Result<()> {
    // A broker of its own is its bus, and listens on private addresses alone.
    if settings.bus.reach == AddressPolicy::Anywhere || settings.broker.is_some() {
        return Ok(());
    }
    let Some(public) = bus::public_server(&settings.bus.address).await else { return Ok(()) };
    let refusal = refusal(&public);
    state.set(RunState::Failed, refusal.clone());
    Err(anyhow::anyhow!(refusal))
}

/// Why a daemon without an identity does not join a public bus, and what to do.
fn refusal(public: &bus::PublicAddress) -> String {
    let user = host::current_user();
    format!(
        "the bus: {public}, and this daemon has no identity of its own: whoever reaches that bus could run commands \
         here as {user}. Give the fleet identities (`d init`), or an address in a private network such as WireGuard's; where \
         that network is to be trusted all the same, `d config set trusted_network true`"
    )
}

/// Whoever reaches a broker that asks for nothing can run commands here.
pub(super) fn warn_of_an_open_broker(context: &Context) {
    let open = context.bus.server().is_some_and(|server| !server.auth_required);
    if open && host::is_root() {
        tracing::warn!(
            bus = %context.settings.bus.address,
            "the broker asks nobody who they are, and this daemon runs as root: whoever reaches the broker is root here"
        );
    }
}

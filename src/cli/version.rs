//! `d --version`, and which peers run another one.

use super::args::Common;
use super::settings::Settings;
use super::{cache, output};

/// Peers that are named; of more only the number is said.
const NAMED_MAX: usize = 5;

/// Says which peers had another version when they were last listed. Nobody is asked.
pub(super) fn say_who_differs() {
    let common = Common::default();
    let bus = Settings::read(&common).and_then(|settings| settings.bus("d"));
    // Whoever asks for the version is not told of a mistake somewhere else.
    let Some(known) = bus.ok().and_then(|bus| cache::read(&bus.address)) else { return };
    let others: Vec<String> = known
        .peers
        .iter()
        .filter(|peer| peer.online && peer.version != peerbus_protocol::VERSION)
        .map(|peer| format!("{} {}", peer.id, peer.version))
        .collect();
    if others.is_empty() {
        return;
    }
    let more = match others.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = others[..others.len().min(NAMED_MAX)].join(", ");
    output::say(&format!(
        "peers with another version: {named}{more}; bring the leader forward first, then the others"
    ));
}

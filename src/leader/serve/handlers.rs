//! The leader's handlers of messages: heartbeats, service documents, queries.

use std::time::Duration;

use tokio::sync::mpsc::OwnedPermit;
use tokio::time::Instant;

use crate::RegistryState;
use crate::leadership::{self, Competitor};
use crate::publisher::Probe;
use crate::query::{QueryHandler, Refusal};
use peerbus_bus::{Incoming, Outgoing};
use peerbus_identity::Signer;
use peerbus_protocol::heartbeat::{Heartbeat, PeerState, Role};
use peerbus_protocol::identity::Standing;
use peerbus_protocol::peers::Presence;
use peerbus_protocol::service::ServiceDocument;
use peerbus_protocol::signature::IDENTITY;
use peerbus_protocol::{PeerId, decode};

use super::{Event, Leader, now_on_the_wall};

/// A competing leader is forgotten after this many intervals of silence.
const RIVAL_INTERVALS: u32 = 3;

/// How long this leader does not give way again to a competitor that did not answer queries.
pub(super) const MUTE_RIVAL: Duration = Duration::from_secs(60);

impl Leader {
    pub(super) fn beat(&mut self, message: &Incoming) {
        if message.no_responders {
            return;
        }
        let beat = match Heartbeat::decode(&message.payload) {
            Ok(beat) => beat,
            Err(bad) => {
                let refusal = Refusal::from(bad);
                self.complaints.add("a heartbeat cannot be understood", 1, &refusal.message);
                return self.post.refuse(message, refusal);
            }
        };
        let signer = match self.signer_of(&beat, message) {
            Ok(signer) => signer,
            Err(why) => {
                self.complaints.add("a heartbeat is not its peer's own", 1, &why);
                return;
            }
        };
        if beat.role == Role::Leader {
            self.heard_a_leader(&beat);
        }
        let now = self.clock.now();
        let effects = self.roster.beat(&beat, now, &now_on_the_wall());
        if let (Some(signer), Some(certificate)) = (signer, message.headers.get(IDENTITY)) {
            self.roster.certified(&beat.peer_id, signer.names, certificate);
        }
        if self.roster.get(&beat.peer_id).is_some() {
            self.seen.insert(beat.peer_id);
        }
        self.apply(effects);
    }

    /// The signer of a heartbeat, who must be its peer; `None` in a fleet without identities.
    fn signer_of(&self, beat: &Heartbeat, message: &Incoming) -> Result<Option<Signer>, String> {
        let Some(member) = self.bus.member() else { return Ok(None) };
        let peer = &beat.peer_id;
        let signer = member.speaker(message).map_err(|why| format!("that of {peer}: {why}"))?;
        if signer.name.as_str() != peer.as_str() || !signer.standing.is_machine() {
            return Err(format!("{} speaks for {peer}", signer.principal()));
        }
        if beat.role == Role::Leader && signer.standing != Standing::Leader {
            return Err(format!("{peer} is no leader of this fleet and says it is"));
        }
        Ok(Some(signer))
    }

    /// Whether the sender of a request may change the registry.
    pub(super) fn may_change(&self, message: &Incoming) -> Result<(), Refusal> {
        let Some(member) = self.bus.member() else { return Ok(()) };
        let signer = member.speaker(message).map_err(|why| Refusal::unproven(&why.to_string()))?;
        match signer.standing {
            Standing::Operator => Ok(()),
            _ => Err(Refusal::unproven(&format!("{} may not change the registry", signer.principal()))),
        }
    }

    /// Handles a peer's service document: requests a heartbeat unless the peer is already online.
    pub(super) fn document(&mut self, message: &Incoming) {
        if message.no_responders {
            return;
        }
        let peer = decode::json::<ServiceDocument>(&message.payload)
            .map_err(|bad| bad.0)
            .and_then(|document| document.metadata.get("peer").cloned().ok_or("no peer is named".to_owned()))
            .and_then(|peer| peer.parse::<PeerId>().map_err(|bad| bad.to_string()));
        match peer {
            Ok(peer) if self.roster.get(&peer).is_some_and(|row| row.state == Presence::Online) => {}
            Ok(peer) => self.post.call(Probe::Peer(peer)),
            Err(why) => {
                self.complaints.add("a service document cannot be understood", 1, &Refusal::brief(&why));
            }
        }
    }

    /// Answers a query from the current state.
    pub(super) fn handler<T>(&self, answer: impl FnOnce(&QueryHandler<'_>) -> T) -> T {
        let waiting_for = match &self.registry {
            RegistryState::Loaded => "",
            RegistryState::Waiting { why } => why,
        };
        answer(&QueryHandler {
            roster: &self.roster,
            leader: &self.settings.peer,
            instance: self.settings.instance,
            age_ms: u64::try_from(self.roster.age(self.clock.now()).as_millis()).unwrap_or(u64::MAX),
            max_payload: self.bus.max_payload(),
            waiting_for,
            certified_only: self.bus.member().is_some(),
        })
    }

    pub(super) fn answer(
        &mut self,
        asked: &Incoming,
        place: OwnedPermit<Outgoing>,
        answer: Result<Vec<u8>, Refusal>,
    ) {
        if let Err(refusal) = &answer {
            self.complaints.add("a question was refused", 1, &refusal.message);
        }
        self.post.answer(place, asked, answer);
    }

    /// Handles another leader's heartbeat. Of two leaders, the one with the longer uptime goes on.
    fn heard_a_leader(&mut self, beat: &Heartbeat) {
        if beat.instance == self.settings.instance {
            // Use the uptime from this daemon's own heartbeat, since its competitors compare the
            // same value.
            let up = Duration::from_secs(beat.uptime_s);
            self.born = Instant::now().checked_sub(up).unwrap_or(self.born);
            return;
        }
        if beat.peer_id == self.settings.peer || beat.state == PeerState::Leaving {
            self.rival.take_if(|rival| rival.instance == beat.instance);
            return;
        }
        let rival = Competitor {
            peer: beat.peer_id.clone(),
            instance: beat.instance,
            uptime_s: beat.uptime_s,
            until: self.clock.now() + Duration::from_millis(beat.interval_ms) * RIVAL_INTERVALS,
        };
        let why = format!("{} (instance {}) is a leader too", rival.peer, rival.instance);
        self.complaints.add("there are two leaders on this bus", 1, &why);
        if self.gives_way_to(&rival) {
            tracing::error!(other = %rival.peer, "giving way to the leader that has been up for longer");
            self.inputs.give_way();
            self.wait_to_stand_in();
        }
        self.rival = Some(rival);
    }

    fn gives_way_to(&self, rival: &Competitor) -> bool {
        let is_mute = self
            .mute_rival
            .is_some_and(|(instance, until)| instance == rival.instance && Instant::now() < until);
        self.inputs.answers_for_the_fleet()
            && !is_mute
            && rival.outranks(self.born.elapsed().as_secs(), self.settings.instance)
    }

    fn wait_to_stand_in(&self) {
        let (bus, background) = (self.bus.clone(), self.inputs.background());
        tokio::spawn(async move {
            tokio::select! {
                questions = leadership::stand_in(&bus) => {
                    // The send fails only if the leader has ended.
                    let _ = background.send(Event::StandsIn(questions)).await;
                }
                () = background.closed() => {}
            }
        });
    }
}

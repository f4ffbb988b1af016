//! What each standing may hear and say, right by right, as a real server enforces it.

use peerbus::identity::IdentityFile;
use peerbus::protocol::identity::Standing;

use crate::harness::nats::{Login, Raw};
use crate::harness::secured::Secured;
use crate::harness::server::{Server, ServerOptions};

/// A fleet's server, and whoever makes its identities.
struct Scene {
    secured: Secured,
    server: Server,
}

impl Scene {
    fn new() -> Scene {
        let secured = Secured::new();
        let server = secured.server(ServerOptions::new()).start();
        Scene { secured, server }
    }

    fn connect(&self, identity: &IdentityFile) -> Raw {
        Raw::connect_as(&self.server.url(), &Login::with(identity))
    }

    fn member(&self, name: &str, standing: Standing) -> Raw {
        self.connect(&self.secured.identity(name, standing))
    }
}

/// Whether the server takes a subscription.
fn may_hear(raw: &mut Raw, subject: &str, queue: &str) -> bool {
    let before = raw.errors.len();
    raw.subscribe_queue(subject, queue);
    judged(raw, before, "Subscription")
}

/// Whether the server takes a message.
fn may_say(raw: &mut Raw, subject: &str) -> bool {
    let before = raw.errors.len();
    raw.publish(subject, "{}");
    raw.barrier();
    judged(raw, before, "Publish")
}

/// A refusal is one of this kind; anything else that the server says is a mistake of the test.
#[track_caller]
fn judged(raw: &Raw, before: usize, kind: &str) -> bool {
    let said = &raw.errors[before..];
    let refused = |error: &String| error.contains("Permissions Violation") && error.contains(kind);
    assert!(said.iter().all(refused), "{said:?}");
    said.is_empty()
}

/// One row: what is allowed, what is refused. A second word is a queue group.
struct Row {
    standing: Standing,
    hears: &'static [&'static str],
    hears_not: &'static [&'static str],
    says: &'static [&'static str],
    says_not: &'static [&'static str],
}

/// The identity in each row is called `own`; `other` is somebody else.
const ROWS: [Row; 6] = [
    Row {
        standing: Standing::Worker,
        // To a server `*` covers `>`, so all questions to services are heard with the first of these.
        hears: &[
            "$SRV.>",
            "exec.own",
            "exec.own exec",
            "exec.own.>",
            "exec.own.ping",
            "$SRV.*",
            "$SRV.*.exec",
            "$SRV.*.exec.0b1c",
            "$SRV.PING",
            "$SRV.STATS.exec.0b1c",
            "fleet.account.changed",
            "_INBOX_own.x.*",
        ],
        hears_not: &[
            "exec.other exec",
            "exec.other",
            "exec.other.>",
            "exec.* exec",
            "exec.*",
            "exec.>",
            ">",
            "*.own",
            "_INBOX.>",
            "_INBOX_other.>",
            "_INBOX_ownly.>",
            "peers.alive",
            "peers.list registry",
            "peers.event.>",
            "fleet.>",
            "fleet.account registry",
            "fleet.join.*",
            "$SRV.PING.other",
            "$SRV.*.*",
            "$SYS.>",
            "queue.>",
            "queue.own.*",
            "$JS.>",
            "$JS.API.>",
            "$JS.ACK.QUEUE.own.>",
        ],
        says: &[
            "peers.alive",
            "exec.own.ping",
            "fleet.account",
            "_INBOX_own.x.y",
            "$JS.API.CONSUMER.MSG.NEXT.QUEUE.own",
            "$JS.ACK.QUEUE.own.1.2.3.4.5",
            "$JS.ACK.hub.AB3x.QUEUE.own.1.2.3.4.5.x",
        ],
        says_not: &[
            "exec.own",
            "exec.other",
            "exec.other.ping",
            "exec.own.health",
            "peers.alive.other",
            "peers.list",
            "peers.get",
            "peers.remove",
            "peers.event.online.other",
            "fleet.account.changed",
            "fleet.join.x",
            "_INBOX.x",
            "_INBOX_other.x.y",
            "$SRV.PING",
            "$SYS.REQ.SERVER.PING",
            "$JS.API.INFO",
            "queue.own.x",
            "queue.other.x",
            "$JS.API.CONSUMER.MSG.NEXT.QUEUE.other",
            "$JS.API.CONSUMER.MSG.NEXT.OTHER.own",
            "$JS.ACK.QUEUE.other.1.2.3.4.5",
            "$JS.ACK.OTHER.own.1.2.3.4.5",
            "$JS.ACK.hub.AB3x.QUEUE.other.1.2.3.4.5.x",
            "$JS.API.STREAM.INFO.QUEUE",
            "$JS.API.STREAM.LIST",
            "$JS.API.STREAM.CREATE.QUEUE",
            "$JS.API.STREAM.UPDATE.QUEUE",
            "$JS.API.STREAM.DELETE.QUEUE",
            "$JS.API.STREAM.PURGE.QUEUE",
            "$JS.API.STREAM.MSG.GET.QUEUE",
            "$JS.API.STREAM.MSG.DELETE.QUEUE",
            "$JS.API.DIRECT.GET.QUEUE",
            "$JS.API.DIRECT.GET.QUEUE.queue.own.x",
            "$JS.API.CONSUMER.CREATE.QUEUE.own",
            "$JS.API.CONSUMER.CREATE.QUEUE.own.queue.own.*",
            "$JS.API.CONSUMER.DURABLE.CREATE.QUEUE.own",
            "$JS.API.CONSUMER.INFO.QUEUE.own",
            "$JS.API.CONSUMER.DELETE.QUEUE.own",
        ],
    },
    Row {
        standing: Standing::Leader,
        hears: &[
            "exec.own exec",
            "exec.own.>",
            "$SRV.*",
            "$SRV.*.exec",
            "$SRV.*.exec.0b1c",
            "peers.alive",
            "peers.list registry",
            "peers.get registry",
            "peers.remove registry",
            "fleet.account registry",
            "fleet.join.* registry",
            "fleet.account.changed",
            "_INBOX_own.x.*",
        ],
        hears_not: &[
            "exec.other",
            "exec.other exec",
            "exec.other.>",
            "exec.>",
            ">",
            "_INBOX.>",
            "_INBOX_other.>",
            "$SYS.>",
        ],
        says: &[
            "peers.alive",
            "peers.list",
            "peers.get",
            "peers.event.online.other",
            "exec.own.ping",
            "exec.other.ping",
            "$SRV.PING.exec",
            "fleet.account",
            "fleet.account.changed",
            "_INBOX_own.x.y",
            "$JS.API.CONSUMER.MSG.NEXT.QUEUE.own",
            "$JS.ACK.QUEUE.own.1.2.3.4.5",
            "$JS.API.STREAM.INFO.QUEUE",
            "$JS.API.STREAM.CREATE.QUEUE",
            "$JS.API.STREAM.UPDATE.QUEUE",
            "$JS.API.CONSUMER.CREATE.QUEUE.other",
        ],
        says_not: &[
            "queue.own.x",
            "queue.other.x",
            "$JS.API.CONSUMER.MSG.NEXT.QUEUE.other",
            "$JS.ACK.QUEUE.other.1.2.3.4.5",
            "$JS.API.STREAM.CREATE.OTHER",
            "$JS.API.STREAM.DELETE.QUEUE",
            "$JS.API.STREAM.PURGE.QUEUE",
            "$JS.API.STREAM.MSG.GET.QUEUE",
            "$JS.API.STREAM.MSG.DELETE.QUEUE",
            "$JS.API.DIRECT.GET.QUEUE",
            "$JS.API.CONSUMER.CREATE.OTHER.own",
            "$JS.API.CONSUMER.DELETE.QUEUE.other",
            "exec.own",
            "exec.other",
            "exec.other.health",
            "exec.other.01979d3e-7b1c-7c3a-9b0e-3f1d2c4b5a69.signal",
            "peers.remove",
            "fleet.join.x",
            "_INBOX.x",
            "_INBOX_other.x.y",
            "$SYS.REQ.CLAIMS.UPDATE",
        ],
    },
    Row {
        standing: Standing::Operator,
        hears: &["peers.event.>", "peers.event.online.other", "_INBOX_own.x.*"],
        hears_not: &[
            "exec.>",
            "exec.own exec",
            "exec.other exec",
            "exec.other.>",
            ">",
            "_INBOX.>",
            "_INBOX_other.>",
            "peers.alive",
            "peers.list registry",
            "fleet.>",
            "fleet.account registry",
            "$SRV.>",
            "$SYS.>",
            "queue.>",
            "$JS.>",
        ],
        says: &[
            "queue.other.01979d3e-7b1c-7c3a-9b0e-3f1d2c4b5a69",
            "$JS.API.STREAM.INFO.QUEUE",
            "$JS.API.STREAM.MSG.GET.QUEUE",
            "$JS.API.STREAM.MSG.DELETE.QUEUE",
            "$JS.API.CONSUMER.INFO.QUEUE.other",
            "exec.other",
            "exec.other.ping",
            "exec.other.health",
            "exec.other.01979d3e-7b1c-7c3a-9b0e-3f1d2c4b5a69.signal",
            "peers.list",
            "peers.get",
            "peers.remove",
            "$SRV.PING",
            "$SRV.INFO.exec",
            "fleet.account",
        ],
        says_not: &[
            "$JS.API.CONSUMER.MSG.NEXT.QUEUE.other",
            "$JS.ACK.QUEUE.other.1.2.3.4.5",
            "$JS.API.STREAM.CREATE.QUEUE",
            "$JS.API.STREAM.UPDATE.QUEUE",
            "$JS.API.STREAM.DELETE.QUEUE",
            "$JS.API.STREAM.PURGE.QUEUE",
            "$JS.API.STREAM.MSG.GET.OTHER",
            "$JS.API.CONSUMER.CREATE.QUEUE.other",
            "$JS.API.CONSUMER.DELETE.QUEUE.other",
            "peers.alive",
            "peers.event.online.other",
            "fleet.account.changed",
            "fleet.join.x",
            "_INBOX.x",
            "_INBOX_other.x.y",
            "$SYS.REQ.CLAIMS.UPDATE",
        ],
    },
    Row {
        standing: Standing::Gateway,
        hears: &["peers.event.>", "peers.event.online.other", "_INBOX_own.x.*"],
        hears_not: &[
            "exec.>",
            "exec.own exec",
            "exec.other exec",
            "exec.other.>",
            ">",
            "_INBOX.>",
            "_INBOX_other.>",
            "peers.alive",
            "peers.list registry",
            "fleet.>",
            "fleet.account registry",
            "$SRV.>",
            "$SYS.>",
            "queue.>",
            "$JS.>",
        ],
        says: &[
            "queue.other.01979d3e-7b1c-7c3a-9b0e-3f1d2c4b5a69",
            "$JS.API.STREAM.INFO.QUEUE",
            "$JS.API.STREAM.MSG.GET.QUEUE",
            "$JS.API.STREAM.MSG.DELETE.QUEUE",
            "$JS.API.CONSUMER.INFO.QUEUE.other",
            "exec.other",
            "exec.other.ping",
            "exec.other.health",
            "exec.other.01979d3e-7b1c-7c3a-9b0e-3f1d2c4b5a69.signal",
            "peers.list",
            "peers.get",
            "$SRV.PING",
            "$SRV.INFO.exec",
            "fleet.account",
        ],
        says_not: &[
            "peers.remove",
            "$JS.API.CONSUMER.MSG.NEXT.QUEUE.other",
            "$JS.ACK.QUEUE.other.1.2.3.4.5",
            "$JS.API.STREAM.CREATE.QUEUE",
            "$JS.API.STREAM.UPDATE.QUEUE",
            "$JS.API.STREAM.DELETE.QUEUE",
            "$JS.API.STREAM.PURGE.QUEUE",
            "$JS.API.STREAM.MSG.GET.OTHER",
            "$JS.API.CONSUMER.CREATE.QUEUE.other",
            "$JS.API.CONSUMER.DELETE.QUEUE.other",
            "peers.alive",
            "peers.event.online.other",
            "fleet.account.changed",
            "fleet.join.x",
            "_INBOX.x",
            "_INBOX_other.x.y",
            "$SYS.REQ.CLAIMS.UPDATE",
        ],
    },
    Row {
        standing: Standing::Inspector,
        hears: &["peers.alive", "peers.event.>", "_INBOX_own.x.*"],
        hears_not: &[
            "exec.>",
            "exec.other.>",
            ">",
            "_INBOX.>",
            "_INBOX_other.>",
            "fleet.>",
            "peers.list registry",
        ],
        says: &[
            "exec.other.ping",
            "exec.other.health",
            "peers.list",
            "peers.get",
            "$SRV.PING",
            "$SRV.STATS.exec",
            "fleet.account",
        ],
        says_not: &[
            "queue.other.x",
            "$JS.API.STREAM.INFO.QUEUE",
            "$JS.API.STREAM.MSG.GET.QUEUE",
            "$JS.API.CONSUMER.MSG.NEXT.QUEUE.other",
            "exec.other",
            "exec.other.01979d3e-7b1c-7c3a-9b0e-3f1d2c4b5a69.signal",
            "exec.other.01979d3e-7b1c-7c3a-9b0e-3f1d2c4b5a69.result",
            "peers.remove",
            "peers.alive",
            "peers.event.online.other",
            "fleet.account.changed",
            "fleet.join.x",
            "_INBOX_other.x.y",
        ],
    },
    Row {
        standing: Standing::Guest,
        hears: &["_INBOX_own.x.*"],
        hears_not: &[
            "exec.>",
            "exec.own exec",
            "peers.>",
            "fleet.>",
            "fleet.join.own",
            "fleet.account.changed",
            ">",
            "_INBOX.>",
            "_INBOX_other.>",
        ],
        says: &["fleet.join.own"],
        says_not: &[
            "queue.other.x",
            "$JS.API.STREAM.INFO.QUEUE",
            "$JS.API.CONSUMER.MSG.NEXT.QUEUE.own",
            "fleet.join.other",
            "fleet.account",
            "exec.other",
            "exec.other.ping",
            "peers.alive",
            "peers.list",
            "_INBOX_other.x.y",
            "$SRV.PING",
        ],
    },
];

#[test]
fn every_standing_has_its_rights_and_no_others() {
    for row in ROWS {
        let scene = Scene::new();
        let mut own = scene.member("own", row.standing);
        let mut wrong = Vec::new();
        for (allowed, hears, says) in [(true, row.hears, row.says), (false, row.hears_not, row.says_not)] {
            for hears in hears {
                let (subject, queue) = hears.split_once(' ').unwrap_or((hears, ""));
                if may_hear(&mut own, subject, queue) != allowed {
                    wrong.push(format!("hear {hears:?}: {}", if allowed { "refused" } else { "allowed" }));
                }
            }
            for says in says {
                if may_say(&mut own, says) != allowed {
                    wrong.push(format!("say {says:?}: {}", if allowed { "refused" } else { "allowed" }));
                }
            }
        }
        assert!(wrong.is_empty(), "a {}:\n{}", row.standing, wrong.join("\n"));
    }
}

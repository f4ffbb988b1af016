//! Which names lead to which machine, and that nobody takes those of others, or any that nobody has.

use std::time::Duration;

use peerbus::identity::IdentityFile;
use peerbus::protocol::identity::Standing;
use serde_json::{Value, json};

use crate::harness::fleet::Fleet;
use crate::harness::nats::{Login, Raw};
use crate::harness::secured::Secured;
use crate::harness::speaker::Said;
use crate::machines::{Machines, SOON, refused};

/// Long enough for what must not happen to have happened.
const A_WHILE: Duration = Duration::from_millis(700);

/// A heartbeat of `w2` that says whatever its machine likes.
fn beat(hostname: &str, address: &str) -> Value {
    json!({
        "type": "peerbus.heartbeat.v1", "peer_id": "w2", "state": "up",
        "instance": "01234567-89ab-4def-8123-456789abcdef", "seq": 1, "interval_ms": 5000,
        "hostname": hostname, "ip_address": address, "mac_address": null, "daemon_version": "0.1.0",
        "role": "worker", "os": "linux", "arch": "x86_64", "uptime_s": 1, "load": null, "jobs": 0,
        "tags": [], "sent_at": "2026-11-21T10:11:12Z",
    })
}

/// The machine of `w1` was invited with names; `w2` has been stolen.
struct Scene {
    fleet: Fleet,
    thief: IdentityFile,
    raw: Raw,
}

impl Scene {
    fn new() -> Scene {
        let secured = Secured::new();
        secured.named("w1", &["web1.example", "10.0.0.7"]);
        let thief = secured.identity("w2", Standing::Worker);
        let fleet = Fleet::builder().secured_by(secured).leader("lead").worker("w1").start();
        let mut raw = Raw::connect_as(&fleet.server().url(), &Login::with(&thief));
        raw.subscribe("exec.w2");
        raw.subscribe("exec.w2.>");
        raw.subscribe("$SRV.PING.exec");
        raw.barrier();
        Scene { fleet, thief, raw }
    }

    /// The stolen machine beats by these names, and is in the registry with them.
    fn claims(&mut self, hostname: &str, address: &str) {
        Said::unsigned("peers.alive", "", beat(hostname, address).to_string())
            .signed(&self.thief)
            .say(&mut self.raw);
        self.fleet.wait_for_states(&[("lead", "online"), ("w1", "online"), ("w2", "online")], SOON);
        assert_eq!(self.fleet.peer("w2")["hostname"], hostname);
    }

    /// Nothing is asked of the stolen machine by this name, and its id is told.
    #[track_caller]
    fn leads_nowhere(&mut self, name: &str) {
        let secret = ["exec", name, "-C", "/", "--env", "SECRET=hunter2", "--", "true"];
        refused(
            &self.fleet.command(secret).run(),
            254,
            &[name, "only what w2 says of itself", "ask by the id"],
        );
        let left = ["exec", name, "-C", "/", "--queue", "--env", "SECRET=hunter2", "--", "true"];
        refused(&self.fleet.command(left).run(), 254, &["only what w2 says of itself"]);
        let asked = |message: &crate::harness::nats::Message| message.subject.starts_with("exec.w2");
        assert_eq!(self.raw.next_where(A_WHILE, asked), None);
    }
}

#[test]
fn a_name_that_a_machine_only_claims_leads_nowhere() {
    let mut scene = Scene::new();
    scene.claims("db.example", "10.9.9.9");
    for name in ["db.example", "DB.example.", "db", "10.9.9.9"] {
        scene.leads_nowhere(name);
    }
    let shown = scene.fleet.d(["peer", "show", "db.example"]).expect_code(254);
    assert!(shown.err().contains("only what w2 says of itself"), "{shown:?}");
}

#[test]
fn a_name_leads_to_the_machine_that_was_invited_with_it_whatever_others_say() {
    let mut scene = Scene::new();
    scene.claims("web1.example", "10.0.0.7");
    for name in ["w1", "web1.example", "web1", "10.0.0.7", "[::ffff:10.0.0.7]"] {
        let done = scene.fleet.d(["exec", name, "-C", "/", "--sh", "echo $PEERBUS_PEER"]).expect_success();
        assert_eq!(done.out(), "w1\n", "{name}");
    }
    assert_eq!(scene.fleet.peer("w1")["names"], json!(["web1.example", "10.0.0.7"]));
    // Also while nobody keeps the registry, and the stolen machine answers whoever calls the roll.
    scene.fleet.daemon("lead").terminate();
    let live = scene.fleet.spawn_d(["exec", "web1.example", "-C", "/", "--sh", "echo $PEERBUS_PEER"]);
    let roll =
        scene.raw.next_where(SOON, |message| message.subject == "$SRV.PING.exec").expect("a roll call");
    let metadata = json!({ "peer": "w2", "hostname": "web1.example", "ip_address": "10.0.0.7" });
    let document = json!({
        "type": "io.nats.micro.v1.ping_response", "name": "exec", "id": "x", "version": "0.1.0", "metadata": metadata,
    });
    Said::unsigned(&roll.reply.unwrap(), "", document.to_string()).signed(&scene.thief).say(&mut scene.raw);
    let mut live = live;
    assert_eq!(live.wait(SOON).expect_success().out(), "w1\n");
}

/// The leader's word for a name is not enough: it has to show the certificate.
#[test]
fn a_stolen_leader_leads_no_name_elsewhere() {
    let secured = Secured::new();
    secured.named("w1", &["web1.example"]);
    let (leader, thief) =
        (secured.identity("lead", Standing::Leader), secured.identity("w2", Standing::Worker));
    let certificate = IdentityFile::read(&secured.member("w1", Standing::Worker)).unwrap().unwrap().token;
    let fleet = Fleet::builder().secured_by(secured).open_broker().start();
    let mut raw = Raw::connect(&fleet.server().url());
    raw.subscribe("peers.get");
    raw.subscribe("exec.*");
    raw.barrier();
    let row = beat("web1.example", "10.0.0.7");
    let row = json!({
        "peer_id": "w2", "ip_address": row["ip_address"], "mac_address": null, "hostname": row["hostname"],
        "last_seen": "2026-11-21T10:11:12Z", "is_online": true, "daemon_version": "0.1.0", "state": "online",
        "role": "worker", "instance": row["instance"], "os": "linux", "arch": "x86_64", "jobs": 0, "load": null,
        "uptime_s": 1, "tags": [], "names": ["web1.example"],
    });
    // Without a certificate, with that of whom it leads to, and with that of whom the name belongs to.
    for shown in [Value::Null, json!(thief.token), json!(certificate)] {
        let live =
            fleet.spawn_d(["exec", "web1.example", "-C", "/", "--env", "SECRET=hunter2", "--", "true"]);
        let question = raw.next_where(SOON, |message| message.subject == "peers.get").expect("a question");
        let answer = json!({
            "type": "peerbus.peer.v1", "asked": "web1.example", "found": "one", "peer": row, "leader": "lead",
            "certificate": shown,
        });
        Said::unsigned(&question.reply.unwrap(), "", answer.to_string()).signed(&leader).say(&mut raw);
        let mut live = live;
        refused(&live.wait(SOON), 254, &["only what w2 says of itself"]);
    }
    assert_eq!(raw.next_where(A_WHILE, |message| message.subject.starts_with("exec.")), None);
}

#[test]
fn an_invitation_gives_a_machine_names_that_no_other_has() {
    let machines = Machines::with_a_fleet();
    machines.join("vps", &["vps", "--name", "Web1.Example", "--address", "10.0.0.7"]);
    for name in ["web1.example", "10.0.0.7"] {
        let done = machines.echo("lead", name).expect_success();
        assert_eq!(done.out(), "ran\n");
    }
    let shown = machines.run("lead", &["peer", "show", "vps"]).expect_success().out();
    assert!(shown.contains("web1.example 10.0.0.7"), "{shown}");
    assert_eq!(machines.listed("vps")[0]["names"], json!(["web1.example", "10.0.0.7"]));
    let taken = |arguments: &[&str], said: &str| {
        refused(&machines.run("lead", &[&["invite"], arguments].concat()), 1, &[said]);
    };
    taken(&["w2", "--name", "web1.example"], "web1.example leads to vps already");
    taken(&["w2", "--name", "lead"], "lead leads to lead already");
    taken(&["w2", "--address", "::ffff:10.0.0.7"], "10.0.0.7 leads to vps already");
    // A person is no machine, and an address no hostname.
    for wrong in [
        &["--operator", "bob", "--name", "x.example"][..],
        &["w2", "--name", "10.0.0.8"],
        &["w2", "--name", "-x"],
    ] {
        machines.run("lead", &[&["invite"], wrong].concat()).expect_code(2);
    }
    // A machine that was invited without names, as all were once, is there by its id.
    machines.echo("lead", "lead").expect_success();
}

//! A fleet with identities: who may leave what for whom, and what a thief cannot do with what waits.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use peerbus::identity::{Account, IdentityFile, Key};
use peerbus::protocol::identity::Standing;
use serde_json::{Value, json};

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::{Login, Raw};
use crate::harness::relay::Direction;
use crate::harness::secured::Secured;
use crate::harness::server::ServerOptions;
use crate::harness::speaker::Said;
use crate::harness::wait::{eventually, never};
use crate::queue::scene::{A_WHILE, SOON, wait_until};

struct Fort {
    fleet: Fleet,
}

impl Fort {
    fn new() -> Fort {
        Fort::with(Secured::new(), false)
    }

    fn with(secured: Secured, open_broker: bool) -> Fort {
        Fort::of(secured, open_broker, DaemonOptions::worker("w1"))
    }

    fn of(secured: Secured, open_broker: bool, w1: DaemonOptions) -> Fort {
        let keys = format!("fleet_keys = {:?}\n", secured.keys());
        let fleet = Fleet::builder().secured_by(secured).server(ServerOptions::new().jetstream());
        let fleet = if open_broker { fleet.open_broker() } else { fleet };
        let lead = DaemonOptions::leader("lead").configuration(&keys);
        let fleet = fleet.daemon(lead).daemon(w1).worker("w2").start();
        let fort = Fort { fleet };
        wait_until(&fort.fleet, "online");
        // The leader makes it in a task of its own.
        eventually(SOON, "the queue to be made", || {
            (fort.fleet.d(["queue", "list"]).code() == Some(0)).then_some(())
        });
        fort
    }

    fn identity(&self, name: &str, standing: Standing) -> IdentityFile {
        IdentityFile::read(&self.fleet.secured().member(name, standing)).unwrap().unwrap()
    }

    fn raw(&self, name: &str, standing: Standing) -> Raw {
        Raw::connect_as(&self.fleet.server().url(), &Login::with(&self.identity(name, standing)))
    }

    fn mark(&self) -> PathBuf {
        self.fleet.path().join("ran")
    }

    /// A line that notes where it runs.
    fn line(&self) -> String {
        format!("echo $PEERBUS_PEER $PEERBUS_JOB >> '{}'", self.mark().display())
    }

    fn ran(&self) -> Vec<String> {
        fs::read_to_string(self.mark()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn leave_as(&self, who: &str, peer: &str) -> String {
        let words = ["exec", "--queue", peer, "-C", "/", "--sh", &self.line()];
        let done = self.fleet.command_as(who, Standing::Operator, words).run().expect_success();
        done.out().trim().to_owned()
    }

    #[track_caller]
    fn have_run(&self, wanted: &[String]) {
        eventually(SOON, "the jobs to run", || (self.ran().len() >= wanted.len()).then_some(()));
        assert_eq!(self.ran(), wanted);
    }

    /// Returns when those who are there have heard it; so whoever comes is told.
    #[track_caller]
    fn revoke_bob(&self) {
        self.fleet.secured().authority().revoke(&"bob".parse().unwrap()).unwrap();
        let bob = self.identity("bob", Standing::Operator);
        let kept = self.fleet.daemon("w2").state_directory().join("account.jwt");
        let has_heard = || {
            let account = Account::read(fs::read_to_string(&kept).ok()?.trim(), &bob.fleet).ok()?;
            account.is_revoked(bob.key.public(), bob.signer().unwrap().issued).then_some(())
        };
        eventually(SOON, "the members to hear it", has_heard);
    }

    fn waiting(&self) -> Vec<Value> {
        let listed = self.fleet.d(["queue", "list", "--json"]).expect_success().out();
        listed.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[track_caller]
    fn nothing_waits(&self) {
        eventually(SOON, "the queue to be empty", || self.waiting().is_empty().then_some(()));
    }

    fn audited(&self, peer: &str) -> String {
        self.fleet.d(["audit", peer, "--json"]).expect_success().out()
    }

    /// What waits for a peer, as it stands in the stream.
    #[track_caller]
    fn stored(&self, peer: &str, job: &str) -> Said {
        let wish = json!({ "last_by_subj": format!("queue.{peer}.{job}") }).to_string();
        let got = self.raw("alice", Standing::Operator).request("$JS.API.STREAM.MSG.GET.QUEUE", wish, SOON);
        let message = got.json()["message"].clone();
        let bytes = |key: &str| {
            let text = message[key].as_str().unwrap_or_else(|| panic!("{message}"));
            base64::engine::general_purpose::STANDARD.decode(text).unwrap()
        };
        let headers = String::from_utf8(bytes("hdrs")).unwrap();
        let headers = headers.split("\r\n").filter_map(|line| line.split_once(": "));
        let headers = headers.filter(|(name, _)| *name != "Nats-Msg-Id");
        Said {
            subject: format!("queue.{peer}.{job}"),
            reply: String::new(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            payload: bytes("data"),
        }
    }
}

/// Leaves something in the queue as it is, and returns once it is stored.
#[track_caller]
fn leave_said(raw: &mut Raw, said: &Said) {
    let inbox = raw.new_inbox();
    let answers = raw.subscribe(&inbox);
    Said { reply: inbox, ..said.clone() }.say(raw);
    let stored = raw.expect_on(answers, SOON, "the server's word").json();
    assert!(stored["seq"].is_number(), "{stored}");
}

#[test]
fn an_operators_job_runs_and_it_is_known_whose_it_was() {
    let fort = Fort::new();
    let w1 = fort.fleet.daemon("w1");
    w1.terminate().expect_success();
    let job = fort.leave_as("bob", "w1");
    let waiting = fort.waiting();
    assert_eq!(waiting[0]["principal"], "bob (operator)", "{waiting:?}");
    assert_eq!(waiting[0]["error"], Value::Null);
    w1.restart();
    fort.have_run(&[format!("w1 {job}")]);
    fort.nothing_waits();
    let audited = fort.audited("w1");
    let line = audited.lines().find(|line| line.contains(&job)).unwrap();
    assert!(line.contains(r#""principal":"bob""#) && line.contains(r#""event":"begun""#), "{line}");
    // Anybody who may cancel may take a job back.
    w1.terminate().expect_success();
    let job = fort.leave_as("bob", "w1");
    fort.fleet.d(["queue", "cancel", &job]).expect_success();
    for words in [&["exec", "--queue", "w1", "-C", "/", "--", "true"][..], &["queue", "list"]] {
        let refused = fort.fleet.command_as("carol", Standing::Inspector, words).run().expect_code(250);
        assert!(refused.err().contains("carol is an inspector"), "{}", refused.err());
    }
}

#[test]
fn whoever_was_revoked_has_left_nothing() {
    let fort = Fort::new();
    let w1 = fort.fleet.daemon("w1");
    w1.terminate().expect_success();
    let bobs = fort.leave_as("bob", "w1");
    let alices = fort.leave_as("alice", "w1");
    fort.revoke_bob();
    w1.restart();
    fort.have_run(&[format!("w1 {alices}")]);
    fort.nothing_waits();
    w1.wait_for_line(SOON, |line| line.contains(&bobs) && line.contains("the identity of bob was revoked"));
    let audited = fort.audited("w1");
    let line = audited.lines().find(|line| line.contains(&bobs)).unwrap();
    assert!(line.contains(r#""event":"refused""#) && line.contains("was revoked"), "{line}");
}

/// What was delivered before, and could not be confirmed until then, was left by somebody all the same.
#[test]
fn whoever_was_revoked_between_the_delivery_and_the_start_has_left_nothing() {
    let fort = Fort::of(Secured::new(), false, DaemonOptions::worker("w1").through_relay());
    let w1 = fort.fleet.daemon("w1");
    let first = fort.leave_as("alice", "w1");
    fort.have_run(&[format!("w1 {first}")]);
    let mut alice = fort.raw("alice", Standing::Operator);
    eventually(SOON, "w1 to wait at its queue", || {
        let consumer = alice.request("$JS.API.CONSUMER.INFO.QUEUE.w1", "", SOON).json();
        (consumer["num_waiting"].as_u64()? > 0).then_some(())
    });
    w1.relay().freeze_way(Direction::ToServer);
    let bobs = fort.leave_as("bob", "w1");
    let open = w1.state_directory().join("journal/open").join(&bobs);
    eventually(SOON, "it to be journalled", || open.exists().then_some(()));
    fort.revoke_bob();
    w1.relay().cut();
    w1.relay().heal();
    fort.nothing_waits();
    let audited = eventually(SOON, "it to be refused", || {
        let audited = fort.audited("w1");
        audited.lines().find(|line| line.contains(&bobs)).map(str::to_owned)
    });
    assert!(audited.contains(r#""event":"refused""#) && audited.contains("was revoked"), "{audited}");
    never(A_WHILE, "it ran", || fort.ran().get(1).cloned());
}

#[test]
fn what_was_signed_waits_for_that_peer_until_that_time() {
    let fort = Fort::new();
    for peer in ["w1", "w2"] {
        fort.fleet.daemon(peer).terminate().expect_success();
    }
    let job = fort.leave_as("bob", "w1");
    let stored = fort.stored("w1", &job);
    let mut alice = fort.raw("alice", Standing::Operator);
    let id = uuid::Uuid::now_v7().to_string();
    // For another peer, for longer, under another id, as somebody else's, as nobody's, and by another way.
    let later: Value = serde_json::from_slice(&stored.payload).unwrap();
    let changed = |key: &str, value: Value| {
        let mut request = later.clone();
        request[key] = value;
        request.to_string().into_bytes()
    };
    let renamed = |name: &str| format!("queue.w1.{name}");
    let expires = later["expires_ms"].as_i64().unwrap();
    let forged = [
        Said { subject: format!("queue.w2.{job}"), ..stored.clone() },
        Said { subject: renamed(&id), payload: changed("id", id.as_str().into()), ..stored.clone() },
        Said {
            subject: renamed(&uuid::Uuid::now_v7().to_string()),
            payload: changed("expires_ms", (expires + 1).into()),
            ..stored.clone()
        },
        Said { headers: Vec::new(), subject: renamed(&uuid::Uuid::now_v7().to_string()), ..stored.clone() },
    ];
    for said in &forged {
        leave_said(&mut alice, said);
    }
    Said { subject: "exec.w1".to_owned(), ..stored.clone() }.say(&mut alice);
    for peer in ["w1", "w2"] {
        fort.fleet.daemon(peer).restart();
    }
    Said { subject: "exec.w1".to_owned(), reply: alice.new_inbox(), ..stored.clone() }.say(&mut alice);
    fort.have_run(&[format!("w1 {job}")]);
    fort.nothing_waits();
    for (said, peer) in forged.iter().zip(["w2", "w1", "w1", "w1"]) {
        let daemon = fort.fleet.daemon(peer);
        let line = daemon.wait_for_line(SOON, |line| line.contains(&said.subject));
        assert!(line.contains("is not what bob has signed") || line.contains("it is not signed"), "{line}");
    }
    // The very message again: it is known, also to the next daemon, and forgotten with the journal.
    let w1 = fort.fleet.daemon("w1");
    leave_said(&mut alice, &stored);
    fort.nothing_waits();
    w1.restart();
    leave_said(&mut alice, &stored);
    fort.nothing_waits();
    w1.terminate().expect_success();
    fs::remove_dir_all(w1.state_directory()).unwrap();
    w1.restart();
    leave_said(&mut alice, &stored);
    fort.nothing_waits();
    never(A_WHILE, "a recording ran", || fort.ran().get(1).cloned());
    assert!(fort.audited("w1").contains("remembers ids since"), "{}", fort.audited("w1"));
}

#[test]
fn a_stolen_worker_takes_no_more_than_its_own() {
    let fort = Fort::new();
    let w1 = fort.fleet.daemon("w1");
    let first = fort.leave_as("alice", "w1");
    fort.have_run(&[format!("w1 {first}")]);
    w1.terminate().expect_success();
    let job = fort.leave_as("alice", "w1");
    // Whoever has w1's identity may fetch what waits for w1, and have it sent anywhere at all: to w2, as
    // if it had been said to that.
    let mut thief = fort.raw("w1", Standing::Worker);
    let pull = r#"{"batch":1,"expires":5000000000}"#;
    thief.publish_reply("$JS.API.CONSUMER.MSG.NEXT.QUEUE.w1", "exec.w2", pull);
    thief.barrier();
    let w2 = fort.fleet.daemon("w2");
    w2.wait_for_line(SOON, |line| {
        line.contains("refused a request") && line.contains("reply subject is no inbox")
    });
    never(A_WHILE, "what was left for w1 ran elsewhere", || fort.ran().get(1).cloned());
    assert_eq!(fort.waiting().len(), 1);
    // What waits for others it cannot touch: see the rights of each standing.
    let refused = thief.errors.len();
    for subject in ["$JS.API.CONSUMER.MSG.NEXT.QUEUE.w2", "$JS.API.STREAM.MSG.GET.QUEUE", "queue.w2.x"] {
        thief.publish(subject, "{}");
    }
    thief.barrier();
    assert_eq!(thief.errors.len(), refused + 3, "{:?}", thief.errors);
    drop(thief);
    // Once its delivery was due, it comes again.
    w1.restart();
    let begun = Instant::now();
    eventually(Duration::from_secs(60), "the job to run", || (fort.ran().len() == 2).then_some(()));
    assert_eq!(fort.ran()[1], format!("w1 {job}"), "after {:?}", begun.elapsed());
}

#[test]
fn an_open_server_cannot_have_another_peer_run_it() {
    let fort = Fort::with(Secured::new(), true);
    let w1 = fort.fleet.daemon("w1");
    w1.terminate().expect_success();
    let job = fort.leave_as("alice", "w1");
    let mut broker = Raw::connect(&fort.fleet.server().url());
    let stored = fort.stored("w1", &job);
    // A server may say anything to anybody, and call it what it likes; this one does what it is asked to.
    let again = Said { subject: "exec.w2".to_owned(), reply: "_INBOX_alice.x".to_owned(), ..stored.clone() };
    again.say(&mut broker);
    leave_said(&mut broker, &Said { subject: format!("queue.w2.{job}"), ..stored });
    eventually(SOON, "w2 to refuse it", || (fort.waiting().len() == 1).then_some(()));
    never(A_WHILE, "it ran elsewhere", || fort.ran().pop());
    w1.restart();
    fort.have_run(&[format!("w1 {job}")]);
}

/// The fleet's account as an older version wrote it: nobody may use JetStream.
fn of_an_older_version(secured: &Secured) {
    let path = secured.keys().join("account.jwt");
    let token = fs::read_to_string(&path).unwrap();
    let mut parts = token.trim().split('.');
    let (header, claims) = (parts.next().unwrap(), parts.next().unwrap());
    let mut claims: Value = serde_json::from_slice(&BASE64.decode(claims).unwrap()).unwrap();
    let mut taken = 0;
    for scope in claims["nats"]["signing_keys"].as_array_mut().unwrap() {
        let says = scope["template"]["pub"]["allow"].as_array_mut().unwrap();
        let before = says.len();
        says.retain(|subject| {
            !["$JS.", "queue."].iter().any(|new| subject.as_str().unwrap().starts_with(new))
        });
        taken += before - says.len();
    }
    assert!(taken >= 10, "there was nothing to take away");
    let said = format!("{header}.{}", BASE64.encode(claims.to_string()));
    let fleet = Key::from_seed(fs::read_to_string(secured.keys().join("fleet.nk")).unwrap().trim()).unwrap();
    let signature = BASE64.encode(fleet.sign(said.as_bytes()));
    fs::write(&path, format!("{said}.{signature}")).unwrap();
}

#[test]
fn a_fleet_of_an_older_version_gets_its_rights_from_the_leader() {
    let secured = Secured::new();
    of_an_older_version(&secured);
    let older = fs::read_to_string(secured.keys().join("account.jwt")).unwrap();
    let fort = Fort::with(secured, false);
    let keys = fort.fleet.secured().keys();
    let renewed = || fs::read_to_string(keys.join("account.jwt")).unwrap() != older;
    eventually(SOON, "the leader to write the account", || renewed().then_some(()));
    // Daemons and people go on with the identities they have.
    let words = ["exec", "--queue", "w1", "-C", "/", "--sh", &fort.line()];
    let done = eventually(SOON, "an operator to be let", || {
        let done = fort.fleet.d(words);
        (done.code() == Some(0)).then_some(done)
    });
    fort.have_run(&[format!("w1 {}", done.out().trim())]);
}

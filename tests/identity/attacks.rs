//! What somebody does who should not. The server of these fleets lets everybody do everything, as a broker
//! would that is not ours; so it is the members themselves who refuse, and each of these would succeed in a
//! fleet without identities.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use peerbus::identity::IdentityFile;
use peerbus::protocol::identity::Standing;
use serde_json::json;

use crate::harness::fleet::{Fleet, FleetBuilder};
use crate::harness::nats::{Message, Raw};
use crate::harness::speaker::{Said, job_id, now_ms, request};

const SOON: Duration = Duration::from_secs(20);
/// Less than it takes to notice that frames are missing.
const A_MOMENT: Duration = Duration::from_secs(14);
/// Long enough for what must not happen to have happened.
const A_WHILE: Duration = Duration::from_millis(700);

fn open() -> FleetBuilder {
    Fleet::builder().secured().open_broker()
}

/// A worker on a broker that is open to all, and somebody on it.
struct Scene {
    fleet: Fleet,
    raw: Raw,
    alice: IdentityFile,
    mark: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let fleet = open().worker("w1").start();
        let raw = Raw::connect(&fleet.server().url());
        let path = fleet.secured().member("alice", Standing::Operator);
        let alice = IdentityFile::read(&path).unwrap().unwrap();
        let mark = fleet.path().join("mark");
        Scene { fleet, raw, alice, mark }
    }

    fn member(&self, name: &str, standing: Standing) -> IdentityFile {
        self.fleet.secured().identity(name, standing)
    }

    /// A line that leaves a mark each time it runs.
    fn line(&self) -> String {
        format!("echo ran >> '{}'", self.mark.display())
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(&self.mark).map_or(0, |text| text.lines().count())
    }

    /// An inbox of somebody, which this one hears too.
    fn inbox(&mut self, name: &str) -> String {
        let inbox = format!("_INBOX_{name}.{}", uuid::Uuid::new_v4().simple());
        self.raw.subscribe(&inbox);
        inbox
    }

    /// Says a request; returns the first answer of this kind.
    #[track_caller]
    fn answered(&mut self, said: &Said, kind: &str) -> Message {
        said.say(&mut self.raw);
        let wanted = |message: &Message| message.header("D-Kind") == Some(kind);
        self.raw.next_where(SOON, wanted).unwrap_or_else(|| panic!("no {kind} to {said:?}"))
    }

    /// A request that is refused for this reason, and runs nothing.
    #[track_caller]
    fn refused(&mut self, said: &Said, why: &str) {
        let result = self.answered(said, "result").json();
        let message = result["ending"]["refused"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(why), "{why}: {result}");
        assert_eq!(self.runs(), 0, "{said:?}");
    }

    /// A request that nobody is answered, and that runs nothing.
    #[track_caller]
    fn ignored(&mut self, said: &Said) {
        let json: serde_json::Value = serde_json::from_slice(&said.payload).unwrap();
        let id = json["id"].as_str().unwrap().to_owned();
        said.say(&mut self.raw);
        let about_it = |message: &Message| message.reply.as_deref().is_some_and(|reply| reply.contains(&id));
        assert_eq!(self.raw.next_where(A_WHILE, about_it), None, "{said:?}");
        assert_eq!(self.runs(), 0);
    }
}

#[test]
fn who_signs_as_an_operator_runs_commands() {
    let mut scene = Scene::new();
    let (inbox, alice) = (scene.inbox("alice"), scene.alice.clone());
    let said = Said::unsigned("exec.w1", &inbox, request(&job_id(), &scene.line()).to_string());
    let result = scene.answered(&said.signed(&alice), "result").json();
    assert_eq!(result["ending"]["exited"]["code"], 0, "{result}");
    assert_eq!(scene.runs(), 1);
}

#[test]
fn what_is_not_signed_by_an_operator_is_not_run() {
    let mut scene = Scene::new();
    let (line, alice) = (scene.line(), scene.alice.clone());
    let (worker, inspector) =
        (scene.member("w2", Standing::Worker), scene.member("eve", Standing::Inspector));
    let (own, thiefs) = (scene.inbox("alice"), scene.inbox("w2"));
    let eves = scene.inbox("eve");
    let ask = |reply: &str| Said::unsigned("exec.w1", reply, request(&job_id(), &line).to_string());
    scene.refused(&ask(&own), "it is not signed");
    scene.refused(&ask(&thiefs).signed(&worker), "w2 (worker)");
    scene.refused(&ask(&eves).signed(&inspector), "eve (inspector)");
    // A key of nobody, with the identity of somebody.
    let stolen = IdentityFile { token: alice.token.clone(), ..worker };
    scene.refused(&ask(&own).signed(&stolen), "it is not what alice has signed");
    // Another fleet's operator of the same name.
    let other = crate::harness::secured::Secured::new().identity("alice", Standing::Operator);
    scene.refused(&ask(&own).signed(&other), "not of this fleet");
    let mut broken = ask(&own).signed(&alice);
    broken.headers.iter_mut().find(|(name, _)| name == "D-Signature").unwrap().1 = "*".to_owned();
    scene.refused(&broken, "cannot be read");
}

#[test]
fn what_was_signed_holds_for_that_message_at_that_place() {
    let mut scene = Scene::new();
    let (line, alice) = (scene.line(), scene.alice.clone());
    let inbox = scene.inbox("alice");
    let signed = Said::unsigned("exec.w1", &inbox, request(&job_id(), &line).to_string()).signed(&alice);
    for (was, is) in [("echo", "ecHo"), ("65536", "65537"), ("\"/\"", "\"/\" ")] {
        let text = String::from_utf8(signed.payload.clone()).unwrap();
        let changed = Said { payload: text.replacen(was, is, 1).into(), ..signed.clone() };
        assert_ne!(changed.payload, signed.payload);
        scene.refused(&changed, "it is not what alice has signed");
    }
    let mut later = signed.clone();
    later.headers.iter_mut().find(|(name, _)| name == "D-Time").unwrap().1 = (now_ms() + 1).to_string();
    scene.refused(&later, "it is not what alice has signed");
    let moved = Said { reply: scene.inbox("alice"), ..signed.clone() };
    scene.refused(&moved, "it is not what alice has signed");
    scene.fleet.add(crate::harness::fleet::DaemonOptions::worker("w2"));
    scene.refused(
        &Said { subject: "exec.w2".to_owned(), ..signed.clone() },
        "it is not what alice has signed",
    );
    // Answers go to whoever signs, and to nobody else.
    let foreign = scene.inbox("bob");
    let mut aimed = Said::unsigned("exec.w1", &foreign, request(&job_id(), &line).to_string()).signed(&alice);
    scene.refused(&aimed, "not an inbox of alice");
    aimed = Said::unsigned("exec.w1", "exec.w2", request(&job_id(), &line).to_string()).signed(&alice);
    scene.ignored(&aimed);
    assert_eq!(scene.runs(), 0);
}

#[test]
fn what_was_recorded_runs_once_whatever_happens_to_the_peer() {
    let mut scene = Scene::new();
    let line = scene.line();
    let requests = scene.raw.subscribe("exec.w1");
    scene.fleet.d(["exec", "w1", "-C", "/", "--sh", &line]).expect_success();
    let recorded = Said::again(&scene.raw.expect_on(requests, SOON, "the request"));
    scene.raw.unsubscribe(requests);
    assert_eq!(scene.runs(), 1);
    // The recorder hears the answers, too; what is known is answered and not run.
    scene.raw.subscribe(&recorded.reply);
    let result = scene.answered(&recorded, "result").json();
    assert_eq!(result["ending"]["exited"]["code"], 0, "{result}");
    // A new daemon knows it as well.
    scene.fleet.daemon("w1").restart();
    let result = scene.answered(&recorded, "result").json();
    assert_eq!(result["ending"]["exited"]["code"], 0, "{result}");
    // One that has lost its memory wants it signed once more, which the recorder cannot.
    let daemon = scene.fleet.daemon("w1");
    daemon.terminate();
    std::fs::remove_dir_all(daemon.state_directory()).unwrap();
    daemon.restart();
    let challenge = scene.answered(&recorded, "challenge").json();
    let challenge = challenge["challenge"].as_str().unwrap().to_owned();
    scene.refused_but_ran_once(&recorded.header("D-Challenge", challenge), "it is not what alice has signed");
}

/// Durable jobs and the words about them, recorded by whoever has the broker.
#[test]
fn what_was_recorded_of_a_durable_job_does_nothing_again() {
    let mut scene = Scene::new();
    let recorder = scene.raw.subscribe("exec.>");
    let line = format!("{}; exec sleep 600", scene.line());
    let d = |scene: &Scene, arguments: &[&str]| {
        let done = scene.fleet.command(arguments).run().expect_success();
        done.out().trim().to_owned()
    };
    let session = ["session", "new", "-d", "-C", "/", "--name", "first", "w1", "--", "sh", "-c", &line];
    let id = d(&scene, &session);
    crate::harness::wait::eventually(SOON, "it runs", || (scene.runs() == 1).then_some(()));
    let job = format!("w1/{id}");
    d(&scene, &["session", "rename", &job, "second"]);
    d(&scene, &["session", "rename", &job, "third"]);
    // Stopped before the other; what stopped it is said again, too.
    let gone = d(&scene, &["exec", "-d", "w1", "-C", "/", "--", "sleep", "600"]);
    d(&scene, &["stop", &format!("w1/{gone}")]);
    let asked = d(&scene, &["exec", "w1", "-C", "/", "--", "echo", "last"]);
    assert_eq!(asked, "last");
    scene.raw.barrier();
    let mut recorded = Vec::new();
    while let Some(message) = scene.raw.next_on(recorder, A_WHILE) {
        recorded.push(Said::again(&message));
    }
    assert!(recorded.len() >= 6, "{recorded:?}");
    scene.raw.unsubscribe(recorder);
    let say_all = |scene: &mut Scene| {
        for said in &recorded {
            said.say(&mut scene.raw);
            // To another job, too: a word holds for its own.
            let other = said.subject.replace(&gone, &id);
            if other != said.subject {
                Said { subject: other, ..said.clone() }.say(&mut scene.raw);
            }
        }
        scene.raw.barrier();
        // What is asked behind it is answered behind it.
        d(scene, &["exec", "w1", "-C", "/", "--", "true"]);
        assert_eq!(scene.runs(), 1);
        let jobs = d(scene, &["jobs", "w1", "--json"]);
        let jobs: Vec<serde_json::Value> =
            jobs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        let known = (&jobs[0]["id"], &jobs[0]["state"], &jobs[0]["name"]);
        assert_eq!(known, (&json!(id), &json!("running"), &json!("third")), "{jobs:?}");
    };
    say_all(&mut scene);
    scene.fleet.daemon("w1").restart();
    say_all(&mut scene);
    d(&scene, &["stop", &job]);
}

impl Scene {
    #[track_caller]
    fn refused_but_ran_once(&mut self, said: &Said, why: &str) {
        let result = self.answered(said, "result").json();
        let message = result["ending"]["refused"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(why), "{result}");
        assert_eq!(self.runs(), 1);
    }
}

#[test]
fn a_clock_that_is_wrong_costs_a_round_trip() {
    let mut scene = Scene::new();
    let (line, alice) = (scene.line(), scene.alice.clone());
    let inbox = scene.inbox("alice");
    for (count, skew_ms) in (1..).zip([-3_600_000, 3_600_000, 40_000_000_000]) {
        let id = job_id();
        let unsigned = Said::unsigned("exec.w1", &inbox, request(&id, &line).to_string());
        let challenge =
            scene.answered(&unsigned.clone().signed_at(&alice, now_ms() + skew_ms), "challenge").json();
        assert_eq!(challenge["id"], id.as_str());
        assert_eq!(scene.runs(), count - 1);
        let challenge = challenge["challenge"].as_str().unwrap();
        // Of another job, or of another daemon's making, it does not count.
        let other = Said::unsigned("exec.w1", &inbox, request(&job_id(), &line).to_string());
        let other = other.header("D-Challenge", challenge).signed_at(&alice, now_ms() + skew_ms);
        scene.answered(&other, "challenge");
        let made_up = unsigned.clone().header("D-Challenge", "1.00").signed_at(&alice, now_ms() + skew_ms);
        scene.answered(&made_up, "challenge");
        let answered = unsigned.header("D-Challenge", challenge).signed_at(&alice, now_ms() + skew_ms);
        let result = scene.answered(&answered, "result").json();
        assert_eq!(result["ending"]["exited"]["code"], 0, "{result}");
        assert_eq!(scene.runs(), count);
    }
}

#[test]
fn a_job_is_steered_by_its_caller() {
    let mut scene = Scene::new();
    let bob = scene.member("bob", Standing::Operator);
    let words = scene.raw.subscribe("exec.w1.>");
    let requests = scene.raw.subscribe("exec.w1");
    let typed = scene.fleet.path().join("typed");
    let line = format!("echo ready; cat > '{}'", typed.display());
    let mut live = scene.fleet.command(["exec", "w1", "-C", "/", "-i", "--sh", &line]).open_input().spawn();
    live.stdout_line(SOON, |line| line == "ready");
    let asked = scene.raw.expect_on(requests, SOON, "the request");
    let (callers, id) = (asked.reply.clone().unwrap(), asked.json()["id"].as_str().unwrap().to_owned());
    scene.raw.unsubscribe(words);
    let bobs = scene.inbox("bob");
    scene.raw.subscribe(&callers);
    let chunk =
        |reply: &str| Said::unsigned(&format!("exec.w1.{id}.stdin"), reply, "rm -rf\n").header("D-Offset", 0);
    let word = |message: &Message| message.header("Nats-Service-Error").map(str::to_owned);
    for (said, wanted) in [(chunk(&callers), "unproven"), (chunk(&callers).signed(&bob), "unproven")] {
        let refusal = scene.answered(&said, "answer");
        assert_eq!(word(&refusal).as_deref(), Some(wanted), "{refusal:?}");
    }
    // Of one that follows no job nothing is taken, and nothing said.
    chunk(&bobs).signed(&bob).say(&mut scene.raw);
    for verb in ["signal", "resume", "cancel", "result"] {
        let body = match verb {
            "signal" => json!({ "n": 1, "signal": "KILL" }),
            "resume" => json!({ "epoch": 2, "out": 0, "err": 0, "limit": 1000 }),
            _ => json!({}),
        };
        let said = Said::unsigned(&format!("exec.w1.{id}.{verb}"), &callers, body.to_string());
        let refusal = scene.answered(&said, "answer");
        assert_eq!(word(&refusal).as_deref(), Some("unproven"), "{verb}: {refusal:?}");
    }
    live.write(b"words\n").unwrap();
    live.close_stdin();
    live.wait(SOON).expect_success();
    assert_eq!(std::fs::read_to_string(&typed).unwrap(), "words\n");
}

/// Somebody else answers in place of the peer, and says that all went well.
#[test]
fn nobody_says_for_a_peer_how_its_job_ended() {
    let fleet = open().start();
    let forger = fleet.secured().identity("w2", Standing::Worker);
    let mut raw = Raw::connect(&fleet.server().url());
    let requests = raw.subscribe("exec.w1");
    raw.subscribe("exec.w1.>");
    let mut live = fleet.spawn_d(["exec", "w1", "-C", "/", "--", "true"]);
    let asked = raw.expect_on(requests, SOON, "the request");
    let (id, reply) = (asked.json()["id"].as_str().unwrap().to_owned(), asked.reply.unwrap());
    let instance = uuid::Uuid::new_v4().to_string();
    let empty = json!({ "bytes": 0, "blake3": blake3::hash(b"").to_hex().to_string() });
    let result = json!({
        "type": "peerbus.result.v1", "id": id, "peer": "w1", "instance": instance,
        "ending": { "exited": { "code": 0 } }, "out": empty, "err": empty,
    });
    let never = json!({
        "type": "peerbus.cancel_answer.v1", "id": id, "instance": instance, "answer": "never_seen",
    });
    for (seq, kind, body) in [(1, "result", result), (0, "answer", never)] {
        let said = Said::unsigned(&reply, &format!("exec.w1.{id}.credit"), body.to_string());
        let said = said.header("D-Epoch", 1).header("D-Seq", seq).header("D-Kind", kind);
        said.say(&mut raw);
        said.signed(&forger).say(&mut raw);
    }
    let done = live.wait(Duration::from_secs(60)).expect_code(251);
    let next = format!("`d wait w1/{id}` waits for its end, and has its code");
    assert!(done.err().contains("unknown") && done.err().contains(&next), "{done:?}");
}

#[test]
fn nobody_beats_or_answers_for_another() {
    let fleet = open().leader("lead").worker("w1").start();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    let mut raw = Raw::connect(&fleet.server().url());
    let beats = raw.subscribe("peers.alive");
    let mut beat = raw
        .next_where(SOON, |message| message.sid == beats && message.text().contains("\"w1\""))
        .unwrap()
        .json();
    beat["state"] = "leaving".into();
    beat["seq"] = 100_000.into();
    let thief = fleet.secured().identity("w2", Standing::Worker);
    let leaving = Said::unsigned("peers.alive", "", beat.to_string());
    leaving.say(&mut raw);
    leaving.signed(&thief).say(&mut raw);
    beat["peer_id"] = "ghost".into();
    beat["state"] = "up".into();
    Said::unsigned("peers.alive", "", beat.to_string()).signed(&thief).say(&mut raw);
    // A worker that says it leads the fleet, under its own name.
    beat["peer_id"] = "w2".into();
    beat["role"] = "leader".into();
    Said::unsigned("peers.alive", "", beat.to_string()).signed(&thief).say(&mut raw);
    let refused = "a heartbeat is not its peer's own";
    crate::harness::wait::eventually(SOON, refused, || {
        fleet.daemon("lead").stderr().contains(refused).then_some(())
    });
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    // Whoever removes a peer has to be an operator.
    let bobs = raw.new_inbox();
    let heard = raw.subscribe(&bobs);
    let remove = json!({ "type": "peerbus.peers.remove.v1", "peer": "w1" }).to_string();
    Said::unsigned("peers.remove", &bobs, remove.clone()).say(&mut raw);
    let answer = raw.expect_on(heard, SOON, "an answer");
    assert_eq!(answer.header("Nats-Service-Error"), Some("unproven"), "{answer:?}");
    Said::unsigned("peers.remove", &bobs, remove).signed(&thief).say(&mut raw);
    let answer = raw.expect_on(heard, SOON, "an answer");
    assert!(answer.text().contains("w2 (worker) may not"), "{answer:?}");
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
}

/// Whoever answers for the registry decides to which machine a hostname leads.
#[test]
fn nobody_answers_for_the_leader() {
    let fleet = open().start();
    let thief = fleet.secured().identity("w2", Standing::Worker);
    let mut raw = Raw::connect(&fleet.server().url());
    for by in [None, Some(&thief)] {
        let asked = raw.subscribe("peers.list");
        let mut live = fleet.spawn_d(["peers", "--json"]);
        let question = raw.expect_on(asked, SOON, "the question");
        let page = json!({
            "type": "peerbus.peers.page.v1", "leader": "lead", "leader_instance": uuid::Uuid::new_v4().to_string(),
            "age_ms": 1, "peers": [],
        });
        let said = Said::unsigned(&question.reply.unwrap(), "", page.to_string());
        by.map_or(said.clone(), |thief| said.signed(thief)).say(&mut raw);
        let done = live.wait(SOON).expect_code(255);
        assert!(done.err().contains("not proved to be a leader's"), "{done:?}");
        raw.unsubscribe(asked);
    }
}

/// A thief of a worker's identity takes its requests and says nothing: the caller asks again, and the real
/// one runs it once.
#[test]
fn a_thief_in_the_queue_group_delays_and_doubles_nothing() {
    let mut scene = Scene::new();
    let taken = scene.raw.subscribe_queue("exec.w1", "exec");
    let line = scene.line();
    let done = scene.fleet.d(["exec", "w1", "-C", "/", "--sh", &line]);
    let swallowed = scene.raw.next_on(taken, A_WHILE).is_some();
    match done.code() {
        Some(0) => assert_eq!(scene.runs(), 1),
        // Four times in a row it went to the thief: nothing ran, and that is said.
        Some(249) => assert!(swallowed && scene.runs() == 0, "{done:?}"),
        _ => panic!("{done:?}"),
    }
}

#[test]
fn an_identity_that_is_over_asks_for_nothing() {
    let mut scene = Scene::new();
    let soon = now_ms() / 1000 + 2;
    let name = "dora".parse().unwrap();
    let dora = scene.fleet.secured().authority().make(&name, Standing::Operator, Some(soon)).unwrap();
    let inbox = scene.inbox("dora");
    let (line, id) = (scene.line(), job_id());
    crate::harness::wait::eventually(SOON, "it to be over", || (now_ms() / 1000 > soon).then_some(()));
    let said = Said::unsigned("exec.w1", &inbox, request(&id, &line).to_string()).signed(&dora);
    scene.refused(&said, "the identity of dora has expired");
}

#[test]
fn an_interrupt_is_signed_and_counts() {
    let scene = Scene::new();
    let mut live = scene.fleet.spawn_d(["exec", "w1", "-C", "/", "--sh", "echo here; sleep 60 & wait"]);
    live.stdout_line(SOON, |line| line == "here");
    live.signal(Signal::SIGINT);
    live.wait(SOON).expect_code(130);
}

/// The peer refuses the copy, and signs that: it must not be taken for the end of the request itself.
#[test]
fn a_refusal_of_something_else_is_no_ending() {
    let mut scene = Scene::new();
    let requests = scene.raw.subscribe("exec.w1");
    let go = scene.fleet.path().join("go");
    let line = format!("until [ -e '{}' ]; do sleep 0.05; done; {}; exit 7", go.display(), scene.line());
    let mut live = scene.fleet.command(["exec", "w1", "-C", "/", "--sh", &line]).spawn();
    let asked = scene.raw.expect_on(requests, SOON, "the request");
    let heard = scene.raw.subscribe(&asked.reply.clone().unwrap());
    scene.raw.barrier();
    let copy = Said { headers: Vec::new(), ..Said::again(&asked) };
    copy.say(&mut scene.raw);
    let mut unreadable = asked.json();
    unreadable["timeout_ms"] = json!(0);
    Said { payload: unreadable.to_string().into_bytes(), ..copy }.say(&mut scene.raw);
    for _ in 0..2 {
        let refusal = |message: &Message| {
            let is_result = message.header("D-Kind") == Some("result");
            message.sid == heard && is_result && message.header("D-Refuses").is_some()
        };
        scene.raw.next_where(SOON, refusal).expect("a refusal");
    }
    std::fs::write(go, "").unwrap();
    // Before anything has to be asked for again.
    live.wait(A_MOMENT).expect_code(7);
    assert_eq!(scene.runs(), 1);
}

/// Each copy of it would be another job.
#[test]
fn a_signed_request_has_an_id() {
    let mut scene = Scene::new();
    let (inbox, alice) = (scene.inbox("alice"), scene.alice.clone());
    let mut body = request(&job_id(), &scene.line());
    body.as_object_mut().unwrap().remove("id");
    scene.refused(&Said::unsigned("exec.w1", &inbox, body.to_string()).signed(&alice), "field `id`");
}

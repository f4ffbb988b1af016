//! Words about jobs that others have: said again by who recorded them, or by an operator who may less.

use std::path::PathBuf;
use std::time::Duration;

use peerbus::identity::IdentityFile;
use peerbus::protocol::identity::Standing;
use serde_json::{Value, json};

use crate::harness::child::Finished;
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::{Message, Raw};
use crate::harness::speaker::{Said, job_id, request};
use crate::harness::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

/// Alice may all, bob may look at a directory, and carol may read along.
const POLICY: &str = "\
[[allow]]
who = [\"alice\"]
argv = \"any\"
sh = \"any\"

[[allow]]
who = [\"bob\"]
argv = [\"sleep\", \"60\"]

[[allow]]
who = [\"carol\"]
attach = \"read\"
";

/// A peer on a broker where everybody hears everything, and people who say things by hand.
struct Scene {
    fleet: Fleet,
    raw: Raw,
}

impl Scene {
    fn new(policy: Option<&str>) -> Scene {
        let fleet = Fleet::builder().secured().open_broker().start();
        if let Some(policy) = policy {
            write_policy(&fleet, policy);
        }
        fleet.add(DaemonOptions::worker("w1"));
        let raw = Raw::connect(&fleet.server().url());
        Scene { fleet, raw }
    }

    fn who(&self, name: &str) -> IdentityFile {
        let path = self.fleet.secured().member(name, Standing::Operator);
        IdentityFile::read(&path).unwrap().unwrap()
    }

    fn inbox(&mut self, name: &str) -> String {
        let inbox = format!("_INBOX_{name}.{}", uuid::Uuid::new_v4().simple());
        self.raw.subscribe(&inbox);
        inbox
    }

    fn d(&self, name: &str, arguments: &[&str]) -> Finished {
        self.fleet.command_as(name, Standing::Operator, arguments).run()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.fleet.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// A durable job of somebody's that writes what it reads into a file.
    fn typewriter(&mut self, name: &str, file: &str) -> String {
        let (job, inbox, who) = (job_id(), self.inbox(name), self.who(name));
        let mut wish = request(&job, &format!("exec cat >> '{}'", self.file(file).display()));
        wish["durable"] = true.into();
        wish["stdin"] = true.into();
        Said::unsigned("exec.w1", &inbox, wish.to_string()).signed(&who).say(&mut self.raw);
        let started = self.raw.next_where(SOON, |message| message.subject == inbox).expect("it starts");
        assert_eq!(started.header("D-Kind"), Some("accepted"), "{started:?}");
        job
    }

    /// Says a word as somebody, and once more where the peer wants to know that it is new. Returns the first answer to
    /// that, and everything that was said.
    fn word(&mut self, said: &Said, who: &IdentityFile) -> (Message, Vec<Said>) {
        let mut all = vec![said.clone().signed(who)];
        loop {
            all.last().unwrap().say(&mut self.raw);
            let inbox = said.reply.clone();
            let answer = self.raw.next_where(SOON, |message| message.subject == inbox).expect("an answer");
            if answer.header("D-Kind") != Some("challenge") {
                return (answer, all);
            }
            let challenge = answer.json()["challenge"].as_str().unwrap().to_owned();
            all.push(said.clone().header("D-Challenge", challenge).signed(who));
        }
    }

    /// Attaches, types a line, and leaves; returns everything that was said.
    fn types(&mut self, name: &str, job: &str, line: &str) -> Vec<Said> {
        let (inbox, who) = (self.inbox(name), self.who(name));
        let about = |verb: &str, body: &[u8]| Said::unsigned(&format!("exec.w1.{job}.{verb}"), &inbox, body);
        let attach = json!({ "epoch": 1, "from": "now", "window": 1000, "write": true });
        let (accepted, mut all) = self.word(&about("attach", attach.to_string().as_bytes()), &who);
        assert_eq!(accepted.header("D-Kind"), Some("accepted"), "{accepted:?}");
        let accepted = accepted.json();
        let nonce = |said: Said| match accepted["nonce"].as_str() {
            Some(nonce) => said.header("D-Challenge", nonce),
            None => said,
        };
        let typed = nonce(about("stdin", line.as_bytes()).header("D-Offset", 0)).signed(&who);
        typed.say(&mut self.raw);
        let received = |message: &Message| {
            message.subject == inbox
                && message.header("D-Kind") == Some("want")
                && message.json()["received"] == line.len()
        };
        self.raw.next_where(SOON, received).expect("it was received");
        let done = json!({ "epoch": 1, "limit": 2000, "frames": 2000, "out": 0, "err": 0, "done": true });
        let done = nonce(about("credit", done.to_string().as_bytes())).signed(&who);
        done.say(&mut self.raw);
        all.extend([typed, done]);
        all
    }
}

fn write_policy(fleet: &Fleet, policy: &str) {
    use std::os::unix::fs::PermissionsExt;
    fleet.directory("daemon-0");
    let path = fleet.path().join("daemon-0/policy.toml");
    std::fs::write(&path, policy).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The word an answer refuses with.
fn refusal(answer: &Message) -> Option<&str> {
    answer.header("Nats-Service-Error")
}

#[test]
fn what_somebody_typed_is_typed_once_whoever_says_it_again() {
    let mut scene = Scene::new(None);
    let job = scene.typewriter("alice", "typed");
    let recorded = scene.types("alice", &job, "once\n");
    eventually(SOON, "it is typed", || (scene.text("typed") == "once\n").then_some(()));
    // The recorder hears every inbox, and says it all again, also to the next daemon.
    let say_all = |scene: &mut Scene| {
        for _ in 0..2 {
            recorded.iter().for_each(|said| said.say(&mut scene.raw));
        }
        scene.raw.barrier();
    };
    say_all(&mut scene);
    scene.types("alice", &job, "twice\n");
    eventually(SOON, "it is typed", || scene.text("typed").contains("twice").then_some(()));
    scene.fleet.daemon("w1").restart();
    say_all(&mut scene);
    scene.types("alice", &job, "thrice\n");
    eventually(SOON, "it is typed", || scene.text("typed").contains("thrice").then_some(()));
    assert_eq!(scene.text("typed"), "once\ntwice\nthrice\n");
    scene.d("alice", &["stop", &format!("w1/{job}")]).expect_success();
}

#[test]
fn a_signal_is_applied_once_however_many_came_after_it() {
    let mut scene = Scene::new(None);
    let (job, inbox, alice) = (job_id(), scene.inbox("alice"), scene.who("alice"));
    let mark = scene.file("hup");
    let line = format!("trap 'echo hup >> {}' HUP; echo ready; while :; do sleep 0.05; done", mark.display());
    Said::unsigned("exec.w1", &inbox, request(&job, &line).to_string()).signed(&alice).say(&mut scene.raw);
    scene.raw.next_where(SOON, |message| message.header("D-Kind") == Some("out")).expect("it runs");
    let signal = |scene: &mut Scene, name: &str| {
        let inbox = scene.inbox("alice");
        let body = json!({ "n": 1, "signal": name }).to_string();
        let said = Said::unsigned(&format!("exec.w1.{job}.signal"), &inbox, body);
        let (answer, all) = scene.word(&said, &alice);
        assert_eq!(answer.json(), json!({ "n": 1 }));
        all
    };
    let recorded = signal(&mut scene, "HUP");
    eventually(SOON, "it is applied", || (scene.text("hup") == "hup\n").then_some(()));
    // More than a daemon remembers.
    for _ in 0..80 {
        signal(&mut scene, "CONT");
    }
    recorded.iter().for_each(|said| said.say(&mut scene.raw));
    scene.raw.barrier();
    // What is said behind that is applied behind it.
    signal(&mut scene, "CONT");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(scene.text("hup"), "hup\n");
    scene.d("alice", &["stop", &format!("w1/{job}")]).expect_success();
}

#[test]
fn a_job_is_read_and_written_by_its_owner_and_whom_the_policy_lets() {
    let mut scene = Scene::new(Some(POLICY));
    let job = scene.typewriter("alice", "typed");
    let (bob, carol) = (scene.who("bob"), scene.who("carol"));
    let attach = |write: bool| json!({ "epoch": 1, "from": "start", "window": 1000, "write": write });
    let resume = |write: bool| json!({ "epoch": 2, "out": 0, "err": 0, "limit": 1000, "write": write });
    let rename = json!({ "name": "mine" });
    for (verb, body, carol_may) in [
        ("attach", attach(false), true),
        ("attach", attach(true), false),
        ("resume", resume(false), true),
        ("resume", resume(true), false),
        ("rename", rename, false),
        ("detach", json!({}), false),
    ] {
        for (name, who, may) in [("bob", &bob, false), ("carol", &carol, carol_may)] {
            let inbox = scene.inbox(name);
            let said = Said::unsigned(&format!("exec.w1.{job}.{verb}"), &inbox, body.to_string());
            let (answer, _) = scene.word(&said, who);
            let wanted = (!may).then_some("not_yours");
            assert_eq!(refusal(&answer), wanted, "{name} {verb} {body}: {answer:?}");
        }
    }
    let refused = scene.d("bob", &["logs", &format!("w1/{job}")]).expect_code(250);
    assert!(
        refused
            .err()
            .contains("the policy of w1 does not let bob (operator) read this job of alice (operator)"),
        "{refused:?}"
    );
    // The right to stop is every operator's.
    scene.d("bob", &["stop", &format!("w1/{job}")]).expect_success();
    // Each of these has left a line, with the name of who signed it.
    let said = scene.d("alice", &["audit", "w1", "--json"]).expect_success().out();
    let steered: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |word: &str, principal: &str| {
        let is = |line: &&Value| {
            line["event"] == "steered" && line["word"] == word && line["principal"] == principal
        };
        steered.iter().find(is).unwrap_or_else(|| panic!("no {word} of {principal}: {said}"))
    };
    assert_eq!(
        (&line("attach", "carol")["detail"], &line("attach", "carol")["owner"]),
        (&json!("read"), &json!("alice"))
    );
    assert_eq!(line("stop", "bob")["job"], job);
}

#[test]
fn a_word_that_is_refused_leaves_a_line_with_the_signed_name() {
    let mut scene = Scene::new(Some(POLICY));
    let job = scene.typewriter("alice", "typed");
    let bob = scene.who("bob");
    let ines = scene.fleet.secured().member("ines", Standing::Inspector);
    let ines = IdentityFile::read(&ines).unwrap().unwrap();
    let attach = json!({ "epoch": 1, "from": "start", "window": 1000, "write": true });
    let words = [
        ("attach", attach, json!("write"), "bob", &bob),
        ("rename", json!({ "name": "mine" }), json!("mine"), "bob", &bob),
        ("detach", json!({}), json!(null), "bob", &bob),
        ("signal", json!({ "n": 1, "signal": "HUP" }), json!("HUP"), "ines", &ines),
        ("cancel", json!({ "why": "so" }), json!("so"), "ines", &ines),
    ];
    for (verb, body, _, name, who) in &words {
        let inbox = scene.inbox(name);
        let said = Said::unsigned(&format!("exec.w1.{job}.{verb}"), &inbox, body.to_string());
        let (answer, _) = scene.word(&said, who);
        assert_eq!(refusal(&answer), Some("not_yours"), "{verb}: {answer:?}");
    }
    let lines = |scene: &Scene, event: &str| -> Vec<Value> {
        let said = scene.d("alice", &["audit", "w1", "--json"]).expect_success().out();
        let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == event).collect()
    };
    let refused = lines(&scene, "steer_refused");
    assert_eq!(refused.len(), words.len(), "{refused:?}");
    for (line, (verb, _, detail, name, _)) in refused.iter().zip(&words) {
        let word = if *verb == "cancel" { "stop" } else { verb };
        assert_eq!(
            (&line["word"], &line["detail"], &line["principal"]),
            (&json!(word), detail, &json!(name))
        );
        assert_eq!((&line["owner"], &line["job"]), (&json!("alice"), &json!(job)), "{line}");
        assert!(line["why"].as_str().is_some_and(|why| !why.is_empty()), "{line}");
    }
    let table = scene.d("alice", &["audit", "w1"]).expect_success().out();
    assert!(table.contains("bob (operator)") && table.contains("refused: the policy of w1"), "{table}");

    // However many there are, they fill no more of the log than refused requests do.
    let inbox = scene.inbox("bob");
    for _ in 0..400 {
        let said = Said::unsigned(&format!("exec.w1.{job}.detach"), &inbox, "{}");
        let (answer, _) = scene.word(&said, &bob);
        assert_eq!(refusal(&answer), Some("not_yours"), "{answer:?}");
    }
    let many = eventually(SOON, "the rest to be summed up", || lines(&scene, "many_refused").pop());
    assert_eq!(many["principal"], "bob", "{many}");
    assert!(many["examples"][0]["why"].as_str().unwrap().starts_with("detach: "), "{many}");
    scene.d("alice", &["stop", &format!("w1/{job}")]).expect_success();
}

#[test]
fn who_may_no_more_is_shown_and_heard_no_more() {
    let mut scene = Scene::new(Some(&POLICY.replace("\"read\"", "\"write\"")));
    let job = scene.typewriter("alice", "typed");
    let (inbox, carol) = (scene.inbox("carol"), scene.who("carol"));
    let about = |verb: &str, body: &str| Said::unsigned(&format!("exec.w1.{job}.{verb}"), &inbox, body);
    let attach = json!({ "epoch": 1, "from": "now", "window": 1000, "write": true });
    let (accepted, _) = scene.word(&about("attach", &attach.to_string()), &carol);
    let nonce = accepted.json()["nonce"].as_str().expect("a nonce").to_owned();
    let typed = |at: usize, text: &str| {
        about("stdin", text).header("D-Offset", at).header("D-Challenge", &nonce).signed(&carol)
    };
    typed(0, "a\n").say(&mut scene.raw);
    eventually(SOON, "it is typed", || (scene.text("typed") == "a\n").then_some(()));
    write_policy(&scene.fleet, POLICY);
    scene.fleet.command_on("w1", ["daemon", "reload"]).run().expect_success();
    typed(2, "b\n").say(&mut scene.raw);
    let answer = scene.raw.next_where(SOON, |message| refusal(message).is_some()).expect("a refusal");
    assert_eq!(refusal(&answer), Some("not_yours"));
    assert_eq!(scene.text("typed"), "a\n");
    let said = scene.d("alice", &["audit", "w1", "--json", "-n", "1"]).expect_success().out();
    let line: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&line["event"], &line["word"]), (&json!("steer_refused"), &json!("typed")), "{line}");
    scene.d("alice", &["stop", &format!("w1/{job}")]).expect_success();
}

#[test]
fn a_name_belongs_to_its_owner() {
    let scene = Scene::new(Some(&POLICY.replace("[\"sleep\", \"60\"]", "\"any\"")));
    scene.fleet.add(DaemonOptions::leader("lead"));
    scene.fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    let new = ["session", "new", "-d", "-C", "/", "--name", "prod", "w1", "--", "sleep", "60"];
    let hers = scene.d("alice", &new).expect_success().out();
    let denied = scene.d("bob", &["session", "detach", "prod"]).expect_code(254);
    assert!(
        denied.err().contains("no job of yours is called prod; the one on w1 is of alice")
            && denied.err().contains("w1/alice/prod means it"),
        "{denied:?}"
    );
    // His own of that name is his, and hers stays hers.
    let his = scene.d("bob", &new).expect_success().out();
    assert!(scene.d("bob", &new).expect_code(250).err().contains("taken"));
    assert!(scene.d("bob", &["stop", "w1/prod"]).expect_success().out().contains(short(&his)));
    for word in ["w1/alice/prod", "alice/prod"] {
        let refused = scene.d("bob", &["session", "detach", word]).expect_code(250);
        assert!(refused.err().contains("does not let bob (operator) write to this job"), "{refused:?}");
    }
    assert!(scene.d("alice", &["stop", "prod"]).expect_success().out().contains(short(&hers)));
}

/// As much of an id as is shown.
fn short(id: &str) -> &str {
    let id = id.trim();
    &id[id.len() - 8..]
}

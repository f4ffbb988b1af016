//! A message of the largest size there is, nested as deeply as that goes: no stack is that deep.

use std::time::Duration;

use crate::fuzz::decoders::ALL;
use crate::harness::child::Finished;
use crate::harness::fleet::Fleet;
use crate::harness::nats::{Message, Raw};

const SOON: Duration = Duration::from_secs(30);

/// As large as the server takes.
const LARGE: usize = 1 << 20;

fn nested() -> Vec<Vec<u8>> {
    let objects = b"{\"a\":".repeat(LARGE / 5);
    let mut within = br#"{"type":"peerbus.exec.v1","tty":"#.to_vec();
    within.resize(LARGE, b'[');
    let mut mixed = br#"{"id":[{"#.to_vec();
    mixed.extend(b"\"a\":[{".repeat((LARGE - mixed.len()) / 6));
    vec![vec![b'['; LARGE], objects, within, mixed]
}

#[test]
fn every_decoder_refuses_it_on_the_stack_of_a_small_thread() {
    for decoder in ALL {
        // A quarter of what a thread of the runtime has.
        let small = std::thread::Builder::new().stack_size(512 << 10);
        let all = move || nested().iter().for_each(|message| (decoder.decode)(message));
        small.spawn(all).unwrap().join().unwrap_or_else(|_| panic!("{}", decoder.name));
    }
}

#[test]
fn daemon_and_leader_refuse_it_and_go_on() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    let pids = ["lead", "w1"].map(|peer| fleet.daemon(peer).pid());
    let mut raw = Raw::connect(&fleet.url());
    let job = uuid::Uuid::now_v7();
    let instance = uuid::Uuid::new_v4();
    let subjects: Vec<String> = ["", ".ping", ".health", ".policy", ".audit", ".strange"]
        .map(|below| format!("exec.w1{below}"))
        .into_iter()
        .chain(
            ["credit", "stdin", "signal", "resume", "cancel", "result"]
                .map(|verb| format!("exec.w1.{job}.{verb}")),
        )
        .chain(
            ["peers.alive", "peers.list", "peers.get", "peers.remove", "$SRV.PING.exec"].map(str::to_owned),
        )
        .chain([format!("$SRV.INFO.exec.{instance}"), "peers.event.joined.w1".to_owned()])
        .collect();
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    for message in nested() {
        for subject in &subjects {
            raw.publish_reply(subject, &inbox, &message);
        }
        raw.barrier();
    }
    let malformed = |message: &Message| message.text().contains("JSON");
    raw.next_where(SOON, |message| message.sid == sid && malformed(message)).expect("a refusal");
    for peer in ["lead", "w1"] {
        fleet.d(["ping", peer, "--timeout", "20s"]).expect_success();
        fleet.d(["exec", peer, "-C", "/", "--", "true"]).expect_success();
    }
    let table = fleet.d(["peers"]).expect_success().out();
    assert!(table.contains("w1") && table.contains("lead"), "{table}");
    assert_eq!(["lead", "w1"].map(|peer| fleet.daemon(peer).pid()), pids);
    fleet.d(["audit", "verify", "w1"]).expect_success();
}

/// Whoever hears a question, and answers it like this.
struct Liar {
    raw: Raw,
    message: Vec<u8>,
}

impl Liar {
    fn at(fleet: &Fleet, subjects: &[&str], message: &[u8]) -> Liar {
        let mut raw = Raw::connect(&fleet.url());
        for subject in subjects {
            raw.subscribe(subject);
        }
        // The server counts the headers, too.
        Liar { raw, message: message[..LARGE - 1_000].to_vec() }
    }

    /// Answers with frames of these kinds, this many times.
    #[track_caller]
    fn answer(&mut self, kinds: &[&str], times: usize) {
        for _ in 0..times {
            let question = self.raw.next_where(SOON, |message| message.reply.is_some()).expect("a question");
            let reply = question.reply.unwrap();
            for (seq, kind) in (1..).zip(kinds) {
                let seq = seq.to_string();
                let headers =
                    [("D-Epoch", "1"), ("D-Seq", seq.as_str()), ("D-Kind", *kind), ("D-Offset", "0")];
                self.raw.publish_headers(&reply, "", &headers, &self.message);
            }
            self.raw.barrier();
        }
    }
}

/// A panic ends with 101, and a stack that overflows with a signal.
#[track_caller]
fn expect_own_words(finished: &Finished) {
    assert!(!finished.err().contains("panicked") && !finished.err().contains("overflow"), "{finished:?}");
    assert!(finished.err().lines().all(|line| line.starts_with("d: ")), "{finished:?}");
}

#[test]
fn d_refuses_it_from_whoever_answers() {
    let fleet = Fleet::builder().start();
    for message in nested() {
        for (arguments, hears) in [
            (vec!["ping", "w1"], "exec.w1.ping"),
            (vec!["audit", "w1"], "exec.w1.audit"),
            (vec!["audit", "verify", "w1"], "exec.w1.audit"),
            (vec!["peers"], "peers.list"),
            (vec!["peer", "show", "w1"], "peers.get"),
        ] {
            let mut liar = Liar::at(&fleet, &[hears], &message);
            let mut d = fleet.spawn_d(&arguments);
            liar.answer(&["answer"], 1);
            let finished = d.wait(SOON);
            let code = finished.code().unwrap_or_else(|| panic!("ended by a signal: {finished:?}"));
            assert!(code != 0 && code != 101 && !finished.err().is_empty(), "{finished:?}");
            expect_own_words(&finished);
        }
        // Of a conversation a frame that cannot be read counts as lost, and is asked for again.
        let mut liar = Liar::at(&fleet, &["exec.w1", "exec.w1.>"], &message);
        let mut d = fleet.spawn_d(["exec", "w1", "-C", "/", "--", "true"]);
        let kinds = ["accepted", "want", "signalled", "gap", "challenge", "answer", "result", "end"];
        liar.answer(&kinds, 3);
        assert!(d.ended().is_none(), "{:?}", d.kill());
        expect_own_words(&d.kill());
    }
}

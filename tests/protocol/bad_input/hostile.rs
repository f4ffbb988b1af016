//! A peer, an operator and a file that say what would change a terminal, or make rows of their own:
//! all of it is seen, and none of it is obeyed, whatever verb shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::child::Finished;
use crate::harness::fleet::Fleet;
use crate::harness::nats::{Message, Raw};

const SOON: Duration = Duration::from_secs(60);

/// Clears the screen, writes a title, begins a row, turns the reading direction; in C0, in C1, in UTF-8.
const HOSTILE: &str = "x\x1b[2J\x1b]0;t\x07\r\nFORGED\t\u{9b}31m\u{202e}\u{2028}\x7f";

const JOB: &str = "01979d3e-7b1c-7c3a-9b0e-3f1d0000cafe";

/// Nothing of it may reach a terminal, nor begin a line.
#[track_caller]
fn harmless(verb: &str, finished: &Finished) {
    for (name, bytes) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|bad| panic!("{verb}: {name}: {bad}"));
        let is_raw =
            |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2028}');
        assert!(!text.contains(is_raw), "{verb}: {name}: {text:?}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{verb}: {name}: {text}");
    }
}

/// A peer on the bus that answers every question with hostile texts.
struct Peer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    fn start(fleet: &Fleet) -> Peer {
        let mut raw = Raw::connect(&fleet.url());
        raw.subscribe("exec.evil");
        raw.subscribe("exec.evil.>");
        let stop = Arc::<AtomicBool>::default();
        let ended = Arc::clone(&stop);
        let instance = uuid::Uuid::new_v4().to_string();
        let thread = std::thread::spawn(move || {
            for seq in 1.. {
                raw.publish("peers.alive", beat(&instance, seq).to_string());
                if let Some(asked) = raw.next(Duration::from_millis(500)) {
                    answer(&mut raw, &instance, &asked);
                }
                if ended.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        Peer { stop, thread: Some(thread) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn beat(instance: &str, seq: u64) -> Value {
    json!({
        "type": "peerbus.heartbeat.v1", "peer_id": "evil", "state": "up", "instance": instance, "seq": seq,
        "interval_ms": 60_000, "hostname": HOSTILE, "ip_address": HOSTILE, "mac_address": HOSTILE,
        "role": "worker", "daemon_version": HOSTILE, "os": HOSTILE, "arch": HOSTILE, "uptime_s": 1,
        "load": 0.5, "jobs": 1, "tags": [HOSTILE],
    })
}

fn answer(raw: &mut Raw, instance: &str, asked: &Message) {
    let Some(reply) = asked.reply.clone() else { return };
    let refused = json!({ "refused": { "why": "policy", "message": HOSTILE } });
    let result = |id: &str| {
        json!({
            "type": "peerbus.result.v1", "id": id, "peer": "evil", "instance": instance, "ending": refused,
            "out": null, "err": null, "duration_ms": 0, "killed": 0, "left_running": 0, "output_open": false,
            "rusage": null,
        })
    };
    let body = match asked.subject.strip_prefix("exec.evil").unwrap_or_default() {
        "" => {
            let id = asked.json()["id"].as_str().unwrap_or_default().to_owned();
            let headers = [("D-Epoch", "1"), ("D-Seq", "1"), ("D-Kind", "result")];
            return raw.publish_headers(&reply, "", &headers, result(&id).to_string());
        }
        ".ping" => beat(instance, 1),
        ".health" => json!({
            "type": "peerbus.health.v1", "peer_id": "evil", "instance": instance, "daemon_version": HOSTILE,
            "now_ms": 0, "user": HOSTILE, "containment": "reaper", "journal_free": 0, "journal_size": 1,
            "state_dir_mode": 0o777,
        }),
        ".audit" => json!({
            "type": "peerbus.audit_page.v1", "peer_id": "evil", "instance": instance, "next": null, "head": null,
            "lines": [HOSTILE, json!({ "at": HOSTILE, "event": "damaged", "what": HOSTILE }).to_string()],
        }),
        ".policy" => json!({
            "type": "peerbus.policy_answer.v1", "peer_id": "evil", "instance": instance, "file": HOSTILE,
            // A rule may have several lines: they are the peer's own, like all of this answer.
            "whom": HOSTILE, "rules": [{ "number": 1, "line": 1, "text": HOSTILE.replace('\n', "") }], "left_out": 0,
            "decision": { "refused": {
                "why": "policy", "message": HOSTILE, "objections": [{ "rule": 1, "key": HOSTILE, "message": HOSTILE }],
            }},
        }),
        ".jobs" => json!({
            "type": "peerbus.jobs.v1", "peer": "evil", "instance": instance, "next": null, "jobs": [{
                "id": JOB, "state": "ended", "durable": false, "tty": true, "name": HOSTILE,
                "started_at": HOSTILE, "age_ms": 1, "principal": null, "from": HOSTILE, "command": HOSTILE,
                "directory": HOSTILE, "user": HOSTILE, "viewers": 0, "ending": refused, "ended_at": HOSTILE,
                "duration_ms": 1, "out": 0, "err": 0, "first_out": null, "first_err": null,
            }],
        }),
        below if below.ends_with(".cancel") => json!({
            "type": "peerbus.cancel_answer.v1", "id": JOB, "instance": instance, "answer": "ended",
            "result": result(JOB),
        }),
        below if below.ends_with(".signal") => json!({ "n": 1, "error": HOSTILE }),
        // Whatever else: it declines, with a sentence of its own.
        _ => {
            let headers =
                [("Nats-Service-Error", "x\x1b[2J\u{9b}\u{202e}"), ("Nats-Service-Error-Code", "500")];
            return raw.publish_headers(&reply, "", &headers, json!({ "error": HOSTILE }).to_string());
        }
    };
    raw.publish(&reply, body.to_string());
}

#[test]
fn what_a_peer_says_is_seen_and_not_obeyed() {
    let fleet = Fleet::builder().leader("lead").start();
    let peer = Peer::start(&fleet);
    fleet.wait_for_states(&[("evil", "online"), ("lead", "online")], SOON);
    let job = format!("evil/{JOB}");
    let shows: &[&[&str]] = &[
        &["peers"],
        &["peers", "-o", "wide"],
        &["peers", "--json"],
        &["peer", "show", "evil"],
        &["listPeers"],
        &["getPeerInfo", "--peer", "evil"],
        &["ping", "evil"],
        &["ping", "evil", "--json"],
        &["jobs", "evil", "-a", "-o", "wide"],
        &["jobs", "evil", "-a"],
        &["jobs", "evil", "-a", "--json"],
        &["session", "list", "evil"],
        &["audit", "evil"],
        &["audit", "evil", "--json"],
        &["policy", "show", "evil"],
        &["policy", "show", "evil", "--json"],
        &["stop", &job],
        &["stop", &job, "--json"],
        &["doctor", "evil"],
        &["doctor", "evil", "--json"],
    ];
    for arguments in shows {
        let finished = fleet.d(*arguments);
        harmless(&arguments.join(" "), &finished);
        let shown = [finished.out(), finished.err()].concat();
        assert!(shown.contains("FORGED"), "{arguments:?} does not show it: {finished:?}");
    }
    // The parser of the command line has lines of its own.
    let no_verb = HOSTILE.replace('\n', "");
    // What these show is in part their own.
    let says: &[&[&str]] = &[
        &["exec", "evil", "-C", "/", "--", "true"],
        &["execOnPeer", "--peer", "evil", "--directory", "/", "--shellCmd", "true"],
        &["policy", "check", "evil", "-C", "/", "--", "true"],
        &["wait", &job],
        &["logs", &job],
        &["attach", &job],
        &["stop", &job, "--signal", "HUP"],
        &["session", "attach", &job],
        &["session", "rename", &job, "other"],
        &["session", "detach", &job],
        &["audit", "verify", "evil"],
        &["exec", HOSTILE, "-C", "/", "--", "true"],
        &["peer", "show", HOSTILE],
        &["jobs", HOSTILE],
        &["config", "set", HOSTILE, HOSTILE],
        &["task", "run", HOSTILE, "evil"],
        &[&no_verb],
    ];
    for arguments in says {
        harmless(&arguments.join(" "), &fleet.d(*arguments));
    }
    drop(peer);
}

#[test]
fn what_an_operator_says_is_seen_and_not_obeyed() {
    let fleet = Fleet::builder().leader("lead").start();
    let started = fleet
        .d(["exec", "-d", "lead", "-C", "/", "--", "sh", "-c", "exec sleep 600", HOSTILE])
        .expect_success();
    let job = started.out().trim().to_owned();
    for arguments in [&["jobs"][..], &["jobs", "-o", "wide"], &["audit", "lead"], &["jobs", "--json"]] {
        let finished = fleet.d(arguments).expect_success();
        harmless(&arguments.join(" "), &finished);
        assert!(finished.out().contains("FORGED"), "{arguments:?}: {finished:?}");
    }
    let waits = fleet.spawn_d(["wait", &format!("lead/{job}")]);
    let follows = fleet.spawn_d(["attach", &format!("lead/{job}")]);
    let mut raw = Raw::connect(&fleet.url());
    raw.request(&format!("exec.lead.{job}.cancel"), json!({ "why": HOSTILE }).to_string(), SOON);
    for mut live in [waits, follows] {
        let finished = live.wait(SOON).expect_code(130);
        harmless("wait", &finished);
        assert!(finished.err().contains("FORGED"), "{finished:?}");
    }
    for arguments in [&["jobs", "-a"][..], &["logs", &job], &["stop", &job], &["audit", "lead"]] {
        harmless(&arguments.join(" "), &fleet.d(arguments));
    }
    // Nor does the daemon's own log, which says who asked for what.
    let log = fleet.daemon("lead").stderr();
    assert!(log.contains("FORGED") && !log.contains(['\x1b', '\u{9b}', '\u{202e}']), "{log}");
}

#[test]
fn what_a_file_says_is_seen_and_not_obeyed() {
    let fleet = Fleet::builder().start();
    let text = toml_text();
    let configured =
        fleet.file("c.toml", format!("[tasks.evil]\ndirectory = \"/{text}\"\nsteps = [\"{text}\"]\n"));
    let configured = configured.to_string_lossy();
    for arguments in [&["task", "list"][..], &["task", "list", "--json"], &["config", "show"]] {
        let arguments = [&["--config", &configured], arguments].concat();
        let finished = fleet.d(&arguments).expect_success();
        harmless(&arguments.join(" "), &finished);
        assert!(finished.out().contains("FORGED"), "{arguments:?}: {finished:?}");
    }
    let wrong = fleet.file("wrong.toml", format!("\"{text}\" = 1\n"));
    harmless(
        "config show",
        &fleet.d(["--config", &wrong.to_string_lossy(), "config", "show"]).expect_code(2),
    );
}

/// As TOML has it between quotes.
fn toml_text() -> String {
    HOSTILE
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) })
        .collect()
}

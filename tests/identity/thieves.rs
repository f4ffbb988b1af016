//! Invitations and identities in the wrong hands, and a bus that is not ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerbus::identity::{IdentityFile, InviteToken, Key};
use peerbus::protocol::fleet::{JOIN_TYPE, JOINED_TYPE, JoinRequest, JoinResponse};
use peerbus::protocol::identity::Standing;
use peerbus::protocol::subjects;

use crate::harness::nats::{Message, Raw};
use crate::harness::secured::Secured;
use crate::harness::server::Server;
use crate::harness::speaker::{Said, now_ms};
use crate::harness::wait::eventually;
use crate::machines::{Machines, SOON, now, refused};

/// The guest of an invitation, as a member that can sign.
fn guest_of(machines: &Machines, token: &str) -> IdentityFile {
    let ticket = InviteToken::read(token).unwrap();
    IdentityFile {
        token: ticket.guest.token,
        key: ticket.guest.key,
        fleet: ticket.fleet,
        account: machines.authority().account_token().unwrap(),
    }
}

/// A question that takes the invitation up with this key.
fn question(guest: &IdentityFile, key: &Key, proves: &Key) -> Vec<u8> {
    let (id, public) = (guest.signer().unwrap().name, key.public().to_string());
    let proof = URL_SAFE_NO_PAD.encode(proves.sign(&JoinRequest::to_be_proved(&id, &public)));
    serde_json::to_vec(&JoinRequest { kind: JOIN_TYPE.to_owned(), key: public, proof }).unwrap()
}

/// Says something as the guest of an invitation, and waits for its answer.
fn asked(raw: &mut Raw, guest: &IdentityFile, said: impl FnOnce(Said) -> Said, payload: Vec<u8>) -> Message {
    let (inbox, id) = (raw.new_inbox(), guest.signer().unwrap().name);
    raw.subscribe(&inbox);
    said(Said::unsigned(&subjects::join(&id), &inbox, payload)).say(raw);
    raw.next(SOON).expect("an answer")
}

#[test]
fn an_invitation_is_good_once_in_time_whole_and_for_its_name() {
    let machines = Machines::with_a_fleet();
    let token = machines.invite(&["vps"]);
    // A byte less, a byte else.
    for wrong in [&token[..token.len() - 1], &token.replacen("pbj1_", "pbj1_A", 1), "pbj1_"] {
        refused(&machines.run("thief", &["join", wrong]), 2, &["no whole invitation"]);
    }
    refused(&machines.run("thief", &["join", &token, "--id", "other"]), 2, &["for vps", "nobody else"]);
    machines.run("vps", &["join", &token]).expect_success();
    // Stolen, and used again elsewhere.
    refused(&machines.run("thief", &["join", &token]), 250, &["taken up already", "another key"]);
    // Too late.
    let end = now() + 1;
    let late = machines.invite_until("late", end);
    eventually(SOON, "the invitation to be over", || (now() > end).then_some(()));
    refused(&machines.run("thief", &["join", &late]), 250, &["is over since", "this machine's clock"]);
    // Of another fleet.
    let others = Machines::with_a_fleet();
    let foreign = others.invite(&["vps"]);
    refused(
        &machines.run("thief", &["join", &foreign, "--nats", &machines.url()]),
        250,
        &["does not know the invitation"],
    );
    // Nobody there.
    refused(
        &machines.run("thief", &["join", &token, "--nats", "nats://127.0.0.1:1"]),
        255,
        &["bus unreachable"],
    );
    assert!(!machines.creds("thief", "vps").exists());
    assert_eq!(fs::read_to_string(machines.home("thief").join("config.toml")).unwrap(), "");
}

#[test]
fn the_leader_takes_in_nobody_but_the_guest_with_the_key_it_proves() {
    let machines = Machines::with_a_fleet();
    let (mine, other) = (machines.invite(&["vps"]), machines.invite(&["desktop"]));
    let (mine, other) = (guest_of(&machines, &mine), guest_of(&machines, &other));
    let mut raw = machines.try_connect(&mine).unwrap();
    let (key, thief) = (Key::of_identity(), Key::of_identity());
    let word = |message: &Message| message.header("Nats-Service-Error").unwrap_or_default().to_owned();
    // A key that whoever asks does not hold.
    let answer = asked(&mut raw, &mine, |said| said.signed(&mine), question(&mine, &key, &thief));
    assert_eq!(word(&answer), "bad_request", "{answer:?}");
    assert!(answer.text().contains("does not hold that key"));
    // Not signed; signed by the guest of another invitation.
    let answer = asked(&mut raw, &mine, |said| said, question(&mine, &key, &key));
    assert_eq!(word(&answer), "unproven", "{answer:?}");
    let answer = asked(&mut raw, &mine, |said| said.signed(&other), question(&mine, &key, &key));
    assert_eq!(word(&answer), "unproven", "{answer:?}");
    // By a clock that is wrong, which uses nothing up.
    let hour_ago = now_ms() - 3_600_000;
    let answer = asked(&mut raw, &mine, |said| said.signed_at(&mine, hour_ago), question(&mine, &key, &key));
    assert_eq!(word(&answer), "clock", "{answer:?}");
    assert!(answer.text().contains("behind the leader's"), "{answer:?}");
    // Not JSON, and a key that is no identity's.
    let answer = asked(&mut raw, &mine, |said| said.signed(&mine), b"{".to_vec());
    assert_eq!(word(&answer), "bad_request", "{answer:?}");
    let account = Key::of_account();
    let answer = asked(&mut raw, &mine, |said| said.signed(&mine), question(&mine, &account, &account));
    assert_eq!(word(&answer), "bad_request", "{answer:?}");
    // After all that the invitation is still good, for what it says and nothing else.
    let answer = asked(&mut raw, &mine, |said| said.signed(&mine), question(&mine, &key, &key));
    let joined: JoinResponse = serde_json::from_slice(&answer.payload).unwrap();
    let identity = IdentityFile {
        token: joined.identity,
        key: key.clone(),
        fleet: mine.fleet.clone(),
        account: joined.account,
    };
    let signer = identity.signer().unwrap();
    assert_eq!((signer.name.as_str(), signer.standing), ("vps", Standing::Worker));
    let answer = asked(&mut raw, &mine, |said| said.signed(&mine), question(&mine, &thief, &thief));
    assert_eq!(word(&answer), "not_invited", "{answer:?}");
}

#[test]
fn a_workers_secret_runs_nothing_and_reads_nothing_of_others() {
    let machines = Machines::with_a_fleet();
    machines.join("vps", &["vps"]);
    let mut raw = machines.try_connect(&machines.identity("vps", "vps")).unwrap();
    let mut forbidden = |attempt: &mut dyn FnMut(&mut Raw), what: &str| {
        let before = raw.errors.len();
        attempt(&mut raw);
        raw.barrier();
        let said = raw.errors[before..].join("; ");
        assert!(said.contains("Permissions Violation"), "{what}: {said:?}");
    };
    forbidden(&mut |raw| raw.publish("exec.lead", "{}"), "running a command");
    forbidden(&mut |raw| raw.publish("exec.vps", "{}"), "running a command on itself");
    forbidden(
        &mut |raw| {
            raw.subscribe("_INBOX_alice.>");
        },
        "reading what others are answered",
    );
    forbidden(
        &mut |raw| {
            raw.subscribe("exec.lead");
        },
        "taking the requests of another",
    );
    forbidden(&mut |raw| raw.publish("peers.event.offline.lead", "{}"), "telling of others");
    forbidden(&mut |raw| raw.publish("fleet.account.changed", "{}"), "telling of accounts");
    forbidden(&mut |raw| raw.publish("$SYS.REQ.CLAIMS.UPDATE", "x"), "changing the account");
}

/// A bus that lets in everybody, and on it somebody who answers for the leader of their own fleet.
#[test]
fn a_bus_that_is_not_ours_can_give_a_machine_nothing() {
    let machines = Machines::with_a_fleet();
    let (server, theirs) = (Server::start(), Secured::new());
    let (leader, ours) = (theirs.identity("lead", Standing::Leader), machines.authority());
    type Answer<'a> = Box<dyn Fn(&Message) -> JoinResponse + 'a>;
    let joined = |identity: String, account: String| JoinResponse {
        kind: JOINED_TYPE.to_owned(),
        identity,
        account,
        is_heard: true,
    };
    let key_of = |message: &Message| -> peerbus::identity::PublicKey {
        serde_json::from_slice::<JoinRequest>(&message.payload).unwrap().key.parse().unwrap()
    };
    let bob = ours.make(&"bob".parse().unwrap(), Standing::Worker, None).unwrap();
    let answers: [(&str, Answer<'_>); 2] = [
        (
            "of another fleet",
            Box::new(|message| {
                let whom = theirs.authority().invite(&peerbus::identity::authority::Invited {
                    name: &"vps".parse().unwrap(),
                    standing: Standing::Worker,
                    bus: "nats://127.0.0.1:1",
                    until: now() + 60,
                    identity_expires: None,
                    names: &[],
                });
                let (_, token) =
                    theirs.authority().take_up(&whom.unwrap().guest.id, &key_of(message)).unwrap();
                joined(token, theirs.authority().account_token().unwrap())
            }),
        ),
        (
            "not sealed by our leader",
            // Even what is truly ours, from whoever is not our leader.
            Box::new(|_| joined(bob.token.clone(), ours.account_token().unwrap())),
        ),
    ];
    for (what, answer) in answers {
        let token = machines.invite(&[&format!("vps{}", what.len())]);
        let mut raw = Raw::connect(&server.url());
        raw.subscribe("fleet.join.*");
        let joining = machines.d("victim", &["join", &token, "--nats", &server.url()]).spawn();
        let message = raw.next(SOON).expect("a question");
        let payload = serde_json::to_vec(&answer(&message)).unwrap();
        Said::unsigned(&message.reply.clone().unwrap(), "", payload).signed(&leader).say(&mut raw);
        let mut joining = joining;
        let ended = joining.wait(SOON);
        refused(&ended, 250, &["is not the fleet's leader", "nothing was taken"]);
        let creds = fs::read_dir(machines.home("victim").join("identity")).unwrap().flatten();
        let creds: Vec<_> =
            creds.filter(|file| file.path().extension().is_some_and(|end| end == "creds")).collect();
        assert!(creds.is_empty(), "{what}: {creds:?}");
        assert_eq!(fs::read_to_string(machines.home("victim").join("config.toml")).unwrap(), "", "{what}");
    }
}

#[test]
fn keys_that_others_may_read_are_not_used() {
    let machines = Machines::with_a_fleet();
    let expose = |path: std::path::PathBuf, mode: u32| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let creds = expose(machines.creds("lead", "alice"), 0o640);
    refused(&machines.run("lead", &["peers"]), 2, &[&creds, "640", "chmod 600"]);
    expose(machines.creds("lead", "alice"), 0o600);
    machines.run("lead", &["peers"]).expect_success();
    let fleet = expose(machines.home("lead").join("fleet"), 0o755);
    refused(&machines.run("lead", &["invite", "vps"]), 1, &[&fleet, "755", "chmod"]);
    expose(machines.home("lead").join("fleet"), 0o700);
    let key = expose(machines.home("lead").join("fleet/fleet.nk"), 0o604);
    refused(&machines.run("lead", &["revoke", "alice"]), 1, &[&key, "604"]);
}

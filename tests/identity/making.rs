//! Making a fleet, and joining it, in three commands.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use peerbus::identity::{InviteToken, Key};

use crate::harness::child::Live;
use crate::harness::server;
use crate::harness::wait::eventually;
use crate::machines::{Machines, SOON, refused};

/// From nothing to a command on a second machine.
const A_MINUTE: Duration = Duration::from_secs(60);

/// Every file below a folder, with its text and its mode.
fn files(folder: &Path) -> BTreeMap<String, (Vec<u8>, u32)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            found.insert(path.display().to_string(), (fs::read(&path).unwrap_or_default(), mode));
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn three_commands_lead_to_a_command_on_a_second_machine_in_less_than_a_minute() {
    let machines = Machines::new();
    let begun = Instant::now();
    let listen = machines.address();
    let init = ["init", "--id", "lead", "--operator", "alice", "--listen", &listen];
    let made = machines.run("lead", &init).expect_success();
    assert_eq!(made.out(), format!("made a fleet: leader lead, operator alice, bus {}\n", machines.url()));
    let token = machines.invite(&["vps"]);
    let joined = machines.d("vps", &["join", "-"]).input(format!("{token}\n")).run().expect_success();
    assert_eq!(joined.out(), "joined as vps; the leader hears it\n");
    assert_eq!(machines.echo("lead", "vps").expect_success().out(), "ran\n");
    assert!(begun.elapsed() < A_MINUTE, "{:?}", begun.elapsed());
    let peers = machines.run("lead", &["peers", "--json"]).expect_success().out();
    assert!(
        peers.lines().any(|line| line.contains("\"vps\"") && line.contains("\"is_online\":true")),
        "{peers}"
    );
    for machine in ["lead", "vps"] {
        let identity = machines.home(machine).join("identity");
        assert_eq!(mode(&identity), 0o700);
        for (path, (_, mode)) in files(&identity) {
            assert_eq!(mode, 0o600, "{path}");
            assert!(!path.ends_with(".joining"), "{path}");
        }
    }
    let fleet = machines.home("lead").join("fleet");
    assert_eq!(mode(&fleet), 0o700);
    assert!(files(&fleet).values().all(|(_, mode)| *mode == 0o600));
    assert_eq!(mode(&machines.home("vps").join("state/account.jwt")), 0o600);
    // A machine's own key was made there, and is nowhere else.
    let seed = machines.identity("vps", "vps").key.seed();
    assert!(files(&machines.home("lead")).values().all(|(text, _)| !has(text, seed.as_bytes())));
    let lead = machines.listed("lead").pop().unwrap();
    assert_eq!((&lead["standing"], &lead["state"]), (&"leader".into(), &"valid".into()));
    let vps = machines.listed("vps").pop().unwrap();
    assert_eq!((&vps["standing"], &vps["state"]), (&"worker".into(), &"valid".into()));
    assert!(vps["last_seen"].is_string() && vps["revoked"].is_null(), "{vps}");
}

fn has(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|part| part == wanted)
}

#[test]
fn a_second_init_and_one_that_cannot_be_changes_nothing() {
    let machines = Machines::with_a_fleet();
    let before = files(&machines.home("lead").join("fleet"));
    let config = fs::read(machines.home("lead").join("config.toml")).unwrap();
    let listen = machines.address();
    let again = machines.run("lead", &["init", "--id", "lead2", "--operator", "bob", "--listen", &listen]);
    refused(&again, 1, &["there is a fleet already", "fleet"]);
    machines.join("vps", &["vps"]);
    let member = machines.run("vps", &["init", "--listen", &listen]);
    refused(&member, 1, &["belongs to a fleet already", "vps.creds"]);
    let other = machines.run("other", &["init", "--id", "x", "--operator", "x", "--listen", "127.0.0.1:1"]);
    refused(&other, 2, &["x is the name of this machine", "--operator"]);
    let busy = machines.run("other", &["init", "--id", "x", "--operator", "y", "--listen", &listen]);
    refused(&busy, 1, &["cannot listen on", &listen, "--listen"]);
    let init = ["init", "--id", "x", "--operator", "y", "--listen", "127.0.0.1:1"];
    let without = machines.d("other", &init).env("PEERBUS_NATS_SERVER", "/nonexistent/nats-server").run();
    refused(&without, 1, &["/nonexistent/nats-server", "--external"]);
    assert!(
        !machines.home("other").join("fleet").exists() && !machines.home("other").join("identity").exists()
    );
    assert_eq!(fs::read_to_string(machines.home("other").join("config.toml")).unwrap(), "");
    let after = files(&machines.home("lead").join("fleet"));
    for (path, was) in &before {
        // Books grow; keys and the account stay.
        assert!(path.ends_with(".json") || after.get(path) == Some(was), "{path}");
    }
    assert_eq!(fs::read(machines.home("lead").join("config.toml")).unwrap(), config);
    assert_eq!(machines.echo("lead", "vps").expect_success().out(), "ran\n");
}

#[test]
fn people_join_and_act_as_what_they_are() {
    let machines = Machines::with_a_fleet();
    machines.join("vps", &["vps"]);
    let joined = machines.run("desk", &["join", &machines.invite(&["--operator", "bob"])]).expect_success();
    assert_eq!(joined.out(), "joined as bob (operator); d acts for bob from now on\n");
    assert_eq!(machines.echo("desk", "vps").expect_success().out(), "ran\n");
    machines.join("look", &["--inspector", "carol"]);
    machines.run("look", &["peers"]).expect_success();
    machines.run("look", &["ping", "vps", "--timeout", "20s"]).expect_success();
    let began = Instant::now();
    refused(&machines.echo("look", "vps"), 250, &["carol is an inspector", "may look"]);
    refused(&machines.run("look", &["peer", "rm", "vps"]), 250, &["carol is an inspector"]);
    for words in
        [&["audit", "vps"][..], &["audit", "verify", "vps"], &["policy", "show", "vps"], &["jobs", "vps"]]
    {
        refused(&machines.run("look", words), 250, &["refused: only operators may"]);
    }
    assert!(began.elapsed() < SOON / 2, "it is known here already: {:?}", began.elapsed());
    // A machine is no person, and a person no machine.
    refused(&machines.run("vps", &["peers"]), 2, &["nothing says who you are", "d invite --operator"]);
    let creds = machines.creds("vps", "vps").display().to_string();
    refused(
        &machines.run("vps", &["peers", "--creds", &creds]),
        2,
        &["vps.creds", "vps (worker)", "d invite --operator"],
    );
    let bob = machines.creds("desk", "bob").display().to_string();
    refused(
        &machines.run("desk", &["daemon", "run", "--creds", &bob, "--id", "desk"]),
        2,
        &["bob (operator)", "d invite desk"],
    );
    let other = machines.run("vps", &["daemon", "run", "--id", "other", "--creds", &creds]);
    refused(&other, 2, &["vps.creds", "this daemon is to be other"]);
    let leads = machines.run("vps", &["daemon", "run", "--role", "leader", "--creds", &creds]);
    refused(&leads, 2, &["vps (worker)", "leader"]);
    // A machine can have both, and each is used for its own.
    machines.join("vps", &["--operator", "dora"]);
    assert_eq!(machines.echo("vps", "lead").expect_success().out(), "ran\n");
    machines.run("vps", &["daemon", "restart"]).expect_success();
    assert_eq!(machines.echo("vps", "vps").expect_success().out(), "ran\n");
}

#[test]
fn the_same_token_on_the_same_machine_goes_on_where_it_was() {
    let machines = Machines::with_a_fleet();
    let token = machines.invite(&["vps"]);
    // The answer to an earlier attempt was lost: the key is there, and the books have it.
    let (ticket, key) = (InviteToken::read(&token).unwrap(), Key::of_identity());
    let folder = machines.home("vps").join("identity");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let pending = folder.join(format!("{}.joining", ticket.guest.id));
    fs::write(&pending, key.seed()).unwrap();
    fs::set_permissions(&pending, fs::Permissions::from_mode(0o644)).unwrap();
    machines.authority().take_up(&ticket.guest.id, key.public()).unwrap();
    refused(&machines.run("vps", &["join", &token]), 1, &["others may read", ".joining"]);
    fs::set_permissions(&pending, fs::Permissions::from_mode(0o600)).unwrap();
    machines.run("vps", &["join", &token]).expect_success();
    assert_eq!(machines.identity("vps", "vps").key, key);
    assert!(!pending.exists());
    // And once more, when all is done.
    machines.run("vps", &["join", &token]).expect_success();
    assert_eq!(machines.identity("vps", "vps").key, key);
    assert_eq!(machines.listed("vps").len(), 1);
    assert_eq!(machines.echo("lead", "vps").expect_success().out(), "ran\n");
}

/// A nats-server with the file that `d init --external` has written.
fn external(machines: &Machines) -> Live {
    let mut command = Command::new(server::program());
    let place = machines.home("server");
    command.args(["-a", "127.0.0.1", "-c"]).arg(machines.home("lead").join("fleet/nats-server.conf"));
    command.current_dir(place);
    let (out, err) = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let server = Live::start("nats-server", {
        command.stdout(out).stderr(err);
        command
    })
    .unwrap();
    eventually(SOON, "the server to listen", || std::net::TcpStream::connect(machines.address()).ok());
    server
}

#[test]
fn a_server_of_ones_own_is_told_what_it_needs() {
    let machines = Machines::new();
    let url = machines.url();
    let made = machines
        .run("lead", &["init", "--id", "lead", "--operator", "alice", "--external", &url])
        .expect_success();
    assert!(
        made.err().contains("nats-server -t -c") && made.err().contains("d daemon start"),
        "{}",
        made.err()
    );
    let conf = machines.home("lead").join("fleet/nats-server.conf");
    let check = Command::new(server::program())
        .arg("-t")
        .arg("-c")
        .arg(&conf)
        .current_dir(machines.home("server"))
        .output();
    assert!(check.unwrap().status.success());
    let mut server = external(&machines);
    machines.run("lead", &["daemon", "start"]).expect_success();
    machines.join("vps", &["vps"]);
    machines.join("desk", &["--operator", "bob"]);
    assert_eq!(machines.echo("desk", "vps").expect_success().out(), "ran\n");
    let bob = machines.identity("desk", "bob");
    machines.run("lead", &["revoke", "bob"]).expect_success();
    assert!(machines.try_connect(&bob).is_err());
    // Its configuration holds the account from before; what it was told since counts.
    server.kill();
    let _server = external(&machines);
    assert!(machines.try_connect(&bob).is_err(), "a restart brought somebody back");
    eventually(SOON, "the fleet to be back", || {
        let ran = machines.echo("lead", "vps");
        (ran.code() == Some(0)).then_some(())
    });
}

#[test]
fn a_fleet_without_identities_is_led_to_one_with_them() {
    let machines = Machines::new();
    let url = machines.url();
    let config = format!(
        "nats = {url:?}\npeer_id = \"lead\"\nrole = \"leader\"\nbroker = \"managed\"\nbroker_listen = \"{}\"\n",
        machines.address()
    );
    fs::write(machines.home("lead").join("config.toml"), config).unwrap();
    machines.run("lead", &["daemon", "start"]).expect_success();
    let token = fs::read_to_string(machines.home("lead").join("state/broker/token")).unwrap();
    let with_token = url.replace("nats://", &format!("nats://{}@", token.trim()));
    machines.run("vps", &["join", &with_token, "--id", "vps"]).expect_success();

    // Who has no token is told of it.
    let nobody = machines.run("desk", &["peers", "--nats", &url]);
    refused(&nobody, 255, &["wants to know who connects", "nats://TOKEN@HOST:PORT"]);
    // A leader is not made a worker behind anybody's back.
    refused(&machines.run("lead", &["join", "127.0.0.1"]), 1, &["lead, leads the fleet", "--stop-leading"]);

    let init = ["init", "--id", "lead", "--operator", "alice"];
    let asked = machines.run("lead", &init);
    refused(&asked, 1, &["a fleet without identities", "manages it; in it are also vps", "d init --convert"]);
    assert!(!machines.home("lead").join("fleet").exists(), "nothing is made before that is said");
    assert_eq!(machines.echo("lead", "vps").expect_success().out(), "ran\n");
    let made = machines.run("lead", &[&init[..], &["--convert"]].concat()).expect_success();
    assert_eq!(made.out(), format!("made a fleet: leader lead, operator alice, bus {url}\n"));
    assert!(made.err().contains("`d invite vps` here, then `d join TOKEN` on vps"), "{made:?}");
    machines.join("vps", &["vps"]);
    assert_eq!(machines.echo("lead", "vps").expect_success().out(), "ran\n");
}

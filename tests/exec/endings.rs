//! How it ended: exit codes, `d`'s own failures with their lines, and `--report`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::bench::{
    PATIENCE, Report, check_report, fleet, own_failure, refused, reported, says, sh, sh_with,
};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::procs;

#[test]
fn the_commands_own_code_is_the_code() {
    let fleet = fleet();
    for code in [0, 1, 2, 75, 125, 126, 127, 128, 129, 141, 200, 249, 251, 252, 254, 255] {
        let line = format!("exit {code}");
        let (finished, report) = reported(&fleet, &["exec", "w1", "-C", "/", "--sh", &line]);
        let finished = finished.expect_code(code);
        // Nothing of `d`'s own: so one of these is told from a failure of `d`.
        assert!(finished.stdout.is_empty() && finished.stderr.is_empty(), "{finished:?}");
        check_report(&report, "w1", code);
        assert_eq!(report["ending"], json!({ "exited": { "code": code } }));
    }
}

#[test]
fn an_end_by_a_signal_is_128_and_the_signal() {
    let fleet = fleet();
    for signal in
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGSEGV, Signal::SIGKILL, Signal::SIGTERM]
    {
        let name = signal.as_str().trim_start_matches("SIG");
        let number = signal as i32;
        let script = format!("$| = 1; print qq(so far\\n); kill {name} => $$; sleep 1000");
        let line = format!("ulimit -c 0; exec perl -e '{script}'");
        let (finished, report) = reported(&fleet, &["exec", "w1", "-C", "/", "--sh", &line]);
        assert_eq!(finished.expect_code(128 + number).out(), "so far\n");
        assert_eq!(report["ending"], json!({ "signalled": { "signal": name, "number": number } }));
    }
}

#[test]
fn a_report_of_success_tells_everything() {
    let fleet = fleet();
    let (finished, report) = reported(&fleet, &["exec", "w1", "-C", "/", "--sh", "echo out; echo more >&2"]);
    finished.expect_success();
    check_report(&report, "w1", 0);
    assert_eq!((&report["peer_id"], &report["ending"]), (&json!("w1"), &json!({ "exited": { "code": 0 } })));
    let result = &report["result"];
    assert_eq!(result["type"], "peerbus.result.v1");
    assert_eq!((&result["id"], &result["peer_id"]), (&report["id"], &json!("w1")));
    assert_eq!(result.get("peer"), None, "{result}");
    let total = |text: &str| json!({ "bytes": text.len(), "blake3": blake3::hash(text.as_bytes()).to_hex().as_str() });
    assert_eq!((&result["out"], &result["err"]), (&total("out\n"), &total("more\n")));
    assert_eq!((&result["killed"], &result["left_running"]), (&json!(0), &json!(0)));
    assert_eq!(result["output_open"], false);
    assert!(result["duration_ms"].is_u64() && result["rusage"]["max_rss_kib"].as_u64() > Some(0), "{result}");
}

#[test]
fn a_report_that_cannot_be_written_is_said_first() {
    let fleet = fleet();
    let ran = fleet.path().join("ran");
    for place in ["/no/such/place/r.json", "/", "/etc/passwd/r.json"] {
        let touch = ["exec", "w1", "-C", "/", "--report", place, "--", "touch", ran.to_str().unwrap()];
        let said = own_failure(fleet.d(touch), 2, "");
        assert!(said.contains(place), "{said}");
    }
    assert!(!ran.exists(), "it is said before anything runs");
}

/// What somebody named is written to as a shell would, and stays what it is.
#[test]
fn a_report_goes_to_whatever_is_named() {
    let fleet = fleet();
    let d = env!("CARGO_BIN_EXE_d");
    let run = |line: &str| {
        let line = format!("r() {{ {d} exec w1 -C / --report \"$@\" -- echo out; }}; {line}");
        fleet
            .command(["unused"])
            .instead("bash")
            .with(|command| _ = command.args(["-c", &line]))
            .run()
            .expect_success()
    };
    let ending = r#"{"type":"peerbus.report.v1","#;
    let out = run("r -").out();
    assert!(out.starts_with("out\n") && out[4..].starts_with(ending), "{out}");
    let finished = run("r /dev/stderr");
    assert!(finished.out() == "out\n" && finished.err().starts_with(ending), "{finished:?}");
    // Not from its beginning, and not instead of it.
    let logged = run("{ echo before; r /dev/stderr; echo after; } > log 2>&1; cat log").out();
    let lines: Vec<&str> = logged.lines().collect();
    assert!(
        matches!(&lines[..], ["before", "out", report, "after"] if report.starts_with(ending)),
        "{logged}"
    );
    let piped = run("r >(cat > copy) > /dev/null; until [ -s copy ]; do sleep 0.05; done; cat copy").out();
    assert!(piped.starts_with(ending), "{piped}");
    let kept =
        run("touch f; ln f g; ln -s f l; chmod 604 f; chown nobody f; r l; stat -c '%F %h %a %U' f; cat g")
            .out();
    assert!(
        kept.starts_with("out\nregular empty file 2 604 nobody\n")
            || kept.starts_with("out\nregular file 2 604 nobody\n"),
        "{kept}"
    );
    assert!(kept.lines().last().unwrap().starts_with(ending), "{kept}");
}

#[test]
fn a_full_disk_here_is_not_a_closed_pipe() {
    let fleet = fleet();
    let report = Report::new(&fleet);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let finished = sh_with(&fleet, &["--report", &report.path()], "seq 1000; sleep 1000")
        .with(|command| _ = command.stdout(full()))
        .run();
    let said = own_failure(finished, 74, "output failed: writing standard output: No space left on device");
    assert!(said.contains("the command was stopped"), "{said}");
    let report = report.read();
    assert_eq!(report["exit_code"], 74);
    assert!(report["output_failed"].as_str().unwrap().contains("No space left"), "{report}");
    let listed = fleet.command(["config", "show"]).with(|command| _ = command.stdout(full())).run();
    own_failure(listed, 74, "output failed: writing standard output: No space left on device");
}

#[test]
fn a_command_that_is_not_there() {
    let fleet = fleet();
    let (code, start) = (127, "not started: w1: command ");
    for name in ["no-such-command-anywhere", "/no/such/command", "./no-such-command", "/etc/passwd/command"] {
        let said = refused(
            &fleet,
            &["exec", "w1", "-C", "/tmp", "--", name],
            code,
            start,
            "not_started",
            "command_not_found",
        );
        assert!(said.contains(name), "{said}");
    }
    // What the shell says of it is the command's own output.
    let finished = sh(&fleet, "no-such-command-anywhere").run().expect_code(127);
    assert!(finished.err().contains("no-such-command-anywhere") && !finished.err().contains("d: "));
}

#[test]
fn a_command_that_cannot_be_executed() {
    let fleet = fleet();
    let plain = fleet.file("plain", "echo no\n");
    let lost = fleet.file("lost", "#!/no/such/interpreter\n");
    fs::set_permissions(&lost, fs::Permissions::from_mode(0o755)).unwrap();
    for name in [plain.to_str().unwrap(), lost.to_str().unwrap(), "/usr"] {
        let arguments = ["exec", "w1", "-C", "/tmp", "--", name];
        let start = "not started: w1: executing ";
        let said = refused(&fleet, &arguments, 126, start, "not_started", "not_executable");
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn a_directory_that_cannot_be_entered() {
    let fleet = fleet();
    let file = fleet.file("file", "");
    let file = file.to_str().unwrap();
    for (directory, why) in [
        ("/no/such/place", "no_such_directory"),
        (file, "not_a_directory"),
        (&format!("{file}/below"), "not_a_directory"),
        (&format!("/{}", "x".repeat(300)), "no_such_directory"),
    ] {
        let arguments = ["exec", "w1", "-C", directory, "--", "true"];
        let start = "not started: w1: entering directory /";
        let said = refused(&fleet, &arguments, 249, start, "not_started", why);
        assert!(said.contains(directory), "{said}");
    }
    // Under its old name the command fails in the same way.
    let old = ["execOnPeer", "--peer", "w1", "--directory", "/no/such/place", "--shellCmd", "true"];
    own_failure(fleet.d(old), 249, "not started: w1: entering directory /no/such/place");
}

#[test]
fn a_peer_that_takes_no_directory_of_its_own_asks_for_one() {
    let fleet = fleet();
    let arguments = ["exec", "w1", "--", "true"];
    let said =
        refused(&fleet, &arguments, 2, "refused: w1: no directory is named", "refused", "no_directory");
    assert!(said.contains("-C DIR") && said.contains("`directory`"), "the way out is named: {said}");
}

#[test]
fn a_peer_that_is_away() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    fleet.daemon("w1").kill9();
    let (finished, report) = reported(&fleet, &["exec", "w1", "-C", "/", "--", "true"]);
    let said = own_failure(finished, 253, "offline: Peer is offline: w1");
    assert!(said.contains("--wait"), "what to do next: {said}");
    check_report(&report, "w1", 253);
    assert_eq!((&report["ending"], &report["result"]), (&json!({ "offline": {} }), &Value::Null));
    let old = ["execOnPeer", "--peer", "w1", "--directory", "/", "--shellCmd", "true"];
    let finished = fleet.d(old).expect_code(253);
    assert!(
        finished.stdout.is_empty() && finished.err().starts_with("Peer is offline: w1\nd: offline: "),
        "{finished:?}"
    );
    // A word a leader can look up is a known name, and one it cannot is not found.
    let (finished, report) = reported(&fleet, &["exec", "nosuch", "-C", "/", "--", "true"]);
    own_failure(finished, 254, "not found: Peer not found: nosuch");
    check_report(&report, "nosuch", 254);
    assert_eq!(report["ending"]["not_started"]["why"], "no_such_peer");
    let finished = fleet
        .d(["execOnPeer", "--peer", "nosuch", "--directory", "/", "--shellCmd", "true"])
        .expect_code(254);
    assert!(finished.err().starts_with("Peer not found: nosuch\nd: not found: "), "{finished:?}");
    assert!(finished.stdout.is_empty());
}

#[test]
fn a_peer_that_is_away_while_the_registry_is_too() {
    let fleet = fleet();
    let (finished, report) = reported(&fleet, &["exec", "w2", "-C", "/", "--", "true"]);
    own_failure(finished, 253, "offline: Peer is offline: w2, or unknown: the registry is away");
    check_report(&report, "w2", 253);
}

#[test]
fn a_peer_that_is_waited_for() {
    let fleet = Fleet::builder().start();
    let mut live = fleet.spawn_d(["exec", "w1", "-C", "/", "--wait", "60s", "--", "echo", "there"]);
    // It must not give up before the peer comes.
    assert!(live.try_wait(std::time::Duration::from_millis(500)).is_none());
    fleet.add(DaemonOptions::worker("w1"));
    assert_eq!(live.wait(PATIENCE).expect_success().out(), "there\n");
}

#[test]
fn nobody_knows_how_a_job_of_a_dead_daemon_ended() {
    let fleet = fleet();
    let (marker, report) = (procs::marker(), Report::new(&fleet));
    let line = format!(": {marker}; echo begun; sleep 1000");
    let mut live = sh_with(&fleet, &["--report", &report.path()], &line).spawn();
    says(&mut live, "begun");
    fleet.daemon("w1").kill9();
    fleet.daemon("w1").start();
    fleet.daemon("w1").wait_until_ready();
    // What was left of it is stopped before the next daemon serves.
    assert_eq!(procs::with_argument(&marker), []);
    let finished = live.wait(PATIENCE).expect_code(251);
    assert_eq!(finished.out(), "begun\n");
    let last = finished.err().lines().last().unwrap_or_default().to_owned();
    let report = report.read();
    assert!(last.starts_with("d: unknown: "), "{finished:?}");
    assert!(last.contains(&format!("exec.w1.{}.result", report["id"].as_str().unwrap())), "{last}");
    check_report(&report, "w1", 251);
    assert!(report["ending"]["unknown"]["why"].is_string(), "{report}");
}

#[test]
fn a_bus_that_is_away() {
    let fleet = fleet();
    fleet.server().kill();
    let (finished, report) = reported(&fleet, &["exec", "w1", "-C", "/", "--", "true"]);
    let said = own_failure(finished, 255, "bus unreachable: ");
    assert!(said.contains(&fleet.url()) && said.contains("NATS_URL"), "{said}");
    check_report(&report, "w1", 255);
    assert_eq!(report["ending"]["not_started"]["why"], "bus_unreachable");
    assert_eq!(report["peer_id"], Value::Null);
}

#[test]
fn exit_codes_are_documented() {
    let fleet = Fleet::builder().start();
    let help = fleet.d(["help", "exit-codes"]).expect_success().out();
    for code in ["127", "126", "130", "141", "255", "254", "253", "252", "251", "250", "249", "128+n"] {
        assert!(help.contains(code), "{code}: {help}");
    }
}

#[test]
fn a_hostname_leads_to_its_peer() {
    let fleet = Fleet::builder().leader("lead").start();
    let hostname = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
    let finished = fleet.d(["exec", &hostname, "-C", "/", "--sh", "echo $PEERBUS_PEER"]).expect_success();
    assert_eq!(finished.out(), "lead\n");
}

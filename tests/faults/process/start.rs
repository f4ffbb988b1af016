//! Starting, ending, and every reason for not starting.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use peerbus::process::{Command, ExitKind, Spec, Stdin};
use peerbus::protocol::ending::StartFailure;
use tokio::io::AsyncWriteExt;

use crate::harness::both;
use crate::process::bench::{Bench, all_of, argv, exit_of, gone, line};

both! {
    exit_code signal_ending usage stdin_pipe stdin_null dropped_process_is_reaped
    directory_errors command_errors bad_interpreter user_errors a_failure_leaves_nothing large_order
    the_shell_may_be_chosen
}

async fn exit_code(bench: Bench) {
    let mut started = bench.start(&line("echo out; echo err >&2; exit 7")).expect("started");
    assert!(started.process.identity().pid > 1);
    assert_eq!(all_of(started.stdout).await, "out\n");
    assert_eq!(all_of(started.stderr).await, "err\n");
    assert_eq!(exit_of(&mut started.process).await.status, ExitKind::Code(7));
    assert_eq!(exit_of(&mut started.process).await.status, ExitKind::Code(7), "asked again");
    assert!(!started.process.identity().is_alive().expect("seen"));
    assert_eq!(started.process.tree().count().expect("seen"), 0);
}

async fn signal_ending(bench: Bench) {
    assert_eq!(bench.run(&line("kill -9 $$")).await.exit.status, ExitKind::Signal(9));
}

async fn usage(bench: Bench) {
    let outcome = bench.run(&line("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")).await;
    let usage = outcome.exit.usage;
    assert!(usage.user_ms + usage.system_ms > 0 && usage.max_rss_kib > 100, "{usage:?}");
}

async fn stdin_pipe(bench: Bench) {
    let mut started = bench.start(&Spec { stdin: Stdin::Pipe, ..argv(&["cat"]) }).expect("started");
    let mut stdin = started.stdin.take().expect("a pipe");
    stdin.write_all(b"through\n").await.expect("written");
    drop(stdin);
    assert_eq!(all_of(started.stdout).await, "through\n");
    assert_eq!(exit_of(&mut started.process).await.status, ExitKind::Code(0));
}

async fn stdin_null(bench: Bench) {
    let started = bench.start(&argv(&["cat"])).expect("started");
    assert!(started.stdin.is_none());
    assert_eq!(all_of(started.stdout).await, "");
}

async fn dropped_process_is_reaped(bench: Bench) {
    let started = bench.start(&argv(&["true"])).expect("started");
    let identity = started.process.identity().clone();
    drop(started);
    gone(&identity).await;
}

async fn directory_errors(bench: Bench) {
    let file = bench.state.path().join("file");
    fs::write(&file, "").expect("a file");
    let closed = bench.state.path().join("closed");
    fs::create_dir(&closed).expect("a directory");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
    // Root may enter anything.
    let other = (peerbus::process::host::current_user() == "root").then_some("nobody");
    let closed = closed.display().to_string();
    let missing = bench.state.path().join("missing").display().to_string();
    let cases = [
        (missing.as_str(), None, StartFailure::NoSuchDirectory),
        (&file.display().to_string(), None, StartFailure::NotADirectory),
        (&closed, other, StartFailure::DirectoryDenied),
        ("relative", None, StartFailure::NoSuchDirectory),
    ];
    for (directory, user, why) in cases {
        let spec = Spec { directory: directory.into(), user: user.map(str::to_owned), ..argv(&["true"]) };
        let error = bench.start(&spec).expect_err(directory);
        assert_eq!(error.why, why, "{error}");
        assert!(error.message.contains(directory), "{error}");
    }
}

async fn command_errors(bench: Bench) {
    let plain = bench.state.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").expect("a file");
    let garbage = bench.state.path().join("garbage");
    fs::write(&garbage, "no program").expect("a file");
    fs::set_permissions(&garbage, fs::Permissions::from_mode(0o755)).expect("executable");
    let cases = [
        ("no-such-command", StartFailure::CommandNotFound),
        ("/no/such/command", StartFailure::CommandNotFound),
        ("/etc/passwd/x", StartFailure::CommandNotFound),
        ("/", StartFailure::NotExecutable),
        (&plain.display().to_string(), StartFailure::NotExecutable),
        (&garbage.display().to_string(), StartFailure::NotExecutable),
    ];
    for (command, why) in cases {
        let error = bench.start(&argv(&[command])).expect_err(command);
        assert_eq!(error.why, why, "{error}");
        assert!(error.message.contains(command), "{error}");
    }
    assert_eq!(bench.start(&argv(&[])).expect_err("empty").why, StartFailure::CommandNotFound);
    assert_eq!(bench.start(&argv(&["a\0b"])).expect_err("a NUL").why, StartFailure::System);
}

async fn bad_interpreter(bench: Bench) {
    let script = bench.state.path().join("script");
    fs::write(&script, "#!/no/such/interpreter -x\n").expect("a file");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
    let error = bench.start(&argv(&[&script.display().to_string()])).expect_err("no interpreter");
    assert_eq!(error.why, StartFailure::NotExecutable, "{error}");
    assert!(error.message.contains("/no/such/interpreter does not exist"), "{error}");
    // What an editor on Windows leaves: the interpreter is there, but for a character that no terminal shows.
    fs::write(&script, "#!/bin/sh\r\necho hi\r\n").expect("a file");
    let error = bench.start(&argv(&[&script.display().to_string()])).expect_err("no interpreter");
    assert_eq!(error.why, StartFailure::NotExecutable, "{error}");
    for said in [r#""/bin/sh\r" does not exist"#, "CRLF"] {
        assert!(error.message.contains(said), "{error}");
    }
}

async fn user_errors(bench: Bench) {
    let error =
        bench.start(&Spec { user: Some("no-such-user".into()), ..argv(&["true"]) }).expect_err("nobody");
    assert_eq!(error.why, StartFailure::NoSuchUser);
    assert!(error.message.contains("no-such-user"), "{error}");
}

async fn a_failure_leaves_nothing(bench: Bench) {
    let spec = argv(&["no-such-command"]);
    bench.start(&spec).expect_err("not found");
    let left = match bench.job_scope(&spec) {
        peerbus::process::JobScope::Cgroup { path } => path,
        peerbus::process::JobScope::Reaper { lock } => lock,
    };
    assert!(!left.exists(), "{}", left.display());
}

/// More than a socket takes at once.
async fn large_order(bench: Bench) {
    let mut spec = line("echo ${#BIG0} ${#BIG9}");
    spec.env.extend((0..10).map(|n| (format!("BIG{n}"), "x".repeat(100_000))));
    assert_eq!(bench.output(&spec).await, "100000 100000\n");
}

async fn the_shell_may_be_chosen(bench: Bench) {
    let with = |shell: Option<&str>, line: &str| Spec {
        command: Command::Shell { shell: shell.map(Into::into), line: line.to_owned() },
        ..argv(&[])
    };
    assert_eq!(bench.output(&with(Some("/bin/sh"), "echo $0")).await, "/bin/sh\n");
    let error = bench.start(&with(Some("/no/shell"), "true")).expect_err("no such shell");
    assert_eq!(error.why, StartFailure::CommandNotFound);
    let outcome = bench.run(&with(None, "--version")).await;
    assert_eq!(outcome.exit.status, ExitKind::Code(127), "not taken for an option of the shell");
    assert!(outcome.stderr.contains("not found"), "{outcome:?}");
}

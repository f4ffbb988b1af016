//! What a command finds around it: environment, directory, user, descriptors, signals.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use peerbus::process::{ExitKind, Links, Spec, real_directory};
use peerbus::protocol::ending::StartFailure;

use crate::harness::both;
use crate::process::bench::{Bench, argv, line};

both! {
    environment_is_clean path_of_the_job directories only_the_place_itself home_of_the_user another_user
    no_other_descriptors signals_are_default own_session
}

async fn environment_is_clean(bench: Bench) {
    let mut spec = argv(&["env"]);
    spec.env.push(("MINE".to_owned(), "a=b\nc".to_owned()));
    let output = bench.output(&spec).await;
    let names: Vec<&str> = output.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let machine = ["LANG", "TZ"].into_iter().filter(|name| std::env::var_os(name).is_some());
    let mut expected: Vec<&str> = ["HOME", "LOGNAME", "MINE", "PATH", "PEERBUS_JOB", "SHELL", "USER"]
        .into_iter()
        .chain(machine)
        .collect();
    expected.sort_unstable();
    assert_eq!(names, expected, "{output}");
    assert!(output.contains("MINE=a=b\nc\n"));
}

/// A command is looked for where the job's PATH says, not the daemon's.
async fn path_of_the_job(bench: Bench) {
    let command = bench.state.path().join("only-here");
    fs::write(&command, "#!/bin/sh\necho found\n").expect("a file");
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).expect("executable");
    let mut spec = argv(&["only-here"]);
    bench.start(&spec).expect_err("not in the usual PATH");
    spec = argv(&["only-here"]);
    spec.env.push(("PATH".to_owned(), format!("/nowhere:{}:/bin", bench.state.path().display())));
    assert_eq!(bench.output(&spec).await, "found\n");
    spec = Spec { directory: bench.state.path().display().to_string(), ..argv(&["./only-here"]) };
    assert_eq!(bench.output(&spec).await, "found\n", "relative to the job's directory");
}

async fn directories(bench: Bench) {
    let odd = bench.state.path().join("a b'\"$(touch x);");
    fs::create_dir(&odd).expect("a directory");
    let odd = fs::canonicalize(&odd).expect("a path").display().to_string();
    let spec = Spec { directory: odd.clone(), ..argv(&["pwd"]) };
    assert_eq!(bench.output(&spec).await, format!("{odd}\n"));
}

/// Who decided by the place a directory leads to gets that place, or nothing.
async fn only_the_place_itself(bench: Bench) {
    let place = bench.state.path().canonicalize().expect("a path");
    fs::create_dir_all(place.join("app/src")).expect("directories");
    std::os::unix::fs::symlink("app", place.join("link")).expect("a link");
    let at = |directory: &str| {
        let directory = place.join(directory).display().to_string();
        Spec { directory, links: Links::Refused, ..argv(&["pwd"]) }
    };
    assert_eq!(bench.output(&at("app/src")).await, format!("{}/app/src\n", place.display()));
    for elsewhere in ["link", "link/src", "app/../app", "app/src/..", "app/", "link/.."] {
        let error = bench.start(&at(elsewhere)).expect_err(elsewhere);
        assert_eq!(error.why, StartFailure::NoSuchDirectory);
        assert!(error.message.contains("leads elsewhere now"), "{elsewhere}: {error}");
    }
    // What was a directory when it was looked at, and is a link now.
    let asked = real_directory(at("app/src").directory.as_str(), None).expect("a place");
    fs::rename(place.join("app"), place.join("moved")).expect("moved");
    std::os::unix::fs::symlink("moved", place.join("app")).expect("a link");
    assert_eq!(asked, place.join("app/src"));
    bench.start(&at("app/src")).expect_err("it leads elsewhere now");
}

async fn home_of_the_user(bench: Bench) {
    let home = bench.output(&line("echo $HOME")).await;
    assert_eq!(bench.output(&Spec { directory: "~".to_owned(), ..argv(&["pwd"]) }).await, home);
    let error =
        bench.start(&Spec { directory: "~/no/such".to_owned(), ..argv(&["pwd"]) }).expect_err("missing");
    assert!(error.message.contains(&format!("{}/no/such", home.trim())), "{error}");
}

async fn another_user(bench: Bench) {
    assert!(
        peerbus::process::host::is_root(),
        "root is missing: only root can start a command as another user; run the tests as root"
    );
    let as_nobody = |text| Spec { user: Some("nobody".to_owned()), ..line(text) };
    let expected =
        bench.output(&line("id -u nobody; id -G nobody; getent passwd nobody | cut -d: -f6")).await;
    assert_eq!(bench.output(&as_nobody("id -u; id -G; echo $HOME")).await, expected);
    assert_eq!(
        bench.output(&as_nobody("echo $USER $LOGNAME; id -ru; id -rg")).await.lines().next(),
        Some("nobody nobody")
    );
    assert_eq!(
        bench.run(&as_nobody("echo 0 > /proc/self/oom_score_adj; : > /etc/x-test")).await.exit.status,
        ExitKind::Code(1)
    );
}

async fn no_other_descriptors(bench: Bench) {
    // One that a careless library might have left open for children.
    let file = fs::File::open("/dev/null").expect("a file");
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
        .expect("inheritable");
    let output = bench.output(&argv(&["ls", "/proc/self/fd"])).await;
    // The fourth is the directory that ls itself reads.
    assert_eq!(output, "0\n1\n2\n3\n");
}

async fn signals_are_default(bench: Bench) {
    let output = bench.output(&argv(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])).await;
    for line in output.lines() {
        assert!(line.ends_with("\t0000000000000000"), "{output}");
    }
    assert_eq!(output.lines().count(), 2);
}

async fn own_session(bench: Bench) {
    let output = bench.output(&line("echo $$; ps -o sid=,pgid= -p $$ | xargs -n1")).await;
    let ids: Vec<&str> = output.lines().collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{output}");
}

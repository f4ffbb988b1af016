//! `d config`: what is in force, and changing it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::child::Finished;
use crate::harness::fleet::DCommand;
use crate::harness::scratch::Scratch;
use serde_json::Value;

fn d(scratch: &Scratch, words: &[&str]) -> DCommand {
    DCommand::new(scratch.path(), words).env("PEERBUS_CONFIG", scratch.path().join("c.toml"))
}

fn shown(finished: Finished) -> Vec<(String, String, String)> {
    let text = |setting: &Value, key: &str| setting[key].as_str().unwrap().to_owned();
    let lines = finished.expect_success().out();
    let settings: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    settings.iter().map(|one| (text(one, "key"), text(one, "value"), text(one, "from"))).collect()
}

#[test]
fn what_is_set_is_in_force_until_it_is_unset() {
    let scratch = Scratch::new();
    let file = scratch.file("c.toml", "# mine\nrole = \"worker\"\n");
    let from = format!("file {}", file.display());
    d(&scratch, &["config", "set", "nats", "nats://10.0.0.1:4222"]).run().expect_success();
    d(&scratch, &["config", "set", "max_jobs", "7"]).run().expect_success();
    let all = shown(d(&scratch, &["config", "show", "--json"]).run());
    assert!(all.contains(&("nats".into(), "nats://10.0.0.1:4222".into(), from.clone())), "{all:?}");
    assert!(all.contains(&("max_jobs".into(), "7".into(), from)), "{all:?}");
    assert!(all.iter().any(|(key, _, from)| key == "peer_id" && from == "default"), "{all:?}");
    d(&scratch, &["config", "unset", "nats"]).run().expect_success();
    let all = shown(d(&scratch, &["config", "show", "--json"]).run());
    assert!(all.contains(&("nats".into(), "nats://127.0.0.1:4222".into(), "default".into())), "{all:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\nrole = \"worker\"\nmax_jobs = 7\n");
    let again = d(&scratch, &["config", "unset", "nats"]).run().expect_code(1);
    assert!(again.err().starts_with("d: nats: it is not set in "), "{again:?}");
    assert_eq!(
        d(&scratch, &["config", "path"]).run().expect_success().out(),
        format!("{}\n", file.display())
    );
}

#[test]
fn a_flag_beats_the_environment_beats_the_file() {
    let scratch = Scratch::new();
    scratch.file("c.toml", "nats = \"nats://file:1\"\nstate_dir = \"/file\"\n");
    let nats = |words: &[&str], environment: &str| {
        let all = shown(d(&scratch, words).env("NATS_URL", environment).run());
        let (_, value, from) = all.into_iter().find(|(key, ..)| key == "nats").unwrap();
        (value, from)
    };
    let show = ["config", "show", "--json"];
    assert_eq!(nats(&show, "").0, "nats://file:1");
    assert_eq!(nats(&show, "nats://env:1"), ("nats://env:1".into(), "variable NATS_URL".into()));
    let flagged = ["config", "show", "--json", "--nats", "nats://flag:1"];
    assert_eq!(nats(&flagged, "nats://env:1"), ("nats://flag:1".into(), "flag --nats".into()));
}

#[test]
fn secrets_are_not_shown_and_not_readable() {
    let scratch = Scratch::new();
    let file = scratch.file("c.toml", "");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    for (key, value) in [
        ("nats", "nats://s3cret@10.0.0.1"),
        ("database_url", "sqlite:///tmp/x.db"),
        ("env.API_KEY", "s3cret"),
        ("tasks.pull.env.TOKEN", "s3cret"),
    ] {
        d(&scratch, &["config", "set", key, value]).run().expect_success();
    }
    for words in [vec!["config", "show"], vec!["config", "show", "--json"]] {
        let said = d(&scratch, &words).run().expect_success();
        assert!(!said.out().contains("s3cret") && said.out().contains("***"), "{said:?}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn mistakes_are_named_and_change_nothing() {
    let scratch = Scratch::new();
    let file = scratch.file("c.toml", "nats = \"nats://a:1\"\n");
    for (words, said) in [
        (vec!["nast", "x"], "nast"),
        (vec!["role", "boss"], "boss"),
        (vec!["max_jobs", "0"], "max_jobs"),
        (vec!["broker_listen", "0.0.0.0:1"], "0.0.0.0"),
        (vec!["tags", "home"], "tags"),
        (vec!["directory", "relative"], "relative"),
        (vec!["nats.host", "x"], "not a table"),
        (vec!["nats"], "<VALUE>"),
        (vec![], "<KEY>"),
    ] {
        let words: Vec<&str> = ["config", "set"].into_iter().chain(words).collect();
        let done = d(&scratch, &words).run().expect_code(2);
        assert!(done.err().contains(said), "{words:?}: {done:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "nats = \"nats://a:1\"\n");
    for (text, said) in [("nats = ", "line 1"), ("[env\n", "line 1"), ("\n\nx = 1\n", "line 3")] {
        scratch.file("c.toml", text);
        for words in
            [vec!["config", "set", "role", "worker"], vec!["config", "unset", "nats"], vec!["config", "show"]]
        {
            assert!(d(&scratch, &words).run().expect_code(2).err().contains(said), "{text:?} {words:?}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "a half-written file is left as it is");
    }
}

#[test]
fn a_file_that_is_none_or_anyones_is_refused() {
    let scratch = Scratch::new();
    scratch.directory("c.toml");
    for words in [vec!["config", "show"], vec!["config", "set", "role", "worker"], vec!["peers"]] {
        let said = d(&scratch, &words).run().expect_code(2).err();
        assert!(said.contains("c.toml") && said.to_lowercase().contains("is a directory"), "{said}");
    }
    fs::remove_dir(scratch.path().join("c.toml")).unwrap();
    let file = scratch.file("c.toml", "role = \"worker\"\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    for words in
        [vec!["config", "show"], vec!["daemon", "run", "--id", "x"], vec!["config", "set", "role", "leader"]]
    {
        let said = d(&scratch, &words).run().expect_code(2).err();
        assert!(said.contains("anyone may write it") && said.contains("chmod o-w"), "{said}");
    }
    fs::remove_file(&file).unwrap();
    // Anyone may write this one, and nothing stays of it.
    d(&scratch, &["config", "show"]).env("PEERBUS_CONFIG", "/dev/null").run().expect_success();
    let said = d(&scratch, &["config", "show"]).run().expect_code(2).err();
    assert!(said.contains("there is no such file"), "{said}");
    // Writing makes it, and the folder it is in.
    let below = scratch.path().join("new/folder/c.toml");
    d(&scratch, &["config", "set", "role", "worker"]).env("PEERBUS_CONFIG", &below).run().expect_success();
    assert_eq!(fs::read_to_string(below).unwrap(), "role = \"worker\"\n");
}

#[test]
fn a_link_stays_a_link_and_many_at_once_lose_nothing() {
    let scratch = Scratch::new();
    let real = scratch.file("real.toml", "");
    std::os::unix::fs::symlink(&real, scratch.path().join("c.toml")).unwrap();
    let mut all: Vec<_> = (0..12)
        .map(|at| d(&scratch, &["config", "set", &format!("env.K{at}"), &format!("v{at}")]).spawn())
        .collect();
    for one in &mut all {
        one.wait(std::time::Duration::from_secs(30)).expect_success();
    }
    let text = fs::read_to_string(&real).unwrap();
    for at in 0..12 {
        assert!(text.contains(&format!("K{at} = \"v{at}\"\n")), "{text}");
    }
    assert!(fs::symlink_metadata(scratch.path().join("c.toml")).unwrap().is_symlink());
}

/// As under cron, or in a service: the home comes from the user database, and never is the root directory.
#[test]
fn without_home_the_user_database_names_it() {
    let nobody = nix::unistd::User::from_uid(65534.into()).unwrap().unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-user=65534"])
        .arg(crate::harness::d_program())
        .args(["config", "show", "--json"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let state = nobody.dir.join(".local/state/peerbus");
    let settings = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let shown: Vec<Value> = settings.filter(|setting| setting["key"] == "state_dir").collect();
    assert_eq!(shown.len(), 1, "{lines}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(shown[0]["value"], state.to_str().unwrap());
}

//! Files with settings that are wrong or cannot be read.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::bad_input::{Person, mistake};

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_line() {
    let person = Person::new();
    for (text, named) in [
        ("# fine\nnast = 'nats://x'\n", ["line 2", "`nast`"]),
        ("nats = 'nats://x'\n\nrole = 'boss'\n", ["line 3", "`boss`"]),
        ("max_jobs = 'many'\n", ["line 1", "many"]),
        ("max_jobs = 0\n", ["line 1", "zero"]),
        ("max_jobs = -1\n", ["line 1", "-1"]),
        ("directory = 'app'\n", ["line 1", "\"app\" is relative"]),
        ("\ncaller_grace = 'soon'\n", ["line 2", "\"soon\""]),
        ("broker_listen = '0.0.0.0'\n", ["line 1", "0.0.0.0"]),
        ("nats = 'a'\nnats = 'b'\n", ["line 2", "duplicate key"]),
        ("env = ['A']\n", ["line 1", "map"]),
        ("[env]\nA = 1\n", ["line 2", "has to be a text"]),
        ("this is not toml\n", ["line 1", "c.toml"]),
        ("nats = 'unclosed\n", ["line 1", "c.toml"]),
        ("[[table]]\n", ["line 1", "`table`"]),
    ] {
        let path = person.configured(text);
        for arguments in [
            ["exec", "w1", "-C", "/", "--config", &path, "--", "true"].as_slice(),
            &["daemon", "run", "--id", "w1", "--config", &path],
            &["peers", "--config", &path],
        ] {
            let said = person.mistypes(arguments, &named);
            assert!(said.starts_with("d: configuration ") && said.contains(&path), "{text}: {said}");
        }
        mistake(person.command(["peers"]).env("PEERBUS_CONFIG", &path).run(), &named);
    }
}

#[test]
fn a_configuration_that_cannot_be_read() {
    let person = Person::new();
    let directory = person.0.directory("a-directory").to_string_lossy().into_owned();
    let below_a_file = format!("{}/c.toml", person.configured(""));
    let no_text = person.0.file("no-text.toml", b"nats = '\xff'\n").to_string_lossy().into_owned();
    let mut files = vec![directory, below_a_file, no_text, "/no/such/config.toml".to_owned()];
    if !nix::unistd::geteuid().is_root() {
        let locked = person.0.file("locked.toml", "");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        files.push(locked.to_string_lossy().into_owned());
    }
    for path in files {
        person.mistypes(&["peers", "--config", &path], &["d: configuration ", &path]);
        person.mistypes(&["daemon", "run", "--id", "w1", "--config", &path], &["d: configuration ", &path]);
    }
}

#[test]
fn credentials_that_cannot_be_read() {
    let person = Person::new();
    let empty = person.0.file("empty.creds", "").to_string_lossy().into_owned();
    let garbage = person.0.file("garbage.creds", "s3cret-but-no-credentials").to_string_lossy().into_owned();
    for path in ["/no/such/file.creds".to_owned(), empty, garbage] {
        for finished in [
            person.command(["peers", "--creds", &path]).run(),
            person.command(["peers"]).env("PEERBUS_CREDS", &path).run(),
        ] {
            let said = mistake(finished, &["d: ", &path]);
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}

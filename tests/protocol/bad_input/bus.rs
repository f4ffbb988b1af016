//! A bus that is not there, or is none.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::bad_input::{Person, mistake};
use crate::harness::server::ServerOptions;

/// Long enough for anything on a busy machine that does not wait for a network.
const PROMPT: Duration = Duration::from_secs(20);

#[test]
fn a_bus_that_is_no_address_and_its_secret() {
    let person = Person::new();
    for url in [
        "nats://me:s3cret@h:port",
        "nats://me:s3cret@h:99999",
        "http://me:s3cret@h",
        "nats://me:s3cret@",
        "nats://s3cret@",
        "nats://me:s3cret@h:1,http://other",
        "://me:s3cret@h",
        "nats://me:s3cret@[::1",
        "nats://me:s3cret@h h",
    ] {
        for finished in [
            person.command(["exec", "w1", "-C", "/", "--nats", url, "--", "true"]).run(),
            person.command(["peers"]).nats(url).run(),
            person.command(["daemon", "run", "--id", "w1", "--nats", url]).run(),
            person
                .command(["--config", &person.configured(format!("nats = '{url}'\n")), "peers"])
                .env_remove("NATS_URL")
                .run(),
        ] {
            let said = mistake(finished, &[]);
            assert!(said.starts_with("d: ") && !said.contains("s3cret"), "{url}: {said}");
        }
    }
}

#[test]
fn a_bus_that_is_not_there_is_said_at_once() {
    let person = Person::new();
    let old = ["execOnPeer", "--peer", "w1", "--directory", "/", "--shellCmd", "true"];
    // Under their old names commands say it first in the words scripts know.
    let known = "Not connected to leader\n";
    for (arguments, first) in [
        (["exec", "w1", "-C", "/", "--", "true"].as_slice(), ""),
        (&["peers"], ""),
        (&["peer", "show", "w1"], ""),
        (&["ping", "w1"], ""),
        (&old, known),
        (&["listPeers"], known),
        (&["getPeerInfo", "--peer", "w1"], known),
    ] {
        let finished = person.command(arguments).run().expect_code(255);
        assert!(finished.stdout.is_empty(), "{finished:?}");
        let wanted = format!("{first}d: bus unreachable: ");
        assert!(
            finished.err().starts_with(&wanted) && finished.err().contains("127.0.0.1:1"),
            "{finished:?}"
        );
        assert!(finished.took < PROMPT, "{finished:?}");
    }
    let finished = person.command(["peers", "--nats", "nats://me:s3cret@127.0.0.1:1"]).run().expect_code(255);
    assert!(!finished.err().contains("s3cret"), "{finished:?}");
    let finished = person.command(["peers", "--nats", "nats://no.such.host.invalid"]).run().expect_code(255);
    assert!(finished.err().contains("no.such.host.invalid"), "{finished:?}");
}

#[test]
fn a_bus_that_never_speaks_is_given_up() {
    let person = Person::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let arguments = ["exec", "w1", "-C", "/", "--nats", &url, "--connect-timeout", "1s", "--", "true"];
    let began = Instant::now();
    let finished = person.command(arguments).run().expect_code(255);
    assert!(finished.err().starts_with("d: bus unreachable: "), "{finished:?}");
    assert!((Duration::from_secs(1)..PROMPT).contains(&began.elapsed()), "{finished:?}");
}

#[test]
fn something_that_is_no_bus_is_said() {
    let person = Person::new();
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", web.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in web.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let finished = person.command(["peers", "--nats", &url]).run().expect_code(255);
    assert!(finished.err().starts_with("d: bus unreachable: "), "{finished:?}");
    assert!(finished.took < PROMPT, "{finished:?}");
}

#[test]
fn a_wrong_token_is_said_and_not_repeated() {
    let person = Person::new();
    let server = ServerOptions::new().token("the-right-one").start();
    let at = server.address();
    for url in [format!("nats://{at}"), format!("nats://s3cret@{at}"), format!("nats://me:s3cret@{at}")] {
        let finished = person.command(["peers", "--nats", &url]).run().expect_code(255);
        assert!(finished.err().to_lowercase().contains("authorization"), "{finished:?}");
        assert!(!finished.err().contains("s3cret"), "{finished:?}");
        assert!(finished.took < PROMPT, "{finished:?}");
    }
    // The right one is taken: it has no registry to ask.
    let finished = person.command(["listPeers", "--nats", &format!("nats://the-right-one@{at}")]).run();
    assert!(
        finished.expect_code(255).err().starts_with("Not connected to leader\nd: registry unreachable: ")
    );
}

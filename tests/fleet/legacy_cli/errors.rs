//! What is missing, and what cannot be reached: the words scripts look for.

use std::time::Duration;

use crate::harness::fleet::{DCommand, Fleet};
use crate::harness::scratch::Scratch;

/// Every command that names a peer.
const ABOUT_A_PEER: [&str; 6] =
    ["execOnPeer", "getPeerInfo", "deletePeer", "remotePull", "remoteBd", "remoteDeployDaemon"];

fn with_peer<'a>(command: &'a str, peer: &'a str) -> Vec<&'a str> {
    let mut words = vec![command, "--peer", peer];
    if command == "execOnPeer" {
        words.extend(["--directory", "/", "--shellCmd", "true"]);
    }
    words
}

#[test]
fn a_missing_or_empty_argument_is_named() {
    let scratch = Scratch::new();
    for command in ABOUT_A_PEER {
        let wanted = format!("Missing required argument '--peer' for command '{command}'.\n");
        for words in [vec![command], with_peer(command, "")] {
            let said = DCommand::new(scratch.path(), words).run().expect_code(2);
            assert_eq!((said.out(), said.err()), (String::new(), wanted.clone()), "{command}");
        }
        let twice = DCommand::new(scratch.path(), [command, "--peer", "a", "--peer", "b"]).run();
        assert!(twice.expect_code(2).err().contains("cannot be used multiple times"), "{command}");
        let valueless = DCommand::new(scratch.path(), [command, "--peer"]).run().expect_code(2);
        assert!(valueless.err().contains("--peer"), "{command}");
    }
    for (missing, words) in [
        ("--directory", vec!["--peer", "vps", "--shellCmd", "true"]),
        ("--shellCmd", vec!["--peer", "vps", "--directory", "/"]),
    ] {
        let words = std::iter::once("execOnPeer").chain(words);
        let said = DCommand::new(scratch.path(), words).run().expect_code(2);
        let wanted = format!("Missing required argument '{missing}' for command 'execOnPeer'.\n");
        assert_eq!(said.err(), wanted);
    }
}

#[test]
fn a_peer_nobody_knows() {
    let fleet = Fleet::builder().leader("lead").start();
    // No machine that runs this is called so; a hostname is a name, too.
    for command in ABOUT_A_PEER {
        let said = fleet.d(with_peer(command, "known-to-nobody")).expect_code(254);
        let words = said.err();
        assert!(words.lines().any(|line| line == "Peer not found: known-to-nobody"), "{command}: {words}");
        assert_eq!(said.out(), "");
    }
}

#[test]
fn a_peer_that_is_away() {
    let fleet = Fleet::builder().leader("lead").worker("vps").start();
    fleet.wait_for_states(&[("lead", "online"), ("vps", "online")], Duration::from_secs(10));
    fleet.daemon("vps").terminate();
    for command in ["execOnPeer", "remotePull", "remoteBd", "remoteDeployDaemon"] {
        let said = fleet.d(with_peer(command, "vps")).expect_code(253);
        let words = said.err();
        assert!(words.lines().any(|line| line == "Peer is offline: vps"), "{command}: {words}");
        assert_eq!(said.out(), "");
    }
}

#[test]
fn no_leader_and_no_bus() {
    let fleet = Fleet::builder().worker("vps").start();
    for words in [vec!["listPeers"], with_peer("getPeerInfo", "vps"), with_peer("deletePeer", "vps")] {
        let said = fleet.d(&words).expect_code(255);
        assert_eq!(said.err().lines().next(), Some("Not connected to leader"), "{words:?}");
        assert_eq!(said.out(), "", "silence is no empty list");
    }
    fleet.server().kill();
    for command in ABOUT_A_PEER {
        let said = fleet.d(with_peer(command, "vps")).expect_code(255);
        let words = said.err();
        assert!(words.lines().any(|line| line == "Not connected to leader"), "{command}: {words}");
    }
}

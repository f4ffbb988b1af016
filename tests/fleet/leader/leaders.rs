//! There is one leader.

use std::time::{Duration, Instant};

use peerbus::bus::BusError;
use peerbus::leader::LeaderError;
use peerbus::protocol::heartbeat::{Heartbeat, PeerState, Role};
use peerbus::protocol::{Instance, subjects};

use crate::leader::scene::{Fleet, Leader, PATIENCE, Scene, beat, peer, within};

#[tokio::test]
async fn a_second_leader_is_refused() {
    let scene = Scene::new();
    let first = Leader::start(&scene, "first", &scene.database()).loaded().await;
    let database = scene.scratch.path().join("second.db");
    let second = Leader::start(&scene, "second", &database);
    let ended = within("the second gives up", second.task).await.expect("no panic");
    match ended {
        Err(LeaderError::AnotherLeader { peer, instance }) => {
            assert_eq!((peer.as_str(), instance), ("first", first.instance));
        }
        other => panic!("{other:?}"),
    }
    assert!(!database.exists(), "a leader that is refused touches nothing");
    // Nor does it begin while the first one waits for its database.
    first.stop().await;
    let waiting = Leader::start(&scene, "waiting", &scene.scratch.path().join("no/registry.db"));
    let fleet = Fleet::join(&scene).await;
    while fleet.bus.request(subjects::LIST, "".into(), PATIENCE).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = Leader::start(&scene, "second", &database);
    let ended = within("the second gives up", second.task).await.expect("no panic");
    assert!(matches!(ended, Err(LeaderError::AnotherLeader { .. })), "{ended:?}");
    waiting.stop().await;
}

#[tokio::test]
async fn of_two_leaders_the_younger_gives_way_and_stands_in_when_the_other_is_gone() {
    let scene = Scene::new();
    let fleet = Fleet::join(&scene).await;
    let mut leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    let other = Instance::new();
    let rival = |seq, uptime_s| Heartbeat {
        role: Role::Leader,
        uptime_s,
        interval_ms: 60_000,
        ..beat("other", other, seq)
    };
    // A younger one is seen, and nothing else happens.
    let own = Heartbeat { role: Role::Leader, uptime_s: 500, ..beat("lead", leader.instance, 1) };
    fleet.beat(&own).await;
    fleet.beat(&rival(1, 5)).await;
    leader.until("the other is seen", |status| status.other_leader == Some(peer("other"))).await;
    assert_eq!(fleet.list().await.len(), 2);
    // An older one takes over.
    fleet.beat(&rival(2, 5_000)).await;
    let begun = Instant::now();
    let question = || fleet.bus.request(subjects::LIST, "{}".into(), Duration::from_secs(1));
    while !matches!(question().await, Err(BusError::NoResponders(_))) {
        assert!(begun.elapsed() < PATIENCE, "the younger one gives way");
    }
    // It turns out that nobody answers.
    while question().await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "somebody answers again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fleet.beat(&Heartbeat { state: PeerState::Leaving, ..rival(3, 5_000) }).await;
    leader.until("the other is gone", |status| status.other_leader.is_none()).await;
    leader.stop().await;
}

//! Who is there: joined, silent, gone, two at once, and no news where nothing changed.

use std::time::{Duration, Instant};

use peerbus::bus::Outgoing;
use peerbus::protocol::heartbeat::{Heartbeat, PeerState};
use peerbus::protocol::peers::{EventKind, Found, GetAnswer, Presence};
use peerbus::protocol::{Instance, decode, service, subjects};

use crate::harness::relay::Relay;
use crate::leader::scene::{Fleet, Leader, PATIENCE, QUICK_MS, Scene, beat, bus, peer, quick, within};

#[tokio::test]
async fn heartbeats_make_a_list_and_silence_and_farewells_are_seen() {
    let scene = Scene::new();
    let mut fleet = Fleet::join(&scene).await;
    let leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    let (silent, polite) = (Instance::new(), Instance::new());
    fleet.beat(&quick("silent", silent, 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "silent".into()));
    fleet.beat(&beat("polite", polite, 1)).await;
    let mut events = vec![fleet.event().await, fleet.event().await];
    events.sort_by_key(|(_, id)| id.clone());
    assert_eq!(events, [(EventKind::Joined, "polite".into()), (EventKind::Offline, "silent".into())]);
    fleet.beat(&Heartbeat { state: PeerState::Leaving, ..beat("polite", polite, 2) }).await;
    assert_eq!(fleet.event().await, (EventKind::Offline, "polite".into()));
    fleet.beat(&beat("silent", silent, 2)).await;
    assert_eq!(fleet.event().await, (EventKind::Online, "silent".into()));
    let rows = fleet.list().await;
    assert_eq!(rows.iter().map(|row| row.is_online).collect::<Vec<_>>(), [false, true]);
    assert_eq!((rows[1].hostname.as_str(), rows[1].instance), ("host-silent", Some(silent)));
    for (name, found) in [("polite", true), ("HOST-Polite", true), ("10.0.0.6", false), ("nobody", false)] {
        let answer = fleet.ask(subjects::GET, &format!("{{\"peer\":\"{name}\"}}")).await;
        let answer: GetAnswer = decode::json(&answer.payload).expect("an answer");
        match answer.found {
            Found::One { peer } => assert!(found && peer.peer_id.as_str() == "polite", "{name}"),
            Found::Many { ids } => assert_eq!((name, ids.len()), ("10.0.0.6", 2)),
            Found::None {} => assert_eq!(name, "nobody"),
        }
    }
    fleet.no_more_events();
    leader.stop().await;
}

#[tokio::test]
async fn two_daemons_of_one_id_are_a_conflict_until_one_is_alone() {
    let scene = Scene::new();
    let mut fleet = Fleet::join(&scene).await;
    let leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    let (one, two) = (Instance::new(), Instance::new());
    // Slowly enough that neither seems silent because a busy machine has let this test wait.
    let interval = Duration::from_secs(2);
    let twin = move |instance, seq| Heartbeat { interval_ms: 2000, ..beat("twin", instance, seq) };
    fleet.beat(&twin(one, 1)).await;
    fleet.beat(&twin(two, 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "twin".into()));
    fleet.beat(&twin(one, 2)).await;
    assert_eq!(fleet.event().await, (EventKind::Conflict, "twin".into()));
    fleet.until_states(&[("twin", Presence::Conflict)]).await;
    let bus = fleet.bus.clone();
    let goes_on = tokio::spawn(async move {
        for seq in 3.. {
            tokio::time::sleep(interval / 2).await;
            let _ =
                bus.publish(Outgoing::to(subjects::ALIVE).payload(decode::to_json(&twin(one, seq)))).await;
        }
    });
    assert_eq!(fleet.event().await, (EventKind::Online, "twin".into()));
    goes_on.abort();
    assert_eq!(fleet.event().await, (EventKind::Offline, "twin".into()));
    leader.stop().await;
}

#[tokio::test]
async fn a_restart_of_the_leader_is_no_news() {
    let scene = Scene::new();
    let mut fleet = Fleet::join(&scene).await;
    let leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    let (stays, left) = (Instance::new(), Instance::new());
    fleet.beat(&beat("stays", stays, 1)).await;
    fleet.beat(&beat("left", left, 1)).await;
    fleet.beat(&Heartbeat { state: PeerState::Leaving, ..beat("left", left, 2) }).await;
    for _ in 0..3 {
        fleet.event().await;
    }
    leader.stop().await;
    let mut pings = fleet.bus.subscribe("exec.stays.ping", None, 16).await;
    fleet.barrier().await;
    let leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    fleet.until_states(&[("left", Presence::Unknown), ("stays", Presence::Unknown)]).await;
    assert_eq!(fleet.list().await.iter().map(|row| row.is_online).collect::<Vec<_>>(), [false, true]);
    // It asks who was there for a sign of life, and takes the answer for one.
    let ping = within("a ping", pings.recv()).await.expect("the bus lives");
    let reply = ping.reply.expect("an inbox");
    assert!(subjects::is_inbox(&reply));
    let slow = Heartbeat { interval_ms: 60_000, ..beat("stays", stays, 2) };
    fleet.say(&reply, decode::to_json(&slow)).await;
    fleet.until_states(&[("left", Presence::Unknown), ("stays", Presence::Online)]).await;
    // Until it decides on those that are away, at three intervals of 5 s.
    fleet.until_states(&[("left", Presence::Offline), ("stays", Presence::Online)]).await;
    fleet.no_more_events();
    leader.stop().await;
}

#[tokio::test]
async fn a_new_leader_asks_everyone_and_finds_the_unknown() {
    let scene = Scene::new();
    let mut fleet = Fleet::join(&scene).await;
    let mut all = fleet.bus.subscribe(service::PING_ALL, None, 16).await;
    let mut pings = fleet.bus.subscribe("exec.w1.ping", None, 16).await;
    fleet.barrier().await;
    let leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    let question = within("a question to all", all.recv()).await.expect("the bus lives");
    let (instance, reply) = (Instance::new(), question.reply.expect("an inbox"));
    let identity = service::ServiceIdentity {
        peer: peer("w1"),
        instance,
        version: "0.1.0".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        metadata: [("peer".to_owned(), "w1".to_owned())].into(),
    };
    for garbage in ["", "[]", "{}"] {
        fleet.say(&reply, garbage).await;
    }
    let document = service::answer(service::ServiceQuery::Ping, &identity, &service::Counts::default());
    fleet.say(&reply, decode::to_json(&document)).await;
    let ping = within("a ping", pings.recv()).await.expect("the bus lives");
    fleet.say(&ping.reply.expect("an inbox"), decode::to_json(&beat("w1", instance, 1))).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "w1".into()));
    leader.stop().await;
}

#[tokio::test]
async fn a_restart_of_the_broker_is_no_news() {
    let scene = Scene::new();
    let mut fleet = Fleet::join(&scene).await;
    let leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    let ids = ["a", "b", "c"];
    let instances = ids.map(|_| Instance::new());
    for (id, instance) in ids.iter().zip(instances) {
        // They beat slowly enough to be missed by nobody.
        fleet.beat(&beat(id, instance, 1)).await;
        assert_eq!(fleet.event().await, (EventKind::Joined, (*id).into()));
    }
    fleet.until_states(&ids.map(|id| (id, Presence::Online))).await;
    let mut link = fleet.bus.link();
    let before = *link.borrow_and_update();
    scene.server.restart();
    within("the link is back", link.wait_for(|link| link.up && link.generation > before.generation))
        .await
        .expect("the bus lives");
    // The leader is back when it answers; it has not decided anything yet.
    let begun = Instant::now();
    while let Err(error) = fleet.bus.request(subjects::LIST, "{}".into(), Duration::from_secs(1)).await {
        assert!(begun.elapsed() < PATIENCE, "the leader comes back: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (id, instance) in ids.iter().zip(instances) {
        fleet.beat(&beat(id, instance, 2)).await;
    }
    fleet.until_states(&ids.map(|id| (id, Presence::Online))).await;
    fleet.no_more_events();
    leader.stop().await;
}

/// A path that carries nothing for a while without breaking: everyone seems silent, and nobody is.
#[tokio::test]
async fn silence_of_the_leaders_own_link_is_no_news() {
    let scene = Scene::new();
    let mut fleet = Fleet::join(&scene).await;
    let server = scene.server.address();
    // The relay has a runtime of its own, which must not begin or end inside this one.
    let relay = tokio::task::spawn_blocking(move || Relay::to(server)).await.expect("a relay");
    let settings = scene.settings("lead", &scene.database());
    let leader = Leader::start_with(bus(&relay.url(), "lead"), settings).loaded().await;
    let (instance, said) = (Instance::new(), fleet.bus.clone());
    let goes_on = tokio::spawn(async move {
        for seq in 1.. {
            for id in ["a", "b"] {
                let beat = decode::to_json(&quick(id, instance, seq));
                let _ = said.publish(Outgoing::to(subjects::ALIVE).payload(beat)).await;
            }
            tokio::time::sleep(Duration::from_millis(QUICK_MS / 2)).await;
        }
    });
    for _ in 0..2 {
        assert_eq!(fleet.event().await.0, EventKind::Joined);
    }
    relay.freeze();
    tokio::time::sleep(Duration::from_millis(QUICK_MS * 10)).await;
    relay.heal();
    fleet.until_states(&[("a", Presence::Online), ("b", Presence::Online)]).await;
    fleet.barrier().await;
    fleet.no_more_events();
    goes_on.abort();
    for _ in 0..2 {
        assert_eq!(fleet.event().await.0, EventKind::Offline);
    }
    leader.stop().await;
    tokio::task::spawn_blocking(move || drop(relay)).await.expect("the relay ends");
}

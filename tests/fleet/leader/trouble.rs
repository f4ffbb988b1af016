//! What the leader survives: garbage, too many peers, databases that are away, small messages.

use peerbus::bus::Outgoing;
use peerbus::leader::registry::{DatabaseUrl, Registry};
use peerbus::leader::{LeaderError, LeaderSettings, RegistryState};
use peerbus::protocol::peers::{EventKind, Presence};
use peerbus::protocol::{Instance, decode, subjects};

use crate::harness::server::ServerOptions;
use crate::leader::scene::{Fleet, Leader, PATIENCE, Scene, beat, error, within};

#[tokio::test]
async fn garbage_is_refused_or_ignored_and_stops_nobody() {
    let scene = Scene::new();
    let mut fleet = Fleet::join(&scene).await;
    let mut leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    let good = String::from_utf8(decode::to_json(&beat("good", Instance::new(), 1))).expect("text");
    let nested = "[".repeat(1_000_000);
    let garbage: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\x00\xff\xfe".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        nested.clone().into_bytes(),
        format!("{{\"peer_id\":{}", "{\"a\":".repeat(100_000)).into_bytes(),
        good.replace("\"good\"", "\"a.b\"").into_bytes(),
        good.replace("\"good\"", "\">\"").into_bytes(),
        good.replace("\"up\"", &format!("\"{}\"", "u".repeat(900_000))).into_bytes(),
        good.replace("5000", "0").into_bytes(),
        good.replace("5000", "18446744073709551615").into_bytes(),
        good.replace("5000", "-1").into_bytes(),
        good.replace("0.5", "1e999").into_bytes(),
        good.replace("host-good", &"h".repeat(256)).into_bytes(),
        good.replace("heartbeat.v1", "heartbeat.v9").into_bytes(),
        format!("{good}{good}").into_bytes(),
        good.as_bytes()[..good.len() / 2].to_vec(),
    ];
    for payload in &garbage {
        for subject in [subjects::ALIVE, subjects::LIST, subjects::GET] {
            // A `peers.list` with nothing in it asks for the first page.
            if subject == subjects::LIST && matches!(payload.as_slice(), b"" | b"{}" | b"[]") {
                continue;
            }
            fleet.say(subject, payload.clone()).await;
            let answer = fleet.bus.request(subject, payload.clone().into(), PATIENCE).await;
            let (word, code, message) = error(&answer.expect("a refusal"));
            assert_eq!((word.as_str(), code), ("bad_request", 400), "{message}");
            assert!(!message.is_empty() && message.len() < 2_000, "{} bytes", message.len());
        }
    }
    // Answers go to inboxes and nowhere else.
    let mut elsewhere = fleet.bus.subscribe("exec.>", None, 16).await;
    fleet.barrier().await;
    for subject in [subjects::LIST, subjects::ALIVE, subjects::GET] {
        fleet.bus.publish(Outgoing::to(subject).reply("exec.bob").payload("x")).await.expect("said");
        fleet
            .bus
            .publish(Outgoing::to(subject).reply("exec.bob").payload("{\"peer\":\"a\"}"))
            .await
            .expect("said");
    }
    fleet.beat(&beat("good", Instance::new(), 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "good".into()));
    fleet.until_states(&[("good", Presence::Online)]).await;
    leader.until("one peer", |status| status.peers == 1 && status.online == 1).await;
    while let Ok(message) = elsewhere.try_recv() {
        assert_eq!(message.subject, "exec.lead.ping", "only signs of life are asked for");
    }
    leader.stop().await;
}

#[tokio::test]
async fn garbage_peers_cannot_fill_the_registry() {
    let scene = Scene::new();
    let fleet = Fleet::join(&scene).await;
    let settings = LeaderSettings { max_peers: 5, ..scene.settings("lead", &scene.database()) };
    let mut leader = Leader::start_with(scene.bus("lead"), settings).loaded().await;
    for at in 0..100 {
        fleet.beat(&beat(&format!("p{at}"), Instance::new(), 1)).await;
    }
    leader.until("as many as may be", |status| status.peers == 5).await;
    fleet.barrier().await;
    assert_eq!(fleet.list().await.len(), 5);
    leader.stop().await;
}

#[tokio::test]
async fn a_database_that_comes_late_loses_no_heartbeat() {
    let scene = Scene::new();
    let mut fleet = Fleet::join(&scene).await;
    let folder = scene.scratch.path().join("mounted/later");
    let database = folder.join("registry.db");
    let mut leader = Leader::start(&scene, "lead", &database);
    let name = database.display().to_string();
    leader
        .until("the status says why", |status| match &status.registry {
            RegistryState::Waiting { why } => why.contains(&name) && why.contains("No such file"),
            RegistryState::Loaded => false,
        })
        .await;
    let instance = Instance::new();
    fleet.beat(&beat("early", instance, 1)).await;
    leader.until("the beat was heard", |status| status.peers == 1).await;
    for (subject, question) in [(subjects::LIST, ""), (subjects::GET, "{\"peer\":\"early\"}")] {
        let (word, code, message) = error(&fleet.ask(subject, question).await);
        assert_eq!((word.as_str(), code), ("registry_unavailable", 503));
        assert!(message.contains(&name), "{message}");
    }
    fleet.no_more_events();
    std::fs::create_dir_all(&folder).expect("a folder");
    assert_eq!(fleet.event().await, (EventKind::Joined, "early".into()));
    let rows = fleet.list().await;
    assert_eq!((rows.len(), rows[0].instance, rows[0].state), (1, Some(instance), Presence::Online));
    leader.stop().await;
    let stored =
        Registry::open(&DatabaseUrl::sqlite(&database)).await.expect("open").load().await.expect("rows");
    assert_eq!((stored.len(), stored[0].instance, stored[0].is_online), (1, Some(instance), true));
}

#[tokio::test]
async fn a_database_that_is_taken_away_delays_nobody_and_catches_up() {
    let scene = Scene::new();
    let mut fleet = Fleet::join(&scene).await;
    let mut leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    // As a full or broken disk would be: nothing can be written.
    let hidden = scene.scratch.path().join("hidden.db");
    std::fs::rename(scene.database(), &hidden).expect("moved");
    std::fs::create_dir(scene.database()).expect("in its place");
    fleet.beat(&beat("a", Instance::new(), 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "a".into()));
    fleet.until_states(&[("a", Presence::Online)]).await;
    leader.until("the outage shows", |status| status.registry != RegistryState::Loaded).await;
    fleet.beat(&beat("b", Instance::new(), 1)).await;
    assert_eq!(fleet.event().await, (EventKind::Joined, "b".into()));
    assert_eq!(fleet.list().await.len(), 2);
    std::fs::remove_dir(scene.database()).expect("taken away");
    leader.until("the registry is back", |status| status.registry == RegistryState::Loaded).await;
    leader.stop().await;
    let place = DatabaseUrl::sqlite(&scene.database());
    let stored = Registry::open(&place).await.expect("open").load().await.expect("rows");
    assert_eq!(stored.len(), 2, "all rows are written, also to a new database");
}

#[tokio::test]
async fn a_thousand_peers_fit_into_small_messages() {
    let scene = Scene::with(ServerOptions::new().max_payload(64 << 10));
    let fleet = Fleet::join(&scene).await;
    let mut leader = Leader::start(&scene, "lead", &scene.database()).loaded().await;
    for at in 0..1_000 {
        fleet.beat(&beat(&format!("p{at:04}"), Instance::new(), 1)).await;
    }
    leader.until("all are heard", |status| status.online == 1_000).await;
    let ids: Vec<String> = fleet.list().await.iter().map(|row| row.peer_id.to_string()).collect();
    assert_eq!(ids, (0..1_000).map(|at| format!("p{at:04}")).collect::<Vec<_>>());
    leader.stop().await;
}

#[tokio::test]
async fn a_database_of_an_unknown_kind_is_refused_at_once() {
    let scene = Scene::new();
    let database_url = Some("oracle://peerbus:hunter2@db/peers".to_owned());
    let settings = LeaderSettings { database_url, ..scene.settings("lead", &scene.database()) };
    let leader = Leader::start_with(scene.bus("lead"), settings);
    let ended = within("it ends", leader.task).await.expect("no panic").expect_err("refused");
    assert!(matches!(ended, LeaderError::Database(_)) && !ended.to_string().contains("hunter2"), "{ended}");
}

#[tokio::test]
async fn without_a_setting_the_registry_is_in_the_state_directory() {
    let scene = Scene::new();
    let settings = LeaderSettings { database_url: None, ..scene.settings("lead", &scene.database()) };
    let mut leader = Leader::start_with(scene.bus("lead"), settings).loaded().await;
    leader.until("it serves", |status| status.serving).await;
    assert!(scene.database().exists());
    leader.stop().await;
}

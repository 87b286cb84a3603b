//! What an embedded engine does, seen by its clients.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};
use chatflow_core::protocol::close;
use chatflow_core::store::MemoryStore;
use chatflow_core::{Authenticator, Credentials, Deliver, Engine, Identity, Live, MessageId, Result, Settings};
use support::{Client, request, text, text_with, v1};

#[tokio::test]
async fn a_message_is_answered_and_reaches_every_member() {
    let engine = Engine::builder().build().await.unwrap();
    let (mut ada, mut bob) = (Client::connect(&engine, request("7")).await, Client::connect(&engine, request("7")).await);
    let mut stranger = Client::connect(&engine, request("8")).await;
    support::eventually("all are members", async || engine.stats().registry.members == 3).await;
    ada.send(text("hello")).await;
    let answer = ada.answer().await;
    assert_eq!(answer["status"], "SUCCESS");
    for client in [&mut bob] {
        let broadcast = client.broadcast().await;
        assert_eq!(broadcast["message"], "hello");
        assert_eq!(broadcast["messageId"], answer["messageId"]);
        assert_eq!(broadcast["position"], answer["position"]);
        assert_eq!(broadcast["roomId"], "7");
    }
    stranger.send(text("elsewhere")).await;
    assert_eq!(stranger.broadcast().await["message"], "elsewhere", "the first that a stranger hears is its own");
}

#[tokio::test]
async fn the_same_id_again_is_answered_with_the_first_position_and_reaches_nobody() {
    let engine = Engine::builder().build().await.unwrap();
    let mut ada = Client::connect(&engine, request("7")).await;
    let mut other = v1(Some("7"));
    other.deliver = Deliver::None;
    let mut bob = Client::connect(&engine, other).await;
    let id = MessageId::now_v7();
    ada.send(text_with("once", id)).await;
    let first = ada.answer().await;
    bob.send(text_with("once", id)).await;
    assert_eq!(bob.answer().await["position"], first["position"]);
    bob.send(text_with("other", id)).await;
    assert_eq!(bob.answer().await["code"], "id_conflict");
    ada.send(text("twice")).await;
    ada.answer().await;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("twice") {
        seen.push(ada.broadcast().await["message"].as_str().unwrap().to_owned());
    }
    assert!(seen == ["once", "twice"] || seen == ["twice"], "{seen:?}");
}

/// What members see as the broker has it agrees with the history, however long ago a message came for the first time.
#[tokio::test]
async fn a_repeat_that_is_older_than_what_a_node_remembers_reaches_nobody() {
    let mut settings = Settings::default();
    (settings.live, settings.dedup_messages) = (Live::Accepted, 4);
    let building = Engine::builder().store(Arc::new(MemoryStore::new())).settings(settings).build();
    let engine = building.await.unwrap();
    let (mut ada, mut bob) = (Client::connect(&engine, v1(Some("7"))).await, Client::connect(&engine, v1(Some("7"))).await);
    support::eventually("both are members", async || engine.stats().registry.members == 2).await;
    let [old, other] = [MessageId::now_v7(), MessageId::new_v4()];
    let mut firsts = Vec::new();
    for (text, id) in [("old", old), ("other", other)] {
        ada.send(text_with(text, id)).await;
        firsts.push(ada.answer().await);
    }
    for n in 0..10 {
        ada.send(text(&n.to_string())).await;
        assert_eq!(ada.answer().await["status"], "SUCCESS");
    }
    for (text, id, first) in [("old", old, &firsts[0]), ("other", other, &firsts[1])] {
        ada.send(text_with(text, id)).await;
        assert_eq!(ada.answer().await["position"], first["position"]);
        ada.send(text_with("something else", id)).await;
        assert_eq!(ada.answer().await["code"], "id_conflict");
    }
    ada.send(text("end")).await;
    ada.answer().await;
    let expected: Vec<_> = ["old", "other", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "end"].map(str::to_owned).to_vec();
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("end") {
        seen.push(bob.broadcast().await["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, expected);
    assert_eq!(engine.stats().registry.broadcasts, 13);
    assert_eq!((engine.stats().repeats, engine.stats().conflicts), (2, 2));
}

#[tokio::test]
async fn ten_errors_in_a_row_close_the_connection() {
    let engine = Engine::builder().build().await.unwrap();
    let mut client = Client::connect(&engine, request("7")).await;
    for _ in 0..9 {
        client.send_text("{}".into()).await;
    }
    client.send(text("fine")).await;
    for _ in 0..10 {
        client.send_text("[]".into()).await;
    }
    assert_eq!(client.closed().await, close::POLICY);
}

#[tokio::test]
async fn several_rooms_on_one_connection() {
    let engine = Engine::builder().build().await.unwrap();
    let mut client = Client::connect(&engine, v1(None)).await;
    assert_eq!(client.event("welcome").await["durable"], false);
    for room in ["a", "b"] {
        client.send(serde_json::json!({"op": "join", "roomId": room, "ref": room})).await;
        assert_eq!(client.event("welcome").await["ref"], room);
        let mut frame = text(room);
        frame["roomId"] = room.into();
        client.send(frame).await;
        assert_eq!(client.broadcast().await["roomId"], room);
    }
    client.send(serde_json::json!({"op": "leave", "roomId": "a"})).await;
    assert_eq!(client.event("left").await["roomId"], "a");
    let mut frame = text("gone");
    frame["roomId"] = "a".into();
    client.send(frame).await;
    assert_eq!(client.answer().await["code"], "wrong_room");
}

#[tokio::test]
async fn who_comes_back_with_a_position_gets_what_it_missed() {
    let engine = Engine::builder().build().await.unwrap();
    let mut ada = Client::connect(&engine, request("7")).await;
    ada.send(text("1")).await;
    let position = ada.broadcast().await["position"].as_str().unwrap().to_owned();
    for i in 2..100 {
        ada.send(text(&i.to_string())).await;
    }
    let mut back = v1(Some("7"));
    back.after = Some(position.clone());
    let mut bob = Client::connect(&engine, back).await;
    let welcome = bob.event("welcome").await;
    assert_eq!((&welcome["recovered"], &welcome["position"]), (&true.into(), &position.into()));
    for i in 2..100 {
        assert_eq!(bob.broadcast().await["message"], i.to_string());
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_history_that_was_wiped_does_not_pretend_to_reach_back() {
    use chatflow_core::store::{SqliteConfig, SqliteStore};
    let dir = tempfile::tempdir().unwrap();
    let start = async |file: &str| {
        let store = SqliteStore::open(SqliteConfig::new(dir.path().join(file))).await.unwrap();
        Engine::builder().store(std::sync::Arc::new(store)).build().await.unwrap()
    };
    let comes_back = async |engine: &Engine, room: &str, after: &str| {
        let mut request = v1(Some(room));
        request.after = Some(after.to_owned());
        Client::connect(engine, request).await.event("welcome").await["recovered"] == true
    };
    let first = start("one.db").await;
    let mut client = Client::connect(&first, v1(Some("7"))).await;
    let quiet = client.event("welcome").await["position"].as_str().unwrap().to_owned();
    client.send(text("hello")).await;
    let spoken = client.broadcast().await["position"].as_str().unwrap().to_owned();
    first.shutdown(support::PATIENCE).await;

    let again = start("one.db").await;
    assert!(comes_back(&again, "7", &spoken).await && comes_back(&again, "7", &quiet).await);
    assert!(comes_back(&again, "never-spoken-in", &quiet).await, "an empty room has a whole history, too");
    assert!(!comes_back(&again, "7", "1:1").await, "an epoch that this history never had");
    again.shutdown(support::PATIENCE).await;

    let wiped = start("two.db").await;
    assert!(!comes_back(&wiped, "7", &spoken).await && !comes_back(&wiped, "7", &quiet).await);
}

#[tokio::test]
async fn only_what_survives_is_called_durable() {
    use chatflow_core::store::MemoryStore;
    let engine = Engine::builder().store(std::sync::Arc::new(MemoryStore::default())).build().await.unwrap();
    assert!(!engine.health().await.durable);
}

#[tokio::test]
async fn what_the_broker_refuses_is_answered_once_and_may_be_tried_again() {
    let mut full = MemoryBrokerConfig::default();
    full.entries = 0;
    let engine = Engine::builder().broker(Arc::new(InMemoryBroker::new(full))).build().await.unwrap();
    let mut ada = Client::connect(&engine, request("7")).await;
    let (first, second) = (MessageId::now_v7(), MessageId::now_v7());
    ada.send(text_with("hello", first)).await;
    ada.send(text_with("again", second)).await;
    for id in [first, second] {
        let answer = ada.answer().await;
        assert_eq!((&answer["code"], &answer["retryable"]), (&"overloaded".into(), &true.into()));
        assert!(answer["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0));
        assert_eq!(answer["messageId"], id.to_string());
    }
    let stats = engine.stats();
    assert_eq!((stats.accepted, stats.refused), (0, 2), "each counts once");
}

#[tokio::test]
async fn the_welcome_tells_the_rate_that_counts_for_who_was_let_in() {
    #[derive(Debug)]
    struct ByToken;
    #[async_trait::async_trait]
    impl Authenticator for ByToken {
        async fn authenticate(&self, shown: &Credentials) -> Result<Identity> {
            Ok(shown.token.as_deref().map(Identity::user).unwrap_or_default())
        }
    }
    let engine = Engine::builder().authenticator(ByToken).build().await.unwrap();
    for (token, rate) in [(None, 2_000), (Some("42"), 50)] {
        for room in [None, Some("7")] {
            let mut request = v1(room);
            request.credentials = Credentials::new(token.map(str::to_owned), None);
            let welcome = Client::connect(&engine, request).await.event("welcome").await;
            assert_eq!(welcome["limits"]["publishRate"], rate, "{token:?} in {room:?}");
        }
    }
}

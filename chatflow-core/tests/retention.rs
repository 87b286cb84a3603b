//! An engine whose history does not keep everything for ever.

#![allow(clippy::unwrap_used)]

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use chatflow_core::conformance::store::{at, batch};
use chatflow_core::store::{MemoryStore, SqliteConfig, SqliteStore};
use chatflow_core::{
    Ack, Draft, Engine, ErrorKind, LogId, MessageStore, NodeId, PageQuery, Position, RoomId, Settings, Stored, Timestamp, kind,
};
use faulty::Faulty;
use support::{Client, eventually, v1};

const HOUR: Duration = Duration::from_secs(3_600);

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn after(name: &str, position: Position) -> chatflow_core::ConnectRequest {
    let mut request = v1(Some(name));
    request.after = Some(position.to_string());
    request
}

/// Repeats are told for a moment only.
fn brief() -> Settings {
    let mut settings = Settings::default();
    settings.dedup_window = Duration::from_millis(100);
    settings
}

async fn publish(engine: &Engine, name: &str, text: &str) -> Position {
    let draft = Draft {
        sender: "7".into(),
        name: "ada".into(),
        kind: kind::TEXT,
        text: text.to_owned().into(),
        timestamp: "2026-11-20T12:00:00Z".into(),
        ..Draft::default()
    };
    engine.publish(&room(name), draft, Ack::Persisted).await.unwrap().position.unwrap()
}

async fn rows(engine: &Engine, name: &str) -> Vec<Stored> {
    engine.history(&room(name), &PageQuery::latest(1_000)).await.unwrap().messages
}

/// What was said in three rooms three years ago, as an engine with 16 logs leaves it. The last message of `mixed` is young.
async fn old(store: &dyn MessageStore) {
    for name in ["old", "mixed", "single"] {
        let log = LogId::of(name, 16);
        let lease = store.claim(log, &NodeId::from_static("earlier")).await.unwrap();
        let mut entries = batch(name, 1..=if name == "single" { 1 } else { 2_000 });
        if name == "mixed" {
            entries[1_900..].iter_mut().for_each(|stored| stored.message.at = Timestamp::now());
        }
        // Two rooms may share a log.
        let after = lease.through.offset;
        entries.iter_mut().for_each(|stored| stored.position.offset += after);
        store.commit(&lease, &entries, at(after as u64 + entries.len() as u64)).await.unwrap();
        store.release(&lease).await.unwrap();
    }
}

async fn what_is_old_goes_and_who_missed_it_is_told(store: Arc<dyn MessageStore>) {
    old(&*store).await;
    // Looked at every three seconds: summaries are counted first.
    let builder = Engine::builder().store(Arc::clone(&store)).settings(brief()).retention(Duration::from_secs(60));
    let engine = builder.node("node-1").build().await.unwrap();
    eventually("what is old is gone", async || engine.stats().removed == 1_999 + 1_900).await;
    assert_eq!((rows(&engine, "old").await.len(), rows(&engine, "mixed").await.len(), rows(&engine, "single").await.len()), (1, 100, 1));
    assert_eq!(engine.stats().removal_failures, 0);

    let kept = rows(&engine, "mixed").await[0].position;
    let gone = Position::new(kept.epoch, kept.offset - 10);
    let mut late = Client::connect(&engine, after("mixed", gone)).await;
    let welcome = late.event("welcome").await;
    assert_eq!((&welcome["recovered"], &welcome["reason"]), (&false.into(), &"not_kept".into()), "{welcome}");
    let mut plain = after("mixed", gone);
    plain.dialect = chatflow_core::protocol::Dialect::Plain;
    assert_eq!(Client::connect(&engine, plain).await.closed().await, 3010);
    for position in [Position::new(kept.epoch, kept.offset - 1), kept] {
        let mut in_time = Client::connect(&engine, after("mixed", position)).await;
        assert_eq!(in_time.event("welcome").await["recovered"], true, "{position}");
    }
    let next = publish(&engine, "old", "the room goes on").await;
    assert!(next > rows(&engine, "old").await[0].position);
    assert_eq!(rows(&engine, "old").await.len(), 2);

    let report = engine.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.unanswered, report.connections), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_goes_from_memory() {
    what_is_old_goes_and_who_missed_it_is_told(Arc::new(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_goes_from_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteConfig::new(folder.path().join("x.db"))).await.unwrap();
    what_is_old_goes_and_who_missed_it_is_told(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_tried_again_and_nothing_is_removed_unless_asked() {
    let store = Arc::new(Faulty::default());
    old(&*store).await;
    let engine = Engine::builder().store(store.clone()).build().await.unwrap();
    publish(&engine, "old", "young").await;
    assert_eq!(rows(&engine, "old").await.len(), 1_000);
    drop(engine);

    store.away.store(true, SeqCst);
    let builder = Engine::builder().store(store.clone()).settings(brief()).retention(Duration::from_secs(2));
    let engine = builder.build().await.unwrap();
    eventually("it fails, and again", async || engine.stats().removal_failures >= 2).await;
    assert_eq!(engine.stats().removed, 0);
    store.away.store(false, SeqCst);
    eventually("it is done", async || rows(&engine, "old").await.len() == 1).await;
    // What is said from now on becomes old as well.
    for n in 0..5 {
        publish(&engine, "new", &n.to_string()).await;
    }
    eventually("only the newest stays", async || rows(&engine, "new").await.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_kept_for_as_long_as_repeats_are_told() {
    let engine = Engine::builder().store(Arc::new(MemoryStore::new())).retention(Duration::from_secs(299)).build().await;
    let error = engine.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("dedup_window"), "{error}");
    assert!(Engine::builder().retention(HOUR).build().await.is_ok(), "without a history there is nothing to remove");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_catches_up_slowly_is_told_what_was_removed_meanwhile() {
    let store = Arc::new(MemoryStore::new());
    let mut settings = Settings::default();
    (settings.recent_messages, settings.recent_bytes) = (0, 0);
    let engine = Engine::builder().store(store.clone()).settings(settings).build().await.unwrap();
    let first = publish(&engine, "7", &"x".repeat(400)).await;
    let drafts = (0..3_000).map(|_| publish(&engine, "7", "x"));
    futures::future::join_all(drafts).await;
    for _ in 0..10 {
        publish(&engine, "7", "x").await;
    }

    let mut slow = Client::with_buffer(&engine, after("7", first), 1 << 10).await;
    eventually("it reads the first pages", async || engine.stats().caught_up >= 500).await;
    let log = LogId::of("7", 16);
    let lease = store.claim(log, &NodeId::from_static("somebody")).await.unwrap();
    let retention = store.retention().unwrap();
    let soon = Timestamp(Timestamp::now().0 + 1_000_000);
    while retention.remove(&lease, &room("7"), soon, 1_000).await.unwrap() > 0 {}
    assert_eq!(slow.event("welcome").await["recovered"], true);
    let mut last = first.offset;
    let code = loop {
        use futures::StreamExt;
        use tokio_tungstenite::tungstenite::Message;
        match slow.socket.next().await.unwrap().unwrap() {
            Message::Text(text) => {
                let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
                let Some(position) = frame["position"].as_str().filter(|_| frame.get("event").is_none()) else { continue };
                let offset = position.parse::<Position>().unwrap().offset;
                assert_eq!(offset, last + 1, "nothing is passed over in silence");
                last = offset;
            }
            Message::Close(close) => break u16::from(close.unwrap().code),
            _ => {}
        }
    };
    assert_eq!(code, 3010);
    assert!(last < first.offset + 3_010, "it had not read everything");
}

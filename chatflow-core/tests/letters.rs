//! Dead letters: moved into the database once that takes them, and replayed.

#![allow(clippy::unwrap_used)]

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use async_trait::async_trait;
use chatflow_core::store::{MemoryDeadLetters, SqliteConfig, SqliteStore};
use chatflow_core::{
    Ack, DeadLetter, DeadLetters, Draft, Engine, Error, ErrorKind, LogId, MessageId, PageQuery, Position, PublishError, Result, RoomId,
    Shelf, Timestamp, kind,
};
use faulty::Faulty;
use support::eventually;

/// Letters that can't be discarded while it is so: as if the node were killed each time just before it does.
#[derive(Debug, Default)]
struct Sticky {
    letters: MemoryDeadLetters,
    stuck: AtomicBool,
}

#[async_trait]
impl DeadLetters for Sticky {
    async fn put(&self, letters: &[DeadLetter]) -> Result<()> {
        self.letters.put(letters).await
    }

    async fn list(&self, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
        self.letters.list(after, limit).await
    }

    async fn discard(&self, log: LogId, position: Position) -> Result<bool> {
        if self.stuck.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "test", "killed"));
        }
        self.letters.discard(log, position).await
    }
}

fn draft(text: &str) -> Draft {
    let (sender, name, kind, timestamp) = ("1".into(), "ada".into(), kind::TEXT, "2026-11-20T11:02:10Z".into());
    Draft { sender, name, kind, timestamp, text: text.into(), ..Draft::default() }
}

fn room() -> RoomId {
    RoomId::new("7").unwrap()
}

/// A letter of a message that says `text`; of none when that is empty.
fn letter(engine: &Engine, offset: u128, text: &str) -> DeadLetter {
    let message = engine.message(&room(), &draft(text)).ok();
    let (id, entry) = message.map_or((MessageId::nil(), "garbage".into()), |message| (message.id, message.encode()));
    DeadLetter { log: LogId(3), position: Position::new(7, offset), id, room: Some(room()), at: Timestamp(0), reason: "why".into(), entry }
}

async fn texts(engine: &Engine) -> Vec<String> {
    let page = engine.history(&room(), &PageQuery::latest(1_000)).await.unwrap();
    let text = |stored| serde_json::from_slice::<serde_json::Value>(&engine.show(stored)).unwrap()["message"].as_str().unwrap().to_owned();
    page.messages.iter().map(text).collect()
}

async fn count(engine: &Engine, shelf: Shelf) -> usize {
    engine.dead_letters(shelf, None, 1_000).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_move_into_the_database_once_it_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chatflow.db");
    let store = SqliteStore::open(SqliteConfig::new(&path)).await.unwrap();
    let own = Arc::new(MemoryDeadLetters::new());
    let engine = Engine::builder().store(Arc::new(store)).dead_letters(own.clone()).build().await.unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    let letters: Vec<_> = (1..=250).map(|offset| letter(&engine, offset, "late")).collect();
    own.put(&letters).await.unwrap();
    eventually("it was tried", async || !engine.health().await.ready).await;
    assert_eq!((count(&engine, Shelf::Node).await, count(&engine, Shelf::Store).await), (250, 0));
    foreign.execute_batch("ROLLBACK").unwrap();
    eventually("they are moved", async || own.list(None, 1).await.unwrap().is_empty()).await;
    assert_eq!(engine.dead_letters(Shelf::Store, None, 1_000).await.unwrap(), letters);
    assert!(engine.discard_dead_letter(LogId(3), Position::new(7, 1)).await.unwrap());
    assert!(!engine.discard_dead_letter(LogId(3), Position::new(7, 1)).await.unwrap());
    assert_eq!(count(&engine, Shelf::Store).await, 249);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_letter_is_one_row_however_often_it_is_replayed() {
    let own = Arc::new(Sticky::default());
    let engine = Engine::builder().store(Arc::new(Faulty::default())).dead_letters(own.clone()).build().await.unwrap();
    let letters: Vec<_> = (1..=20).map(|offset| letter(&engine, offset, &offset.to_string())).collect();
    own.put(&letters).await.unwrap();
    own.stuck.store(true, SeqCst);
    let replays = letters.iter().chain(&letters).map(|letter| engine.replay(letter));
    for outcome in futures::future::join_all(replays).await {
        assert!(matches!(&outcome, Err(PublishError::Failed(error)) if error.to_string().contains("killed")), "{outcome:?}");
    }
    assert_eq!(count(&engine, Shelf::Node).await, 20, "not gone before they are");
    own.stuck.store(false, SeqCst);
    let first = engine.replay(&letters[0]).await.unwrap();
    let replays = letters.iter().chain(&letters).map(|letter| engine.replay(letter));
    let outcomes = futures::future::join_all(replays).await;
    assert_eq!(outcomes[0].as_ref().unwrap().position, first.position);
    assert_eq!(count(&engine, Shelf::Node).await, 0);
    assert_eq!(texts(&engine).await, (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_gone_only_once_its_message_is_in_the_history() {
    let (own, store) = (Arc::new(MemoryDeadLetters::new()), Arc::new(Faulty::default()));
    let engine = Engine::builder().store(store.clone()).dead_letters(own.clone()).build().await.unwrap();
    let one = letter(&engine, 1, "one");
    own.put(std::slice::from_ref(&one)).await.unwrap();
    store.away.store(true, SeqCst);
    let replaying = tokio::spawn({
        let (engine, one) = (engine.clone(), one.clone());
        async move { engine.replay(&one).await }
    });
    eventually("it is on its way", async || engine.stats().accepted == 1).await;
    eventually("it was tried", async || !engine.health().await.ready).await;
    assert!(!replaying.is_finished());
    assert_eq!(count(&engine, Shelf::Node).await, 1);
    store.away.store(false, SeqCst);
    replaying.await.unwrap().unwrap();
    assert_eq!((count(&engine, Shelf::Node).await, texts(&engine).await), (0, vec!["one".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_replayed_stays() {
    let own = Arc::new(MemoryDeadLetters::new());
    let engine = Engine::builder().store(Arc::new(Faulty::default())).dead_letters(own.clone()).build().await.unwrap();
    let used = engine.publish(&room(), draft("first"), Ack::Persisted).await.unwrap();
    let other = Draft { id: Some(used.id), ..draft("second") };
    let mut conflict = letter(&engine, 1, "x");
    conflict.entry = engine.message(&room(), &other).unwrap().encode();
    let (garbage, poison) = (letter(&engine, 2, ""), letter(&engine, 3, "poison"));
    own.put(&[conflict.clone(), garbage.clone(), poison.clone()]).await.unwrap();
    assert!(matches!(engine.replay(&conflict).await, Err(PublishError::IdConflict)));
    assert!(matches!(engine.replay(&garbage).await, Err(PublishError::Failed(error)) if error.kind() == ErrorKind::Corrupt));
    for _ in 0..2 {
        let last = engine.dead_letters(Shelf::Node, None, 10).await.unwrap().into_iter().find(|letter| letter.id == poison.id).unwrap();
        assert!(matches!(engine.replay(&last).await, Err(PublishError::Failed(error)) if error.kind() == ErrorKind::Invalid));
        let letters = engine.dead_letters(Shelf::Node, None, 10).await.unwrap();
        let ids: Vec<_> = letters.iter().filter(|letter| letter.id == poison.id).map(DeadLetter::place).collect();
        assert!(letters.len() == 3 && ids.len() == 1 && ids[0] != last.place(), "{letters:?}");
    }
    assert_eq!(texts(&engine).await, ["first"]);
}

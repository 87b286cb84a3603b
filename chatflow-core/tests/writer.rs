//! The writer and what depends on it, over a store that fails on command.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use chatflow_core::broker::Durability;
use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};
use chatflow_core::store::{MemoryDeadLetters, MemoryStore, RoomSummary, StoreStatus};
use chatflow_core::{
    DeadLetters, Engine, Error, ErrorKind, Exception, Lease, Located, LogId, Message, MessageId, MessageStore, NodeId, Page, PageQuery,
    Position, Result, RoomId, Settings, Stored,
};
use support::{Client, request, text, v1};

/// A store that refuses some messages for ever, or everything for a while.
#[derive(Debug, Default)]
struct Faulty {
    store: MemoryStore,
    away: AtomicBool,
}

impl Faulty {
    fn is_poison(stored: &Stored) -> bool {
        String::from_utf8_lossy(&stored.message.body).contains("poison")
    }
}

#[async_trait]
impl MessageStore for Faulty {
    fn identity(&self) -> &str {
        self.store.identity()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }

    async fn last_epoch(&self) -> Result<u64> {
        self.store.last_epoch().await
    }

    async fn claim(&self, log: LogId, holder: &NodeId) -> Result<Lease> {
        self.store.claim(log, holder).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.store.renew(lease).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.store.release(lease).await
    }

    async fn commit(&self, lease: &Lease, batch: &[Stored], through: Position) -> Result<Vec<(usize, Exception)>> {
        if self.away.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "test", "the store is away"));
        }
        if batch.iter().any(Self::is_poison) {
            return Err(Error::new(ErrorKind::Invalid, "test", "there is poison in it"));
        }
        self.store.commit(lease, batch, through).await
    }

    async fn skip(&self, lease: &Lease, to: Position) -> Result<()> {
        self.store.skip(lease, to).await
    }

    async fn watermark(&self, log: LogId) -> Result<Position> {
        self.store.watermark(log).await
    }

    async fn locate(&self, ids: &[MessageId]) -> Result<Vec<Option<Located>>> {
        self.store.locate(ids).await
    }

    async fn page(&self, log: LogId, room: &RoomId, query: &PageQuery) -> Result<Page> {
        self.store.page(log, room, query).await
    }

    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomSummary>> {
        self.store.rooms(after, limit).await
    }

    async fn status(&self) -> StoreStatus {
        self.store.status().await
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

fn seven() -> RoomId {
    RoomId::new("7").unwrap()
}

async fn texts(engine: &Engine) -> Vec<String> {
    let page = engine.history(&seven(), &PageQuery::latest(1_000)).await.unwrap();
    let text = |stored: &Stored| {
        serde_json::from_slice::<serde_json::Value>(&engine.show(stored)).unwrap()["message"].as_str().unwrap().to_owned()
    };
    page.messages.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_becomes_a_dead_letter_and_its_neighbours_are_stored() {
    let (store, letters) = (Arc::new(Faulty::default()), Arc::new(MemoryDeadLetters::default()));
    let engine = Engine::builder().store(store.clone()).dead_letters(letters.clone()).build().await.unwrap();
    let mut ada = Client::connect(&engine, request("7")).await;
    let mut bob = Client::connect(&engine, v1(Some("7"))).await;
    bob.event("welcome").await;
    // Held up, so that they stand in one batch.
    store.away.store(true, SeqCst);
    for n in 0..40 {
        ada.send(text(&if n % 10 == 3 { format!("poison {n}") } else { n.to_string() })).await;
    }
    support::eventually("all are taken", async || engine.stats().accepted == 40).await;
    store.away.store(false, SeqCst);
    let wanted: Vec<String> = (0..40).filter(|n| n % 10 != 3).map(|n| n.to_string()).collect();
    for text in &wanted {
        assert_eq!(bob.broadcast().await["message"], *text);
    }
    let mut refused = 0;
    for _ in 0..40 {
        let answer = ada.answer().await;
        refused += usize::from(answer["status"] == "error" && answer["code"] == "internal" && answer["retryable"] == false);
    }
    assert_eq!(refused, 4, "the senders of the others have their SUCCESS");
    assert_eq!(texts(&engine).await, wanted);
    let letters = letters.list(None, 100).await.unwrap();
    assert_eq!(letters.len(), 4);
    assert!(letters.iter().all(|letter| String::from_utf8_lossy(&Message::decode(letter.entry.clone()).unwrap().body).contains("poison")));
    assert_eq!(engine.stats().dead_letters, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_nothing_is_shown_and_what_no_longer_fits_is_refused() {
    let store = Arc::new(Faulty::default());
    let mut bounds = MemoryBrokerConfig::default();
    bounds.entries = 50;
    let broker = Arc::new(InMemoryBroker::new(bounds));
    let engine = Engine::builder().broker(broker).store(store.clone()).build().await.unwrap();
    let (mut ada, mut bob) = (Client::connect(&engine, request("7")).await, Client::connect(&engine, v1(Some("7"))).await);
    bob.event("welcome").await;
    ada.send(text("before")).await;
    assert_eq!(ada.answer().await["status"], "SUCCESS");
    store.away.store(true, SeqCst);
    for n in 0..60 {
        ada.send(text(&n.to_string())).await;
    }
    for _ in 0..10 {
        let refused = ada.answer().await;
        assert_eq!((&refused["code"], &refused["retryable"]), (&"overloaded".into(), &true.into()), "{refused}");
    }
    assert!(!engine.health().await.ready);
    assert_eq!(engine.queue(&seven()).await.waiting, 50);
    assert_eq!(texts(&engine).await, ["before"], "reads go on");
    let mut late = Client::connect(&engine, {
        let mut r = v1(Some("7"));
        r.history = Some(10);
        r
    })
    .await;
    assert_eq!(late.broadcast().await["message"], "before");
    store.away.store(false, SeqCst);
    let back = tokio::time::Instant::now();
    assert_eq!(bob.broadcast().await["message"], "before");
    for n in 0..50 {
        assert_eq!(bob.broadcast().await["message"], n.to_string());
        assert_eq!(late.broadcast().await["message"], n.to_string());
        assert_eq!(ada.answer().await["status"], "SUCCESS");
    }
    support::eventually("it is ready again", async || engine.health().await.ready).await;
    assert!(back.elapsed() < Duration::from_secs(5), "G8");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_lost_its_lease_claims_it_again_and_goes_on() {
    let store = Arc::new(Faulty::default());
    let engine = Engine::builder().store(store.clone()).build().await.unwrap();
    let mut ada = Client::connect(&engine, request("7")).await;
    ada.send(text("1")).await;
    ada.answer().await;
    for log in 0..16 {
        store.store.claim(LogId(log), &"somebody else".into()).await.unwrap();
    }
    ada.send(text("2")).await;
    assert_eq!(ada.answer().await["status"], "SUCCESS");
    assert_eq!(texts(&engine).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_writes_and_answers_what_was_taken() {
    let store = Arc::new(Faulty::default());
    let mut settings = Settings::default();
    settings.publish_rate_anonymous = 0;
    let engine = Engine::builder().store(store.clone()).settings(settings).build().await.unwrap();
    let mut ada = Client::connect(&engine, v1(Some("7"))).await;
    store.away.store(true, SeqCst);
    for n in 0..300 {
        ada.send(text(&n.to_string())).await;
    }
    support::eventually("all are taken", async || engine.stats().accepted == 300).await;
    let ending = tokio::spawn({
        let engine = engine.clone();
        async move { engine.shutdown(support::PATIENCE).await }
    });
    assert!(ada.event("reconnect").await["delayMs"].as_u64().unwrap() >= 100);
    ada.send(text("too late")).await;
    assert_eq!(ada.answer().await["code"], "draining");
    store.away.store(false, SeqCst);
    for _ in 0..300 {
        assert_eq!(ada.answer().await["status"], "SUCCESS");
    }
    assert_eq!(ada.closed().await, 1012);
    drop(ada);
    assert_eq!(ending.await.unwrap(), Default::default(), "nothing was left undone");
}

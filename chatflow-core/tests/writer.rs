//! The writer and what depends on it, over a store that fails on command.

#![allow(clippy::unwrap_used)]

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};
use chatflow_core::store::MemoryDeadLetters;
use chatflow_core::{
    Ack, DeadLetters, Draft, Engine, Live, LogId, Message, MessageId, MessageStore, PageQuery, RoomId, Settings, Stored, kind,
};
use faulty::Faulty;
use support::{Client, request, text, text_with, v1};

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

/// Where messages are shown before the history has them: a node keeps what the history does not have for members who come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_history_that_stands_still_fills_memory_with_refuses_publishers_until_it_goes_on() {
    let store = Arc::new(Faulty::default());
    let mut settings = Settings::default();
    (settings.live, settings.recent_bytes, settings.publish_rate_anonymous) = (Live::Accepted, 64 << 10, 0);
    let engine = Engine::builder().store(store.clone()).settings(settings).build().await.unwrap();
    let (mut ada, mut bob) = (Client::connect(&engine, request("7")).await, Client::connect(&engine, v1(Some("7"))).await);
    bob.event("welcome").await;
    store.away.store(true, SeqCst);
    let mut taken = 0;
    let long = "x".repeat(400);
    loop {
        ada.send(text(&format!("{taken} {long}"))).await;
        // It is shown, or refused, whatever the history does.
        let waiting = async || engine.stats().accepted == taken + 1;
        tokio::select! {
            refused = ada.answer() => {
                assert_eq!((&refused["code"], &refused["retryable"]), (&"overloaded".into(), &true.into()), "{refused}");
                break;
            }
            () = support::eventually("it is taken", waiting) => {}
        }
        assert!(bob.broadcast().await["message"].as_str().unwrap().starts_with(&format!("{taken} ")));
        taken += 1;
    }
    assert!((100..300).contains(&taken), "{taken}");
    store.away.store(false, SeqCst);
    for _ in 0..taken {
        assert_eq!(ada.answer().await["status"], "SUCCESS");
    }
    support::eventually("more is taken", async || {
        ada.send(text("more")).await;
        ada.answer().await["status"] == "SUCCESS"
    })
    .await;
    assert_eq!(bob.broadcast().await["message"], "more");
}

/// Whether a message repeats an old one is known to the history alone, unless it can't have that yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_do_not_tell_their_time_do_not_wait_for_a_history_that_is_behind() {
    let store = Arc::new(Faulty::default());
    let mut settings = Settings::default();
    (settings.live, settings.dedup_messages) = (Live::Accepted, 8);
    let engine = Engine::builder().store(store.clone()).settings(settings).build().await.unwrap();
    let (mut ada, mut bob) = (Client::connect(&engine, request("7")).await, Client::connect(&engine, v1(Some("7"))).await);
    bob.event("welcome").await;
    store.away.store(true, SeqCst);
    for n in 0..16 {
        ada.send(text_with(&n.to_string(), MessageId::new_v4())).await;
        assert_eq!(bob.broadcast().await["message"], n.to_string());
    }
    store.away.store(false, SeqCst);
    for _ in 0..16 {
        assert_eq!(ada.answer().await["status"], "SUCCESS");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_overtake_one_another_or_fail_leave_no_hole() {
    let store = Arc::new(Faulty { unruly: true, ..Faulty::default() });
    let mut settings = Settings::default();
    (settings.batch_rows, settings.publish_rate_anonymous) = (3, 0);
    let engine = Engine::builder().store(store.clone()).settings(settings).build().await.unwrap();
    let (mut ada, mut bob) = (Client::connect(&engine, request("7")).await, Client::connect(&engine, v1(Some("7"))).await);
    bob.event("welcome").await;
    let wanted: Vec<_> = (0..400).map(|n| n.to_string()).collect();
    for text_ in &wanted {
        ada.send(text(text_)).await;
    }
    for text in &wanted {
        assert_eq!(bob.broadcast().await["message"], *text);
        assert_eq!(ada.answer().await["status"], "SUCCESS");
    }
    assert_eq!(texts(&engine).await, wanted);
    assert_eq!(engine.stats().persisted, 400, "each row is counted once");
}

/// A renewal would wait for the commit, in a database for the lock on the log's row, and give up before a long one is done.
#[tokio::test(start_paused = true)]
async fn a_lease_is_not_renewed_while_a_commit_is_under_way() {
    let store = Arc::new(Faulty { slow: Some(Duration::from_secs(60)), ..Faulty::default() });
    let engine = Engine::builder().store(store.clone()).build().await.unwrap();
    let said = Draft {
        sender: "1".into(),
        name: "robot".into(),
        kind: kind::TEXT,
        text: "hello".into(),
        timestamp: "2026-11-20T12:00:00Z".into(),
        ..Draft::default()
    };
    engine.publish(&seven(), said, Ack::Persisted).await.unwrap();
    assert!(!store.renewed_meanwhile.load(SeqCst));
    assert_eq!(texts(&engine).await, ["hello"]);
    assert_eq!((engine.stats().commits, engine.stats().commit_us), (1, 60_000_000), "what it took is counted");
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

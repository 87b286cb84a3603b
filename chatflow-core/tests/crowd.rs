//! Everybody comes back at once.

#![allow(clippy::unwrap_used)]

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use chatflow_core::{Ack, Draft, Engine, Position, RoomId, Settings, kind};
use faulty::Faulty;
use futures::future::join_all;
use support::{Client, v1};

const CLIENTS: usize = 1_000;
const MESSAGES: usize = 600;

/// What each has missed is more than a page and more than memory keeps: it comes whole, once and in order, while the store is never asked
/// for more pages at a time than the gate lets through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_come_back_at_once_and_the_store_is_asked_by_turns() {
    let store = Arc::new(Faulty::default());
    let mut settings = Settings::default();
    (settings.catch_ups, settings.recent_messages, settings.presence_members) = (4, 16, 0);
    let engine = Engine::builder().store(store.clone()).settings(settings).build().await.unwrap();
    let room = RoomId::new("7").unwrap();
    let say = |n: usize| Draft {
        sender: "1".into(),
        name: "robot".into(),
        kind: kind::TEXT,
        text: n.to_string().into(),
        timestamp: "2026-11-20T12:00:00Z".into(),
        ..Draft::default()
    };
    let missed_from = engine.publish(&room, say(0), Ack::Persisted).await.unwrap().position.unwrap();
    let said = (1..=MESSAGES).map(|n| engine.publish(&room, say(n), Ack::Persisted));
    for (n, published) in join_all(said).await.into_iter().enumerate() {
        assert!(published.unwrap().position > Some(missed_from), "{n}");
    }

    let coming_back = (0..CLIENTS).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut back = v1(Some("7"));
            back.after = Some(missed_from.to_string());
            let mut client = Client::with_buffer(&engine, back, 16 << 10).await;
            let welcome = client.event("welcome").await;
            assert_eq!(welcome["recovered"], true);
            let mut last = missed_from;
            for n in 1..=MESSAGES {
                let frame = client.broadcast().await;
                let position: Position = frame["position"].as_str().unwrap().parse().unwrap();
                assert!(position > last, "message {n}");
                last = position;
            }
            last
        })
    });
    let lasts: Vec<_> = join_all(coming_back.collect::<Vec<_>>()).await.into_iter().map(|last| last.unwrap()).collect();
    assert!(lasts.iter().all(|last| *last == lasts[0]), "everybody has everything");
    assert!(store.pages.load(SeqCst) >= 2 * CLIENTS, "it came from the history, in pages");
    assert_eq!(store.most_reading.load(SeqCst), 4, "as many at a time as may, and no more");
}

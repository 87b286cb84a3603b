//! The seams between history, memory and live: whoever joins wherever, whenever, gets everything once and in order.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use chatflow_core::store::MemoryStore;
use chatflow_core::{Ack, Deliver, Draft, Engine, MessageStore, PageQuery, RoomId, Settings, kind};
use support::{Client, text, v1};

const MESSAGES: usize = 1_500;

fn settings() -> Settings {
    let mut settings = Settings::default();
    // Small, so that joins meet every seam: almost nothing stays in memory.
    settings.recent_messages = 4;
    settings.publish_rate_anonymous = 0;
    settings
}

fn draft(n: usize) -> Draft {
    let (sender, name, kind, timestamp) = ("1".into(), "pub".into(), kind::TEXT, "2026-11-20T11:02:10Z".into());
    Draft { sender, name, kind, timestamp, text: n.to_string().into(), ..Draft::default() }
}

/// Messages 0.. into room 7, with others in rooms that share its log, at a pace that lets joins happen in between.
async fn publish_all(engine: Engine) {
    let room = RoomId::new("7").unwrap();
    let others: Vec<_> = (0..4).map(|i| RoomId::new(&format!("other-{i}")).unwrap()).collect();
    for n in 0..MESSAGES {
        let answer = engine.publish(&room, draft(n), Ack::Accepted);
        let noise = engine.publish(&others[n % others.len()], draft(n), Ack::Accepted);
        let (answer, noise) = tokio::join!(answer, noise);
        assert!(answer.is_ok() && noise.is_ok(), "{answer:?} {noise:?}");
    }
}

/// Joins, reads a while, leaves, and comes back with its last position, until it has seen the last message.
async fn come_and_go(engine: Engine, seed: usize) {
    let (mut next, mut position) = (None, None);
    for visit in 0.. {
        let mut request = v1(Some("7"));
        request.after = position.clone();
        if position.is_none() {
            request.history = Some(seed % 3 * 40);
        }
        let mut client = Client::connect(&engine, request).await;
        let welcome = client.event("welcome").await;
        assert_eq!(welcome["recovered"], true, "{welcome}");
        if position.is_none() {
            position = Some(welcome["position"].as_str().unwrap().to_owned());
        }
        let stay = 1 + (seed * 31 + visit * 17) % 97;
        for _ in 0..stay {
            let broadcast = client.broadcast().await;
            let n: usize = broadcast["message"].as_str().unwrap().parse().unwrap();
            assert_eq!(n, *next.get_or_insert(n), "visit {visit} of member {seed}: {broadcast}");
            next = Some(n + 1);
            position = Some(broadcast["position"].as_str().unwrap().to_owned());
            if n + 1 == MESSAGES {
                return;
            }
        }
        drop(client);
        // Away for as long as others say so much, however fast that is: some come back to what is in memory, some to what is not.
        let back = (engine.stats().acknowledged + (seed % 5) as u64 * 40).min(2 * MESSAGES as u64);
        while engine.stats().acknowledged < back {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn everybody_sees_everything(store: Arc<dyn MessageStore>) {
    let engine = Engine::builder().store(Arc::clone(&store)).settings(settings()).build().await.unwrap();
    let members: Vec<_> = (0..12).map(|seed| tokio::spawn(come_and_go(engine.clone(), seed))).collect();
    // Nobody may wait for a message that was said before the last member came.
    support::eventually("somebody is there", async || engine.stats().registry.members >= 12).await;
    publish_all(engine.clone()).await;
    for member in members {
        member.await.unwrap();
    }
    let page = engine.history(&RoomId::new("7").unwrap(), &PageQuery::latest(1_000)).await.unwrap();
    assert_eq!(page.messages.len(), 1_000);
    assert_eq!(engine.stats().persisted, 2 * MESSAGES as u64);
    assert!(engine.stats().caught_up > 0, "some read the past from the store");
    support::eventually("everybody left", async || engine.stats().connections == 0 && engine.stats().registry.rooms == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_over_a_store_in_memory() {
    everybody_sees_everything(Arc::new(MemoryStore::default())).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_over_sqlite() {
    use chatflow_core::store::{SqliteConfig, SqliteStore};
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteConfig::new(dir.path().join("chat.db"))).await.unwrap();
    everybody_sees_everything(Arc::new(store)).await;
}

#[tokio::test]
async fn what_a_member_said_itself_is_passed_over_when_it_asks_so() {
    let engine = Engine::builder().settings(settings()).build().await.unwrap();
    let mut request = v1(Some("7"));
    request.deliver = Deliver::Others;
    let mut ada = Client::connect(&engine, request).await;
    ada.event("welcome").await;
    let mut bob = Client::connect(&engine, v1(Some("7"))).await;
    bob.event("welcome").await;
    for n in 0..50 {
        ada.send(text(&format!("ada {n}"))).await;
        assert_eq!(ada.answer().await["status"], "SUCCESS");
        bob.send(text(&format!("bob {n}"))).await;
        assert_eq!(ada.broadcast().await["message"], format!("bob {n}"));
        assert_eq!(bob.broadcast().await["message"], format!("ada {n}"));
        assert_eq!(bob.broadcast().await["message"], format!("bob {n}"));
    }
}

#[tokio::test]
async fn a_position_that_nobody_gave_is_not_recovered_from() {
    let engine = Engine::builder().store(Arc::new(MemoryStore::default())).build().await.unwrap();
    for (after, reason) in [("99999999999999:1", "unknown_position"), ("nonsense", "bad_position")] {
        let mut request = v1(Some("7"));
        request.after = Some(after.into());
        let welcome = Client::connect(&engine, request).await.event("welcome").await;
        assert_eq!((&welcome["recovered"], &welcome["reason"]), (&false.into(), &reason.into()));
        let mut request = support::request("7");
        request.after = Some(after.into());
        assert_eq!(Client::connect(&engine, request).await.closed().await, 3010);
    }
}

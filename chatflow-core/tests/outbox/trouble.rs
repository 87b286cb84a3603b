//! What goes wrong on the way, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use chatflow_core::outbox::Forwarder;
use chatflow_core::store::MemoryStore;
use chatflow_core::{DeadLetters, Live, Message, MessageId, Settings};
use tokio::time::Instant;

use crate::application::{Application, Node, config, draft, numbers, order, room, until_empty};
use crate::faults::{Moody, Sticky};
use crate::support::{Client, eventually, v1};

pub(crate) async fn killed_before_the_row_is_removed_it_goes_out_once(application: &dyn Application) {
    let node = Node::new().await;
    let mut member = Client::connect(&node.engine, v1(Some("7"))).await;
    member.event("welcome").await;
    node.commit(application, &order("7", numbers(0..20))).await;
    for _ in 0..3 {
        let table = Sticky::new(application.table().await);
        let forwarder = node.forward(table.clone());
        eventually("it was about to remove them", async || table.tried.load(SeqCst) > 1).await;
        assert!(forwarder.trouble().unwrap().contains("killed"));
        drop(forwarder);
        assert_eq!(application.waiting().await, 20);
    }
    let _forwarder = node.forward(application.table().await);
    until_empty(application).await;
    node.commit(application, &order("7", ["the end"])).await;
    let expected = [numbers(0..20), vec!["the end".into()]].concat();
    node.until("7", &expected).await;
    for text in expected {
        assert_eq!(member.broadcast().await["message"], text);
    }
}

/// As a day later: the node has forgotten the id, and shows what the broker has before the history does.
pub(crate) async fn a_repeat_that_only_the_history_remembers_reaches_nobody(application: &dyn Application) {
    let mut settings = Settings::default();
    (settings.live, settings.dedup_messages, settings.dedup_window) = (Live::Accepted, 1, Duration::ZERO);
    let node = Node::with(|builder| builder.settings(settings)).await;
    let mut member = Client::connect(&node.engine, v1(Some("7"))).await;
    member.event("welcome").await;
    let of_old = chatflow_core::Draft { id: Some(MessageId::new_v4()), ..draft("old") };
    node.commit(application, &[(room("7"), of_old)]).await;
    let table = Sticky::new(application.table().await);
    let forwarder = node.forward(table.clone());
    eventually("it was about to remove it", async || table.tried.load(SeqCst) > 0).await;
    drop(forwarder);
    let noise = draft("noise");
    for _ in 0..30 {
        node.engine.publish(&room("7"), noise.clone(), chatflow_core::Ack::Persisted).await.unwrap();
    }
    let _forwarder = node.forward(application.table().await);
    until_empty(application).await;
    node.engine.publish(&room("7"), draft("the end"), chatflow_core::Ack::Persisted).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|text| text != "the end") {
        seen.push(member.broadcast().await["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen.iter().filter(|text| *text == "old").count(), 1, "{seen:?}");
    assert_eq!(node.texts("7").await, seen);
}

pub(crate) async fn while_the_broker_is_away_all_of_it_waits(application: &dyn Application) {
    let broker = Moody::new();
    let node = Node::with(|builder| builder.broker(broker.clone())).await;
    let forwarder = node.forward(application.table().await);
    broker.away.store(true, SeqCst);
    for transaction in 0..10 {
        let drafts: Vec<_> = ["a", "b"].iter().flat_map(|name| order(name, numbers(transaction * 10..(transaction + 1) * 10))).collect();
        node.commit(application, &drafts).await;
    }
    eventually("it is told", async || forwarder.trouble().is_some_and(|trouble| trouble.contains("away"))).await;
    let tries = broker.count.load(SeqCst);
    eventually("it tries again", async || broker.count.load(SeqCst) > tries).await;
    assert_eq!(application.waiting().await, 200);
    broker.away.store(false, SeqCst);
    let back = Instant::now();
    node.until("a", &numbers(0..100)).await;
    node.until("b", &numbers(0..100)).await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    until_empty(application).await;
    eventually("all is well", async || forwarder.trouble().is_none()).await;
}

pub(crate) async fn what_is_refused_now_and_then_keeps_its_order(application: &dyn Application) {
    let broker = Moody::new();
    broker.every.store(7, SeqCst);
    let node = Node::with(|builder| builder.broker(broker.clone())).await;
    for transaction in 0..5 {
        let drafts: Vec<_> = ["a", "b"].iter().flat_map(|name| order(name, numbers(transaction * 10..(transaction + 1) * 10))).collect();
        node.commit(application, &drafts).await;
    }
    let _forwarder = node.forward(application.table().await);
    until_empty(application).await;
    for name in ["a", "b"] {
        assert_eq!(node.texts(name).await, numbers(0..50));
    }
}

pub(crate) async fn what_can_never_be_published_becomes_a_dead_letter(application: &dyn Application) {
    let node = Node::with(|builder| builder.broker(Moody::new())).await;
    let used = node.engine.publish(&room("7"), draft("0"), chatflow_core::Ack::Persisted).await.unwrap();
    let again = chatflow_core::Draft { id: Some(used.id), ..draft("something else") };
    let mut drafts = order("7", ["1", "poison", "2"]);
    drafts.push((room("7"), again));
    drafts.extend(order("7", ["3"]));
    drafts.extend(order("b", ["poison", "0"]));
    let ids = node.commit(application, &drafts).await;
    application
        .run("UPDATE chatflow_outbox SET entry = id WHERE number = (SELECT n FROM (SELECT min(number) AS n FROM chatflow_outbox) x)")
        .await;
    let _forwarder = node.forward(application.table().await);
    until_empty(application).await;
    assert_eq!(node.texts("7").await, ["0", "2", "3"]);
    assert_eq!(node.texts("b").await, ["0"]);
    let letters = node.letters.list(None, 100).await.unwrap();
    let mut dead: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    let mut expected = vec![ids[0], ids[1], used.id, ids[5]];
    dead.sort();
    expected.sort();
    assert_eq!(dead, expected);
    for letter in &letters {
        assert_eq!(letter.position.offset, letter.id.as_u128());
        let (text, room) = match Message::decode(letter.entry.clone()) {
            Ok(message) => (String::from_utf8_lossy(&message.body).into_owned(), Some(message.room)),
            Err(_) => (String::new(), None),
        };
        assert_eq!(letter.room, room);
        assert!(letter.id == ids[0] || text.contains("poison") || text.contains("something else"), "{text}");
    }
    assert_eq!(node.engine.stats().dead_letters, 4);
}

pub(crate) async fn a_dead_letter_is_put_aside_once_however_often_it_is_tried(application: &dyn Application) {
    let store = Arc::new(MemoryStore::new());
    let node = Node::over(store, |builder| builder.broker(Moody::new())).await;
    let ids = node.commit(application, &order("7", ["poison"])).await;
    let table = Sticky::new(application.table().await);
    let forwarder = node.forward(table.clone());
    eventually("it was tried again", async || table.tried.load(SeqCst) > 2).await;
    drop(forwarder);
    let letters = node.letters.list(None, 100).await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), ids);
}

pub(crate) async fn a_table_that_is_not_there_is_told_and_waited_for(application: &dyn Application) {
    let node = Node::new().await;
    node.commit(application, &order("7", numbers(0..3))).await;
    application.run("ALTER TABLE chatflow_outbox RENAME TO elsewhere").await;
    let forwarder = Forwarder::start(&node.engine, application.table().await, config()).unwrap();
    eventually("it is told", async || forwarder.trouble().is_some()).await;
    application.run("ALTER TABLE elsewhere RENAME TO chatflow_outbox").await;
    node.until("7", &numbers(0..3)).await;
    eventually("all is well", async || forwarder.trouble().is_none()).await;
}

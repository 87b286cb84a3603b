//! Who is in a room, on several nodes that share a backend in this process.
#![allow(clippy::unwrap_used)]

#[path = "brokers/service.rs"]
mod service;
#[path = "brokers/shared.rs"]
mod shared;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};
use chatflow_core::conformance::broker::Subject;
use chatflow_core::directory::LEASE;
use chatflow_core::{Ack, Engine, RoomId, Settings};
use serde_json::{Value, json};
use support::{Client, text, v1};

/// A backend, and the engines of its nodes.
struct Backend(Subject);

impl Backend {
    fn new() -> Self {
        Self(shared::subject(true, true, None))
    }

    /// A node's engine; rooms of up to four members tell them who comes and goes.
    async fn node(&self, name: &'static str) -> Engine {
        let mut settings = Settings::default();
        settings.presence_members = 4;
        let broker = self.0.another.as_ref().unwrap()(2);
        Engine::builder().broker(broker).node(name).settings(settings).build().await.unwrap()
    }
}

fn room() -> RoomId {
    RoomId::new("7").unwrap()
}

/// Node and name of each member, in order.
fn members(engine: &Engine) -> Vec<(String, String)> {
    let member = |member: chatflow_core::protocol::MemberInfo| (member.node.unwrap().to_string(), member.username.unwrap_or_default());
    let mut members: Vec<_> = engine.members(&room()).into_iter().map(member).collect();
    members.sort();
    members
}

async fn until_members(engines: &[&Engine], expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(node, name)| ((*node).to_owned(), (*name).to_owned())).collect();
    for engine in engines {
        let what = format!("{} knows {expected:?}", engine.node());
        support::eventually(&what, async || members(engine) == expected && engine.member_count(&room()) == expected.len()).await;
    }
}

async fn joins(engine: &Engine) -> (Client, String) {
    let mut client = Client::connect(engine, v1(Some("7"))).await;
    let session = client.event("welcome").await["session"].as_str().unwrap().to_owned();
    (client, session)
}

fn names(event: &Value) -> Vec<&str> {
    event["joined"].as_array().unwrap().iter().map(|member| member["session"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_see_each_other_come_and_go_on_whichever_node() {
    let backend = Backend::new();
    let (one, two) = (backend.node("one").await, backend.node("two").await);
    let (mut ada, ada_session) = joins(&one).await;
    until_members(&[&one, &two], &[("one", "")]).await;
    let (mut bob, bob_session) = joins(&two).await;
    until_members(&[&one, &two], &[("one", ""), ("two", "")]).await;
    let first = bob.event("presence").await;
    assert_eq!((&first["count"], names(&first).len()), (&json!(2), 2), "everybody is named: {first}");
    let news = ada.until(|frame| frame["event"] == "presence" && names(frame).contains(&bob_session.as_str())).await;
    // Ada's own joining may be told with it.
    let of_bob = news["joined"].as_array().unwrap().iter().find(|member| member["session"] == bob_session.as_str()).unwrap();
    assert_eq!((&news["count"], &of_bob["node"], &news["left"]), (&json!(2), &json!("two"), &json!([])));
    // A name is news too.
    bob.send(text("hello")).await;
    until_members(&[&one, &two], &[("one", ""), ("two", "ada")]).await;
    let named = ada.until(|frame| frame["event"] == "presence").await;
    assert_eq!((&named["joined"][0]["session"], &named["joined"][0]["username"]), (&json!(bob_session), &json!("ada")));
    for engine in [&one, &two] {
        let rooms = engine.rooms(None, 10).await.unwrap();
        assert_eq!(rooms.iter().map(|(room, members, _)| (room.as_str(), *members)).collect::<Vec<_>>(), [("7", 2)]);
        assert_eq!(engine.stats().registry.members, 1, "what is counted for metrics is this node's");
    }
    drop(ada);
    let gone = bob.until(|frame| frame["event"] == "presence" && frame["left"] != json!([])).await;
    assert_eq!((&gone["count"], &gone["left"]), (&json!(1), &json!([ada_session])));
    until_members(&[&one, &two], &[("two", "ada")]).await;
    drop(bob);
    until_members(&[&one, &two], &[]).await;
    assert!(two.rooms(None, 10).await.unwrap().is_empty() && one.rooms(None, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_later_knows_who_was_there() {
    let backend = Backend::new();
    let one = backend.node("one").await;
    let mut there = Vec::new();
    for _ in 0..6 {
        there.push(joins(&one).await.0);
    }
    let two = backend.node("two").await;
    until_members(&[&two], &[("one", ""); 6]).await;
    let (mut late, _) = joins(&two).await;
    until_members(&[&one, &two], &[[("one", ""); 6].as_slice(), &[("two", "")]].concat()).await;
    // The room has more members than are told of each other, until some leave.
    there.truncate(2);
    let first = late.event("presence").await;
    assert!(first["count"].as_u64().unwrap() <= 4, "{first}");
    until_members(&[&one, &two], &[("one", ""), ("one", ""), ("two", "")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_takes_its_members_along_at_once() {
    let backend = Backend::new();
    let (one, two) = (backend.node("one").await, backend.node("two").await);
    let ((_ada, ada_session), (mut bob, _)) = (joins(&one).await, joins(&two).await);
    until_members(&[&one, &two], &[("one", ""), ("two", "")]).await;
    // Who was never told of her is not told that she left.
    bob.until(|frame| frame["event"] == "presence" && frame["count"] == 2).await;
    let begun = Instant::now();
    // Ada does not answer when her connection is closed, so it takes a while until the node has ended; what it says comes before.
    let leaves = async {
        let gone = bob.until(|frame| frame["event"] == "presence" && frame["left"] != json!([])).await;
        assert_eq!(gone["left"], json!([ada_session]));
        assert!(begun.elapsed() < LEASE / 2, "it said so: {:?}", begun.elapsed());
    };
    tokio::join!(one.shutdown(support::PATIENCE), leaves);
    until_members(&[&two], &[("two", "")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_takes_its_members_along_after_its_lease_and_brings_them_back() {
    let backend = Arc::new(Backend::new());
    let two = backend.node("two").await;
    let (mut bob, _) = joins(&two).await;
    for _ in 0..2 {
        // Ended with all that runs in it.
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = Arc::clone(&backend);
        let (tell, told) = tokio::sync::oneshot::channel();
        process.spawn(async move {
            let one = node.node("one").await;
            let (ada, session) = joins(&one).await;
            let _ = tell.send(session);
            // A client that stays.
            std::future::pending::<()>().await;
            drop(ada);
        });
        let session = told.await.unwrap();
        until_members(&[&two], &[("one", ""), ("two", "")]).await;
        bob.until(|frame| frame["event"] == "presence" && names(frame).contains(&session.as_str())).await;
        process.shutdown_background();
        let begun = Instant::now();
        let gone = bob.until(|frame| frame["event"] == "presence" && frame["left"] != json!([])).await;
        assert_eq!((&gone["left"], &gone["count"]), (&json!([session]), &json!(1)));
        assert!(begun.elapsed() > LEASE / 2, "not before its lease: {:?}", begun.elapsed());
        until_members(&[&two], &[("two", "")]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_taken_for_gone_while_the_broker_is_away_and_all_is_told_afterwards() {
    let backend = Backend::new();
    let (one, two) = (backend.node("one").await, backend.node("two").await);
    let ((_ada, _), (mut bob, _), (gone, _)) = (joins(&one).await, joins(&two).await, joins(&one).await);
    until_members(&[&one, &two], &[("one", ""), ("one", ""), ("two", "")]).await;
    let service = backend.0.backend.clone().unwrap();
    service.stop().await;
    drop(gone);
    let (_late, late) = joins(&one).await;
    until_members(&[&one], &[("one", ""), ("one", ""), ("two", "")]).await;
    // Longer than a lease; whatever is told meanwhile is no farewell.
    let silence = tokio::time::Instant::now() + LEASE + Duration::from_secs(3);
    while let Ok(frame) = tokio::time::timeout_at(silence, bob.json()).await {
        assert!(frame["left"].as_array().is_none_or(Vec::is_empty), "{frame}");
    }
    assert_eq!(two.member_count(&room()), 3, "as it was known last");
    service.start().await;
    bob.until(|frame| frame["event"] == "presence" && names(frame).contains(&late.as_str())).await;
    until_members(&[&one, &two], &[("one", ""), ("one", ""), ("two", "")]).await;
    service.wipe().await;
    let (_new, _) = joins(&two).await;
    support::eventually("members come back by themselves", async || {
        let known = |engine: &Engine| engine.member_count(&room());
        known(&one) == known(&two) && members(&one) == members(&two)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_tells_nobody() {
    let mut one_log = MemoryBrokerConfig::default();
    one_log.logs = 1;
    let engine = Engine::builder().broker(Arc::new(InMemoryBroker::new(one_log))).build().await.unwrap();
    let (mut ada, _) = joins(&engine).await;
    ada.event("presence").await;
    let (_bob, _) = joins(&engine).await;
    let news = ada.event("presence").await;
    assert_eq!((&news["count"], names(&news).len()), (&json!(2), 1));
    let draft = engine.decode(&text("hello").to_string()).unwrap();
    let first = engine.publish(&room(), draft, Ack::Accepted).await.unwrap();
    assert_eq!(first.position.unwrap().offset, 1, "nothing else stands in the log");
}

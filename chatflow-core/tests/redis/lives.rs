//! What becomes of a log when its server dies, is wiped or wound back.

use std::time::{Duration, Instant};

use chatflow_core::broker::{From, Reader};
use chatflow_core::{Broker, Opening};

use super::node::{Tail, config, eventually, open, publish, publish_at_last, try_publish};
use super::server::Redis;

fn opening() -> Opening {
    Opening::new("n").with_history("h", 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_nothing_that_was_kept() {
    let redis = Redis::start();
    let broker = open(&config(&redis.url()), &opening()).await;
    let (mut tail, _) = Tail::new(&broker, Reader::Node, From::Present).await;
    let first = publish(&broker, "before").await;
    redis.kill();
    // What was under way may fail a moment before the log is known to be away.
    eventually("its health says so", async || !broker.status().await.healthy).await;
    let asked = Instant::now();
    assert!(try_publish(&broker, "while it is away").await.is_err());
    assert!(asked.elapsed().as_millis() < 100, "at once");
    redis.begin();
    let back = Instant::now();
    let second = publish_at_last(&broker, "after").await;
    assert!(back.elapsed().as_secs() < 5, "{:?}", back.elapsed());
    assert!(second.epoch > first.epoch, "another life, another epoch");
    assert_eq!(tail.texts(2).await, ["before", "after"], "nothing was lost, and nobody is told that it was");
    let (mut late, _) = Tail::new(&broker, Reader::History, From::After(first)).await;
    assert_eq!(late.texts(1).await, ["after"]);
    let (mut last, at) = Tail::new(&broker, Reader::Node, From::Last(2)).await;
    assert!(at < first);
    assert_eq!(last.texts(2).await, ["before", "after"]);
    assert_eq!(broker.status().await.depths[0], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_begins_a_greater_epoch() {
    let redis = Redis::start();
    let broker = open(&config(&redis.url()), &opening()).await;
    let (mut tail, _) = Tail::new(&broker, Reader::Node, From::Present).await;
    let before = publish(&broker, "before").await;
    assert_eq!(tail.texts(1).await, ["before"]);
    redis.call(&["FLUSHALL"]);
    let after = publish_at_last(&broker, "after").await;
    assert!(after.epoch > before.epoch);
    let (last, at) = tail.loss().await;
    assert_eq!((last, at.epoch, at.offset), (before, after.epoch, 0));
    assert_eq!(tail.texts(1).await, ["after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_gives_no_position_twice() {
    let redis = Redis::start();
    let broker = open(&config(&redis.url()), &opening()).await;
    let (mut tail, _) = Tail::new(&broker, Reader::Node, From::Present).await;
    let (mut slow, _) = Tail::new(&broker, Reader::Node, From::Present).await;
    publish(&broker, "kept").await;
    assert_eq!(slow.texts(1).await, ["kept"]);
    let copy = redis.copy();
    let lost = publish(&broker, "lost").await;
    assert_eq!(tail.texts(2).await, ["kept", "lost"]);
    redis.kill();
    redis.put(&copy);
    redis.begin();
    let next = publish_at_last(&broker, "next").await;
    assert!(next.epoch > lost.epoch, "{next} after {lost}");
    assert_eq!(tail.loss().await.0, lost);
    assert_eq!(tail.texts(1).await, ["next"]);
    let (mut late, _) = Tail::new(&broker, Reader::History, From::Oldest).await;
    assert_eq!(late.texts(2).await, ["kept", "next"]);
}

/// Another node, which does not know how far the log was, has begun the new epoch: who has seen more is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_is_told_what_an_old_copy_lost() {
    let redis = Redis::start();
    let config = config(&redis.url());
    let first = open(&config, &opening()).await;
    publish(&first, "kept").await;
    let copy = redis.copy();
    let lost = publish(&first, "lost").await;
    first.close().await.unwrap();
    redis.kill();
    redis.put(&copy);
    redis.begin();
    let second = open(&config, &Opening::new("other")).await;
    publish(&second, "next").await;
    let mut events = second.read(super::node::LOG, Reader::History, From::After(lost)).await.unwrap();
    let event = futures::StreamExt::next(&mut events).await.unwrap().unwrap();
    assert!(matches!(event, chatflow_core::broker::Event::Lost { last, .. } if last == lost), "{event:?}");
}

/// Nobody restarted anything, and yet the log is shorter than somebody has seen it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_has_seen_more_makes_an_epoch_begin() {
    let redis = Redis::start();
    let broker = open(&config(&redis.url()), &opening()).await;
    let last = publish(&broker, "seen").await;
    let beyond = chatflow_core::Position::new(last.epoch + 1_000_000_000, 5);
    let mut events = broker.read(super::node::LOG, Reader::History, From::After(beyond)).await.unwrap();
    let event = futures::StreamExt::next(&mut events).await.unwrap().unwrap();
    assert!(matches!(event, chatflow_core::broker::Event::Lost { epoch, .. } if epoch > beyond.epoch), "{event:?}");
    assert!(publish_at_last(&broker, "next").await.epoch > beyond.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_scripts_come_back_without_a_new_epoch() {
    let redis = Redis::start();
    let broker = open(&config(&redis.url()), &opening()).await;
    let before = publish(&broker, "before").await;
    redis.call(&["SCRIPT", "FLUSH"]);
    let after = publish_at_last(&broker, "after").await;
    assert_eq!((after.epoch, after.offset), (before.epoch, before.offset + 1));
}

/// A promotion is another life, even of the same process with its scripts and connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_begins_a_new_epoch() {
    let (redis, other) = (Redis::start(), Redis::start());
    let broker = open(&config(&redis.url()), &opening()).await;
    let before = publish(&broker, "before").await;
    redis.call(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
    eventually("it is a replica of nothing", async || redis.call(&["DBSIZE"]) == "0").await;
    redis.call(&["REPLICAOF", "NO", "ONE"]);
    let after = publish_at_last(&broker, "after").await;
    assert!(after.epoch > before.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_away_until_it_answers() {
    let redis = Redis::start();
    let mut config = config(&redis.url());
    config.timeout = Duration::from_millis(500);
    let broker = open(&config, &opening()).await;
    let (mut tail, _) = Tail::new(&broker, Reader::Node, From::Present).await;
    let before = publish(&broker, "before").await;
    assert_eq!(redis.call(&["CLIENT", "PAUSE", "4000", "ALL"]), "OK");
    let hung = Instant::now();
    let error = try_publish(&broker, "while it hangs").await.expect_err("nobody answers");
    assert!(error.is_transient() && hung.elapsed().as_secs() < 2, "{error} after {:?}", hung.elapsed());
    let asked = Instant::now();
    let error = try_publish(&broker, "while it is known to hang").await.expect_err("it is away");
    assert!(error.is_transient() && asked.elapsed().as_millis() < 100, "{error} after {:?}", asked.elapsed());
    let after = publish_at_last(&broker, "after").await;
    // Each log comes back by itself, and the broker is healthy with the last of them.
    eventually("all logs are back", async || broker.status().await.healthy).await;
    assert!(hung.elapsed() < Duration::from_secs(4 + 5), "guarantee 8: {:?}", hung.elapsed());
    assert_eq!(after.epoch, before.epoch, "the log is the same");
    // What was on its way when it hung may have arrived all the same.
    let texts = tail.texts(usize::try_from(after.offset - before.offset).unwrap() + 1).await;
    assert_eq!((texts.first().unwrap().as_str(), texts.last().unwrap().as_str()), ("before", "after"));
}

//! Several nodes on one Redis.

use std::sync::Arc;
use std::time::Duration;

use chatflow_core::broker::{Event, From, Reader, Receipt};
use chatflow_core::{Broker, ErrorKind, Opening};

use super::node::{LOG, Tail, config, entry, eventually, open, publish, publish_at_last, texts, try_publish};
use super::server::{Cluster, Redis};
use super::{CLUSTER, REDIS};

/// Publishes from two nodes at once; both, and one that comes later, see one order.
async fn one_order(url: &str) {
    const EACH: usize = 5_000;
    let config = config(url).with_backlog(100_000, 64 << 20).with_retain(100_000);
    let nodes = [open(&config, &Opening::new("a")).await, open(&config, &Opening::new("b")).await];
    let mut seen = Vec::new();
    for node in &nodes {
        let (mut tail, _) = Tail::new(node, Reader::Node, From::Present).await;
        seen.push(tokio::spawn(async move { tail.entries(2 * EACH).await }));
    }
    for (node, name) in nodes.iter().zip(["a", "b"]) {
        let node = Arc::clone(node);
        tokio::spawn(async move {
            for i in 0..EACH {
                node.submit(entry(LOG, &format!("{name}{i}")), Receipt::ignored()).unwrap();
                if i % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let (one, other) = (seen.remove(0).await.unwrap(), seen.remove(0).await.unwrap());
    assert_eq!(one, other);
    let late = open(&config, &Opening::new("c")).await;
    let (mut tail, _) = Tail::new(&late, Reader::Node, From::Oldest).await;
    assert_eq!(tail.entries(2 * EACH).await, one);
    for name in ["a", "b"] {
        let of_one: Vec<_> = texts(&one).into_iter().filter(|text| text.starts_with(name)).collect();
        assert_eq!(of_one, (0..EACH).map(|i| format!("{name}{i}")).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_publish_and_all_see_one_order() {
    one_order(&REDIS.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_a_cluster_see_one_order() {
    one_order(&CLUSTER.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_channel_loses_is_read_from_the_log() {
    let redis = Redis::start();
    let config = config(&redis.url()).with_backlog(100_000, 64 << 20);
    let (publisher, reader) = (open(&config, &Opening::new("a")).await, open(&config, &Opening::new("b")).await);
    let (mut tail, _) = Tail::new(&reader, Reader::Node, From::Present).await;
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "1999") {
            match tail.event().await {
                Event::Batch(batch) => seen.extend(texts(&batch)),
                other => panic!("{other:?}"),
            }
        }
        seen
    });
    for i in 0..2_000 {
        if i % 400 == 200 {
            redis.call(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        publish_at_last(&publisher, &i.to_string()).await;
    }
    let mut seen = seen.await.unwrap();
    // One whose outcome was not known was published again.
    seen.dedup();
    assert_eq!(seen, (0..2_000).map(|i| i.to_string()).collect::<Vec<_>>());
}

/// No connection is lost and nothing more is said: only looking finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_the_channel_swallowed_is_found_by_looking() {
    let redis = Redis::start();
    let config = config(&redis.url());
    let (publisher, reader) = (open(&config, &Opening::new("a")).await, open(&config, &Opening::new("b")).await);
    let (mut tail, _) = Tail::new(&reader, Reader::Node, From::Present).await;
    publish(&publisher, "heard").await;
    assert_eq!(tail.texts(1).await, ["heard"]);
    // Put into the log behind the channel's back, as the script would.
    let head = format!("{}:{{0}}:head", config.prefix);
    let log = format!("{}:{{0}}:log", config.prefix);
    let epoch = redis.call(&["HGET", &head, "epoch"]);
    let joined = [&3u32.to_le_bytes()[..], b"abc"].concat();
    let joined = String::from_utf8(joined).unwrap();
    redis.call(&["HSET", &head, "tail", "2"]);
    // A command line has no zero bytes, a script's text has.
    let add = format!(
        "return redis.call('XADD', KEYS[1], '{epoch}-2', 'b', '{}', 't', 7)",
        joined.bytes().map(|byte| format!("\\{byte:03}")).collect::<String>()
    );
    redis.call(&["EVAL", &add, "1", &log]);
    let swallowed = tail.entries(1).await;
    assert_eq!((swallowed[0].position.offset, &swallowed[0].bytes[..]), (2, &b"abc"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_history_has_not_settled_is_kept_for_it() {
    let redis = Redis::start();
    let mut config = config(&redis.url());
    let quick = open(&config, &Opening::new("a").with_history("quick", 0)).await;
    let slow = open(&config, &Opening::new("b").with_history("slow", 0)).await;
    let (mut tail, _) = Tail::new(&quick, Reader::History, From::Oldest).await;
    for i in 0..64 {
        let position = publish(&quick, &i.to_string()).await;
        tail.entries(1).await;
        quick.settle(LOG, position).await.unwrap();
    }
    eventually("the quick one is not behind", async || quick.status().await.depths[0] == 0).await;
    let refused = try_publish(&quick, "too many").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    // It dies, and its node comes back.
    drop(slow);
    let slow = open(&config, &Opening::new("b").with_history("slow", 0)).await;
    let (mut its, _) = Tail::new(&slow, Reader::History, From::Oldest).await;
    let all = its.entries(64).await;
    slow.settle(LOG, all[63].position).await.unwrap();
    eventually("there is room again", async || try_publish(&quick, "more").await.is_ok()).await;
    let log = format!("{}:{{0}}:log", config.prefix);
    eventually("what everybody has is trimmed", async || redis.call(&["XLEN", &log]).parse::<usize>().unwrap() <= 17).await;
    // A history that is never heard of again does not hold the log for ever.
    drop(slow);
    quick.close().await.unwrap();
    config.history_ttl = Duration::from_millis(400);
    let quick = open(&config, &Opening::new("a").with_history("quick", 0)).await;
    let (mut tail, _) = Tail::new(&quick, Reader::History, From::Oldest).await;
    let mut published = 0;
    eventually_publish(&quick, &mut tail, &mut published, 200).await;
}

/// Publishes and settles until so many are through, however often the log is full meanwhile.
async fn eventually_publish(broker: &chatflow_core::broker::redis::RedisBroker, tail: &mut Tail, published: &mut usize, n: usize) {
    let all = async {
        while *published < n {
            match try_publish(broker, "on").await {
                Ok(position) => {
                    *published += 1;
                    broker.settle(LOG, position).await.unwrap();
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    };
    tokio::time::timeout(super::node::PATIENCE, all).await.expect("the silent history is forgotten");
    drop(tail.event().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_is_told_what_was_trimmed() {
    let config = config(&REDIS.url());
    let broker = open(&config, &Opening::new("a").with_history("h", 0)).await;
    let (mut tail, start) = Tail::new(&broker, Reader::Node, From::Present).await;
    // Larger than what a node keeps of a log's end.
    let large = "x".repeat(200_000);
    let mut last = start;
    for _ in 0..60 {
        last = publish(&broker, &large).await;
        broker.settle(LOG, last).await.unwrap();
    }
    eventually("it is trimmed", async || {
        let log = format!("{}:{{0}}:log", config.prefix);
        REDIS.call(&["XLEN", &log]).parse::<usize>().unwrap() <= 16
    })
    .await;
    let (lost, at) = tail.loss().await;
    assert_eq!(lost, start);
    let rest = (last.offset - at.offset) as usize;
    assert_eq!(tail.entries(rest).await.last().unwrap().position, last);
}

/// A server of a cluster dies and comes back: its logs wait, those of the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_a_cluster_dies_and_comes_back() {
    let cluster = Cluster::start();
    let broker = open(&config(&cluster.url()), &Opening::new("a").with_history("h", 0)).await;
    let (mut tail, _) = Tail::new(&broker, Reader::Node, From::Present).await;
    publish(&broker, "before").await;
    let log = format!("{}:{{0}}:log", "x");
    let slot: u16 = cluster.0[0].call(&["CLUSTER", "KEYSLOT", &log]).parse().unwrap();
    let owner = usize::from(slot / (16_384 / 3 + 1));
    cluster.0[owner].kill();
    eventually("publishers are refused", async || try_publish(&broker, "while it is away").await.is_err()).await;
    cluster.0[owner].begin();
    publish_at_last(&broker, "after").await;
    assert_eq!(tail.texts(2).await, ["before", "after"]);
}

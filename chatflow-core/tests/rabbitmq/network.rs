//! What becomes of nodes whose way to RabbitMQ is bad, while RabbitMQ itself and the others are well.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chatflow_core::broker::{From, Reader};

use chatflow_testkit::{Faults, Flow, Proxy};

use super::door::Door;
use super::harm::shared;
use super::node::{LOG, Seen, attach, chatter, config, healthy, node, publish, refused, submit, until};

/// What is published into it may be in the log or not; who sent it is told that it is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_falls_silent_is_away_until_it_is_heard_again() {
    let rabbit = shared().await;
    let door = Door::new(([127, 0, 0, 1], rabbit.port).into()).await;
    let there = config(&rabbit.url());
    let here = config(&format!("amqp://guest:guest@{}", door.address)).with_prefix(&there.prefix);
    let [here, there] = [node("a", None, here).await, node("b", None, there).await];
    let mut reader = attach(&here, Reader::Node, From::Present).await;
    publish(&here, "before").await;
    until(&mut reader, "before").await;
    door.hush(true);
    let hushed = Instant::now();
    let told = submit(&here, "into the silence").expect("nobody knows yet");
    let error = told.await.unwrap().expect_err("nothing is heard of it");
    assert!(error.is_transient() && hushed.elapsed() < Duration::from_secs(15), "{error} after {:?}", hushed.elapsed());
    let asked = Instant::now();
    let error = refused(&here).await;
    assert!(error.is_transient() && asked.elapsed() < Duration::from_secs(1), "{error} after {:?}", asked.elapsed());
    publish(&there, "meanwhile").await;
    door.hush(false);
    let took = healthy(&here).await;
    assert!(took < Duration::from_secs(5), "guarantee 8: {took:?}");
    publish(&here, "after").await;
    let seen = until(&mut reader, "after").await;
    assert!(seen.lost.is_empty() && seen.attached.is_empty(), "nothing was lost: {seen:?}");
    let texts: Vec<_> = seen.texts().into_iter().filter(|text| text != "into the silence" && text != "too early").collect();
    assert_eq!(texts, ["meanwhile", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_reset_lose_nothing_that_was_accepted() {
    let rabbit = shared().await;
    let door = Door::new(([127, 0, 0, 1], rabbit.port).into()).await;
    let config = config(&format!("amqp://guest:guest@{}", door.address));
    let nodes = [node("a", Some("h"), config.clone()).await, node("b", Some("h"), config).await];
    let mut readers = [attach(&nodes[0], Reader::Node, From::Present).await, attach(&nodes[1], Reader::History, From::Oldest).await];
    let [(stop_a, a), (stop_b, b)] = [chatter(&nodes[0], "a"), chatter(&nodes[1], "b")];
    let mut seen = [Seen::default(), Seen::default()];
    for time in 0..5 {
        door.reset();
        let text = format!("after reset {time}");
        publish(&nodes[time % 2], &text).await;
        for (reader, seen) in readers.iter_mut().zip(&mut seen) {
            seen.extend(until(reader, &text).await);
        }
        nodes[0].settle(LOG, seen[1].entries[seen[1].entries.len() - 1].position).await.unwrap();
    }
    let _ = (stop_a.send(()), stop_b.send(()));
    let accepted = [a.await.unwrap(), b.await.unwrap()];
    publish(&nodes[0], "end").await;
    for (reader, seen) in readers.iter_mut().zip(&mut seen) {
        seen.extend(until(reader, "end").await);
        assert!(seen.lost.is_empty(), "nothing was lost: {:?}", seen.lost);
    }
    assert_eq!(seen[0].entries, seen[1].entries, "all see one order");
    let texts: HashSet<_> = seen[0].texts().into_iter().collect();
    assert!(accepted.iter().all(|accepted| !accepted.is_empty()));
    assert!(accepted.iter().flatten().all(|text| texts.contains(text)), "what was accepted is there");
}

/// What a node has to read of a log before it knows where its last messages begin comes as slowly as the network is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_slow_network_the_last_messages_are_found_however_long_that_takes() {
    let rabbit = shared().await;
    let proxy = Proxy::start(([127, 0, 0, 1], rabbit.port).into()).await;
    let there = config(&rabbit.url());
    let here = config(&format!("amqp://guest:guest@{}", proxy.address())).with_prefix(&there.prefix);
    let writer = node("a", None, there).await;
    for n in 0..120 {
        publish(&writer, &format!("{n} {}", "x".repeat(60_000))).await;
    }
    let here = node("b", None, here).await;
    proxy.set(Faults { down: Flow::throttled(500_000), ..Faults::default() });
    let asked = Instant::now();
    let mut reader = attach(&here, Reader::Node, From::Last(101)).await;
    assert!(asked.elapsed() > Duration::from_secs(12), "six megabytes at half a megabyte a second: {:?}", asked.elapsed());
    proxy.set(Faults::default());
    publish(&writer, "end").await;
    let seen = until(&mut reader, "end").await;
    assert_eq!((seen.texts().len(), seen.texts()[0].split_once(' ').unwrap().0), (102, "19"));
}

//! The broker on RabbitMQ while RabbitMQ is killed, loses its data, gets an older copy of it, or takes nothing.

mod rabbit;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_core::broker::rabbitmq::RabbitMqConfig;
use chatflow_core::broker::{Broker, From, Reader};
use chatflow_core::{ErrorKind, Position};
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use rabbit::node::{PATIENCE, attach, chatter, node, publish, submit, until};
use rabbit::{Rabbit, prefix};

fn config(rabbit: &Rabbit) -> RabbitMqConfig {
    RabbitMqConfig::new(rabbit.url()).with_prefix(prefix()).with_logs(2)
}

/// Waits until `condition` holds; gives how long that took.
async fn wait_for(what: &str, condition: impl AsyncFn() -> bool) -> Duration {
    let begun = Instant::now();
    let held = async {
        while !condition().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, held).await.expect(what);
    begun.elapsed()
}

async fn is_healthy(broker: &Arc<dyn Broker>) -> bool {
    let status = broker.status().await; eprintln!("{:?} {}", Instant::now(), status.detail);
    status.healthy
}

/// Until a publisher is refused at once.
async fn refused(broker: &Arc<dyn Broker>) -> chatflow_core::Error {
    wait_for("refused", async || submit(broker, "too early").is_err()).await;
    submit(broker, "too early").expect_err("it is away")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_accepted_is_lost_when_it_is_killed_and_comes_back() {
    let mut rabbit = block_in_place(Rabbit::start);
    let config = config(&rabbit);
    let nodes = [node("a", Some("h"), config.clone()).await, node("b", Some("h"), config).await];
    let mut readers = Vec::new();
    for node in &nodes {
        readers.push(attach(node, Reader::Node, From::Oldest).await);
    }
    let [(stop_a, a), (stop_b, b)] = [chatter(&nodes[0], "a"), chatter(&nodes[1], "b")];
    let mut seen = Vec::new();
    for (reader, last) in readers.iter_mut().zip(["a100", "b100"]) {
        seen.push(until(reader, last).await);
    }
    block_in_place(|| rabbit.down());
    let error = refused(&nodes[0]).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_transient() && !is_healthy(&nodes[0]).await, "{error}");
    block_in_place(|| rabbit.up());
    for node in &nodes {
        let took = wait_for("healthy", async || is_healthy(node).await).await;
        assert!(took < Duration::from_secs(5), "guarantee 8: {took:?}");
    }
    let place = publish(&nodes[0], "after").await;
    assert_eq!(place.epoch, seen[0].entries[0].position.epoch, "the log is the same");
    drop((stop_a.send(()), stop_b.send(())));
    let mut accepted = a.await.unwrap();
    accepted.extend(b.await.unwrap());
    publish(&nodes[1], "end").await;
    for (seen, reader) in seen.iter_mut().zip(&mut readers) {
        let more = until(reader, "end").await;
        assert!(more.lost.is_empty() && more.attached.is_empty(), "nothing was lost: {:?} {:?}", more.lost, more.attached);
        seen.entries.extend(more.entries);
    }
    assert_eq!(seen[0].entries, seen[1].entries);
    let texts = seen[0].texts();
    assert!(accepted.iter().all(|text| texts.contains(text)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_wound_back_or_wiped_goes_on_in_a_new_epoch() {
    let mut rabbit = block_in_place(Rabbit::start);
    let config = config(&rabbit);
    let nodes = [node("a", None, config.clone()).await, node("b", None, config.clone()).await];
    let mut readers = Vec::new();
    for node in &nodes {
        readers.push(attach(node, Reader::Node, From::Oldest).await);
    }
    for i in 0..20 {
        publish(&nodes[0], &format!("kept {i}")).await;
    }
    // A copy of what it has by now; then it goes on, and so do the nodes.
    let copy = tempfile::tempdir().unwrap();
    block_in_place(|| {
        rabbit.down();
        copy_folder(&rabbit.data(), copy.path());
        rabbit.up();
    });
    for i in 0..20 {
        publish(&nodes[1], &format!("lost {i}")).await;
    }
    let last = publish(&nodes[1], "last").await;
    for reader in &mut readers {
        until(reader, "last").await;
    }
    for (life, wiped) in [false, true].into_iter().enumerate() {
        block_in_place(|| {
            rabbit.down();
            std::fs::remove_dir_all(rabbit.data()).unwrap();
            if !wiped {
                copy_folder(&copy.path().join("data"), rabbit.data().parent().unwrap());
            }
            rabbit.up();
        });
        let text = format!("life {life}");
        let place = publish(&nodes[life], &text).await;
        for reader in &mut readers {
            let seen = until(reader, &text).await;
            assert_eq!((seen.texts().len(), seen.lost.len()), (1, 1), "{:?} {:?}", seen.texts(), seen.lost);
            assert!(seen.lost[0].1 == place.epoch && place.epoch > seen.lost[0].0.epoch, "{:?} {place}", seen.lost);
            assert_eq!(seen.attached, [Position::new(place.epoch, 0)]);
        }
        assert!(place.epoch > last.epoch);
    }
    // Who comes later and knows only the first life.
    let late = node("c", None, config).await;
    let mut reader = attach(&late, Reader::History, From::After(last)).await;
    let seen = until(&mut reader, "life 1").await;
    assert_eq!((seen.lost.len(), seen.lost[0].0), (1, last));
}

fn copy_folder(from: &Path, into: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(into).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_stops_publishers_and_not_readers() {
    let rabbit = block_in_place(Rabbit::start);
    let config = config(&rabbit);
    let broker = node("a", None, config.clone()).await;
    publish(&broker, "before").await;
    block_in_place(|| rabbit.control(&["set_vm_memory_high_watermark", "0.000001"]));
    // It is noticed by the first that is published.
    let told = submit(&broker, "into the alarm");
    let error = refused(&broker).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("memory or disk alarm"), "{error}");
    if let Ok(told) = told {
        assert!(told.await.unwrap().is_err(), "its outcome is not known");
    }
    let mut reader = attach(&broker, Reader::Node, From::Oldest).await;
    until(&mut reader, "before").await;
    // Longer than anything is waited for: the connections stay.
    sleep(Duration::from_secs(8)).await;
    let error = submit(&broker, "still").expect_err("blocked");
    assert!(error.to_string().contains("memory or disk alarm"), "{error}");
    block_in_place(|| rabbit.control(&["set_vm_memory_high_watermark", "absolute", "512MB"]));
    let took = wait_for("healthy", async || is_healthy(&broker).await).await;
    assert!(took < Duration::from_secs(5), "guarantee 8: {took:?}");
    publish(&broker, "after").await;
    let seen = until(&mut reader, "after").await;
    assert!(seen.lost.is_empty() && seen.attached.is_empty());
}

//! What nodes that share a log see of it.

use std::collections::HashSet;

use chatflow_core::broker::{Event, From, Reader};
use chatflow_core::{ErrorKind, Position};
use futures::StreamExt;
use lapin::{Connection, ConnectionProperties};
use tokio::time::timeout;

use super::harm::shared;
use super::node::{LOG, PATIENCE, Seen, attach, chatter, config, next, node, publish, submit, take, until};
use super::server::Rabbit;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_are_pipelined_and_keep_their_order() {
    let broker = node("a", None, config(&shared().await.url())).await;
    let mut events = attach(&broker, Reader::Node, From::Present).await;
    let told: Vec<_> = (0..5_000).map(|i| submit(&broker, &i.to_string()).unwrap()).collect();
    let seen = until(&mut events, "4999").await;
    assert_eq!(seen.texts(), (0..5_000).map(|i| i.to_string()).collect::<Vec<_>>());
    for (told, entry) in told.into_iter().zip(&seen.entries) {
        assert_eq!(told.await.unwrap().unwrap(), Some(entry.position), "the place that readers see");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_far_behind_gets_everything() {
    let config = config(&shared().await.url());
    let broker = node("a", None, config.clone()).await;
    let first = publish(&broker, "first").await;
    let told: Vec<_> = (0..20_000).map(|i| submit(&broker, &i.to_string()).unwrap()).collect();
    for told in told {
        told.await.unwrap().unwrap();
    }
    let expected: Vec<_> = (0..20_000).map(|i| i.to_string()).collect();
    let mut behind = attach(&broker, Reader::History, From::After(first)).await;
    assert_eq!(next(&mut behind).await, Event::Attached(first), "nothing was lost");
    assert_eq!(until(&mut behind, "19999").await.texts(), expected);
    // A node that was not there when they came, and whose own fence stands behind them.
    let late = node("b", None, config).await;
    for n in [0, 3, 300, 20_000, 30_000] {
        publish(&late, &format!("end {n}")).await;
        let seen = until(&mut attach(&late, Reader::Node, From::Last(n + 1)).await, &format!("end {n}")).await;
        let texts = seen.texts();
        assert!(seen.lost.is_empty(), "{n}: {:?}", seen.lost);
        let there = 20_001 + [0, 3, 300, 20_000, 30_000].iter().position(|last| *last == n).unwrap() + 1;
        assert_eq!(texts.len(), there.min(n as usize + 1), "{:?} …", texts.first());
    }
    // Closing lets it read to the end.
    let mut behind = attach(&broker, Reader::Node, From::Oldest).await;
    broker.close().await.unwrap();
    let mut seen = Seen::default();
    while let Some(event) = timeout(PATIENCE, behind.next()).await.unwrap() {
        take(&mut seen, event.unwrap());
    }
    assert!(seen.texts().len() > 20_000 && seen.lost.is_empty());
}

/// What a node holds of the past while it finds out where that begins has a bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_messages_come_once_however_large_they_are() {
    let config = config(&shared().await.url());
    let broker = node("a", None, config.clone()).await;
    let mut texts: Vec<_> = (0..60).map(|i| format!("{i} {}", "x".repeat(100_000))).collect();
    for text in &texts {
        publish(&broker, text).await;
    }
    let late = node("b", None, config).await;
    for n in [5, 50] {
        let end = format!("end {n}");
        publish(&late, &end).await;
        texts.push(end.clone());
        let seen = until(&mut attach(&late, Reader::Node, From::Last(n as u64)).await, &end).await;
        assert!(seen.lost.is_empty(), "{n}: {:?}", seen.lost);
        assert!(seen.texts() == texts[texts.len() - n..], "{n}: {} came", seen.texts().len());
    }
}

/// Two nodes publish while a log is turned: what was accepted is seen by both, in one order, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_ends_at_the_same_entry_for_everybody() {
    let config = config(&shared().await.url());
    let nodes = [node("a", None, config.clone()).await, node("b", None, config).await];
    let mut readers = Vec::new();
    for node in &nodes {
        readers.push(attach(node, Reader::Node, From::Oldest).await);
    }
    let [(stop_a, a), (stop_b, b)] = [chatter(&nodes[0], "a"), chatter(&nodes[1], "b")];
    let before = [until(&mut readers[0], "a100").await, until(&mut readers[1], "b100").await];
    // Somebody has seen more of this epoch than RabbitMQ has.
    let beyond = Position::new(before[0].attached[0].epoch, 1 << 40);
    let mut third = attach(&nodes[0], Reader::History, From::After(beyond)).await;
    let Event::Lost { last, epoch } = next(&mut third).await else { panic!("it is told that it lost something") };
    assert_eq!((last, next(&mut third).await), (beyond, Event::Attached(Position::new(epoch, 0))));
    for (node, reader) in nodes.iter().zip(&mut readers) {
        publish(node, "in the new epoch").await;
        let seen = until(reader, "in the new epoch").await;
        assert_eq!(seen.attached, [Position::new(epoch, 0)]);
    }
    let _ = stop_a.send(());
    let _ = stop_b.send(());
    let accepted: HashSet<_> = a.await.unwrap().into_iter().chain(b.await.unwrap()).collect();
    publish(&nodes[0], "end").await;
    let mut all = Vec::new();
    for node in &nodes {
        all.push(until(&mut attach(node, Reader::Node, From::Oldest).await, "end").await);
    }
    assert_eq!(all[0], all[1]);
    let seen: HashSet<_> = all[0].texts().into_iter().collect();
    assert!(accepted.is_subset(&seen), "{:?}", accepted.difference(&seen));
    let epochs: HashSet<_> = all[0].entries.iter().map(|entry| entry.position.epoch).collect();
    assert_eq!(epochs, HashSet::from([beyond.epoch, epoch]));
    let strange: Vec<_> = seen.difference(&accepted).filter(|text| text.starts_with(['a', 'b'])).collect();
    assert!(strange.len() <= 200, "only what was under way when the epoch ended may be there without its sender knowing: {strange:?}");
}

/// RabbitMQ gives who asks for a place beyond the end of a queue nothing at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_beyond_the_end_of_an_earlier_epoch_is_told_lost() {
    let config = config(&shared().await.url());
    let first = node("a", None, config.clone()).await;
    let earlier = publish(&first, "before").await.epoch;
    let beyond = [1 << 40, 1 << 20].map(|offset| Position::new(earlier, offset));
    let Event::Lost { epoch, .. } = next(&mut attach(&first, Reader::History, From::After(beyond[0])).await).await else {
        panic!("it is told that it lost something")
    };
    publish(&first, "after").await;
    // It has read nothing of the earlier epoch.
    let second = node("b", None, config).await;
    let seen = until(&mut attach(&second, Reader::History, From::After(beyond[1])).await, "after").await;
    assert_eq!((seen.lost, seen.attached), (vec![(beyond[1], epoch)], vec![Position::new(epoch, 0)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_queue_is_deleted_goes_on_in_a_new_epoch() {
    let rabbit = shared().await;
    let config = config(&rabbit.url());
    let prefix = config.prefix.clone();
    let nodes = [node("a", None, config.clone()).await, node("b", None, config).await];
    let last = publish(&nodes[0], "before").await;
    let mut readers = Vec::new();
    for node in &nodes {
        readers.push(attach(node, Reader::Node, From::Oldest).await);
    }
    for reader in &mut readers {
        until(reader, "before").await;
    }
    delete(rabbit, &format!("{prefix}.0.{}", last.epoch)).await;
    for (node, reader) in nodes.iter().zip(&mut readers) {
        publish(node, "after").await;
        let seen = until(reader, "after").await;
        let epoch = seen.entries[0].position.epoch;
        assert!(epoch > last.epoch);
        assert_eq!((seen.lost, seen.attached), (vec![(last, epoch)], vec![Position::new(epoch, 0)]));
    }
    // The queue of epochs as well, and the rest with it.
    let now = publish(&nodes[1], "again").await;
    delete(rabbit, &format!("{prefix}.epochs")).await;
    let again = loop {
        let place = publish(&nodes[0], "without the old epochs").await;
        if place.epoch > now.epoch {
            break place;
        }
    };
    assert_eq!(until(&mut readers[1], "without the old epochs").await.entries.last().map(|e| e.position.epoch >= now.epoch), Some(true));
    publish(&nodes[1], "end").await;
    let all = [until(&mut readers[0], "end").await, until(&mut readers[1], "end").await];
    assert_eq!(all.map(|seen| seen.entries.last().map(|entry| entry.position.epoch)), [Some(again.epoch); 2]);
}

async fn delete(rabbit: &Rabbit, queue: &str) {
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete(queue.into(), Default::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_nodes_history_waits_for_is_kept() {
    let config = config(&shared().await.url()).with_backlog(64, 1 << 20);
    let one = node("a", Some("one"), config.clone()).await;
    let other = node("b", Some("other"), config.clone()).await;
    let same = node("c", Some("other"), config).await;
    let mut reader = attach(&other, Reader::History, From::Oldest).await;
    let mut own = attach(&one, Reader::History, From::Oldest).await;
    let mut sent = 0;
    let full = timeout(PATIENCE, async {
        loop {
            match submit(&one, &sent.to_string()) {
                Ok(told) => {
                    one.settle(LOG, told.await.unwrap().unwrap().unwrap()).await.unwrap();
                    sent += 1;
                }
                Err(error) => return error,
            }
        }
    });
    let error = full.await.expect("the other history holds it up");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    drop(own.next().await);
    let seen = until(&mut reader, &(sent - 1).to_string()).await;
    // Whoever writes that history by now.
    same.settle(LOG, seen.entries[seen.entries.len() - 1].position).await.unwrap();
    publish(&one, "there is room again").await;
}

//! Guarantee 1: one order.

use std::sync::Arc;

use super::publisher::{Traffic, publish};
use super::watch::{Settler, Watch, assert_one_log, attach, next};
use super::{Subject, in_time};
use crate::broker::{Broker, From, Reader};

/// How many entries of each of two publishers are accepted at least, while readers compare.
const EACH: usize = 250;

/// Publishes from two tasks at once, and compares what the readers see.
async fn one_order(publishers: &[Arc<dyn Broker>; 2], mut readers: Vec<Watch>) {
    let _settlers = publishers.each_ref().map(|node| Settler::start(node, &readers));
    let mut traffic = Traffic::start(publishers);
    traffic.more(EACH).await;
    let sent = traffic.stop().await;
    for reader in &mut readers {
        reader.has_all(&sent).await;
    }
    assert_one_log(&readers, &sent);
    for reader in &readers {
        assert!(reader.seen().losses.is_empty(), "nothing was lost");
        // What was refused by a receipt may be in the log all the same, and be under way to one of them.
        for (one, other) in readers[0].seen().entries.iter().zip(&reader.seen().entries) {
            assert_eq!(one, other, "one order");
        }
    }
}

/// Guarantee 1: two publishers at once, two readers, one order, and each publisher's own order within it.
pub async fn g1_all_readers_see_one_order_whoever_publishes(subject: Subject) {
    let broker = subject.opened().await;
    let readers = vec![Watch::node(broker, "the node").await, Watch::history(broker, "the history").await];
    one_order(&[Arc::clone(broker), Arc::clone(broker)], readers).await;
}

/// Guarantee 1: two nodes publish at once; both, and the histories of both, see one order in the same positions.
pub async fn g1_two_nodes_publish_at_once_and_all_see_one_order(subject: Subject) {
    let one = Arc::clone(subject.opened().await);
    let two = subject.node("node-2", Some("another")).await;
    let readers = vec![
        Watch::node(&one, "node 1").await,
        Watch::node(&two, "node 2").await,
        Watch::history(&one, "the history of node 1").await,
        Watch::history(&two, "the history of node 2").await,
    ];
    one_order(&[one, two], readers).await;
}

/// Guarantee 1: positions only grow, and begin after where the reader was attached.
pub async fn g1_positions_grow(subject: Subject) {
    let broker = subject.opened().await;
    let (mut events, mut last) = attach(broker, Reader::Node, From::Present).await;
    for i in 0..5 {
        publish(broker, &i.to_string()).await;
    }
    for entry in in_time("entries are read", next(&mut events, 5)).await {
        assert!(entry.position > last, "{} after {last}", entry.position);
        last = entry.position;
    }
}

//! Guarantee 6: what a history has not settled stays for it.

use super::Subject;
use super::publisher::publish;
use super::watch::{attach, next, texts};
use crate::broker::{From, Opening, Reader};

/// Guarantee 6: a reader that comes again.
pub async fn g6_the_history_reads_again_what_it_has_not_settled(subject: Subject) {
    let broker = subject.opened().await;
    for i in 0..6 {
        publish(broker, &i.to_string()).await;
    }
    let settled = {
        let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
        let all = next(&mut events, 6).await;
        broker.settle(super::LOG, all[2].position).await.expect("settled");
        all[2].position
    };
    let (mut events, _) = attach(broker, Reader::History, From::After(settled)).await;
    assert_eq!(texts(&next(&mut events, 3).await), ["3", "4", "5"]);
}

/// Guarantee 6: where nobody keeps a history, what a node has read and settled makes room.
pub async fn g6_without_a_history_nodes_settle(subject: Subject) {
    let broker = &subject.broker;
    broker.open(&Opening::new("node-1")).await.expect("opens");
    let (mut events, _) = attach(broker, Reader::Node, From::Present).await;
    for i in 0..3 * subject.full_at {
        publish(broker, &i.to_string()).await;
        let seen = next(&mut events, 1).await;
        assert_eq!(texts(&seen), [i.to_string()]);
        broker.settle(super::LOG, seen[0].position).await.expect("settled");
    }
}

/// Guarantee 6: two histories on one backend, each with its own settled position.
pub async fn g6_each_history_settles_for_itself(subject: Subject) {
    let one = subject.opened().await;
    let two = subject.node("node-2", Some("another")).await;
    let n = subject.full_at / 2;
    for i in 0..n {
        publish(one, &i.to_string()).await;
    }
    let (mut events, _) = attach(one, Reader::History, From::Oldest).await;
    let all = next(&mut events, n).await;
    one.settle(super::LOG, all[n - 1].position).await.expect("settled");
    let (mut events, _) = attach(&two, Reader::History, From::Oldest).await;
    assert_eq!(next(&mut events, n).await, all, "settled by one, and still there for the other");
    two.settle(super::LOG, all[1].position).await.expect("settled");
    drop(events);
    let (mut events, _) = attach(&two, Reader::History, From::After(all[1].position)).await;
    assert_eq!(next(&mut events, n - 2).await, all[2..]);
}

/// Guarantee 6: the history's writer moves to another node.
pub async fn g6_another_node_takes_the_history_over(subject: Subject) {
    let [one, two] = subject.two_nodes().await;
    for i in 0..6 {
        publish(&one, &i.to_string()).await;
    }
    let (mut events, _) = attach(&one, Reader::History, From::Oldest).await;
    let all = next(&mut events, 6).await;
    one.settle(super::LOG, all[2].position).await.expect("settled");
    drop(events);
    let (mut events, _) = attach(&two, Reader::History, From::After(all[2].position)).await;
    assert_eq!(next(&mut events, 3).await, all[3..]);
    two.settle(super::LOG, all[5].position).await.expect("settled");
    publish(&one, "more").await;
    assert_eq!(texts(&next(&mut events, 1).await), ["more"]);
}

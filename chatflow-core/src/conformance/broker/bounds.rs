//! Guarantee 5: bounds, and that nobody holds up anybody.

use std::sync::Arc;

use futures::future::join_all;

use super::Subject;
use super::publisher::{entry, offer, publish};
use super::watch::{Settler, Watch, attach, next, some, texts};
use crate::broker::{Broker, From, Reader, Receipt};
use crate::{ErrorKind, Position};

/// Guarantee 5: a log that is full refuses, by the call or by the receipt, for now; what it took is all there; settling makes room.
pub async fn g5_a_full_log_refuses_and_settling_makes_room(subject: Subject) {
    let broker = subject.opened().await;
    let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
    let mut taken: Vec<String> = Vec::new();
    let mut made = 0;
    // Several at once, until one is refused; then one by one, so that what is full is the log and nothing in front of it.
    for at_once in [8, 1] {
        let mut refused = false;
        while !refused {
            assert!(taken.len() <= subject.full_at, "{} entries were taken", taken.len());
            let all: Vec<String> = (made..made + at_once).map(|i| i.to_string()).collect();
            made += at_once;
            for (text, told) in all.iter().zip(join_all(all.iter().map(|text| offer(broker, text))).await) {
                match told {
                    Ok(_) => taken.push(text.clone()),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                        refused = true;
                    }
                }
            }
        }
    }
    assert!((subject.full_at / 2..=subject.full_at).contains(&taken.len()), "{} entries were taken", taken.len());
    let all = next(&mut events, taken.len()).await;
    assert_eq!(texts(&all), taken, "nothing was dropped");
    broker.settle(super::LOG, all[all.len() - 1].position).await.expect("settled");
    publish(broker, "there is room again").await;
    assert_eq!(texts(&next(&mut events, 1).await), ["there is room again"]);
}

/// Guarantee 5: the sender is told that it will never succeed.
pub async fn g5_an_oversized_entry_is_refused_for_good(subject: Subject) {
    let broker = subject.opened().await;
    let mut large = entry("");
    large.bytes = vec![0; broker.profile().largest_entry + 1].into();
    let refused = broker.submit(large, Receipt::ignored()).expect_err("too large");
    assert_eq!(refused.error.kind(), ErrorKind::Invalid);
    publish(broker, "others go on").await;
}

/// Publishes, while a reader at `still` takes nothing, several times what a log holds; then the reader goes on.
async fn stalls(subject: &Subject, publisher: &Arc<dyn Broker>, still: &Arc<dyn Broker>) {
    let (stalled, start) = attach(still, Reader::Node, From::Present).await;
    let mut live = [
        Watch::node(publisher, "a reader beside").await,
        Watch::node(still, "a reader of the same node").await,
        Watch::history(publisher, "the history").await,
    ];
    let _settler = Settler::start(publisher, &live);
    let all: Vec<String> = (0..(4 * subject.full_at).min(2_000)).map(|i| i.to_string()).collect();
    for some in all.chunks(subject.full_at.min(32) / 4) {
        join_all(some.iter().map(|text| publish(publisher, text))).await;
        live[2].has(some).await;
    }
    for reader in &mut live {
        reader.has(&all).await;
        assert!(reader.seen().losses.is_empty(), "who takes what comes loses nothing");
    }
    let mut stalled = Watch::over(stalled, start, "the reader that stood still");
    let last = &all[all.len() - 1];
    stalled.until("it goes on, or is told of a loss", |seen| !seen.losses.is_empty() || seen.places.contains_key(last)).await;
    publish(publisher, "all is well").await;
    for reader in live.iter_mut().chain([&mut stalled]) {
        reader.has([&"all is well".to_owned()]).await;
    }
    stalled.seen().assert_no_silent_gap(&live[0].seen().entries);
}

/// Guarantee 5: a stream that nobody takes from costs nobody else anything. It goes on later, with all or with a loss that it is told.
pub async fn g5_a_stalled_reader_holds_up_nobody(subject: Subject) {
    let broker = subject.opened().await;
    stalls(&subject, broker, broker).await;
}

/// Guarantee 5: the same when another node's reader stands still.
pub async fn g5_a_stalled_node_holds_up_no_other(subject: Subject) {
    let [one, two] = subject.two_nodes().await;
    stalls(&subject, &one, &two).await;
}

/// Publishes, reads and settles several times what a log holds, after what the history has settled.
async fn goes_round(subject: &Subject, broker: &Arc<dyn Broker>, settled: Position) {
    let (mut events, _) = attach(broker, Reader::History, From::After(settled)).await;
    let n = subject.full_at / 4;
    for round in 0..12 {
        let all: Vec<String> = (0..n).map(|i| format!("{round}.{i}")).collect();
        join_all(all.iter().map(|text| publish(broker, text))).await;
        let seen = next(&mut events, n).await;
        broker.settle(super::LOG, seen[n - 1].position).await.expect("settled");
    }
}

/// Guarantee 5: a reader that is gone keeps nothing from being settled.
pub async fn g5_dropped_readers_hold_nothing(subject: Subject) {
    let broker = subject.opened().await;
    for reader in [Reader::Node, Reader::Node, Reader::History] {
        let (events, _) = attach(broker, reader, From::Oldest).await;
        publish(broker, "for a reader that is gone").await;
        drop(events);
    }
    let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
    let seen = next(&mut events, 3).await;
    broker.settle(super::LOG, seen[2].position).await.expect("settled");
    drop(events);
    goes_round(&subject, broker, seen[2].position).await;
}

/// Guarantee 5: a node that dies, in the midst of reading for itself and for the history, leaves nothing that blocks.
pub async fn g5_a_node_that_dies_blocks_nothing(subject: Subject) {
    let [one, two] = subject.two_nodes().await;
    let (mut of_two, _) = attach(&two, Reader::Node, From::Present).await;
    let (mut history, _) = attach(&two, Reader::History, From::Oldest).await;
    let all: Vec<String> = (0..8).map(|i| i.to_string()).collect();
    for text in &all {
        publish(&two, text).await;
    }
    some(&mut of_two).await;
    next(&mut history, 8).await;
    drop((of_two, history, two));
    let (mut history, _) = attach(&one, Reader::History, From::Oldest).await;
    let seen = next(&mut history, 8).await;
    assert_eq!(texts(&seen), all, "what it had not settled is there for the next");
    one.settle(super::LOG, seen[7].position).await.expect("settled");
    drop(history);
    goes_round(&subject, &one, seen[7].position).await;
}

//! Guarantee 2: what was accepted reaches everybody, from where they start.

use std::sync::Arc;

use super::publisher::publish;
use super::watch::{attach, next, some, texts};
use super::{Need, Subject};
use crate::broker::{From, Reader};

/// Guarantee 2: from the oldest entry, and from any position in between.
pub async fn g2_a_late_reader_gets_everything_from_where_it_starts(subject: Subject) {
    let broker = subject.opened().await;
    for i in 0..6 {
        publish(broker, &i.to_string()).await;
    }
    let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
    let all = next(&mut events, 6).await;
    assert_eq!(texts(&all), ["0", "1", "2", "3", "4", "5"]);
    if subject.excludes("g2_a_late_reader_gets_everything_from_where_it_starts (for nodes)", &[Need::Rewinds]) {
        return;
    }
    let (mut events, position) = attach(broker, Reader::Node, From::After(all[2].position)).await;
    assert_eq!(position, all[2].position);
    assert_eq!(next(&mut events, 3).await, all[3..]);
    let (mut events, _) = attach(broker, Reader::Node, From::Oldest).await;
    assert_eq!(next(&mut events, 6).await, all);
}

/// Guarantee 2: the present begins when the reader is attached.
pub async fn g2_a_reader_of_the_present_gets_only_what_comes(subject: Subject) {
    let broker = subject.opened().await;
    publish(broker, "before").await;
    let (mut events, _) = attach(broker, Reader::Node, From::Present).await;
    publish(broker, "after").await;
    assert_eq!(texts(&next(&mut events, 1).await), ["after"]);
}

/// Guarantee 2: the last so many entries, or all when there are fewer; the present, of a broker that does not rewind.
pub async fn g2_the_last_so_many_are_to_be_had(subject: Subject) {
    let broker = subject.opened().await;
    let (mut empty, _) = attach(broker, Reader::Node, From::Last(3)).await;
    let before = ["0", "1", "2", "3", "4", "5"];
    for text in before {
        publish(broker, text).await;
    }
    next(&mut empty, 6).await;
    let mut readers = Vec::new();
    for (n, last) in [(4, 4), (0, 0), (6, 6), (1_000, 6), (u64::MAX, 6)] {
        let last = if broker.profile().rewinds { last } else { 0 };
        readers.push((last, attach(broker, Reader::Node, From::Last(n)).await));
    }
    publish(broker, "next").await;
    let whole = next(&mut empty, 1).await;
    for (last, (mut events, position)) in readers {
        let entries = next(&mut events, last + 1).await;
        assert_eq!(texts(&entries), [&before[6 - last..], &["next"]].concat());
        assert!(position < entries[0].position);
        assert_eq!(entries.last(), whole.last());
    }
}

/// Guarantee 2: a stream that is dropped in the midst of traffic, again and again, and read again after the last position.
pub async fn g2_a_reader_that_comes_back_misses_nothing(subject: Subject) {
    let broker = subject.opened().await;
    if subject.excludes("g2_a_reader_that_comes_back_misses_nothing", &[Need::Rewinds]) {
        return;
    }
    let n = (subject.full_at / 2).min(200);
    let (mut whole, mut last) = attach(broker, Reader::Node, From::Present).await;
    let publisher = {
        let broker = Arc::clone(broker);
        tokio::spawn(async move {
            for i in 0..n {
                publish(&broker, &i.to_string()).await;
            }
        })
    };
    let mut seen = Vec::new();
    while seen.len() < n {
        let (mut events, at) = attach(broker, Reader::Node, From::After(last)).await;
        assert_eq!(at, last, "it is where it was");
        seen.extend(some(&mut events).await);
        last = seen[seen.len() - 1].position;
    }
    publisher.await.expect("published");
    assert_eq!(seen, next(&mut whole, n).await);
}

/// Guarantee 2: a node that joins late sees what comes in the same positions as the others; and what was before, when it rewinds.
pub async fn g2_a_node_that_joins_late_sees_what_comes_where_the_others_do(subject: Subject) {
    let one = subject.opened().await;
    let (mut first, _) = attach(one, Reader::Node, From::Present).await;
    for i in 0..4 {
        publish(one, &format!("before {i}")).await;
    }
    let before = next(&mut first, 4).await;
    let two = subject.node("node-2", None).await;
    let (mut late, at) = attach(&two, Reader::Node, From::Present).await;
    assert!(at >= before[3].position, "{at} is not the present");
    for i in 0..4 {
        publish(one, &format!("one {i}")).await;
        publish(&two, &format!("two {i}")).await;
    }
    let after = next(&mut first, 8).await;
    assert_eq!(next(&mut late, 8).await, after);
    if subject.excludes("g2_a_node_that_joins_late_sees_what_comes_where_the_others_do (the past)", &[Need::Rewinds]) {
        return;
    }
    let (mut all, _) = attach(&two, Reader::Node, From::Oldest).await;
    assert_eq!(next(&mut all, 12).await, [before.clone(), after.clone()].concat());
    let (mut last, _) = attach(&two, Reader::Node, From::Last(10)).await;
    assert_eq!(next(&mut last, 10).await, [&before[2..], &after].concat());
    let (mut rest, _) = attach(&two, Reader::Node, From::After(before[1].position)).await;
    assert_eq!(next(&mut rest, 10).await, [&before[2..], &after].concat());
}

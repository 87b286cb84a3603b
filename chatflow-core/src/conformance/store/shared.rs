//! A history that two nodes write.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{LOG, Subject, at, batch, message, room};
use crate::store::{Lease, Located, PageQuery, Stored};
use crate::{ErrorKind, Exception, LogId, MessageId, MessageStore, NodeId, Position};

const ONE: NodeId = NodeId::from_static("node-1");
const TWO: NodeId = NodeId::from_static("node-2");

type Store = Arc<dyn MessageStore>;

/// Two nodes and the length of a lease; `None` for a store that is one node's.
fn nodes(subject: &Subject) -> Option<(Store, Store, Duration)> {
    let shared = subject.store.shared().is_some();
    assert_eq!(shared, subject.second.is_some(), "a store that nodes share is tested with two");
    let (second, lease) = subject.second.as_ref()?;
    Some((Arc::clone(&subject.store), Arc::clone(second), *lease))
}

/// Claims until the lease is free.
async fn claim_at_last(store: &dyn MessageStore, holder: &NodeId) -> Lease {
    loop {
        match store.claim(LOG, holder).await {
            Ok(lease) => return lease,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Guarantee 1: two nodes that both want to write take turns, and every commit that returned is there once, none by a node that
/// was not the writer. Leases are given back, kept for some time, and taken over by the same name.
pub async fn g1_nodes_contend_for_a_log(subject: &Subject) {
    const ROUNDS: u64 = 30;
    let Some((one, two, _)) = nodes(subject) else { return };
    let node = |store: Arc<dyn MessageStore>, name: NodeId| async move {
        let (mut written, mut stale) = (0, None::<Lease>);
        for round in 0..ROUNDS {
            let lease = claim_at_last(&*store, &name).await;
            if let Some(stale) = stale.take() {
                let error = store.commit(&stale, &[], lease.through).await.expect_err("a later claim fences it");
                assert_eq!(error.kind(), ErrorKind::Fenced);
            }
            let mut first = lease.through.offset as u64 + 1;
            for _ in 0..1 + round % 3 {
                store.commit(&lease, &batch("a", first..=first + 2), at(first + 2)).await.expect("the lease is this node's");
                (first, written) = (first + 3, written + 3);
            }
            if round % 4 != 3 {
                store.release(&lease).await.expect("the lease is this node's");
            }
            stale = Some(lease);
        }
        if let Some(lease) = stale {
            let _ = store.release(&lease).await;
        }
        written
    };
    let (one, two) = (tokio::spawn(node(one, ONE)), tokio::spawn(node(two, TWO)));
    let written = one.await.expect("no panic") + two.await.expect("no panic");
    let page = subject.store.page(LOG, &room("a"), &PageQuery::latest(1_000)).await.expect("readable");
    let offsets: Vec<_> = page.messages.iter().map(|row| row.position.offset as u64).collect();
    assert_eq!((offsets, page.through), ((1..=written).collect(), at(written)));
}

/// Guarantee 1: while a lease runs nobody else gets it, commits and renewals keep it running, and once it has run out somebody does: the
/// writer that slept past its lease then writes nothing.
pub async fn g1_a_lease_that_ran_out_is_taken_over_and_its_writer_fenced(subject: &Subject) {
    let Some((one, two, time)) = nodes(subject) else { return };
    let old = one.claim(LOG, &ONE).await.expect("free");
    let begun = Instant::now();
    let mut renewed = begun;
    let mut offset = 0;
    while begun.elapsed() < time * 3 / 2 {
        if renewed.elapsed() > time / 3 {
            offset += 1;
            match offset % 2 {
                0 => one.renew(&old).await.expect("this node's"),
                _ => drop(one.commit(&old, &batch("a", offset..=offset), at(offset)).await.expect("this node's")),
            }
            renewed = Instant::now();
        }
        let refused = two.claim(LOG, &TWO).await.expect_err("another node writes the log");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        tokio::time::sleep(time / 20).await;
    }
    // The first falls asleep here. It may write on as long as nobody has taken over, however late it is.
    let new = claim_at_last(&*two, &TWO).await;
    let waited = renewed.elapsed();
    assert!(waited >= time * 9 / 10, "taken over after {waited:?} of {time:?}");
    assert!(waited <= time * 2 + Duration::from_secs(2), "taken over only after {waited:?}");
    let through = one.watermark(LOG).await.expect("readable");
    assert_eq!(new.through, through);

    let next = through.offset as u64 + 1;
    let entries = batch("a", next..=next + 4);
    assert_eq!(one.commit(&old, &entries, at(next + 4)).await.expect_err("fenced").kind(), ErrorKind::Fenced);
    assert_eq!(one.renew(&old).await.expect_err("fenced").kind(), ErrorKind::Fenced);
    assert_eq!(one.skip(&old, at(next + 9)).await.expect_err("fenced").kind(), ErrorKind::Fenced);
    assert_eq!(one.claim(LOG, &ONE).await.expect_err("held").kind(), ErrorKind::Unavailable);
    assert_eq!(two.watermark(LOG).await.expect("readable"), through, "it wrote nothing");
    assert_eq!(two.commit(&new, &entries, at(next + 4)).await.expect("valid"), []);
    two.release(&new).await.expect("this node's");
    one.claim(LOG, &ONE).await.expect("given back: free at once");
}

/// Guarantees 2 and 3: whoever takes over commits again what the first had committed and not told, and goes on.
pub async fn g2_a_second_node_goes_on_where_the_first_was(subject: &Subject) {
    let Some((one, two, _)) = nodes(subject) else { return };
    let lease = one.claim(LOG, &ONE).await.expect("free");
    let entries = batch("a", 1..=10);
    one.commit(&lease, &entries[..6], at(6)).await.expect("valid");
    one.release(&lease).await.expect("this node's");
    let lease = two.claim(LOG, &TWO).await.expect("free");
    assert_eq!(lease.through, at(6));
    let exceptions = two.commit(&lease, &entries[3..], at(10)).await.expect("valid");
    let repeats: Vec<_> = (0..3).map(|n| (n, Exception::Repeat { first: at(n as u64 + 4) })).collect();
    assert_eq!(exceptions, repeats, "each at its own place");
    for store in [one, two] {
        let page = store.page(LOG, &room("a"), &PageQuery::latest(100)).await.expect("readable");
        assert_eq!((page.messages, page.through, page.since), (entries.clone(), at(10), Position::new(1, 0)));
    }
}

/// Guarantee 3: two nodes write logs of their own that share ids, in opposite orders, at the same time: each id is one row, and
/// whoever comes second is told where.
pub async fn g3_an_id_is_one_row_whichever_node_writes_it(subject: &Subject) {
    const BATCHES: u64 = 20;
    const EACH: u64 = 25;
    let Some((one, two, _)) = nodes(subject) else { return };
    let ids: Vec<_> = (0..BATCHES * EACH).map(|_| MessageId::now_v7()).collect();
    let write = |store: Arc<dyn MessageStore>, name: NodeId, log: LogId, ids: Vec<MessageId>| async move {
        let room = room(&format!("room{}", log.0));
        let lease = store.claim(log, &name).await.expect("free");
        let mut rows = 0;
        for (number, ids) in ids.chunks(EACH as usize).enumerate() {
            let first = number as u64 * EACH + 1;
            let entry = |(id, offset): (&MessageId, u64)| Stored {
                position: at(offset),
                message: crate::Message { id: *id, ..message(&room, offset) },
            };
            let entries: Vec<_> = ids.iter().zip(first..).map(entry).collect();
            // Deadlocks are the database's to break and the caller's to try again.
            let exceptions = loop {
                match store.commit(&lease, &entries, at(first + EACH - 1)).await {
                    Ok(exceptions) => break exceptions,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            };
            assert!(exceptions.iter().all(|(_, exception)| matches!(exception, Exception::Conflict { .. })), "{exceptions:?}");
            rows += entries.len() - exceptions.len();
        }
        rows
    };
    let backwards: Vec<_> = ids.iter().rev().copied().collect();
    let first = tokio::spawn(write(Arc::clone(&one), ONE, LogId(1), ids.clone()));
    let second = tokio::spawn(write(Arc::clone(&two), TWO, LogId(2), backwards));
    let rows = first.await.expect("no panic") + second.await.expect("no panic");
    assert_eq!(rows, ids.len(), "each id is a row once");
    let mut kept = HashSet::new();
    for log in [1, 2] {
        let page = one.page(LogId(log), &room(&format!("room{log}")), &PageQuery::latest(1_000)).await.expect("readable");
        assert_eq!(page.through, at(BATCHES * EACH));
        for row in page.messages {
            assert!(kept.insert(row.message.id), "{} is there twice", row.message.id);
        }
    }
    assert_eq!(kept, ids.into_iter().collect());
}

/// Guarantee 9: what the other node's commit has written is seen at once, and only that.
pub async fn g9_what_another_node_commits_is_marked_and_found(subject: &Subject) {
    let Some((one, two, _)) = nodes(subject) else { return };
    let shared = two.shared().expect("nodes share it");
    assert_eq!(shared.marks().await.expect("readable"), []);
    let lease = one.claim(LOG, &ONE).await.expect("free");
    let other = one.claim(LogId(9), &ONE).await.expect("free");
    let mark = async |log: LogId| {
        let marks = shared.marks().await.expect("readable");
        marks.into_iter().find(|mark| mark.log == log).map(|mark| (mark.through, mark.since))
    };
    assert_eq!(mark(LOG).await, Some((Position::ZERO, Position::ZERO)));
    let entries = batch("a", 1..=40);
    for part in entries.chunks(8) {
        let through = part[7].position;
        one.commit(&lease, part, through).await.expect("valid");
        assert_eq!(mark(LOG).await, Some((through, Position::new(1, 0))));
        let ids: Vec<_> = entries.iter().map(|entry| entry.message.id).collect();
        let located = |Stored { position, message }: &Stored| {
            (*position <= through).then(|| Located::new(*position, message.room.clone(), message.digest))
        };
        let expected: Vec<_> = entries.iter().map(located).collect();
        assert_eq!(two.locate(&ids).await.expect("readable"), expected);
    }
    one.skip(&other, Position::new(3, 7)).await.expect("valid");
    assert_eq!(mark(LogId(9)).await, Some((Position::new(3, 7), Position::new(3, 7))));
}

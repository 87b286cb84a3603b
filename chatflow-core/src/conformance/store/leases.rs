//! One writer for a log.

use std::sync::Arc;

use super::{LOG, Subject, at, batch, claim, rows};
use crate::{ErrorKind, LogId, NodeId};

/// Guarantee 1: a claim fences all earlier ones, and a fenced commit writes nothing.
pub async fn g1_a_claim_fences_all_earlier_ones(subject: &Subject) {
    let store = &*subject.store;
    let old = claim(store, LOG).await;
    store.commit(&old, &batch("a", 1..=2), at(2)).await.expect("the lease is valid");
    let new = claim(store, LOG).await;
    assert!(new.generation > old.generation);
    assert_eq!(new.through, at(2), "a lease says where to go on");

    assert_eq!(store.commit(&old, &batch("a", 3..=4), at(4)).await.expect_err("fenced").kind(), ErrorKind::Fenced);
    assert_eq!(store.renew(&old).await.expect_err("fenced").kind(), ErrorKind::Fenced);
    assert_eq!((store.watermark(LOG).await.expect("readable"), rows(store, "a").await.len()), (at(2), 2));

    store.renew(&new).await.expect("the new lease is valid");
    store.commit(&new, &batch("a", 3..=4), at(4)).await.expect("the new lease is valid");
    assert_eq!(rows(store, "a").await.len(), 4);
}

/// Guarantee 1: giving a lease back ends it, and the next one is newer still.
pub async fn g1_a_lease_that_was_given_back_is_worth_nothing(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    store.release(&lease).await.expect("it is ours");
    assert_eq!(store.commit(&lease, &batch("a", 1..=1), at(1)).await.expect_err("given back").kind(), ErrorKind::Fenced);
    assert_eq!(store.renew(&lease).await.expect_err("given back").kind(), ErrorKind::Fenced);
    let next = store.claim(LOG, &NodeId::from_static("node-2")).await.expect("free at once");
    assert!(next.generation > lease.generation);
    store.commit(&next, &batch("a", 1..=1), at(1)).await.expect("the new lease is valid");
}

/// Guarantee 1: whatever the order of two claims and their commits, only the later claim's rows follow it.
pub async fn g1_of_racing_claims_the_last_one_commits(subject: &Subject) {
    let claims = (0..8).map(|n| {
        let store = subject.store.clone();
        tokio::spawn(async move {
            let lease = match store.claim(LOG, &NodeId::from(format!("node-{n}"))).await {
                Ok(lease) => lease,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "held by another: {error}");
                    return None;
                }
            };
            let first = lease.through.offset as u64 + 1;
            let committed = store.commit(&lease, &batch("a", first..=first), at(first)).await;
            if let Err(error) = &committed {
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
            }
            Some((lease, committed.is_ok()))
        })
    });
    let mut leases = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        leases.extend(claim.await.expect("no panic"));
    }
    let committed = leases.iter().filter(|(_, committed)| *committed).count();
    assert_eq!(rows(&*subject.store, "a").await.len(), committed, "exactly the commits that returned have rows");

    let mut generations: Vec<_> = leases.iter().map(|(lease, _)| lease.generation).collect();
    generations.sort_unstable();
    generations.dedup();
    assert_eq!(generations.len(), leases.len(), "each claim has a generation of its own");
    for (lease, _) in &leases {
        let valid = subject.store.renew(lease).await.is_ok();
        assert_eq!(valid, Some(&lease.generation) == generations.last(), "only the last claim is valid");
    }
}

/// Guarantee 1: the lease, the cursor and the fence are each log's own.
pub async fn g1_logs_have_leases_of_their_own(subject: &Subject) {
    let store = Arc::clone(&subject.store);
    let (one, two) = (claim(&*store, LogId(1)).await, claim(&*store, LogId(2)).await);
    store.commit(&one, &batch("a", 1..=3), at(3)).await.expect("valid");
    store.commit(&two, &batch("b", 1..=1), at(1)).await.expect("a claim of log 2 does not fence log 1");
    store.renew(&one).await.expect("still valid");
    assert_eq!(store.watermark(LogId(1)).await.expect("readable"), at(3));
    assert_eq!(store.watermark(LogId(2)).await.expect("readable"), at(1));
    assert_eq!(store.watermark(LogId(9)).await.expect("readable"), crate::Position::ZERO);
}

//! Removing what is old.

use std::collections::HashSet;
use std::sync::Arc;

use super::{LOG, Subject, at, batch, claim, message, page, room, rows};
use crate::analytics::{Minutes, UserQuery};
use crate::archive::{Export, Import};
use crate::store::{Lease, MemoryStore, PageQuery, Retention, SUMMARIES, Stored};
use crate::{ErrorKind, LogId, MessageStore, NodeId, Position, Timestamp};

/// When the message of this number was accepted, as [`batch`] numbers them.
fn time(number: u64) -> Timestamp {
    message(&room("a"), number).at
}

/// `None` for a store that keeps everything.
fn retention(store: &dyn MessageStore) -> Option<&dyn Retention> {
    store.retention()
}

/// Has everything counted, where that is somebody's work: what is not counted is not removed.
async fn counted(store: &dyn MessageStore) {
    let Some(projections) = store.projections() else { return };
    let lease = store.claim(SUMMARIES, &NodeId::from_static("node-1")).await.expect("free");
    while projections.project(&lease, 1_000).await.expect("it can be counted") {}
}

async fn remove(store: &dyn MessageStore, lease: &Lease, name: &str, before: Timestamp, limit: usize) -> usize {
    counted(store).await;
    let retention = store.retention().expect("the same store");
    retention.remove(lease, &room(name), before, limit).await.expect("a healthy store removes")
}

/// Guarantee 10: the oldest go, a bounded piece at a time, and the newest stays however old it is; nothing else changes.
pub async fn g10_the_oldest_go_and_the_newest_stays(subject: &Subject) {
    let store = &*subject.store;
    if retention(store).is_none() {
        return;
    }
    store.retention().expect("there").may_remove().await.expect("it may");
    let mut lease = claim(store, LOG).await;
    let (a, b) = (batch("a", 1..=20), batch("b", 21..=40));
    for entries in [&a, &b] {
        let through = entries[19].position;
        store.commit(&lease, entries, through).await.expect("valid");
        lease = lease.at(through);
    }
    let before = store.rooms(None, 10).await.expect("readable");

    assert_eq!(remove(store, &lease, "a", time(1), 100).await, 0, "all are as young as that");
    assert_eq!(remove(store, &lease, "a", time(6), 3).await, 3);
    assert_eq!(rows(store, "a").await, a[3..]);
    assert_eq!(remove(store, &lease, "a", time(6), 3).await, 2);
    assert_eq!(remove(store, &lease, "a", time(6), 3).await, 0);
    assert_eq!(remove(store, &lease, "a", time(6), 0).await, 0);
    assert_eq!(rows(store, "a").await, a[5..]);
    assert_eq!(remove(store, &lease, "a", Timestamp(i64::MAX), usize::MAX).await, 14, "the newest stays");
    assert_eq!(remove(store, &lease, "a", Timestamp(i64::MAX), usize::MAX).await, 0);
    assert_eq!(remove(store, &lease, "nobody-was-here", Timestamp(i64::MAX), 9).await, 0);
    assert_eq!((rows(store, "a").await, rows(store, "b").await), (a[19..].to_vec(), b.clone()));

    assert_eq!(store.watermark(LOG).await.expect("readable"), at(40));
    assert_eq!(store.last_epoch().await.expect("readable"), 1);
    assert_eq!(store.rooms(None, 10).await.expect("readable"), before);
    let ids: Vec<_> = [&a[0], &a[18], &a[19], &b[0]].map(|stored| stored.message.id).to_vec();
    let found = store.locate(&ids).await.expect("readable");
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true, true]);
}

/// Guarantee 10: nothing goes that stands behind a young message, that the lease has not reached, or that has another log's lease.
pub async fn g10_nothing_goes_out_of_turn(subject: &Subject) {
    let store = &*subject.store;
    if retention(store).is_none() {
        return;
    }
    let lease = claim(store, LOG).await;
    let mut entries = batch("a", 1..=10);
    // A node whose clock is ahead, in the middle of the old ones.
    entries[3].message.at = time(1_000);
    store.commit(&lease, &entries, at(10)).await.expect("valid");
    assert_eq!(remove(store, &lease, "a", time(500), 100).await, 0, "the lease is not as far as anything");
    assert_eq!(remove(store, &lease.at(at(2)), "a", time(500), 100).await, 1, "the newest that it has reached stays");
    assert_eq!(remove(store, &lease.at(at(10)), "a", time(500), 100).await, 2);
    assert_eq!(rows(store, "a").await, entries[3..]);
    assert_eq!(remove(store, &lease.at(at(1_000)), "a", time(2_000), 100).await, 6);
    assert_eq!(rows(store, "a").await, entries[9..]);

    // An epoch is older than all offsets of the next.
    let later: Vec<_> = (1..=4).map(|n| Stored { position: Position::new(2, n), message: message(&room("a"), n as u64) }).collect();
    store.commit(&lease, &later, Position::new(2, 4)).await.expect("valid");
    assert_eq!(remove(store, &lease.at(Position::new(2, 4)), "a", Timestamp(i64::MAX), 3).await, 3);
    assert_eq!(rows(store, "a").await, later[2..]);
}

/// Guarantee 11: whoever reads on from before what was removed sees that something is missing, also after the store was opened again, and whoever
/// reads on from behind it, or in a room that lost nothing, does not.
pub async fn g11_whoever_missed_something_is_told(subject: &Subject) {
    let store = &*subject.store;
    if retention(store).is_none() {
        return;
    }
    let lease = claim(store, LOG).await;
    store.commit(&lease, &batch("quiet", 1..=2), at(2)).await.expect("valid");
    store.commit(&lease, &batch("busy", 3..=30), at(30)).await.expect("valid");
    store.commit(&lease, &batch("new", 35..=36), at(40)).await.expect("valid");
    let lease = lease.at(at(40));
    let began = page(store, "busy", &PageQuery::latest(1)).await.since;
    assert_eq!(remove(store, &lease, "busy", time(20), 100).await, 17);

    let misses = async |store: &dyn MessageStore, name: &str, after: u64| {
        after < page(store, name, &PageQuery::after(at(after), 10)).await.since.offset as u64
    };
    let told = async |store: &dyn MessageStore| {
        for (name, after, missing) in [
            ("busy", 2, true),
            ("busy", 18, true),
            ("busy", 19, false),
            ("busy", 25, false),
            ("busy", 40, false),
            ("quiet", 1, false),
            ("quiet", 2, false),
            ("new", 20, false),
            ("new", 35, false),
        ] {
            assert_eq!(misses(store, name, after).await, missing, "{name} after {after}");
        }
        let unknown = page(store, "nobody-was-here", &PageQuery::latest(1)).await;
        assert!(unknown.since <= at(19), "{unknown:?}");
    };
    told(store).await;
    // What was removed last counts, and nothing takes it back.
    assert_eq!(remove(store, &lease, "quiet", time(2), 100).await, 1);
    told(store).await;
    assert!(misses(store, "quiet", 0).await);
    assert!(began < page(store, "busy", &PageQuery::latest(1)).await.since);
    if let Some(second) = subject.second() {
        told(second).await;
    }
    if let Some(again) = subject.reopened().await {
        told(&*again).await;
    }
}

/// Guarantee 11: walks in either direction, beside a remover, end at the oldest message; what they have is in order, and a hole is told.
pub async fn g11_walks_beside_a_remover_end_and_no_hole_is_silent(subject: &Subject) {
    const LAST: u64 = 600;
    let store = &*subject.store;
    if retention(store).is_none() {
        return;
    }
    let lease = claim(store, LOG).await;
    store.commit(&lease, &batch("a", 1..=LAST), at(LAST)).await.expect("valid");
    counted(store).await;
    let lease = lease.at(at(LAST));
    let removing = {
        let (store, lease) = (Arc::clone(&subject.store), lease.clone());
        tokio::spawn(async move {
            let retention = store.retention().expect("there");
            while retention.remove(&lease, &room("a"), time(LAST - 20), 13).await.expect("healthy") > 0 {
                tokio::task::yield_now().await;
            }
        })
    };
    let mut rounds = 0;
    while rounds < 3 || !removing.is_finished() {
        rounds += 1;
        // More slowly than it removes, so that it is overtaken.
        let mut after = at(0);
        loop {
            let found = page(store, "a", &PageQuery::after(after, 4)).await;
            let Some(first) = found.messages.first() else { break };
            let whole = first.position.offset == after.offset + 1;
            assert!(whole || after < found.since, "after {after}, {} comes next, since {}", first.position, found.since);
            assert!(found.messages.windows(2).all(|two| two[0].position.next() == two[1].position), "no hole within a page");
            after = found.messages[found.messages.len() - 1].position;
        }
        assert_eq!(after, at(LAST));
        let mut query = PageQuery::latest(50);
        let mut seen = Vec::new();
        loop {
            let found = page(store, "a", &query).await;
            seen.extend(found.messages.iter().rev().map(|stored| stored.position));
            match found.messages.first() {
                Some(first) if found.more => query.before = Some(first.position),
                _ => break,
            }
        }
        assert!(seen.windows(2).all(|two| two[1].next() == two[0]), "back to the oldest without a hole");
    }
    removing.await.expect("no panic");
    let kept: Vec<_> = rows(store, "a").await.iter().map(|stored| stored.position).collect();
    assert_eq!(kept, (LAST - 20..=LAST).map(at).collect::<Vec<_>>());
}

/// Guarantee 12: a lease of old removes nothing, and whoever goes on with a newer one does.
pub async fn g12_a_fenced_lease_removes_nothing(subject: &Subject) {
    let store = &*subject.store;
    if retention(store).is_none() {
        return;
    }
    let first = claim(store, LOG).await;
    let entries = batch("a", 1..=10);
    store.commit(&first, &entries, at(10)).await.expect("valid");
    let second = claim(store, LOG).await;
    counted(store).await;
    for before in [Timestamp(i64::MAX), time(1)] {
        let refused = store.retention().expect("there").remove(&first.at(at(10)), &room("a"), before, 5).await;
        assert_eq!(refused.expect_err("fenced").kind(), ErrorKind::Fenced);
    }
    assert_eq!(rows(store, "a").await, entries);
    assert_eq!(remove(store, &second, "a", Timestamp(i64::MAX), 5).await, 5, "a claim knows how far the log is");
    store.release(&second).await.expect("ours");
    let refused = store.retention().expect("there").remove(&second, &room("a"), Timestamp(i64::MAX), 5).await;
    assert_eq!(refused.expect_err("given back").kind(), ErrorKind::Fenced);
    assert_eq!(rows(store, "a").await, entries[5..]);
}

/// Guarantee 12: however many remove at once, on whichever node, beside commits: each message goes once, and none that is to stay.
pub async fn g12_many_at_once_remove_what_one_would(subject: &Subject) {
    const OLD: u64 = 400;
    let store = &subject.store;
    if retention(&**store).is_none() {
        return;
    }
    let lease = claim(&**store, LOG).await;
    store.commit(&lease, &batch("a", 1..=OLD), at(OLD)).await.expect("valid");
    counted(&**store).await;
    let old = lease.at(at(OLD));
    let stores = [Some(Arc::clone(store)), subject.second_store(), Some(Arc::clone(store)), subject.second_store()];
    let removing: Vec<_> = stores
        .into_iter()
        .flatten()
        .map(|store| {
            let lease = old.clone();
            tokio::spawn(async move {
                let (mut removed, mut failures) = (0, 0);
                loop {
                    match store.retention().expect("the same").remove(&lease, &room("a"), time(OLD + 1), 17).await {
                        Ok(0) => return removed,
                        Ok(count) => removed += count,
                        // Two of them may be in each other's way, as long as it does not go on.
                        Err(error) => assert!(error.is_transient() && failures < 100, "{error}"),
                    }
                    failures += 1;
                }
            })
        })
        .collect();
    let mut through = OLD;
    while through < OLD + 200 {
        store.commit(&lease, &batch("a", through + 1..=through + 10), at(through + 10)).await.expect("a commit is not refused for it");
        through += 10;
    }
    let mut removed = 0;
    for task in removing {
        removed += task.await.expect("no panic");
    }
    // A call may find that others have removed all that it found.
    removed += remove(&**store, &lease.at(at(through)), "a", time(OLD + 1), 500).await;
    assert_eq!(removed, OLD as usize, "each went once");
    let kept: Vec<_> = rows(&**store, "a").await.iter().map(|stored| stored.position).collect();
    assert_eq!(kept, (OLD + 1..=through).map(at).collect::<Vec<_>>());
}

/// Guarantees 2 and 3: the log goes on behind its watermark, a message that was removed may come again under its id, once, and nothing
/// appears where it stood.
pub async fn g12_a_log_goes_on_after_a_removal(subject: &Subject) {
    let store = &*subject.store;
    if retention(store).is_none() {
        return;
    }
    let lease = claim(store, LOG).await;
    let entries = batch("a", 1..=10);
    store.commit(&lease, &entries, at(10)).await.expect("valid");
    assert_eq!(remove(store, &lease.at(at(10)), "a", Timestamp(i64::MAX), 100).await, 9);

    let again = store.commit(&lease, &entries[..1], at(10)).await.expect_err("nothing appears behind the watermark");
    assert_eq!(again.kind(), ErrorKind::Invalid);
    let kept = store.commit(&lease, &entries[9..], at(10)).await.expect("a row that is kept is a repeat");
    assert_eq!(kept.len(), 1);
    let mut anew = entries[0].clone();
    anew.position = at(11);
    let mut twice = entries[9].clone();
    twice.position = at(12);
    let exceptions = store.commit(&lease, &[anew.clone(), twice], at(12)).await.expect("valid");
    assert_eq!(exceptions.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1], "only what is kept is known");
    assert_eq!(rows(store, "a").await, [entries[9].clone(), anew]);
    assert_eq!(claim(store, LOG).await.through, at(12));
    let ids: HashSet<_> = rows(store, "a").await.iter().map(|stored| stored.message.id).collect();
    assert_eq!(ids.len(), 2);
}

/// What was removed before an export is told in the history that is made of it as well.
pub async fn g11_an_archive_tells_what_was_removed(subject: &Subject) {
    const LOGS: u16 = 4;
    let store = &*subject.store;
    if retention(store).is_none() {
        return;
    }
    let log = LogId::of("a", LOGS);
    let lease = store.claim(log, &NodeId::from_static("node-1")).await.expect("free");
    let entries = batch("a", 1..=10);
    store.commit(&lease, &entries, at(10)).await.expect("valid");
    assert_eq!(remove(store, &lease.at(at(10)), "a", time(6), 100).await, 5);
    store.release(&lease).await.expect("ours");

    let mut export = Export::begin(Arc::clone(&subject.store), LOGS).await.expect("readable");
    let copy: Arc<dyn MessageStore> = Arc::new(MemoryStore::new());
    let mut import = Import::new(Arc::clone(&copy), LOGS, "importer");
    while let Some(lines) = export.next().await.expect("readable") {
        for line in lines.lines() {
            import.line(line).await.expect("a good line");
        }
    }
    assert_eq!(import.finish().await.expect("healthy").messages, 5);
    let found = copy.page(log, &room("a"), &PageQuery::after(at(2), 10)).await.expect("readable");
    assert_eq!((found.messages, found.since, found.through), (entries[5..].to_vec(), at(5), at(10)));
}

/// A user's messages and rooms are those that are there, whatever was counted; what is not counted yet stays until it is.
pub async fn g10_what_a_user_said_goes_as_well(subject: &Subject) {
    let store = &*subject.store;
    let (Some(retention), Some(analytics)) = (retention(store), store.analytics()) else { return };
    let lease = claim(store, LOG).await;
    let (mut a, b) = (batch("a", 1..=40), batch("b", 41..=42));
    a.iter_mut().for_each(|stored| stored.message.sender = "ada".into());
    store.commit(&lease, &a, at(40)).await.expect("valid");
    store.commit(&lease, &b, at(42)).await.expect("valid");
    let lease = lease.at(at(42));
    if store.projections().is_some() {
        assert_eq!(retention.remove(&lease, &room("a"), time(31), 100).await.expect("healthy"), 0, "it is not counted yet");
    }
    assert_eq!(remove(store, &lease, "a", time(31), 100).await, 30);
    let said = analytics.user_messages(&"ada".into(), &UserQuery::latest(100)).await.expect("readable");
    assert_eq!(said.messages, a[30..]);
    let rooms = analytics.user_rooms(&"ada".into(), None, 10).await.expect("readable").value;
    assert_eq!(rooms.iter().map(|of| (of.room_id.as_str(), of.last)).collect::<Vec<_>>(), [("a", a[39].message.at)]);
    // Summaries say what was ever said; where there are none, what is there.
    let all = analytics.top_rooms(Minutes::default(), 10).await.expect("readable").value;
    let ever = if store.projections().is_some() { 40 } else { 10 };
    assert_eq!(all, [(room("a"), ever), (room("b"), 2)]);
    store.commit(&lease, &batch("a", 43..=45), at(45)).await.expect("valid");
    counted(store).await;
    let all = analytics.top_rooms(Minutes::default(), 10).await.expect("readable").value;
    assert_eq!(all, [(room("a"), ever + 3), (room("b"), 2)]);
}

//! Batches, cursors and ids.

use std::task::Poll;

use futures::StreamExt;
use futures::future::join_all;

use super::{LOG, Subject, at, batch, claim, message, page, room, rows};
use crate::store::{Located, PageQuery, Stored};
use crate::{Error, ErrorKind, Exception, LogId, Position, RoomId};

/// Guarantee 2: rows and cursor become visible together, and a cursor may go past the rows.
pub async fn g2_batch_and_cursor_are_one(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    assert_eq!(page(store, "a", &PageQuery::latest(10)).await.through, Position::ZERO);
    let entries = batch("a", 1..=5);
    assert_eq!(store.commit(&lease, &entries, at(5)).await.expect("valid"), []);
    let seen = page(store, "a", &PageQuery::latest(10)).await;
    assert_eq!((seen.messages, seen.through, seen.more), (entries, at(5), false));

    assert_eq!(store.commit(&lease, &[], at(9)).await.expect("valid"), []);
    assert_eq!(store.watermark(LOG).await.expect("readable"), at(9));
    assert_eq!(page(store, "a", &PageQuery::latest(10)).await.through, at(9));
    assert_eq!(claim(store, LOG).await.through, at(9));
}

/// Guarantee 2: all of a batch or nothing, cursor included.
pub async fn g2_a_refused_batch_leaves_nothing_behind(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    store.commit(&lease, &batch("a", 10..=10), at(10)).await.expect("valid");
    let mut unsorted = batch("a", 11..=13);
    unsorted.swap(0, 2);
    let mut same_place = batch("new", 11..=12);
    same_place[1].position = at(11);
    let mut late = batch("new", 11..=13);
    late[0].position = at(3);
    for (entries, through, why) in [
        (unsorted, at(13), "not in order"),
        (same_place, at(12), "two at one place"),
        (batch("new", 11..=13), at(12), "past its own cursor"),
        (late, at(13), "one is behind the watermark"),
    ] {
        assert_eq!(store.commit(&lease, &entries, through).await.expect_err(why).kind(), ErrorKind::Invalid, "{why}");
        assert_eq!(store.watermark(LOG).await.expect("readable"), at(10), "{why}");
        assert_eq!((rows(store, "a").await.len(), rows(store, "new").await.len()), (1, 0), "{why}");
    }
    assert_eq!(store.rooms(None, 10).await.expect("readable").len(), 1, "a room without messages is no room");
    store.commit(&lease, &batch("new", 11..=13), at(13)).await.expect("a good batch goes on as if nothing had been");
    assert_eq!(rows(store, "new").await.len(), 3);
}

/// Guarantee 2: a commit that comes before the one that it follows writes nothing, and can be made again after it.
pub async fn g2_a_commit_waits_for_the_one_that_it_follows(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let (first, second) = (batch("a", 1..=3), batch("a", 4..=5));
    let error = store.commit(&lease.at(at(3)), &second, at(5)).await.expect_err("there would be a hole");
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!((store.watermark(LOG).await.expect("readable"), rows(store, "a").await.len()), (Position::ZERO, 0));
    assert_eq!(store.commit(&lease, &first, at(3)).await.expect("valid"), []);
    assert_eq!(store.commit(&lease.at(at(3)), &second, at(5)).await.expect("valid"), []);
    let again = store.commit(&lease, &first, at(3)).await.expect("the answer may have been lost");
    assert_eq!(again.len(), 3, "they are there");
    assert_eq!(rows(store, "a").await, [first, second].concat());
}

/// Guarantee 2: as many commits of a log as may be under way at once are written in the order in which they began.
pub async fn g2_commits_under_way_are_written_in_order(subject: &Subject) {
    let store = &*subject.store;
    let mut lease = claim(store, LOG).await;
    let (mut first, mut written) = (1, 0);
    for _ in 0..20 {
        let mut commits = futures::stream::FuturesOrdered::new();
        for _ in 0..store.commits_under_way() {
            let (last, following) = (first + 2, lease.clone());
            let mut commit = Box::pin(async move { store.commit(&following, &batch("a", first..=last), at(last)).await });
            let begun = futures::poll!(commit.as_mut());
            commits.push_back(async move { if let Poll::Ready(outcome) = begun { outcome } else { commit.await } });
            lease = lease.at(at(last));
            first += 3;
        }
        while let Some(outcome) = commits.next().await {
            assert_eq!(outcome.expect("it follows the one before"), []);
            written += 3;
        }
    }
    assert_eq!(rows(store, "a").await.len(), written);
}

/// Guarantee 2: an older `through` changes nothing.
pub async fn g2_the_cursor_never_goes_back(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    store.commit(&lease, &batch("a", 1..=3), at(8)).await.expect("valid");
    store.commit(&lease, &[], at(5)).await.expect("harmless");
    assert_eq!(store.watermark(LOG).await.expect("readable"), at(8));
}

/// Guarantee 3: the row that an id has is found by it, whichever room it is in.
pub async fn g3_rows_are_found_by_their_ids(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let (mut entries, others) = (batch("a", 1..=2), batch("b", 3..=4));
    entries.extend(others);
    store.commit(&lease, &entries, at(4)).await.expect("valid");
    let located = |entry: &Stored| Some(Located::new(entry.position, entry.message.room.clone(), entry.message.digest));
    let unknown = message(&room("a"), 9).id;
    let ids = [entries[3].message.id, unknown, entries[0].message.id, entries[3].message.id];
    let expected = [located(&entries[3]), None, located(&entries[0]), located(&entries[3])];
    assert_eq!(store.locate(&ids).await.expect("readable"), expected);
    assert_eq!(store.locate(&[]).await.expect("readable"), []);
}

/// Guarantee 2: a new row where readers have already been would be a hole in what they read, so it is refused.
pub async fn g2_nothing_appears_behind_the_cursor(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    store.commit(&lease, &batch("a", 5..=5), at(10)).await.expect("valid");
    for offset in [3, 5, 10] {
        let error = store.commit(&lease, &batch("b", offset..=offset), at(12)).await.expect_err("behind the cursor");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(store.watermark(LOG).await.expect("readable"), at(10));
}

/// Guarantee 2: beside a writer, every page ends with a whole batch, and its `through` is that batch's.
pub async fn g2_readers_see_whole_batches(subject: &Subject) {
    const BATCH: u64 = 10;
    let store = subject.store.clone();
    let lease = claim(&*store, LOG).await;
    let writer = tokio::spawn(async move {
        for first in (1..500).step_by(BATCH as usize) {
            let through = at(first + BATCH - 1);
            store.commit(&lease, &batch("a", first..=first + BATCH - 1), through).await.expect("valid");
            tokio::task::yield_now().await;
        }
    });
    loop {
        let over = writer.is_finished();
        let seen = page(&*subject.store, "a", &PageQuery::latest(1_000)).await;
        assert_eq!(seen.messages.len() as u64 % BATCH, 0, "half a batch");
        assert_eq!(seen.messages.last().map_or(Position::ZERO, |last| last.position), seen.through, "rows and cursor of one snapshot");
        if over {
            break assert_eq!(seen.messages.len(), 500);
        }
        tokio::task::yield_now().await;
    }
    writer.await.expect("no panic");
}

/// Guarantee 3: the same message again, times and server fields aside, is reported with the first one's place.
pub async fn g3_a_second_copy_is_a_repeat_of_the_first(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let first = batch("a", 1..=3);
    store.commit(&lease, &first, at(3)).await.expect("valid");
    let mut second = batch("a", 4..=6);
    second[1].message = first[2].message.clone();
    second[1].message.at.0 += 5_000;
    second[1].message.session += 1;
    let exceptions = store.commit(&lease, &second, at(6)).await.expect("valid");
    assert_eq!(exceptions, [(1, Exception::Repeat { first: at(3) })]);
    let expected = [&first[..], &second[..1], &second[2..]].concat();
    assert_eq!(rows(store, "a").await, expected, "the first copy stays");
}

/// Guarantee 3: another digest, or another room, under a known id is a conflict, and the first row stays.
pub async fn g3_another_message_of_the_same_id_is_a_conflict(subject: &Subject) {
    let store = &*subject.store;
    let (lease, other) = (claim(store, LOG).await, claim(store, LogId(4)).await);
    let first = batch("a", 1..=1);
    store.commit(&lease, &first, at(1)).await.expect("valid");

    let mut changed = batch("a", 2..=2);
    changed[0].message.id = first[0].message.id;
    let conflict = [(0, Exception::Conflict { first: at(1) })];
    assert_eq!(store.commit(&lease, &changed, at(2)).await.expect("valid"), conflict);

    let mut moved = batch("b", 7..=7);
    moved[0].message = crate::Message { room: room("b"), ..first[0].message.clone() };
    assert_eq!(store.commit(&other, &moved, at(7)).await.expect("valid"), conflict, "an id belongs to one room");
    assert_eq!(rows(store, "a").await, first);
    assert_eq!(store.rooms(None, 10).await.expect("readable").len(), 1, "a room without messages is no room");
}

/// Guarantee 3: within one batch too, the first copy is the row.
pub async fn g3_an_id_twice_in_one_batch_is_one_row(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let mut entries = batch("a", 1..=4);
    entries[2].message = entries[0].message.clone();
    entries[3].message.id = entries[0].message.id;
    let exceptions = store.commit(&lease, &entries, at(4)).await.expect("valid");
    assert_eq!(exceptions, [(2, Exception::Repeat { first: at(1) }), (3, Exception::Conflict { first: at(1) })]);
    assert_eq!(rows(store, "a").await, entries[..2]);
}

/// Guarantee 3: after an answer was lost the same batch is repeats at their own places, and what was an exception stays one.
pub async fn g3_the_same_batch_again_changes_nothing(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let mut entries = batch("a", 1..=4);
    entries[3].message = entries[0].message.clone();
    store.commit(&lease, &entries, at(4)).await.expect("valid");
    let before = page(store, "a", &PageQuery::latest(10)).await;

    let again = claim(store, LOG).await;
    let exceptions = store.commit(&again, &entries, at(4)).await.expect("valid");
    let firsts = [1, 2, 3, 1].map(|offset| Exception::Repeat { first: at(offset) });
    assert_eq!(exceptions, firsts.into_iter().enumerate().collect::<Vec<_>>());
    assert_eq!(page(store, "a", &PageQuery::latest(10)).await, before);
}

/// Guarantee 3: stores write batches of different sizes in different ways, with the same outcome.
pub async fn g3_a_batch_of_any_size_has_its_exceptions(subject: &Subject) {
    let store = &*subject.store;
    let mut lease = claim(store, LOG).await;
    let mut kept = batch("a", 1..=3);
    store.commit(&lease, &kept, at(3)).await.expect("valid");
    let mut through = 3;
    for (size, is_good) in [20u64, 150, 999, 1_000, 2_500].into_iter().flat_map(|size| [(size, true), (size, false)]) {
        let first = through + 1;
        (lease, through) = (lease.at(at(through)), through + size);
        let mut entries = batch("a", first..=through);
        entries[3].message.sender = "back\\slash and \0 nothing".into();
        entries[4].message.body = Vec::from_iter(0..=255).into();
        let mut expected = Vec::new();
        if !is_good {
            entries[8].message = kept[2].message.clone();
            entries[9].message.id = kept[1].message.id;
            entries[10].message = entries[7].message.clone();
            expected.push((8, Exception::Repeat { first: at(3) }));
            expected.push((9, Exception::Conflict { first: at(2) }));
            expected.push((10, Exception::Repeat { first: at(first + 7) }));
        }
        assert_eq!(store.commit(&lease, &entries, at(through)).await.expect("valid"), expected, "{size}");
        kept.extend(entries.into_iter().enumerate().filter(|(n, _)| is_good || !(8..=10).contains(n)).map(|(_, entry)| entry));
    }
    let (mut seen, mut from) = (Vec::new(), Position::ZERO);
    while seen.len() < kept.len() {
        let page = page(store, "a", &PageQuery::after(from, 1_000)).await;
        from = page.messages.last().expect("there are more").position;
        seen.extend(page.messages);
    }
    assert!(seen == kept, "what was committed is read back as it was");
}

/// Guarantees 2 and 3 with the traffic that a node makes: sixteen pipelines at once, none disturbed by a bad neighbour.
pub async fn g3_sixteen_logs_commit_at_once(subject: &Subject) {
    let writers = (0..16u16).map(|log| {
        let store = subject.store.clone();
        tokio::spawn(async move {
            let (log, room) = (LogId(log), RoomId::new(&format!("room{log}")).expect("a good name"));
            let lease = claim(&*store, log).await;
            for first in (1..=100).step_by(20) {
                let entry = |offset| Stored { position: at(offset), message: message(&room, offset) };
                let entries: Vec<_> = (first..first + 20).map(entry).collect();
                assert_eq!(store.commit(&lease, &entries, at(first + 19)).await.expect("valid"), []);
                if log.0.is_multiple_of(2) {
                    let bad = store.commit(&lease, &[entry(first + 20), entry(first + 20)], at(first + 20)).await;
                    assert_eq!(bad.expect_err("two at one place").kind(), ErrorKind::Invalid);
                }
            }
            (log, room)
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        let (log, room) = writer.await.expect("no panic");
        let seen = subject.store.page(log, &room, &PageQuery::latest(1_000)).await.expect("readable");
        let offsets: Vec<_> = seen.messages.iter().map(|row| row.position.offset as u64).collect();
        assert_eq!((offsets, seen.through), ((1..=100).collect(), at(100)));
    }
}

/// Guarantees 1 to 3: of many logs that commit at once, one that was taken over fails alone, an id that two of them have is one row, and who
/// repeats its own rows is told so.
pub async fn g3_logs_that_commit_at_once_have_each_their_own_exceptions(subject: &Subject) {
    const LOGS: u16 = 12;
    let store = &*subject.store;
    for round in 0..10u64 {
        let (first, last) = (round * 3 + 1, round * 3 + 3);
        let leases = join_all((0..LOGS).map(|log| claim(store, LogId(log)))).await;
        let mut batches: Vec<_> = leases.iter().map(|lease| batch(&format!("room{}", lease.log), first..=last)).collect();
        batches[7][1].message.id = batches[4][2].message.id;
        store.commit(&leases[5], &batches[5], at(last)).await.expect("valid");
        let newer = claim(store, LogId(9)).await;
        let commits = leases.iter().zip(&batches).map(|(lease, batch)| store.commit(lease, batch, at(last)));
        let mut found = join_all(commits).await;
        assert_eq!(found[9].as_ref().map_err(Error::kind), Err(ErrorKind::Fenced));
        found[9] = store.commit(&newer, &batches[9], at(last)).await;
        let found: Vec<_> = found.into_iter().map(|exceptions| exceptions.expect("valid")).collect();
        let of_4 = [(2, Exception::Conflict { first: batches[7][1].position })];
        let of_7 = [(1, Exception::Conflict { first: batches[4][2].position })];
        let shared = (&found[4][..], &found[7][..]);
        assert!(shared == (&of_4, &[]) || shared == (&[], &of_7), "{shared:?}");
        let repeats: Vec<_> = (first..=last).map(|offset| Exception::Repeat { first: at(offset) }).enumerate().collect();
        assert_eq!(found[5], repeats);
        for log in [0, 1, 2, 3, 6, 8, 9, 10, 11] {
            assert_eq!(found[log], [], "log {log}");
        }
    }
    for log in (0..LOGS).map(LogId) {
        let seen = store.page(log, &room(&format!("room{log}")), &PageQuery::latest(100)).await.expect("readable");
        assert_eq!(seen.through, at(30));
    }
}

/// Guarantee 4: rows, cursor, leases' generations and the store's name outlive it, where the store is one that lasts.
pub async fn g4_what_was_committed_is_there_after_reopening(subject: &Subject) {
    let (identity, entries) = (subject.store.identity().to_owned(), batch("a", 1..=50));
    let lease = claim(&*subject.store, LOG).await;
    subject.store.commit(&lease, &entries, at(60)).await.expect("valid");
    let Some(store) = subject.reopened().await else { return };
    assert_eq!(store.identity(), identity);
    assert_eq!(rows(&*store, "a").await, entries);
    assert_eq!(store.watermark(LOG).await.expect("readable"), at(60));
    assert_eq!(store.last_epoch().await.expect("readable"), 1);
    let next = claim(&*store, LOG).await;
    assert_eq!((next.through, next.generation > lease.generation), (at(60), true));
    let exceptions = store.commit(&next, &entries[..1], at(60)).await.expect("valid");
    assert_eq!(exceptions, [(0, Exception::Repeat { first: at(1) })], "ids are remembered too");
    store.close().await.expect("a healthy store closes");
}

//! Pages, rooms and the rest of what is read.

use bytes::Bytes;
use bytestring::ByteString;

use super::{LOG, Subject, at, batch, claim, message, page, room, rows};
use crate::store::{LARGEST_PAGE, PageQuery, Stored};
use crate::{ErrorKind, LogId, Position, Timestamp};

/// Guarantee 5: from the oldest or from the newest, a page is in log order and says whether there is more.
pub async fn g5_pages_are_in_order_from_either_end(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let entries = batch("a", 1..=10);
    store.commit(&lease, &entries, at(10)).await.expect("valid");
    let newest = page(store, "a", &PageQuery::latest(3)).await;
    assert_eq!((&newest.messages[..], newest.more), (&entries[7..], true));
    let oldest = page(store, "a", &PageQuery::after(Position::ZERO, 3)).await;
    assert_eq!((&oldest.messages[..], oldest.more), (&entries[..3], true));
    let rest = page(store, "a", &PageQuery::after(at(7), 3)).await;
    assert_eq!((&rest.messages[..], rest.more), (&entries[7..], false), "exactly a page is no more");
    let none = page(store, "a", &PageQuery::after(at(10), 3)).await;
    assert_eq!((none.messages.len(), none.more, none.through), (0, false, at(10)));
    let unknown = page(store, "nobody-was-here", &PageQuery::latest(3)).await;
    assert_eq!((unknown.messages.len(), unknown.more, unknown.through), (0, false, at(10)));
}

/// Guarantee 5: every offset of an epoch comes before any of the next, whatever their size.
pub async fn g5_epochs_come_before_offsets(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let (small, large) = (i64::MAX as u128, i64::MAX as u128 + 1);
    let places = [(1, 5), (1, small), (1, large), (1, u128::MAX), (2, 1), (7, 0), (u64::MAX - 1, large), (u64::MAX, 3)];
    let positions = places.map(|(epoch, offset)| Position::new(epoch, offset));
    let entries: Vec<_> = positions.iter().zip(0..).map(|(&position, n)| Stored { position, message: message(&room("a"), n) }).collect();
    for entry in &entries {
        store.commit(&lease, std::slice::from_ref(entry), entry.position).await.expect("valid");
        assert_eq!(store.watermark(LOG).await.expect("readable"), entry.position);
        assert_eq!(store.last_epoch().await.expect("readable"), entry.position.epoch);
    }
    assert_eq!(rows(store, "a").await, entries);
    for (index, position) in positions.into_iter().enumerate() {
        assert_eq!(page(store, "a", &PageQuery::after(position, 100)).await.messages, entries[index + 1..]);
        let before = PageQuery { before: Some(position), ..PageQuery::latest(100) };
        assert_eq!(page(store, "a", &before).await.messages, entries[..index]);
    }
}

/// Guarantee 5: `after` and `before` are exclusive, `start` is inclusive, `end` is exclusive.
pub async fn g5_pages_stay_within_their_bounds_in_position_and_time(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let entries = batch("a", 1..=20);
    store.commit(&lease, &entries, at(20)).await.expect("valid");
    let time = |offset: u64| Some(entries[offset as usize - 1].message.at);
    let all = PageQuery::after(Position::ZERO, 100);
    for (query, expected) in [
        (PageQuery { after: Some(at(4)), before: Some(at(9)), ..all.clone() }, 5..=8),
        (PageQuery { start: time(6), end: time(9), ..all.clone() }, 6..=8),
        (PageQuery { start: time(6), after: Some(at(10)), ..all.clone() }, 11..=20),
        (PageQuery { end: time(4), newest: true, ..all.clone() }, 1..=3),
        (PageQuery { before: Some(Position::MAX), ..all.clone() }, 1..=20),
    ] {
        let found: Vec<_> = page(store, "a", &query).await.messages.iter().map(|row| row.position.offset as u64).collect();
        assert_eq!(found, expected.collect::<Vec<_>>(), "{query:?}");
    }
    for nothing in [
        PageQuery { before: Some(Position::ZERO), ..all.clone() },
        PageQuery { after: Some(at(5)), before: Some(at(5)), ..all.clone() },
        PageQuery { after: Some(at(9)), before: Some(at(3)), ..all.clone() },
        PageQuery { after: Some(Position::MAX), ..all.clone() },
        PageQuery { start: time(9), end: time(9), ..all.clone() },
        PageQuery { start: Some(Timestamp(i64::MAX)), ..all.clone() },
        PageQuery { end: Some(Timestamp(i64::MIN)), ..all.clone() },
    ] {
        let found = page(store, "a", &nothing).await;
        assert_eq!((found.messages.len(), found.more), (0, false), "{nothing:?}");
    }
}

/// Guarantee 6: pages come while commits are on their way, and the reverse; neither ends the other.
pub async fn g6_pages_are_read_beside_commits(subject: &Subject) {
    let reading = (0..4).map(|_| {
        let store = subject.store.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                page(&*store, "a", &PageQuery::latest(100)).await;
                tokio::task::yield_now().await;
            }
        })
    });
    let reading: Vec<_> = reading.collect();
    let lease = claim(&*subject.store, LOG).await;
    for first in (1..=200).step_by(10) {
        subject.store.commit(&lease, &batch("a", first..=first + 9), at(first + 9)).await.expect("valid");
    }
    for reader in reading {
        reader.await.expect("no panic");
    }
    assert_eq!(rows(&*subject.store, "a").await.len(), 200);
}

/// Guarantee 7: whatever was asked for.
pub async fn g7_a_page_holds_no_more_than_the_largest(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let last = LARGEST_PAGE as u64 + 5;
    store.commit(&lease, &batch("a", 1..=last), at(last)).await.expect("valid");
    for limit in [LARGEST_PAGE, LARGEST_PAGE + 1, usize::MAX] {
        let found = page(store, "a", &PageQuery::latest(limit)).await;
        assert_eq!((found.messages.len(), found.more), (LARGEST_PAGE, true));
    }
    assert_eq!(page(store, "a", &PageQuery::latest(0)).await.messages.len(), 1, "a page of nothing would never end");
}

/// Quotes, NUL, every kind of character, and bodies that are no text come back as they were.
pub async fn texts_are_kept_to_the_byte(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    let texts = ["'; DROP TABLE messages; --", "\"", "a\0b", "\0", "%_\\", "\u{202e}é漢😀\u{feff}", "", "?1 :a @b $c"];
    let mut entries = batch("a", 1..=texts.len() as u64);
    for (entry, text) in entries.iter_mut().zip(texts) {
        let (message, text) = (&mut entry.message, ByteString::from(text));
        (message.sender, message.kind, message.node, message.origin) = (text.clone(), text.clone(), text.clone(), text.clone());
        message.body = Bytes::from(text.as_bytes().repeat(3));
    }
    let extremes = &mut entries[0].message;
    (extremes.digest, extremes.session, extremes.at) = (u64::MAX, u64::MAX - 1, Timestamp(-1));
    extremes.body = (0..=255).collect::<Vec<u8>>().repeat(256).into();
    entries[1].message.id = crate::MessageId::max();
    store.commit(&lease, &entries, at(texts.len() as u64)).await.expect("valid");
    assert_eq!(rows(store, "a").await, entries);
}

/// By name, after a name, at most so many, and only rooms in which something was said.
pub async fn rooms_are_listed_by_name_with_their_last_message(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    assert_eq!(store.rooms(None, 10).await.expect("readable"), []);
    let names = ["_", "10", "9", "A", "Z-1", "a"];
    let mut offset = 0;
    let mut lasts = std::collections::BTreeMap::new();
    for name in names.iter().rev().chain(&names) {
        offset += 2;
        let entries = batch(name, offset - 1..=offset);
        lasts.insert(room(name), entries[1].message.at);
        store.commit(&lease, &entries, at(offset)).await.expect("valid");
    }
    let all: Vec<_> = lasts.into_iter().collect();
    let listed = async |after: Option<&str>, limit| {
        let rooms = store.rooms(after.map(room).as_ref(), limit).await.expect("readable");
        rooms.into_iter().map(|summary| (summary.room, summary.last)).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 100).await, all);
    assert_eq!(listed(None, 2).await, all[..2]);
    assert_eq!(listed(Some(all[1].0.as_str()), 3).await, all[2..5]);
    assert_eq!(listed(Some("AA"), 100).await, all[3..]);
    assert_eq!(listed(Some("zzz"), 100).await, []);
}

/// A broker begins anew beyond every epoch that the history has seen.
pub async fn the_last_epoch_is_that_of_the_furthest_cursor(subject: &Subject) {
    let store = &*subject.store;
    assert_eq!(store.last_epoch().await.expect("readable"), 0);
    let (one, two) = (claim(store, LogId(1)).await, claim(store, LogId(2)).await);
    assert_eq!(store.last_epoch().await.expect("readable"), 0, "a claim alone goes through nothing");
    store.commit(&one, &[], Position::new(9, 1)).await.expect("valid");
    store.commit(&two, &batch("a", 1..=1), Position::new(4, 0)).await.expect("valid");
    assert_eq!(store.last_epoch().await.expect("readable"), 9);
}

/// Guarantee 7: an empty commit counts, and later ones change nothing.
pub async fn g7_a_log_begins_in_the_epoch_of_its_first_commit(subject: &Subject) {
    let (store, room) = (&*subject.store, crate::RoomId::new("a").expect("a valid name"));
    let since = async || store.page(LogId(1), &room, &PageQuery::latest(1)).await.expect("readable").since;
    let lease = claim(store, LogId(1)).await;
    assert_eq!(since().await, Position::ZERO);
    for through in [Position::new(7, 0), Position::new(7, 5), Position::new(9, 0)] {
        store.commit(&lease, &[], through).await.expect("valid");
        assert_eq!(since().await, Position::new(7, 0));
    }
}

/// Guarantee 7: what was lost is not passed over in silence, and what was kept before it stays readable.
pub async fn g7_a_history_begins_again_where_it_was_skipped_to(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    store.commit(&lease, &batch("a", 1..=3), at(3)).await.expect("valid");
    store.skip(&lease, at(9)).await.expect("valid");
    store.skip(&lease, at(5)).await.expect("going back changes nothing");
    store.commit(&lease, &batch("a", 10..=11), at(11)).await.expect("valid");
    let all = page(store, "a", &PageQuery::latest(10)).await;
    assert_eq!((all.since, all.through, all.messages.len()), (at(9), at(11), 5));
    let newer = claim(store, LOG).await;
    assert_eq!(store.skip(&lease, at(20)).await.expect_err("fenced").kind(), ErrorKind::Fenced);
    assert_eq!(newer.through, at(11));
}

/// After `close` everything says `Closed`, and closing again is fine.
pub async fn a_closed_store_says_so(subject: &Subject) {
    let store = &*subject.store;
    let lease = claim(store, LOG).await;
    assert!(store.status().await.healthy);
    store.close().await.expect("a healthy store closes");
    store.close().await.expect("a closed store closes");
    assert!(!store.status().await.healthy);
    let commit = store.commit(&lease, &batch("a", 1..=1), at(1)).await.map(|_| ());
    let page = store.page(LOG, &room("a"), &PageQuery::latest(1)).await.map(|_| ());
    let watermark = store.watermark(LOG).await.map(|_| ());
    let (renew, release) = (store.renew(&lease).await, store.release(&lease).await);
    let rooms = store.rooms(None, 1).await.map(|_| ());
    let claim = store.claim(LOG, &crate::NodeId::from_static("n")).await.map(|_| ());
    for outcome in [commit, page, watermark, renew, release, rooms, claim] {
        assert_eq!(outcome.expect_err("closed").kind(), ErrorKind::Closed);
    }
}

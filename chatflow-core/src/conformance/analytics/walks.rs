//! Answers while rows pour in.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::dice::Dice;
use super::history::Writing;
use super::{Subject, analytics};
use crate::analytics::{Minutes, Step, UserCursor, UserQuery};
use crate::store::{MemoryStore, Stored};
use crate::{Analytics, MessageId, UserId};

const USERS: [&str; 3] = ["user1", "user2", "ada\\"];

/// A user's messages read page by page from one end to the other, in order.
async fn walk(store: &dyn Analytics, user: &UserId, newest: bool, dice: &mut Dice) -> Vec<Stored> {
    let mut rows: Vec<Stored> = Vec::new();
    loop {
        let limit = 1 + dice.below(20) as usize;
        let query = match newest {
            true => UserQuery { before: rows.first().map(UserCursor::of), ..UserQuery::latest(limit) },
            false => UserQuery { after: rows.last().map(UserCursor::of), newest, ..UserQuery::latest(limit) },
        };
        let page = store.user_messages(user, &query).await.expect("a healthy store can be read");
        assert!(page.messages.len() <= limit);
        let more = page.more;
        if newest {
            rows.splice(..0, page.messages);
        } else {
            rows.extend(page.messages);
        }
        if !more {
            return rows;
        }
        tokio::task::yield_now().await;
    }
}

async fn said(store: &dyn Analytics, user: &UserId) -> BTreeSet<MessageId> {
    let page = store.user_messages(user, &UserQuery::latest(1_000)).await.expect("readable");
    assert!(!page.more, "the case is small enough");
    page.messages.iter().map(|row| row.message.id).collect()
}

/// Guarantee 2: walks in both directions beside commits, late messages among them, find everything that there was when they began, nothing
/// twice, in order.
pub async fn g2_walks_beside_writers_skip_and_repeat_nothing(subject: &Subject) {
    let store = Arc::clone(&subject.store);
    let writer = tokio::spawn(async move {
        let (model, mut dice) = (MemoryStore::new(), Dice::new(5));
        let mut writing = Writing::begin(&*store, &model, 3).await;
        for _ in 0..150 {
            writing.go_on(&mut dice, 40).await;
            writing.count_some(&mut dice).await;
            tokio::task::yield_now().await;
        }
        writing.counted().await;
        model
    });
    let readers = (0..4u64).map(|reader| {
        let (store, mut dice) = (Arc::clone(&subject.store), Dice::new(70 + reader));
        tokio::spawn(async move {
            let store = analytics(&*store);
            for _ in 0..30 {
                let user = UserId::from(*dice.one_of(&USERS));
                let before = said(store, &user).await;
                let rows = walk(store, &user, dice.one_in(2), &mut dice).await;
                assert!(rows.is_sorted_by(|a, b| UserCursor::of(a) < UserCursor::of(b)), "out of order, or twice");
                assert!(rows.iter().all(|row| row.message.sender == user));
                let found: BTreeSet<_> = rows.iter().map(|row| row.message.id).collect();
                assert!(found.is_superset(&before), "skipped {:?}", before.difference(&found));
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.expect("no walk misses anything");
    }
    let model = writer.await.expect("the commits are answered as the model's");
    for user in USERS.map(UserId::from) {
        for newest in [true, false] {
            let rows = walk(analytics(&*subject.store), &user, newest, &mut Dice::new(9)).await;
            assert_eq!(rows, model.user_messages(&user, &UserQuery::latest(1_000)).await.expect("readable").messages);
        }
    }
}

/// Guarantees 1 and 5: beside commits that never pause, answers come, and no figure of a later answer is less than an earlier one's.
pub async fn g5_answers_come_beside_commits(subject: &Subject) {
    let store = Arc::clone(&subject.store);
    let writer = tokio::spawn(async move {
        let (model, mut dice) = (MemoryStore::new(), Dice::new(6));
        let mut writing = Writing::begin(&*store, &model, 3).await;
        for _ in 0..100 {
            writing.go_on(&mut dice, 60).await;
            writing.count_some(&mut dice).await;
            tokio::task::yield_now().await;
        }
    });
    let (store, mut last) = (analytics(&*subject.store), (0, 0, 0, 0));
    while !writer.is_finished() {
        let users = store.active_users(Minutes::default()).await.expect("readable").value;
        let top = store.top_users(Minutes::default(), 1).await.expect("readable").value.first().map_or(0, |(_, n)| *n);
        let days = store.message_rate(Minutes::default(), Step::Day, 1_000).await.expect("readable").value;
        let pairs = store.participation(Minutes::default(), 3).await.expect("readable").value.pairs;
        let now = (users, top, days.iter().map(|(_, n)| n).sum(), pairs);
        assert!(now.0 >= last.0 && now.1 >= last.1 && now.2 >= last.2 && now.3 >= last.3, "{last:?}, then {now:?}");
        last = now;
    }
    writer.await.expect("no panic");
}

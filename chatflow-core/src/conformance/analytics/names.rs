//! Users whose names are hard to tell apart.

use super::history::{BEGINS, NAMES, Writing};
use super::{Subject, analytics};
use crate::analytics::{Minutes, UserQuery};
use crate::store::MemoryStore;
use crate::{Analytics, UserId};

/// Longer than any index takes, and alike for long.
fn long_names() -> Vec<String> {
    let long = |len: usize, end: &str| format!("{}{end}", "x".repeat(len - end.len()));
    vec![
        long(254, "a"),
        long(254, "b"),
        long(255, "a"),
        long(255, "b"),
        long(256, "a"),
        long(20_000, "a"),
        long(20_000, "b"),
        long(20_001, "b"),
    ]
}

/// Guarantee 3, and 1: case, blanks, accents, escapes, NUL and words of SQL make a name another, and only that user is told of its messages.
pub async fn g3_any_name_is_its_own_user(subject: &Subject) {
    let model = MemoryStore::new();
    let mut writing = Writing::begin(&*subject.store, &model, 1).await;
    let long = long_names();
    let names: Vec<_> = NAMES.iter().copied().chain(long.iter().map(String::as_str)).collect();
    // Each says something as often as its place in the list is, in as many rooms.
    let rooms: Vec<_> = (0..names.len()).map(|n| format!("room{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        writing.say(0, (0..=n).map(|at| (*name, &*rooms[at], BEGINS + at as i64))).await;
    }
    writing.counted().await;
    let real = analytics(&*subject.store);
    assert_eq!(real.active_users(Minutes::default()).await.expect("readable").value, names.len() as u64);
    let expected: Vec<_> = names.iter().enumerate().rev().map(|(n, name)| (UserId::from(*name), n as u64 + 1)).collect();
    assert_eq!(real.top_users(Minutes::default(), 1_000).await.expect("readable").value, expected);
    let participation = real.participation(Minutes::default(), 1_000).await.expect("readable").value;
    assert_eq!(participation.busiest, expected);
    for (user, n) in expected {
        let page = real.user_messages(&user, &UserQuery::latest(1_000)).await.expect("readable");
        assert!(page.messages.iter().all(|row| row.message.sender == user) && page.messages.len() as u64 == n, "{user:?}");
        assert_eq!(real.user_rooms(&user, None, 1_000).await.expect("readable").value.len() as u64, n, "{user:?}");
    }
}

/// Guarantee 3: who is within the limit is decided by the names too.
pub async fn g3_equal_numbers_are_in_the_order_of_the_names_bytes(subject: &Subject) {
    let model = MemoryStore::new();
    let mut writing = Writing::begin(&*subject.store, &model, 1).await;
    let rooms = ["a", "B", "a-b", "a_b", "ab", "A", "9", "b"];
    writing.say(0, NAMES.iter().enumerate().map(|(n, name)| (*name, rooms[n % rooms.len()], BEGINS))).await;
    writing.counted().await;
    let mut sorted = NAMES.to_vec();
    sorted.sort_unstable();
    let real = analytics(&*subject.store);
    for limit in 1..=NAMES.len() {
        let expected: Vec<_> = sorted[..limit].iter().map(|name| (UserId::from(*name), 1)).collect();
        assert_eq!(real.top_users(Minutes::default(), limit).await.expect("readable").value, expected);
        let theirs = real.participation(Minutes::default(), limit).await.expect("readable");
        assert_eq!(theirs.value.busiest, expected);
        let model = model.participation(Minutes::default(), limit).await.expect("readable");
        assert_eq!(theirs, model);
    }
}

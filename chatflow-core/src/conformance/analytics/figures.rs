//! Every question, compared with a count of the rows.

use super::super::dice::Dice;
use super::history::{BEGINS, NAMES, Writing};
use super::{Subject, analytics};
use crate::analytics::{Minutes, Step, UserCursor, UserQuery};
use crate::store::{LARGEST_PAGE, MemoryStore};
use crate::{Analytics, MessageId, RoomId, Timestamp, UserId};

const STEPS: [Step; 4] = [Step::Second, Step::Minute, Step::Hour, Step::Day];

/// Asks both everything about `range`; they answer alike.
pub(super) async fn compare(real: &dyn Analytics, model: &dyn Analytics, range: Minutes, limit: usize) {
    macro_rules! same {
        ($call:ident($($with:expr),*)) => {{
            let (real, model) = (real.$call($($with),*).await.expect("readable"), model.$call($($with),*).await.expect("readable"));
            assert_eq!(real, model, "{} in {range:?}, at most {limit}", stringify!($call));
        }};
    }
    same!(active_users(range));
    same!(top_users(range, limit));
    same!(top_rooms(range, limit));
    same!(participation(range, limit));
    for step in STEPS {
        same!(message_rate(range, step, limit));
    }
}

fn some_range(dice: &mut Dice, ends: i64) -> Minutes {
    let some_time = |dice: &mut Dice| {
        let at = BEGINS - 600_000 + dice.below((ends - BEGINS) as u64 + 900_000) as i64;
        (!dice.one_in(4)).then_some(Timestamp(at))
    };
    Minutes::covering(some_time(dice), some_time(dice))
}

/// Guarantees 1, 3 and 4: random histories of several logs, with repeats, conflicts, late messages, ties in time, lost stretches and new
/// epochs; every question is answered as by a count of the rows.
pub async fn g1_any_question_is_answered_as_the_model_does(subject: &Subject) {
    let (model, mut dice) = (MemoryStore::new(), Dice::new(11));
    let mut writing = Writing::begin(&*subject.store, &model, 3).await;
    let (real, model) = (analytics(&*subject.store), &model);
    for _ in 0..6 {
        for _ in 0..12 {
            writing.go_on(&mut dice, 40).await;
            writing.count_some(&mut dice).await;
        }
        writing.counted().await;
        compare(real, model, Minutes::default(), LARGEST_PAGE).await;
        for _ in 0..8 {
            compare(real, model, some_range(&mut dice, writing.ends()), dice.below(12) as usize).await;
        }
        for _ in 0..40 {
            let user = UserId::from(match dice.one_in(2) {
                true => (*dice.one_of(NAMES)).to_owned(),
                false => format!("user{}", dice.below(42)),
            });
            some_pages(real, model, &user, &mut dice, writing.ends()).await;
            some_rooms(real, model, &user, &mut dice).await;
        }
    }
}

/// Any combination of bounds, from either end.
async fn some_pages(real: &dyn Analytics, model: &dyn Analytics, user: &UserId, dice: &mut Dice, ends: i64) {
    let all = model.user_messages(user, &UserQuery::latest(LARGEST_PAGE)).await.expect("readable").messages;
    let some_cursor = |dice: &mut Dice| {
        let cursor = match all.is_empty() || dice.one_in(4) {
            true => UserCursor { at: Timestamp(BEGINS + dice.below(200_000) as i64), id: MessageId::from_u128(dice.below(9).into()) },
            false => UserCursor::of(dice.one_of(&all)),
        };
        dice.one_in(2).then_some(cursor)
    };
    let some_time = |dice: &mut Dice| dice.one_in(3).then(|| Timestamp(BEGINS + dice.below((ends - BEGINS) as u64) as i64));
    let query = UserQuery {
        after: some_cursor(dice),
        before: some_cursor(dice),
        start: some_time(dice),
        end: some_time(dice),
        limit: 1 + dice.below(30) as usize,
        newest: dice.one_in(2),
    };
    let page = real.user_messages(user, &query).await.expect("readable");
    assert_eq!(page, model.user_messages(user, &query).await.expect("readable"), "{user:?}: {query:?}");
}

async fn some_rooms(real: &dyn Analytics, model: &dyn Analytics, user: &UserId, dice: &mut Dice) {
    let after = dice.one_in(2).then(|| RoomId::new(&format!("room{}-{}", dice.below(4), dice.below(4))).expect("a good name"));
    let limit = dice.below(8) as usize;
    let rooms = real.user_rooms(user, after.as_ref(), limit).await.expect("readable");
    assert_eq!(rooms, model.user_rooms(user, after.as_ref(), limit).await.expect("readable"), "{user:?} after {after:?}");
}

/// Guarantee 1: repeats, conflicts and a batch that was committed twice.
pub async fn g1_what_did_not_become_a_row_counts_nowhere(subject: &Subject) {
    let model = MemoryStore::new();
    let mut writing = Writing::begin(&*subject.store, &model, 1).await;
    writing.say(0, [("ada", "a", BEGINS), ("bob", "a", BEGINS)]).await;
    let page = model.user_messages(&"ada".into(), &UserQuery::latest(1)).await.expect("readable").messages;
    let (mut repeat, mut conflict) = (page[0].clone(), page[0].clone());
    (repeat.position, conflict.position) = (repeat.position.next().next(), conflict.position.next().next().next());
    conflict.message.sender = "eve".into();
    conflict.message.digest += 1;
    let through = conflict.position;
    for _ in 0..2 {
        writing.commit(0, vec![repeat.clone(), conflict.clone()], through).await;
    }
    writing.counted().await;
    let real = analytics(&*subject.store);
    assert_eq!(real.active_users(Minutes::default()).await.expect("readable").value, 2);
    let top = real.top_users(Minutes::default(), 10).await.expect("readable").value;
    assert_eq!(top, [("ada".into(), 1), ("bob".into(), 1)]);
    compare(real, &model, Minutes::default(), 10).await;
}

/// Guarantee 1: the first and the last millisecond of a minute, and times before 1970.
pub async fn g1_a_range_ends_where_its_minutes_do(subject: &Subject) {
    let model = MemoryStore::new();
    let mut writing = Writing::begin(&*subject.store, &model, 1).await;
    for minute in [BEGINS, 0, -60_000, -86_400_000] {
        writing.say(0, [-60_001, -60_000, -1, 0, 1, 59_999, 60_000, 119_999, 120_000].map(|near| ("ada", "a", minute + near))).await;
    }
    writing.counted().await;
    for minute in [BEGINS, 0, -60_000, -86_400_000] {
        for (start, end) in [(0, 0), (0, 1), (0, 60_000), (59_999, 60_000), (60_000, 60_001), (-1, 120_000)] {
            let range = Minutes::covering(Some(Timestamp(minute + start)), Some(Timestamp(minute + end)));
            compare(analytics(&*subject.store), &model, range, 5).await;
        }
    }
    compare(analytics(&*subject.store), &model, Minutes::default(), LARGEST_PAGE).await;
}

/// An empty history has an answer to everything.
pub async fn g1_nothing_was_said_by_nobody(subject: &Subject) {
    let model = MemoryStore::new();
    let real = analytics(&*subject.store);
    compare(real, &model, Minutes::default(), 10).await;
    some_pages(real, &model, &"ada".into(), &mut Dice::new(3), BEGINS + 9).await;
    some_rooms(real, &model, &"ada".into(), &mut Dice::new(3)).await;
}

/// Guarantee 4, whatever is asked for.
pub async fn g4_no_list_is_longer_than_the_largest_page(subject: &Subject) {
    let model = MemoryStore::new();
    let mut writing = Writing::begin(&*subject.store, &model, 1).await;
    for part in 0..11 {
        let said: Vec<_> =
            (0..100).map(|n| (format!("user{part}-{n}"), format!("room{part}-{n}"), BEGINS + (part * 100 + n) * 1_000)).collect();
        writing.say(0, said.iter().flat_map(|(user, room, at)| [(&**user, &**room, *at), ("ada", &**room, *at)])).await;
    }
    writing.counted().await;
    let real = analytics(&*subject.store);
    for limit in [LARGEST_PAGE, LARGEST_PAGE + 1, usize::MAX] {
        compare(real, &model, Minutes::default(), limit).await;
        assert_eq!(real.top_users(Minutes::default(), limit).await.expect("readable").value.len(), LARGEST_PAGE);
        let page = real.user_messages(&"ada".into(), &UserQuery::latest(limit)).await.expect("readable");
        assert_eq!((page.messages.len(), page.more), (LARGEST_PAGE, true));
        assert_eq!(real.user_rooms(&"ada".into(), None, limit).await.expect("readable").value.len(), LARGEST_PAGE);
    }
    let page = real.user_messages(&"ada".into(), &UserQuery::latest(0)).await.expect("readable");
    assert_eq!((page.messages.len(), page.more), (1, true));
}

//! Summaries that are counted after the commits.

use super::super::dice::Dice;
use super::history::{BEGINS, Writing};
use super::{Subject, analytics};
use crate::analytics::{Minutes, Step};
use crate::store::{LARGEST_PAGE, MemoryStore, SUMMARIES};
use crate::{Analytics, NodeId, Timestamp};

async fn said(store: &dyn Analytics, range: Minutes) -> (u64, Option<Timestamp>) {
    let days = store.message_rate(range, Step::Day, LARGEST_PAGE).await.expect("readable");
    (days.value.iter().map(|(_, n)| n).sum(), days.as_of)
}

/// Guarantees 1 and 3 of [`Projections`](crate::store::Projections): while something is not counted, everything is that was accepted before
/// the time that answers carry, and no more than there is; a commit says so at once.
pub async fn p3_answers_say_up_to_when_they_count(subject: &Subject) {
    let store = &*subject.store;
    if store.projections().is_none() {
        return;
    }
    let (model, mut dice) = (MemoryStore::new(), Dice::new(21));
    let mut writing = Writing::begin(store, &model, 3).await;
    let real = analytics(store);
    let mut behind = 0;
    for round in 0..60 {
        writing.go_on(&mut dice, 60).await;
        writing.count_some(&mut dice).await;
        let range = match round % 2 {
            0 => Minutes::default(),
            _ => Minutes::covering(Some(Timestamp(BEGINS + dice.below(120_000) as i64)), None),
        };
        let ((counted, as_of), all) = (said(real, range).await, said(&model, range).await.0);
        // Those of whole minutes before it; in its own minute there may be more.
        let least = match as_of {
            None => all,
            Some(at) => said(&model, Minutes::covering(range.start(), Some(Timestamp(at.0.max(0).div_euclid(60_000) * 60_000)))).await.0,
        };
        assert!((least..=all).contains(&counted), "{counted} of {all}, where {as_of:?} promises {least}");
        behind += usize::from(as_of.is_some());
    }
    assert!(behind > 10, "hardly anything was ever left to count");
    writing.counted().await;
    assert_eq!(said(real, Minutes::default()).await, (said(&model, Minutes::default()).await.0, None));
}

/// Guarantee 1: another node goes on where one was interrupted, where nodes share the store.
pub async fn p1_another_node_goes_on_where_one_was(subject: &Subject) {
    let Some((second, _)) = &subject.second else { return };
    let (Some(one), Some(two)) = (subject.store.projections(), second.projections()) else { return };
    let (model, mut dice) = (MemoryStore::new(), Dice::new(31));
    let mut writing = Writing::begin(&*subject.store, &model, 2).await;
    let (name, other) = (NodeId::from_static("node-1"), NodeId::from_static("node-2"));
    for round in 0..12 {
        for _ in 0..5 {
            writing.go_on(&mut dice, 50).await;
        }
        // The first is given up in the middle, with what it has in memory, and comes back later.
        let (store, projections, holder) = if round % 2 == 0 { (&subject.store, one, &name) } else { (second, two, &other) };
        let lease = store.claim(SUMMARIES, holder).await.expect("it was given back");
        for _ in 0..dice.below(6) {
            projections.project(&lease, 1 + dice.below(20) as usize).await.expect("it can be counted");
        }
        store.release(&lease).await.expect("held");
    }
    let lease = second.claim(SUMMARIES, &other).await.expect("it was given back");
    while two.project(&lease, 100).await.expect("it can be counted") {}
    for store in [analytics(&*subject.store), analytics(&**second)] {
        let (top, all) = (store.top_users(Minutes::default(), LARGEST_PAGE).await, model.top_users(Minutes::default(), LARGEST_PAGE).await);
        assert_eq!(top.expect("readable"), all.expect("readable"));
    }
}

/// Guarantee 1: long histories, whose stretches are rolled up, with messages that come late.
pub async fn p1_what_is_rolled_up_is_counted_as_well(subject: &Subject) {
    const HOUR: i64 = 3_600_000;
    // So that the last are weeks behind the first, and hours are whole as well as tens of days.
    const STEP: i64 = 43 * HOUR;
    let store = &*subject.store;
    let (model, mut dice) = (MemoryStore::new(), Dice::new(41));
    let mut writing = Writing::begin(store, &model, 2).await;
    for round in 0..12i64 {
        let said: Vec<_> = (0..60)
            .map(|_| {
                let late = if dice.one_in(5) { dice.below(300) as i64 * HOUR } else { dice.below(6) as i64 * HOUR };
                let (log, minute) = (round as u64 % 2, dice.below(1_000) as i64 * 1_000);
                (format!("user{}", dice.below(30)), format!("room{}-{log}", dice.below(3)), BEGINS + round * STEP - late + minute)
            })
            .collect();
        writing.say(round as usize % 2, said.iter().map(|(user, room, at)| (&**user, &**room, *at))).await;
        writing.counted().await;
        for _ in 0..6 {
            let some = |dice: &mut Dice| (!dice.one_in(4)).then(|| Timestamp(BEGINS - 300 * HOUR + dice.below(850 * 60) as i64 * 60_000));
            let range = Minutes::covering(some(&mut dice), some(&mut dice));
            super::figures::compare(analytics(store), &model, range, 1 + dice.below(40) as usize).await;
        }
    }
}

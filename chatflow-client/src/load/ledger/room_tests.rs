//! The ledger of a room against a model that keeps every view whole and compares them afterwards.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use proptest::prelude::*;

/// What can go wrong on one member's way: at which step, and what.
#[derive(Debug, Clone)]
enum Fault {
    Drop,
    SwapWithNext,
    Repeat,
    Other,
    Reword,
}

fn message(offset: u64) -> Seen {
    Seen { position: Position::new(1, offset.into()), id: Uuid::from_u128(offset.into()), frame: offset.into(), content: offset.into() }
}

/// The messages 1 to `count` as a member with these faults sees them.
fn view(count: u64, faults: &BTreeMap<u64, Fault>) -> Vec<Seen> {
    let mut view: Vec<Seen> = Vec::new();
    for offset in 1..=count {
        let seen = message(offset);
        match faults.get(&offset) {
            None | Some(Fault::SwapWithNext) => view.push(seen),
            Some(Fault::Drop) => {}
            Some(Fault::Repeat) => view.extend([seen, seen]),
            Some(Fault::Other) => view.push(Seen { position: seen.position, ..message(1_000 + offset) }),
            Some(Fault::Reword) => view.push(Seen { id: seen.id, position: seen.position, ..message(2_000 + offset) }),
        }
    }
    for at in 1..view.len() {
        let offset = view[at - 1].position.offset as u64;
        if matches!(faults.get(&offset), Some(Fault::SwapWithNext)) && view[at].position > view[at - 1].position {
            view.swap(at - 1, at);
        }
    }
    view
}

/// What is wrong with the views, found the slow way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    missed: BTreeSet<(usize, Position)>,
    late_or_repeated: bool,
    disagree: bool,
}

fn model(views: &[Vec<Seen>]) -> Verdict {
    let all: BTreeSet<Position> = views.iter().flatten().map(|s| s.position).collect();
    let mut said: BTreeMap<Position, BTreeSet<(Uuid, u128)>> = BTreeMap::new();
    let mut verdict = Verdict::default();
    for (member, view) in views.iter().enumerate() {
        let own: BTreeSet<Position> = view.iter().map(|s| s.position).collect();
        verdict.missed.extend(all.difference(&own).map(|p| (member, *p)));
        verdict.late_or_repeated |= view.windows(2).any(|pair| pair[1].position <= pair[0].position);
        for seen in view {
            said.entry(seen.position).or_default().insert((seen.id, seen.content));
        }
    }
    verdict.disagree = said.values().any(|texts| texts.len() > 1);
    verdict
}

fn faults() -> impl Strategy<Value = BTreeMap<u64, Fault>> {
    let fault = prop_oneof![Just(Fault::Drop), Just(Fault::SwapWithNext), Just(Fault::Repeat), Just(Fault::Other), Just(Fault::Reword)];
    proptest::collection::btree_map(1u64..40, fault, 0..5)
}

proptest! {
    /// Whatever the members see, and however their reading is interleaved, the ledger finds what the model finds.
    #[test]
    fn it_finds_what_is_wrong(all_faults in proptest::collection::vec(faults(), 2..5), turns in proptest::collection::vec(0usize..5, 0..400)) {
        let views: Vec<Vec<Seen>> = all_faults.iter().map(|faults| view(40, faults)).collect();
        let mut room = Room::default();
        for member in 0..views.len() {
            room.join(member.to_string(), true, Some(Position::ZERO));
        }
        let mut read = vec![0; views.len()];
        let mut found = Verdict::default();
        let in_order = (0..views.len()).flat_map(|m| std::iter::repeat_n(m, 100));
        for member in turns.into_iter().filter(|m| *m < views.len()).chain(in_order) {
            let Some(seen) = views[member].get(read[member]) else { continue };
            read[member] += 1;
            if room.same_as_next(member, seen.frame).is_some() {
                continue;
            }
            let behind = room.last(member) >= Some(seen.position);
            match room.observe(member, *seen) {
                // A repeat of what others saw differently.
                Outcome::OtherMessage(_) if behind => found.late_or_repeated = true,
                Outcome::First(_) | Outcome::Agrees(_) => {}
                Outcome::Differs(_) | Outcome::OtherMessage(_) => found.disagree = true,
                Outcome::Repeat(_) | Outcome::Late(_) | Outcome::LateFirst(_) => found.late_or_repeated = true,
            }
            for member in &room.members {
                prop_assert_eq!(member.next, room.index_after(member.last));
            }
        }
        for member in 0..views.len() {
            found.missed.extend(room.missing(member, |_| true).0.into_iter().map(|p| (member, p)));
        }
        prop_assert!(room.sequence.is_sorted_by(|a, b| a.seen.position < b.seen.position));
        let expected = model(&views);
        prop_assert_eq!(&found.missed, &expected.missed);
        prop_assert_eq!(found.late_or_repeated, expected.late_or_repeated);
        // A late message is not compared with what others saw in its place: it is wrong anyway.
        if !expected.late_or_repeated {
            prop_assert_eq!(found.disagree, expected.disagree);
        }
    }
}

#[test]
fn a_member_owes_nothing_from_before_it_came() {
    let mut room = Room::default();
    let early = room.join("early".into(), true, Some(Position::ZERO));
    for offset in 1..=5 {
        assert_eq!(room.observe(early, message(offset)), Outcome::First(offset as usize - 1));
    }
    let welcomed = room.join("welcomed".into(), true, Some(message(3).position));
    let unknown = room.join("unknown".into(), false, None);
    assert_eq!(room.same_as_next(welcomed, message(4).frame), Some(3));
    assert_eq!(room.same_as_next(unknown, message(4).frame), None, "its place is not known yet");
    assert_eq!(room.observe(unknown, message(4)), Outcome::Agrees(3));
    assert!(!room.all_caught_up());
    for member in [welcomed, unknown] {
        assert_eq!(room.same_as_next(member, message(5).frame), Some(4));
        assert_eq!(room.missing(member, |_| true), (vec![], 0));
    }
    assert!(room.all_caught_up());
}

#[test]
fn who_leaves_owes_nothing_after_and_who_stays_does() {
    let mut room = Room::default();
    let members: Vec<usize> = (0..3).map(|n| room.join(n.to_string(), true, Some(Position::ZERO))).collect();
    room.observe(members[0], message(1));
    room.leave(members[1]);
    assert_eq!(room.missing(members[1], |_| true), (vec![], 0));
    assert_eq!(room.missing(members[2], |_| true), (vec![message(1).position], 0));
}

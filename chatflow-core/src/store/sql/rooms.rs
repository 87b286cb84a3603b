//! A user's rooms, with the last activity in each, without reading all that they ever said.
//!
//! Most users have not said much: all of it is read at once. For the others, a list that the summaries' projection writes names the rooms
//! that they were in. Their messages are walked from the newest back until one was seen of each room of the page: soon, unless they have
//! not been in one for long. What the list may lack is what is not counted yet, so the walk goes at least as far back as that.

use std::collections::{BTreeMap, BTreeSet};

use crate::analytics::UserRoom;
use crate::{RoomId, Timestamp};

/// Rows of the first stretch, for each room that is looked for. Of rooms that come up alike often all were seen after some 3.6 rows for
/// each of 20, and 5.2 for each of 100: n times the n-th harmonic number.
const FOR_EACH: i64 = 8;
/// Rows of the first stretch at the least.
const LEAST: i64 = 128;
/// How much longer each stretch is than the one before: one that ends in the midst of many messages of one time begins there again.
const LONGER: i64 = 4;

/// What a stretch of a user's messages has of one room: its name, the latest and the earliest time there, and how many there are.
pub(in crate::store) type Seen = (RoomId, i64, i64, i64);

/// A walk through a user's messages.
#[derive(Debug)]
pub(in crate::store) struct Walk {
    /// Rooms of the page, of which none was seen yet.
    missing: BTreeSet<RoomId>,
    /// What was accepted from here on may be in rooms that the list lacks.
    uncounted: i64,
    found: BTreeMap<RoomId, i64>,
    /// All that is later than this was seen.
    until: i64,
    rows: i64,
    is_done: bool,
}

impl Walk {
    /// Through everything.
    pub(in crate::store) fn whole() -> Self {
        Self::new(Vec::new(), Some(i64::MIN))
    }

    /// For `rooms`, the first of the list. From `uncounted` on, the list is not whole.
    pub(in crate::store) fn new(rooms: Vec<RoomId>, uncounted: Option<i64>) -> Self {
        let rows = (rooms.len() as i64 * FOR_EACH).max(LEAST);
        let is_done = rooms.is_empty() && uncounted.is_none();
        let (missing, uncounted) = (rooms.into_iter().collect(), uncounted.unwrap_or(i64::MAX));
        Self { missing, uncounted, found: BTreeMap::new(), until: i64::MAX, rows, is_done }
    }

    /// Whether all that is wanted was seen.
    pub(in crate::store) fn is_done(&self) -> bool {
        self.is_done
    }

    /// The stretch that comes next: of messages that are no later than this, so many of the latest.
    pub(in crate::store) fn stretch(&self) -> (i64, i64) {
        (self.until, self.rows)
    }

    /// What was seen in it.
    pub(in crate::store) fn saw(&mut self, seen: Vec<Seen>) {
        let mut rows = 0;
        for (room, last, first, n) in seen {
            (rows, self.until) = (rows + n, self.until.min(first));
            self.missing.remove(&room);
            let known = self.found.entry(room).or_insert(last);
            *known = last.max(*known);
        }
        let is_whole = self.missing.is_empty() && (self.uncounted == i64::MAX || self.until < self.uncounted);
        self.is_done = is_whole || rows < self.rows;
        self.rows = self.rows.saturating_mul(LONGER);
    }

    /// The first `limit` rooms, by name: those of the list, and others that were seen.
    pub(in crate::store) fn rooms(self, after: Option<&RoomId>, limit: usize) -> Vec<UserRoom> {
        let beyond = self.found.into_iter().filter(|(room, _)| after.is_none_or(|after| room > after));
        beyond.take(limit).map(|(room, last)| UserRoom::new(room, Timestamp(last))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(n: u8) -> RoomId {
        RoomId::new(&format!("room{n:03}")).unwrap()
    }

    /// What a database answers.
    fn stretch(said: &[(u8, i64)], until: i64, rows: i64) -> Vec<Seen> {
        let mut of: BTreeMap<u8, (i64, i64, i64)> = BTreeMap::new();
        for (room, at) in said.iter().rev().filter(|(_, at)| *at <= until).take(rows as usize) {
            let (last, first, n) = of.entry(*room).or_insert((*at, *at, 0));
            (*last, *first, *n) = (*at.max(last), *at.min(first), *n + 1);
        }
        of.into_iter().map(|(n, (last, first, rows))| (room(n), last, first, rows)).collect()
    }

    proptest! {
        #[test]
        fn a_walk_finds_the_last_time_in_each_room(
            mut said in prop::collection::vec((0u8..40, 0i64..300), 0..700), counted in 0i64..310, gone in prop::collection::btree_set(0u8..60, 0..6),
            after in prop::option::of(0u8..40), limit in 0usize..12,
        ) {
            said.sort_by_key(|(_, at)| *at);
            let after = after.map(room);
            let is_beyond = |room: &RoomId| after.as_ref().is_none_or(|after| room > after);
            // The list has what is counted, and rooms of which everything was removed.
            let listed = said.iter().filter(|(_, at)| *at < counted).map(|(n, _)| *n).chain(gone);
            let listed: BTreeSet<_> = listed.map(room).filter(is_beyond).collect();
            let uncounted = said.iter().map(|(_, at)| *at).find(|at| *at >= counted);
            let mut walk = Walk::new(listed.into_iter().take(limit).collect(), uncounted);
            let mut stretches = 0;
            while !walk.is_done() {
                let (until, rows) = walk.stretch();
                walk.saw(stretch(&said, until, rows));
                stretches += 1;
                prop_assert!(stretches < 9);
            }
            let lasts: BTreeMap<_, _> = said.iter().map(|(n, at)| (room(*n), *at)).collect();
            let expected: Vec<_> = lasts.into_iter().filter(|(room, _)| is_beyond(room)).take(limit).collect();
            let rooms: Vec<_> = walk.rooms(after.as_ref(), limit).into_iter().map(|room| (room.room_id, room.last.0)).collect();
            prop_assert_eq!(rooms, expected);
        }
    }

    #[test]
    fn a_walk_ends_once_each_room_was_seen() {
        let said: Vec<_> = (0..1_000_000i64).map(|n| ((n % 20) as u8, n)).collect();
        let mut walk = Walk::new((0..20).map(room).collect(), Some(999_990));
        let (until, rows) = walk.stretch();
        assert!(rows < 1_000);
        walk.saw(stretch(&said, until, rows));
        assert!(walk.is_done());
        assert_eq!(walk.rooms(None, 100).len(), 20);
    }
}

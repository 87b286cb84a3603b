//! Telling repeats: the fold over a log that drops the second copy of a message.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::broker::Profile;
use crate::message::Header;
use crate::store::{Exception, Located};
use crate::{MessageId, Position, Settings, Timestamp};

/// Ids that were seen among the last entries of one log, as many and for as long as is set.
///
/// It depends on those entries alone, so every node that folds the log comes to the same result, whenever it began. What it has forgotten,
/// or never saw because the node was not there, the history knows: it is asked for ids that may be that [old](Self::recall), and the
/// result is again the same for every node that keeps a history. So that asking never means waiting for a history that is behind, what
/// it does not have is remembered longer, up to a bound of its own.
#[derive(Debug)]
pub(crate) struct Dedup {
    seen: HashMap<MessageId, First, foldhash::fast::RandomState>,
    /// Which entry each came in, counted from the first that was folded.
    order: VecDeque<(u64, MessageId, Timestamp)>,
    entries: u64,
    most: usize,
    /// The same, as long as the history does not have them.
    most_unsettled: usize,
    window: Duration,
    /// What stands after this is remembered.
    since: Position,
    /// What stands up to here can be asked for.
    settled: Position,
}

/// The first copy of a message: where it stands, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct First {
    position: Position,
    digest: u64,
    room: u64,
}

/// What can be said of a message before its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recall {
    /// It repeats this one; which may be forgotten until its turn comes.
    Known(First),
    /// Only the history knows.
    Old,
    /// There can be no other copy than what comes before it from here on.
    New,
}

impl First {
    fn of(message: &Header<'_>, position: Position) -> Self {
        Self { position, digest: message.digest, room: hash(message.room) }
    }
}

impl From<&Located> for First {
    fn from(located: &Located) -> Self {
        Self { position: located.position, digest: located.digest, room: hash(located.room.as_str()) }
    }
}

fn hash(room: &str) -> u64 {
    twox_hash::XxHash3_64::oneshot(room.as_bytes())
}

impl Dedup {
    fn new(most: usize, most_unsettled: usize, window: Duration) -> Self {
        Self {
            seen: HashMap::default(),
            order: VecDeque::new(),
            entries: 0,
            most,
            most_unsettled,
            window,
            since: Position::ZERO,
            settled: Position::MAX,
        }
    }

    /// What nodes make of repeats has to be the same whenever they were started, so no more is remembered than a new one can read. How
    /// far the history may be behind has nothing to do with that.
    pub(crate) fn of(settings: &Settings, profile: &Profile) -> Self {
        let retains = usize::try_from(profile.retains).unwrap_or(usize::MAX);
        let most = if profile.shared { settings.dedup_messages.min(retains).max(1) } else { settings.dedup_messages };
        Self::new(most, settings.dedup_messages.saturating_mul(2), settings.dedup_window)
    }

    /// The log goes on after `position`; what stood before it may not have been seen.
    pub(crate) fn begin(&mut self, position: Position) {
        self.since = self.since.max(position);
    }

    /// What stands up to `through` can be asked for by now, and the rest not yet; before the first call, everything can be, or nothing
    /// ever will.
    pub(crate) fn settle(&mut self, through: Position) {
        self.settled = through;
    }

    /// How far back it remembers: everything after this position.
    pub(crate) fn since(&self) -> Position {
        self.since
    }

    /// How many entries back it remembers, at least 1.
    pub(crate) fn reach(&self) -> usize {
        self.most.max(1)
    }

    /// What is known of a message that is among the next [`reach`](Self::reach) entries. One that is not remembered may have a copy
    /// from before that, unless its id tells that it was made in the newer half of the time that is remembered. The older half is for
    /// senders whose clocks go wrong.
    pub(crate) fn recall(&self, message: &Header<'_>) -> Recall {
        if let Some(first) = self.seen.get(&message.id) {
            return Recall::Known(*first);
        }
        let oldest = self.order.front().map_or(message.at, |(.., at)| *at);
        let middle = oldest.0 + (message.at.0 - oldest.0) / 2;
        if made_at(message.id).is_none_or(|made| made.0 < middle) { Recall::Old } else { Recall::New }
    }

    /// Takes the log's next message, and what was found out about its id before; what it repeats, if it does.
    pub(crate) fn admit(&mut self, message: &Header<'_>, position: Position, found: Option<&First>) -> Option<Exception> {
        self.pass();
        let this = First::of(message, position);
        // The history may be ahead, and have this very entry.
        let first = self.seen.get(&message.id).or(found.filter(|first| first.position < position));
        if let Some(&First { position: first, digest, room }) = first {
            let same = digest == this.digest && room == this.room;
            return Some(if same { Exception::Repeat { first } } else { Exception::Conflict { first } });
        }
        self.forget(message.at);
        self.seen.insert(message.id, this);
        self.order.push_back((self.entries, message.id, message.at));
        None
    }

    /// Takes the log's next entry, which is no message.
    pub(crate) fn pass(&mut self) {
        self.entries += 1;
        while self.order.front().is_some_and(|(entry, ..)| self.entries - entry >= self.most as u64) && self.forget_first() {}
    }

    fn forget(&mut self, now: Timestamp) {
        let oldest = Timestamp(now.0.saturating_sub(self.window.as_millis() as i64));
        while self.order.front().is_some_and(|(.., at)| *at < oldest) && self.forget_first() {}
    }

    /// Whether it may be forgotten.
    fn forget_first(&mut self) -> bool {
        let Some((entry, id, _)) = self.order.front() else { return false };
        let position = self.seen.get(id).map_or(Position::ZERO, |first| first.position);
        if position > self.settled && self.entries - entry < self.most_unsettled as u64 {
            return false;
        }
        self.seen.remove(id);
        self.order.pop_front();
        self.since = self.since.max(position);
        true
    }
}

/// When an id was made, if it says so: the first 48 bits of a UUIDv7 are milliseconds since 1970 (RFC 9562, section 5.7).
fn made_at(id: MessageId) -> Option<Timestamp> {
    (id.get_version_num() == 7).then(|| Timestamp((id.as_u128() >> 80) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u128, digest: u64, at: i64) -> Header<'static> {
        Header { room: "a", id: MessageId::from_u128(id), digest, at: Timestamp(at) }
    }

    fn dedup(most: usize) -> Dedup {
        Dedup::new(most, 2 * most, Duration::from_secs(300))
    }

    #[test]
    fn the_second_copy_is_told_by_what_it_says() {
        let mut dedup = dedup(10);
        let first = Position::new(1, 1);
        assert_eq!(dedup.admit(&message(1, 7, 0), first, None), None);
        assert_eq!(dedup.admit(&message(1, 7, 5), Position::new(1, 2), None), Some(Exception::Repeat { first }));
        assert_eq!(dedup.admit(&message(1, 8, 5), Position::new(1, 3), None), Some(Exception::Conflict { first }));
        let elsewhere = Header { room: "b", ..message(1, 7, 5) };
        assert_eq!(dedup.admit(&elsewhere, Position::new(1, 4), None), Some(Exception::Conflict { first }));
    }

    #[test]
    fn it_is_bounded_by_count_and_time() {
        let mut dedup = dedup(3);
        for id in 1..=4 {
            assert_eq!(dedup.admit(&message(id, 0, 0), Position::new(1, id), None), None);
        }
        assert_eq!(dedup.seen.len(), 3);
        assert_eq!(dedup.admit(&message(1, 0, 0), Position::new(1, 9), None), None, "the oldest was forgotten");
        assert_eq!(
            dedup.admit(&message(4, 0, 300_001), Position::new(1, 10), None),
            Some(Exception::Repeat { first: Position::new(1, 4) })
        );
        assert_eq!(dedup.admit(&message(9, 0, 300_001), Position::new(1, 11), None), None);
        assert_eq!(dedup.seen.len(), 1, "what is past the window was forgotten");
    }

    #[test]
    fn whoever_begins_later_tells_the_same_whatever_else_is_in_the_log() {
        let fold = |dedup: &mut Dedup, entry: u64| match entry % 3 {
            0 => {
                dedup.pass();
                None
            }
            // Each id comes again, further and further away.
            _ => dedup.admit(&message(u128::from(entry * entry % 37), 0, 0), Position::new(1, entry.into()), None),
        };
        let (most, begun) = (8, 100);
        let (mut old, mut new) = (dedup(most), dedup(most));
        for entry in 0..begun {
            let _ = fold(&mut old, entry);
        }
        for entry in begun - most as u64..begun {
            let _ = fold(&mut new, entry);
        }
        let repeats = (begun..300).filter(|entry| {
            let (one, other) = (fold(&mut old, *entry), fold(&mut new, *entry));
            assert_eq!(one.is_some(), other.is_some(), "at {entry}");
            one.is_some()
        });
        assert!(repeats.count() > 10);
    }

    #[test]
    fn what_it_can_not_know_is_asked_for() {
        let v7 = |made: u64, n: u128| MessageId::from_u128(u128::from(made) << 80 | 7 << 76 | 2 << 62 | n);
        let message = |id, at| Header { room: "a", id, digest: 7, at: Timestamp(at) };
        let mut dedup = dedup(4);
        dedup.begin(Position::new(1, 10));
        for n in 1..=6 {
            let at = 1_000 * n;
            dedup.admit(&message(v7(at, 0), at as i64), Position::new(1, (10 + n).into()), None);
        }
        assert_eq!(dedup.since(), Position::new(1, 12), "two of six were forgotten");
        // From 3,000 to 7,000 is what it remembers by then.
        assert_eq!(dedup.recall(&message(v7(5_000, 1), 7_000)), Recall::New);
        assert_eq!(dedup.recall(&message(v7(4_999, 1), 7_000)), Recall::Old);
        assert!(matches!(dedup.recall(&message(v7(4_000, 0), 7_000)), Recall::Known(_)));
        assert_eq!(dedup.recall(&message(MessageId::from_u128(4 << 76), 7_000)), Recall::Old, "it does not tell when it was made");

        let old = message(v7(1_000, 0), 7_000);
        let located = |offset, digest| First::from(&Located::new(Position::new(1, offset), crate::RoomId::new("a").unwrap(), digest));
        let first = Position::new(1, 11);
        assert_eq!(dedup.admit(&old, Position::new(1, 17), Some(&located(11, 7))), Some(Exception::Repeat { first }));
        assert_eq!(dedup.admit(&old, Position::new(1, 17), Some(&located(11, 8))), Some(Exception::Conflict { first }));
        assert_eq!(dedup.admit(&old, Position::new(1, 17), Some(&located(17, 7))), None, "the history is ahead");
    }

    #[test]
    fn what_the_history_does_not_have_is_remembered_longer_within_a_bound() {
        let mut dedup = dedup(3);
        dedup.settle(Position::new(1, 2));
        let say = |dedup: &mut Dedup, id: u128, at| dedup.admit(&message(id, 0, at), Position::new(1, id), None);
        (1..=5).for_each(|id| assert_eq!(say(&mut dedup, id, 0), None));
        assert_eq!((dedup.since(), dedup.seen.len()), (Position::new(1, 2), 3), "what the history has is forgotten as ever");
        say(&mut dedup, 6, 400_000);
        assert_eq!((dedup.since(), dedup.seen.len()), (Position::new(1, 2), 4), "the rest is not: neither by count nor by time");
        (7..=20).for_each(|id| assert_eq!(say(&mut dedup, id, 400_000), None));
        assert_eq!((dedup.since(), dedup.seen.len()), (Position::new(1, 14), 6), "twice as many at most");
        dedup.settle(Position::new(1, 19));
        say(&mut dedup, 21, 400_000);
        assert_eq!((dedup.since(), dedup.seen.len()), (Position::new(1, 18), 3));
    }

    #[test]
    fn how_far_the_history_may_be_behind_is_not_bounded_by_what_the_broker_retains() {
        let settings = Settings { dedup_messages: 100, ..Settings::default() };
        let sizes = |dedup: Dedup| (dedup.reach(), dedup.most_unsettled);
        let mut profile = Profile::new("retains little", 1);
        profile.retains = 8;
        assert_eq!(sizes(Dedup::of(&settings, &profile)), (100, 200), "its log is this node's alone");
        assert_eq!(sizes(Dedup::of(&settings, &profile.clone().shared())), (8, 200));
        profile.retains = 0;
        assert_eq!(sizes(Dedup::of(&settings, &profile.shared())), (1, 200));
    }

    #[test]
    fn what_is_forgotten_before_its_repeat_has_its_turn_is_kept_in_mind() {
        let mut dedup = dedup(2);
        let first = Position::new(1, 1);
        dedup.admit(&message(1, 7, 0), first, None);
        let Recall::Known(found) = dedup.recall(&message(1, 7, 0)) else { panic!("it is remembered") };
        dedup.admit(&message(2, 7, 0), Position::new(1, 2), None);
        dedup.admit(&message(3, 7, 0), Position::new(1, 3), None);
        assert_eq!(dedup.admit(&message(1, 7, 0), Position::new(1, 4), Some(&found)), Some(Exception::Repeat { first }));
    }
}

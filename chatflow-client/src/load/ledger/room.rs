//! One room as its members saw it: the sequence they agree on, and how far along it each of them is.

use chatflow_core::Position;
use uuid::Uuid;

/// A message as somebody was shown it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Seen {
    pub(in super::super) position: Position,
    pub(in super::super) id: Uuid,
    /// A hash of the frame as it came.
    pub(in super::super) frame: u128,
    /// A hash of what it says.
    pub(in super::super) content: u128,
}

/// A place in the agreed sequence.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Entry {
    pub(in super::super) seen: Seen,
    /// The message's number in the run's plan, or [`FOREIGN`].
    pub(in super::super) number: u32,
    /// How many listeners have seen it.
    pub(in super::super) listeners: u16,
    /// Whether the first one who saw it was told something else than was sent.
    pub(in super::super) suspect: bool,
}

/// In place of the number of a message that this run did not send.
pub(in super::super) const FOREIGN: u32 = u32::MAX;

/// The most missed positions that are remembered for one member, to tell "late" from "never".
const MOST_MISSED: usize = 4_096;

/// One member of the room.
///
/// `next` is always the index of the first entry after `last`.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) listener: bool,
    /// It has to see everything after this; `None` until it has seen something.
    start: Option<Position>,
    pub(super) last: Option<Position>,
    pub(super) next: usize,
    /// What others saw and it passed over, so far.
    pub(super) missed: Vec<Position>,
    /// Those beyond the ones that are remembered.
    pub(super) missed_more: u64,
    /// It left; what comes after does not concern it.
    pub(super) left: bool,
}

/// What a member's view adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Outcome {
    /// The first to see it; the entry is at this index.
    First(usize),
    /// As others saw it; the entry is at this index.
    Agrees(usize),
    /// Others saw the same message in other words; theirs is at this index.
    Differs(usize),
    /// Others saw another message at this position; theirs is at this index.
    OtherMessage(usize),
    /// It saw this before.
    Repeat(usize),
    /// It saw later ones before this one, which others saw in its place at this index.
    Late(usize),
    /// It saw later ones before this one, and is the first to see it; the entry is at this index.
    LateFirst(usize),
}

/// The ledger of one room. It knows nothing of the plan, sockets or time.
#[derive(Debug, Default)]
pub(in super::super) struct Room {
    pub(super) sequence: Vec<Entry>,
    pub(super) members: Vec<Member>,
}

impl Room {
    /// A new member, which has to see everything after `start`, or after the first thing that it sees.
    pub(in super::super) fn join(&mut self, name: String, listener: bool, start: Option<Position>) -> usize {
        let next = self.index_after(start);
        self.members.push(Member { name, listener, start, last: start, next, missed: Vec::new(), missed_more: 0, left: false });
        self.members.len() - 1
    }

    /// The member was told that it could not go on where it was: it has to see everything after `start` from now on.
    pub(in super::super) fn restart(&mut self, member: usize, start: Option<Position>) {
        let next = self.index_after(start);
        let member = &mut self.members[member];
        (member.start, member.last, member.next) = (start, start, next);
    }

    /// The member has left.
    pub(in super::super) fn leave(&mut self, member: usize) {
        self.members[member].left = true;
    }

    /// The position of the last message that the member saw.
    pub(in super::super) fn last(&self, member: usize) -> Option<Position> {
        self.members[member].last
    }

    /// The fast path: if the frame is, byte for byte, the one that others saw next, moves on and returns its index.
    pub(in super::super) fn same_as_next(&mut self, member: usize, frame: u128) -> Option<usize> {
        let member = &mut self.members[member];
        let entry = self.sequence.get_mut(member.next)?;
        // Before its first message a member may be anywhere.
        if entry.seen.frame != frame || member.last.is_none() {
            return None;
        }
        entry.listeners += u16::from(member.listener);
        member.last = Some(entry.seen.position);
        member.next += 1;
        Some(member.next - 1)
    }

    /// The member was shown a message.
    pub(in super::super) fn observe(&mut self, member: usize, seen: Seen) -> Outcome {
        let Member { last, next, .. } = self.members[member];
        let position = seen.position;
        let outcome = match last {
            Some(last) if position <= last => self.observe_late(member, seen),
            None => {
                self.members[member].start = Some(position);
                let at = self.index_before(position);
                self.observe_at(member, at, seen)
            }
            Some(_) => {
                let passed = self.sequence[next..].iter().take_while(|e| e.seen.position < position).count();
                for at in next..next + passed {
                    let position = self.sequence[at].seen.position;
                    self.members[member].miss(position);
                }
                self.observe_at(member, next + passed, seen)
            }
        };
        if let Outcome::First(at) | Outcome::Agrees(at) | Outcome::LateFirst(at) | Outcome::Late(at) | Outcome::Differs(at) = outcome {
            self.sequence[at].listeners += u16::from(self.members[member].listener);
        }
        outcome
    }

    /// A message that lies ahead of the member, whose place is `at`.
    fn observe_at(&mut self, member: usize, at: usize, seen: Seen) -> Outcome {
        let outcome = match self.sequence.get(at) {
            Some(entry) if entry.seen.position == seen.position => compare(entry, &seen, at),
            _ => {
                self.insert(at, seen);
                Outcome::First(at)
            }
        };
        let member = &mut self.members[member];
        (member.last, member.next) = (Some(seen.position), at + 1);
        outcome
    }

    /// A message that does not lie ahead of the member.
    fn observe_late(&mut self, member: usize, seen: Seen) -> Outcome {
        let at = self.index_before(seen.position);
        if self.sequence.get(at).is_none_or(|e| e.seen.position != seen.position) {
            self.insert(at, seen);
            // It did see it, if late.
            self.members[member].missed.retain(|p| *p != seen.position);
            return Outcome::LateFirst(at);
        }
        let missed = &mut self.members[member].missed;
        if let Some(place) = missed.iter().position(|p| *p == seen.position) {
            missed.swap_remove(place);
            return Outcome::Late(at);
        }
        match self.sequence[at].seen.id == seen.id {
            true => Outcome::Repeat(at),
            false => Outcome::OtherMessage(at),
        }
    }

    /// Members who are past the place of a new entry missed it.
    fn insert(&mut self, at: usize, seen: Seen) {
        self.sequence.insert(at, Entry { seen, number: FOREIGN, listeners: 0, suspect: false });
        for member in &mut self.members {
            if member.last.is_some_and(|last| last >= seen.position) {
                member.next += 1;
                if member.start.is_some_and(|start| start < seen.position) {
                    member.miss(seen.position);
                }
            }
        }
    }

    fn index_before(&self, position: Position) -> usize {
        // Nearly always the end.
        match self.sequence.last() {
            Some(entry) if entry.seen.position < position => self.sequence.len(),
            _ => self.sequence.partition_point(|e| e.seen.position < position),
        }
    }

    fn index_after(&self, position: Option<Position>) -> usize {
        position.map_or(0, |position| self.sequence.partition_point(|e| e.seen.position <= position))
    }

    /// What a member who is still there has not been shown although others were: at the end, these are violations.
    /// `counts` says which entries after the last that it saw it should have seen too.
    pub(in super::super) fn missing(&self, member: usize, counts: impl Fn(&Entry) -> bool) -> (Vec<Position>, u64) {
        let member = &self.members[member];
        let mut missing = member.missed.clone();
        if !member.left && member.last.is_some() {
            missing.extend(self.sequence[member.next..].iter().filter(|e| counts(e)).map(|e| e.seen.position));
        }
        missing.sort_unstable();
        (missing, member.missed_more)
    }

    /// Whether every member who is still there has seen the whole sequence.
    pub(in super::super) fn all_caught_up(&self) -> bool {
        self.members.iter().all(|m| m.left || m.last.is_none() || m.next == self.sequence.len())
    }
}

impl Member {
    fn miss(&mut self, position: Position) {
        match self.missed.len() < MOST_MISSED {
            true => self.missed.push(position),
            false => self.missed_more += 1,
        }
    }
}

fn compare(entry: &Entry, seen: &Seen, at: usize) -> Outcome {
    if entry.seen.id != seen.id {
        Outcome::OtherMessage(at)
    } else if entry.seen.content != seen.content {
        Outcome::Differs(at)
    } else {
        Outcome::Agrees(at)
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;

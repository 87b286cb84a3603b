//! The oracle: what every member of every room was shown, held against each other and against what was sent.

mod room;
mod verdict;

use std::collections::HashMap;

use chatflow_core::Position;
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use super::clock::put_iso;
use super::frame::{Frame, frame_hash, room_hint, shortened};
use super::plan::{KINDS, Plan};
use super::sent::Sent;
use super::violation::{Kind, Violations};
pub(super) use room::{Entry, FOREIGN, Outcome, Room, Seen};

/// The place of one member in one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) room: u32,
    member: usize,
}

/// An answer with success: which message, and where it says that the message stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledged {
    pub(super) number: u32,
    pub(super) position: Option<Position>,
}

#[derive(Debug, Default)]
struct Shard {
    room: Room,
    acknowledged: Vec<Acknowledged>,
    /// Messages that were acknowledged, each counted once.
    safe: usize,
    /// Messages of this run in the sequence.
    own: usize,
}

impl Shard {
    /// The number of the message at `index`, if the listener at `at` was the last of all to see it.
    fn seen_by_all(&self, at: Membership, index: usize, listeners: u16) -> Option<u32> {
        let entry = &self.room.sequence[index];
        let complete = entry.listeners == listeners && self.room.members[at.member].listener;
        (complete && entry.number != FOREIGN).then_some(entry.number)
    }
}

/// What became of a frame that was read as a whole.
enum Slowly<'f> {
    Checked,
    /// It was a broadcast of this message, and now every listener has seen it.
    Last(u32),
    /// It was none.
    Other(Box<Frame<'f>>),
}

/// The ledgers of all rooms, one lock each. Room `n` of the plan is called `n + 1`.
#[derive(Debug)]
pub(super) struct Ledger {
    shards: Vec<Mutex<Shard>>,
    listeners: u16,
    shared: bool,
}

/// What is checked against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truth<'a> {
    pub(super) plan: &'a Plan,
    pub(super) sent: &'a Sent,
    pub(super) violations: &'a Violations,
}

/// One reader's part of the oracle: kept by each connection, so that checking allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Reader {
    scratch: Vec<u8>,
    text: String,
}

impl Ledger {
    /// Empty ledgers of `rooms` rooms, in each of which so many listeners will be. `shared`: others may send too.
    pub(super) fn new(rooms: u32, listeners: u16, shared: bool) -> Self {
        Self { shards: (0..rooms).map(|_| Mutex::default()).collect(), listeners, shared }
    }

    fn lock(&self, room: u32) -> MutexGuard<'_, Shard> {
        self.shards[room as usize].lock()
    }

    /// A new member. See [`Room::join`].
    pub(super) fn join(&self, room: u32, name: String, listener: bool, start: Option<Position>) -> Membership {
        Membership { room, member: self.lock(room).room.join(name, listener, start) }
    }

    /// See [`Room::restart`].
    pub(super) fn restart(&self, at: Membership, start: Option<Position>) {
        self.lock(at.room).room.restart(at.member, start);
    }

    /// See [`Room::leave`].
    pub(super) fn leave(&self, at: Membership) {
        self.lock(at.room).room.leave(at.member);
    }

    /// See [`Room::last`].
    pub(super) fn last(&self, at: Membership) -> Option<Position> {
        self.lock(at.room).room.last(at.member)
    }

    /// The newest position that any member of the room has seen.
    pub(super) fn newest(&self, room: u32) -> Option<Position> {
        self.lock(room).room.sequence.last().map(|e| e.seen.position)
    }

    /// Messages of one room were answered with success.
    pub(super) fn acknowledge(&self, room: u32, answers: &[Acknowledged], firsts: usize) {
        let mut shard = self.lock(room);
        shard.acknowledged.extend_from_slice(answers);
        shard.safe += firsts;
    }

    /// Whether all members have seen all that any member saw, and somebody all that was acknowledged; and a number
    /// that grows as long as there is progress. `observed`: whether there are members at all.
    pub(super) fn settled(&self, observed: bool) -> (bool, usize) {
        let mut settled = true;
        let mut progress = 0;
        for shard in &self.shards {
            let shard = shard.lock();
            settled &= shard.room.all_caught_up() && (!observed || shard.own >= shard.safe);
            progress += shard.room.sequence.len() + shard.acknowledged.len() + shard.room.members.iter().map(|m| m.next).sum::<usize>();
        }
        (settled, progress)
    }

    /// A connection was shown these broadcasts, in this order. `find` says which member of which room it is.
    /// `last` is called with the number of each message that no listener has yet to see, `other` with each frame that
    /// turns out to be an answer or an event.
    pub(super) fn shown<'f>(
        &self,
        truth: Truth<'_>,
        reader: &mut Reader,
        frames: impl Iterator<Item = &'f str>,
        find: impl Fn(&str) -> Option<Membership>,
        mut last: impl FnMut(u32),
        mut other: impl FnMut(&Frame<'_>),
    ) {
        let mut held: Option<(Membership, MutexGuard<'_, Shard>)> = None;
        for text in frames {
            let hash = frame_hash(text);
            let hinted = room_hint(text).and_then(&find);
            if let Some(at) = hinted {
                // Neighbours are often of one room, and share its lock.
                if held.as_ref().is_none_or(|(holder, _)| *holder != at) {
                    drop(held.take());
                    held = Some((at, self.lock(at.room)));
                }
                if let Some((_, shard)) = &mut held
                    && let Some(index) = shard.room.same_as_next(at.member, hash)
                {
                    if let Some(number) = shard.seen_by_all(at, index, self.listeners) {
                        last(number);
                    }
                    continue;
                }
            }
            drop(held.take());
            match self.shown_slowly(truth, reader, text, hash, &find) {
                Slowly::Checked => {}
                Slowly::Last(number) => last(number),
                Slowly::Other(frame) => other(&frame),
            }
        }
    }

    /// The first sight of a message, or one that is not what was expected next.
    fn shown_slowly<'f>(
        &self,
        truth: Truth<'_>,
        reader: &mut Reader,
        text: &'f str,
        hash: u128,
        find: &impl Fn(&str) -> Option<Membership>,
    ) -> Slowly<'f> {
        let violations = truth.violations;
        let frame = match Frame::parse(text) {
            Ok(frame) => frame,
            Err(why) => {
                violations.add(Kind::BadFrame, || why);
                return Slowly::Checked;
            }
        };
        if frame.is_answer() || frame.event.is_some() {
            return Slowly::Other(Box::new(frame));
        }
        let (Some(id), Some(position)) = (frame.message_id, frame.position) else {
            violations.add(Kind::BadFrame, || format!("a broadcast without messageId or position: {}", shortened(text)));
            return Slowly::Checked;
        };
        let Some(at) = find(Frame::text(&frame.room_id)) else {
            violations.add(Kind::WrongRoom, || format!("a broadcast of a room that the connection is not in: {}", shortened(text)));
            return Slowly::Checked;
        };
        let seen = Seen { position, id, frame: hash, content: frame.content_hash(&mut reader.scratch) };
        let mut guard = self.lock(at.room);
        let shard = &mut *guard;
        let outcome = shard.room.observe(at.member, seen);
        let name = shard.room.members[at.member].name.as_str();
        let place = || format!("room {}: {name} was shown {id} at {position}", at.room + 1);
        match outcome {
            Outcome::First(index) | Outcome::LateFirst(index) => {
                let entry = &mut shard.room.sequence[index];
                match self.check(truth, reader, at.room, &frame, id) {
                    Ok(number) => {
                        entry.number = number.unwrap_or(FOREIGN);
                        shard.own += usize::from(number.is_some());
                    }
                    Err((kind, number, why)) => {
                        entry.suspect = true;
                        entry.number = number.unwrap_or(FOREIGN);
                        shard.own += usize::from(number.is_some());
                        violations.add(kind, || format!("{}: {why}", place()));
                    }
                }
            }
            Outcome::Differs(index) => {
                let entry = &mut shard.room.sequence[index];
                let truly = self.check(truth, reader, at.room, &frame, id).is_ok();
                if entry.suspect && truly {
                    // The first one was told something else, which is noted already.
                    (entry.seen, entry.suspect) = (seen, false);
                } else {
                    violations.add(Kind::Different, || format!("{}, in other words than others: {}", place(), shortened(text)));
                }
            }
            Outcome::OtherMessage(index) => {
                let other = shard.room.sequence[index].seen.id;
                violations.add(Kind::PositionReused, || format!("{}, where {other} was shown before", place()));
            }
            Outcome::Repeat(_) => violations.add(Kind::Repeated, || format!("{}, a second time", place())),
            Outcome::Agrees(_) | Outcome::Late(_) => {}
        }
        if let Outcome::Late(index) | Outcome::LateFirst(index) = outcome {
            let after = shard.room.sequence.get(index + 1).map_or(position, |e| e.seen.position);
            violations.add(Kind::OutOfOrder, || format!("{}, after it had seen {after}", place()));
        }
        match outcome {
            Outcome::First(index) | Outcome::Agrees(index) => {
                shard.seen_by_all(at, index, self.listeners).map_or(Slowly::Checked, Slowly::Last)
            }
            _ => Slowly::Checked,
        }
    }

    /// Whether a broadcast says what was sent; its number if it is one of this run.
    fn check(&self, truth: Truth<'_>, reader: &mut Reader, room: u32, frame: &Frame<'_>, id: Uuid) -> Result<Option<u32>, Wrong> {
        let Some((number, ms)) = truth.plan.recognise(id).filter(|(number, ms)| truth.sent.made_ms(*number) == Some(*ms)) else {
            return if self.shared { Ok(None) } else { Err((Kind::NeverSent, None, "nobody sent it".into())) };
        };
        let meant = truth.plan.room_of(truth.plan.sender(number).0);
        if meant != room {
            return Err((Kind::WrongRoom, Some(number), format!("it was sent to room {}", meant + 1)));
        }
        let content = truth.plan.content(number);
        let mut wrong = Vec::new();
        let mut expect = |field, found: &str, text: &str| {
            if found != text {
                wrong.push(format!("{field} is {found:?}, sent was {text:?}"));
            }
        };
        let text = &mut reader.text;
        text.clear();
        truth.plan.text(&content, |part| text.push_str(part));
        expect("message", Frame::text(&frame.message), text);
        expect("messageType", Frame::text(&frame.message_type), KINDS[content.kind]);
        text.clear();
        put_iso(text, ms);
        expect("timestamp", Frame::text(&frame.timestamp), text);
        let user = content.user.to_string();
        expect("userId", Frame::text(&frame.user_id), &user);
        let name = Frame::text(&frame.username);
        expect("username", name.strip_prefix("user").unwrap_or(name), &user);
        match wrong.is_empty() {
            true => Ok(Some(number)),
            false => Err((Kind::Altered, Some(number), wrong.join("; "))),
        }
    }

    /// Gives `use_it` the sequence of a room and what was acknowledged in it.
    pub(super) fn with_sequence<T>(&self, room: u32, use_it: impl FnOnce(&[Entry], &[Acknowledged]) -> T) -> T {
        let shard = self.lock(room);
        use_it(&shard.room.sequence, &shard.acknowledged)
    }

    /// Checks a message of the history as a broadcast is checked; a hash of what it says, and its number if it is one of
    /// this run.
    pub(super) fn check_history(
        &self,
        truth: Truth<'_>,
        reader: &mut Reader,
        room: u32,
        frame: &Frame<'_>,
        id: Uuid,
    ) -> Result<(u128, Option<u32>), Wrong> {
        let number = self.check(truth, reader, room, frame, id)?;
        Ok((frame.content_hash(&mut reader.scratch), number))
    }
}

/// What is wrong with a message: how, its number if it is one of this run, and in words.
pub(super) type Wrong = (Kind, Option<u32>, String);

/// Where each message of the run stands.
pub(super) type Places = HashMap<u32, Position>;

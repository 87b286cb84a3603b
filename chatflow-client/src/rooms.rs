//! The rooms that a client wants to be in, and how far it is with each.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chatflow_core::RoomId;
use chatflow_core::protocol::{ErrorFrame, Op};
use tokio::time::Instant;

use crate::command::{JoinOptions, Joined, Reply};
use crate::{Backoff, Cursor, Error};

/// A room that the client wants to be in.
#[derive(Debug)]
pub(crate) struct Membership {
    options: JoinOptions,
    pub(crate) cursor: Cursor,
    state: State,
    waiting: Vec<Reply<Joined>>,
    refusals: u32,
}

#[derive(Debug)]
enum State {
    Outside,
    /// Asked on this connection, under this reference.
    Asked(String),
    Inside(Joined),
}

/// What became of a refusal.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is about no join.
    Unrelated(ErrorFrame),
    /// It will be tried again.
    Again,
    /// The client is not, and will not be, a member.
    Final { room: RoomId, error: ErrorFrame, told: bool },
}

#[derive(Debug, Default)]
pub(crate) struct Rooms {
    wanted: HashMap<RoomId, Membership>,
    /// Joins that were refused for now: when to ask again.
    timers: BTreeSet<(Instant, RoomId)>,
    leaving: HashMap<String, (RoomId, Reply<()>)>,
    asked: u64,
}

impl Rooms {
    pub(crate) fn want(&mut self, room: RoomId, options: JoinOptions) {
        let fresh = || Membership { options, cursor: Cursor::default(), state: State::Outside, waiting: Vec::new(), refusals: 0 };
        self.wanted.entry(room).or_insert_with(fresh);
    }

    /// The same with somebody who waits for it. `true`: the room is to be asked for.
    pub(crate) fn want_and_tell(&mut self, room: RoomId, options: JoinOptions, reply: Reply<Joined>) -> bool {
        self.want(room.clone(), options);
        let membership = self.wanted.get_mut(&room).expect("it was put there");
        match &membership.state {
            State::Inside(joined) => {
                let _ = reply.send(Ok(joined.clone()));
                return false;
            }
            State::Asked(_) => membership.waiting.push(reply),
            State::Outside => {
                membership.waiting.push(reply);
                return membership.refusals == 0;
            }
        }
        false
    }

    pub(crate) fn names(&self) -> Vec<RoomId> {
        self.wanted.keys().cloned().collect()
    }

    pub(crate) fn wants(&self, room: &RoomId) -> bool {
        self.wanted.contains_key(room)
    }

    pub(crate) fn is_inside(&self, room: &RoomId) -> bool {
        self.wanted.get(room).is_some_and(|m| matches!(m.state, State::Inside(_)))
    }

    pub(crate) fn all_inside(&self) -> bool {
        self.wanted.values().all(|m| matches!(m.state, State::Inside(_)))
    }

    /// The place in a room, as long as the client is inside: what comes sooner belongs to an earlier stay.
    pub(crate) fn cursor(&mut self, room: &str) -> Option<(RoomId, &mut Cursor)> {
        let room = RoomId::new(room).ok()?;
        let membership = self.wanted.get_mut(&room)?;
        matches!(membership.state, State::Inside(_)).then_some((room, &mut membership.cursor))
    }

    /// The operation that enters `room`: afresh as its options say, or after what was seen of it.
    pub(crate) fn ask(&mut self, room: &RoomId) -> Option<Op> {
        let membership = self.wanted.get_mut(room)?;
        self.asked += 1;
        let reference = format!("j{}", self.asked);
        membership.state = State::Asked(reference.clone());
        let (after, history) = match membership.cursor.resume_after() {
            Some(seen) => (Some(seen), None),
            None => (membership.options.after, membership.options.history),
        };
        let after = after.map(|position| position.to_string());
        Some(Op::Join { room_id: room.to_string(), after, history, reference: Some(reference) })
    }

    /// The server lets the client in. `None`: into a room that it has left in the meantime.
    pub(crate) fn entered(&mut self, room: &str, reference: Option<&str>, joined: Joined) -> Option<RoomId> {
        let room = RoomId::new(room).ok()?;
        let membership = self.wanted.get_mut(&room)?;
        if !matches!(&membership.state, State::Asked(asked) if reference.is_none_or(|r| r == asked)) {
            return None;
        }
        membership.cursor.welcome(joined.position, joined.recovered);
        membership.refusals = 0;
        for reply in membership.waiting.drain(..) {
            let _ = reply.send(Ok(joined.clone()));
        }
        membership.state = State::Inside(joined);
        Some(room)
    }

    /// The server refused something that may have been a join.
    pub(crate) fn refused(&mut self, error: ErrorFrame, backoff: Backoff) -> Refusal {
        let reference = error.reference.as_deref().unwrap_or_default();
        let found = self.wanted.iter_mut().find(|(_, m)| matches!(&m.state, State::Asked(asked) if asked == reference));
        let Some((room, membership)) = found else { return Refusal::Unrelated(error) };
        let room = room.clone();
        membership.state = State::Outside;
        if error.retryable {
            let asked = Duration::from_millis(error.retry_after_ms.unwrap_or(0));
            let again = Instant::now() + asked.saturating_add(backoff.delay(membership.refusals));
            membership.refusals = membership.refusals.saturating_add(1);
            self.timers.insert((again, room));
            return Refusal::Again;
        }
        let waiting = self.wanted.remove(&room).map(|m| m.waiting).unwrap_or_default();
        let told = !waiting.is_empty();
        for reply in waiting {
            let _ = reply.send(Err(error.clone().into()));
        }
        Refusal::Final { room, error, told }
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The rooms that are to be asked for again.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<RoomId> {
        let mut rooms = Vec::new();
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, room)) = self.timers.pop_first() else { break };
            if self.wanted.get(&room).is_some_and(|m| matches!(m.state, State::Outside)) {
                rooms.push(room);
            }
        }
        rooms
    }

    /// Forgets `room`. With the operation to send if the client is `connected` and may be inside.
    pub(crate) fn leave(&mut self, room: RoomId, reply: Reply<()>, connected: bool) -> Option<Op> {
        self.timers.retain(|(_, other)| *other != room);
        let membership = self.wanted.remove(&room);
        let on_server = membership.as_ref().is_some_and(|m| !matches!(m.state, State::Outside));
        for waiting in membership.into_iter().flat_map(|m| m.waiting) {
            let _ = waiting.send(Err(Error::NotJoined(room.to_string())));
        }
        if !connected || !on_server {
            let _ = reply.send(Ok(()));
            return None;
        }
        self.asked += 1;
        let reference = format!("l{}", self.asked);
        self.leaving.insert(reference.clone(), (room.clone(), reply));
        Some(Op::Leave { room_id: room.to_string(), reference: Some(reference) })
    }

    /// The server says that the client has left.
    pub(crate) fn left(&mut self, reference: Option<&str>) -> Option<RoomId> {
        let (room, reply) = self.leaving.remove(reference?)?;
        let _ = reply.send(Ok(()));
        Some(room)
    }

    /// The connection is gone, and with it the server's idea of who is inside.
    pub(crate) fn disconnected(&mut self) {
        self.timers.clear();
        for membership in self.wanted.values_mut() {
            membership.state = State::Outside;
            membership.refusals = 0;
        }
        for (_, (_, reply)) in self.leaving.drain() {
            let _ = reply.send(Ok(()));
        }
    }

    /// Ends all.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        self.disconnected();
        for (_, membership) in self.wanted.drain() {
            for reply in membership.waiting {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

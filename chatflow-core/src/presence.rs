//! Who is in which room, on all nodes that share a broker; tells members who comes and goes.
//!
//! Each node tells the others, in one log that all read anyway, of its own members: what changed, four times a second and only if
//! something did, and everything when somebody asks. A notice says which it is in the row, so whoever missed one knows, and asks.
//! There is nobody in the middle: a node that dies is silent, and after its lease the others forget its members.

mod elsewhere;
#[cfg(test)]
mod model;
mod news;
mod teller;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::time::Instant;

use self::elsewhere::{Bounds, Elsewhere, Untold, Wish};
use self::news::{RoomNews, Who};
use self::teller::Teller;
use crate::broker::{Broker, Completion, Receipt};
use crate::notice::{LOG, Notice};
use crate::protocol::{Dialect, Event, MemberInfo};
use crate::registry::{Changes, RoomRegistry, put_event};
use crate::{Error, NodeId, Position, RoomId, Timestamp};

pub(crate) use self::news::Told;

/// Members of other nodes that are kept by name: about 20 MB of them.
const BOUNDS: Bounds = Bounds { members: 100_000, rooms: 100_000 };
/// How long a notice is at most, where the broker takes it.
const PIECE: usize = 48 << 10;
/// What stands around the rooms in a notice.
const HEAD: usize = 512;

/// The members of all rooms.
pub(crate) struct Presence {
    registry: Arc<dyn RoomRegistry>,
    /// Rooms up to this many members tell them who comes and goes.
    most_told: usize,
    /// `None` where nobody else reads the log.
    others: Option<Others>,
}

/// The other nodes. Neither lock is held together with the other; both are taken before any of broker and registry.
struct Others {
    broker: Arc<dyn Broker>,
    me: NodeId,
    boot: u64,
    /// Held by the relay for a notice, by whoever asks for a room, and by the tick for a look.
    elsewhere: Mutex<Elsewhere>,
    /// Held by the tick, and once at the end.
    teller: Mutex<Teller>,
    /// Somebody does not know this node's members, or may not.
    wanted: Arc<AtomicBool>,
}

impl Presence {
    /// The members of `node`, whose name and boot tell it from others, and of those that share its broker, if any do.
    pub(crate) fn new(node: NodeId, broker: Arc<dyn Broker>, registry: Arc<dyn RoomRegistry>, most_told: usize) -> Self {
        let others = broker.profile().shared.then(|| {
            let boot = u64::try_from(Timestamp::now().0).unwrap_or_default();
            let most = broker.profile().largest_entry.min(PIECE).saturating_sub(HEAD);
            Others {
                broker,
                boot,
                elsewhere: Mutex::new(Elsewhere::new(BOUNDS)),
                teller: Mutex::new(Teller::new(node.clone(), boot, most)),
                wanted: Arc::default(),
                me: node,
            }
        });
        Self { registry, most_told, others }
    }

    /// A notice was read, of whichever node.
    pub(crate) fn heard(&self, told: Told) {
        let Some(others) = &self.others else { return };
        let now = Instant::now();
        if told.is_of(&others.me) {
            if told.boot() == others.boot {
                others.elsewhere.lock().heard_self(now);
            }
            return;
        }
        if others.elsewhere.lock().heard(told, &others.me, now) == Wish::TellAll {
            others.wanted.store(true, Relaxed);
        }
    }

    /// The log lost something: what others told, or what this node did.
    pub(crate) fn lost(&self) {
        if let Some(others) = &self.others {
            others.elsewhere.lock().lost();
            others.wanted.store(true, Relaxed);
        }
    }

    /// Four times a second: members are told who came and went, and so are the other nodes.
    pub(crate) fn tick(&self) {
        let changes = self.registry.changes();
        let Some(others) = &self.others else {
            return self.tell_members(&changes, HashMap::new());
        };
        let now = Instant::now();
        let (asks, untold) = {
            let mut elsewhere = others.elsewhere.lock();
            (elsewhere.tick(now), elsewhere.untold())
        };
        self.tell_members(&changes, untold);
        let mut teller = others.teller.lock();
        if others.wanted.swap(false, Relaxed) {
            teller.want_all();
        }
        teller.changed(changes.into_iter().map(RoomNews::from).collect());
        teller.turn(now, &*self.registry, asks, &mut |told| others.publish(told));
    }

    /// This node ends, and so do its members.
    pub(crate) fn end(&self) {
        if let Some(others) = &self.others {
            others.teller.lock().end(Instant::now(), &mut |told| others.publish(told));
        }
    }

    /// How many members a room has, on all nodes.
    pub(crate) fn count(&self, room: &RoomId) -> usize {
        self.registry.members(room).len() + self.elsewhere(|elsewhere| elsewhere.count(room))
    }

    /// Who they are, by session.
    pub(crate) fn members(&self, room: &RoomId) -> Vec<MemberInfo> {
        let mut members = self.registry.members(room);
        members.extend(self.elsewhere(|elsewhere| elsewhere.members(room)).into_iter().map(|member| (*member).clone()));
        members.sort_by(|a, b| a.session.cmp(&b.session));
        members
    }

    /// Rooms with members, after `after`: the first `limit`, and maybe more, with how many members each has.
    pub(crate) fn rooms(&self, after: Option<&RoomId>, limit: usize) -> BTreeMap<RoomId, usize> {
        let mut rooms = self.elsewhere(|elsewhere| elsewhere.rooms(after, limit));
        for (room, members) in self.registry.rooms() {
            if after.is_none_or(|after| room > *after) {
                *rooms.entry(room).or_default() += members;
            }
        }
        rooms
    }

    fn elsewhere<T: Default>(&self, look: impl FnOnce(&Elsewhere) -> T) -> T {
        self.others.as_ref().map(|others| look(&others.elsewhere.lock())).unwrap_or_default()
    }

    /// Tells members who came and went, here and elsewhere; who is new is told everybody.
    fn tell_members(&self, changes: &[Changes], mut untold: HashMap<RoomId, Untold>) {
        if self.most_told == 0 {
            return;
        }
        for changes in changes {
            let elsewhere = untold.remove(&changes.room).unwrap_or_default();
            self.tell_room(&changes.room, changes, elsewhere);
        }
        for (room, elsewhere) in untold {
            self.tell_room(&room, &Changes::none(room.clone()), elsewhere);
        }
    }

    fn tell_room(&self, room: &RoomId, changes: &Changes, elsewhere: Untold) {
        let others = self.elsewhere(|elsewhere| elsewhere.count(room));
        // Nobody, or more than are told.
        let Some(here) = self.registry.roster(room, self.most_told.saturating_sub(others)) else { return };
        let event = |joined: Vec<MemberInfo>, left| Event::Presence { room_id: room.to_string(), count: here.len() + others, joined, left };
        let mut joined: Vec<_> = changes.joined.iter().map(|member| member.who()).collect();
        let mut left = changes.left.clone();
        for (session, member) in elsewhere {
            match member {
                Some(member) => joined.push((*member).clone()),
                None => left.push(session),
            }
        }
        let news = event(joined, left);
        let mut all = None;
        for member in here.iter().filter(|member| member.dialect == Dialect::V1) {
            let event = match member.greet() {
                true => all.get_or_insert_with(|| {
                    let elsewhere = self.elsewhere(|elsewhere| elsewhere.members(room));
                    let here = here.iter().map(|member| member.who());
                    event(here.chain(elsewhere.iter().map(|member| (**member).clone())).collect(), Vec::new())
                }),
                false => &news,
            };
            member.outlet.push_text(|out| put_event(out, event));
        }
    }
}

impl Others {
    fn publish(&self, told: Told) -> bool {
        let receipt = if told.counts() { Receipt::new(Box::new(Missed(Arc::clone(&self.wanted)))) } else { Receipt::ignored() };
        Notice::Members(told).publish(&*self.broker, LOG, receipt)
    }
}

impl From<Changes> for RoomNews {
    fn from(Changes { room, count, joined, left }: Changes) -> Self {
        let joined = joined.iter().map(|member| Who::from(member.who())).collect();
        Self { room, count, left, joined }
    }
}

/// Has everything told anew when what was told did not reach the log.
struct Missed(Arc<AtomicBool>);

impl Completion for Missed {
    fn accepted(self: Box<Self>, _position: Option<Position>) {}

    fn failed(self: Box<Self>, _error: Error) {
        self.0.store(true, Relaxed);
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presence").field("shared", &self.others.is_some()).finish_non_exhaustive()
    }
}

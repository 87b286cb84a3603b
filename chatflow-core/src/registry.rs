//! Who is in which room on this node, and what they are sent.

mod fanout;
mod helping;
mod local;
mod log;
mod member;
mod outlet;
mod room;

use std::fmt::Debug;
use std::sync::Arc;

use bytes::BytesMut;
use serde::Serialize;

use crate::broker::Delivered;
use crate::protocol::MemberInfo;
use crate::{LogId, Position, RoomId};

pub use fanout::Fanout;
pub use local::LocalRegistry;
pub use member::Member;
pub use outlet::Outlet;
pub(crate) use room::put_event;

/// Where a member starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the next message.
    Present,
    /// With the first message after this position.
    After(Position),
    /// With the last so many that are in memory.
    Last(usize),
    /// Never: it only publishes.
    Never,
}

/// Why a member can't start where it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotThere {
    /// What follows that position is not all in memory: read the past first, up to `memory` at least.
    Behind {
        /// Everything after this position is in memory.
        memory: Position,
        /// The node has seen the room's log up to here.
        progress: Position,
    },
    /// The node has not seen that position yet.
    Ahead {
        /// The node has seen the room's log up to here.
        progress: Position,
    },
}

/// Makes the frame of an entry, once for all members.
pub trait Encoder {
    /// Appends the frame to `out` and says which session of this node sent the message (0: none).
    /// `None`: the entry is no message, and nothing was appended.
    fn encode(&self, entry: &Delivered, out: &mut BytesMut) -> Option<u64>;
}

/// What a registry counts: counters only grow, gauges are of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct RegistryStats {
    /// Rooms with members now.
    pub rooms: u64,
    /// Members now, over all rooms.
    pub members: u64,
    /// Bytes of frames in memory now.
    pub recent_bytes: u64,
    /// Messages that were given to rooms of this node.
    pub broadcasts: u64,
    /// Broadcast frames written to members.
    pub deliveries: u64,
    /// Members that were too slow.
    pub slow: u64,
}

/// What became of one room's members.
#[derive(Debug)]
#[non_exhaustive]
pub struct Changes {
    /// The room.
    pub room: RoomId,
    /// How many members it has now.
    pub count: usize,
    /// Who came or changed name, and is still there.
    pub joined: Vec<Arc<Member>>,
    /// Sessions that went, before the others came.
    pub left: Vec<String>,
}

impl Changes {
    /// A room in which nothing changed.
    pub fn none(room: RoomId) -> Self {
        Self { room, count: 0, joined: Vec::new(), left: Vec::new() }
    }
}

/// How short of memory a registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is room.
    None,
    /// Publishers should be refused. What was taken from them by now still fits.
    High,
    /// [`advance`](RoomRegistry::advance) should wait.
    Full,
}

/// The rooms of one node: their members, and the frames that are on their way to them.
///
/// # Guarantees
/// 1. It never waits: not for a member, not for a socket. A slow member costs the others nothing.
/// 2. **Order.** A member gets a room's frames in the order of `advance`, each once, from where it started.
/// 3. **Seams.** After `join` with [`Start::After`] succeeded, everything after that position follows; when it
///    can't, [`NotThere`] says what is missing; the member is parked until it joins or leaves: what the room has
///    stays, within the bounds of guarantee 4.
/// 4. **Bounds.** What waits for a member whose socket is full is bounded; the slow-member policy says what happens beyond.
///    A member whose socket takes what it is given is never cut off, however much there is to give.
/// 5. **Fairness.** Rooms with news are served in turn, and a turn is bounded.
/// 6. **Memory.** What it holds beyond its budget goes once members have been given it and the history has it, whether or not more
///    comes: the [`pressure`](Self::pressure) falls again.
pub trait RoomRegistry: Debug + Send + Sync + 'static {
    /// The node stands at `progress` in `log`: nothing before it will come. If that is not where it stood before, members
    /// of the log's rooms are told to come back (1012).
    fn begin(&self, log: LogId, progress: Position);

    /// The next stretch of `log`: `entries` to be shown, in order, the last at most at `through`, up to which the node has
    /// seen the log. Up to `watermark` the history has it ([`Position::MAX`] without a history).
    fn advance(
        &self,
        log: LogId,
        entries: &mut dyn Iterator<Item = Delivered>,
        through: Position,
        watermark: Position,
        encoder: &dyn Encoder,
    );

    /// How far the node has seen `log`.
    fn progress(&self, log: LogId) -> Position;

    /// Makes `member` a member of its room. `joined` is called with the position after which its frames begin, before the
    /// first of them is sent; it must be quick and not call the registry.
    ///
    /// # Errors
    /// [`NotThere`]: it was parked, not joined.
    fn join(&self, member: &Arc<Member>, start: Start, encoder: &dyn Encoder, joined: &mut dyn FnMut(Position)) -> Result<(), NotThere>;

    /// Ends a membership; its frames stop. Leaving twice is leaving once.
    fn leave(&self, member: &Arc<Member>);

    /// A member's [`MemberInfo`] changed.
    fn renamed(&self, member: &Arc<Member>);

    /// Who is in a room.
    fn members(&self, room: &RoomId) -> Vec<MemberInfo>;

    /// The same as members, to be told something; `None` when there are more than `most`, or nobody.
    fn roster(&self, room: &RoomId, most: usize) -> Option<Vec<Arc<Member>>>;

    /// Rooms with members, and how many each has.
    fn rooms(&self) -> Vec<(RoomId, usize)>;

    /// Who came, changed name or went since this was called before. Called four times a second.
    fn changes(&self) -> Vec<Changes>;

    /// How much it holds of what members were not given yet, or the history does not have.
    fn pressure(&self) -> Pressure;

    /// Counters and gauges.
    fn stats(&self) -> RegistryStats;

    /// The queue that this registry's members stand in when they have something to be written.
    fn fanout(&self) -> &Arc<Fanout>;

    /// Called four times a second: when memory is short, empty rooms are let go, and the others let go of what the history has by now.
    fn tick(&self);
}

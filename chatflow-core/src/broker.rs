//! Where messages get their order: logs that every node reads alike.

pub mod memory;
#[cfg(any(test, feature = "redis", feature = "rabbitmq", feature = "sqs"))]
mod outbox;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqs")]
pub mod sqs;

use std::fmt::{self, Debug};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{Error, Message, MessageId, NodeId, Position, Result, RoomId};

/// One of a broker's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub u16);

impl LogId {
    /// The log that `room` lives in when there are `logs` of them: a hash of its name, the same everywhere for good.
    pub fn of(room: &str, logs: u16) -> Self {
        let hash = twox_hash::XxHash3_64::oneshot(room.as_bytes());
        Self((hash % u64::from(logs.max(1))) as u16)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a broker promises to hold on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Entries are gone with the process; nothing is safe before the store has it.
    Volatile,
    /// An entry whose receipt was accepted survives the broker's own restart.
    Durable,
}

/// What a broker is, fixed for its lifetime.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Profile {
    /// The backend's name, as in `--broker`.
    pub name: &'static str,
    /// How many logs there are; rooms are spread over them by hash.
    pub logs: u16,
    /// What an accepted receipt means.
    pub durability: Durability,
    /// The largest entry in bytes.
    pub largest_entry: usize,
    /// Whether a reader can start at any entry that was not trimmed; else only at the present.
    pub rewinds: bool,
    /// Whether other nodes publish into the same logs.
    pub shared: bool,
    /// How many settled entries of each log stay readable, at least. Default: all.
    pub retains: u64,
}

impl Profile {
    /// A broker of that name and number of logs: volatile, rewinding, this node's alone, entries up to 1 MiB.
    pub fn new(name: &'static str, logs: u16) -> Self {
        Self { name, logs, durability: Durability::Volatile, largest_entry: 1 << 20, rewinds: true, shared: false, retains: u64::MAX }
    }

    /// The same, holding entries durably.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durability = Durability::Durable;
        self
    }

    /// The same, shared by several nodes.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// The log of `room`.
    pub fn log_of(&self, room: &RoomId) -> LogId {
        LogId::of(room.as_str(), self.logs)
    }
}

/// What is submitted: an encoded [`Message`] and what a backend may want to know of it without decoding.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The log it goes into.
    pub log: LogId,
    /// The message's room.
    pub room: RoomId,
    /// The message's id.
    pub id: MessageId,
    /// The message's digest.
    pub digest: u64,
    /// The [encoded](Message::encode) message.
    pub bytes: Bytes,
}

impl Entry {
    /// The entry that carries `message`.
    pub fn new(log: LogId, message: &Message) -> Self {
        let (room, id, digest) = (message.room.clone(), message.id, message.digest);
        Self { log, room, id, digest, bytes: message.encode() }
    }
}

/// Told once what became of a submitted entry.
pub trait Completion: Send {
    /// The broker holds the entry, as durably as its [`Profile`] says; its position, if the broker knows it by now. A volatile
    /// broker knows it, a durable one need not: where an entry stands is learned when it comes back to the node's own reader.
    fn accepted(self: Box<Self>, position: Option<Position>);
    /// The broker does not hold the entry, or can't tell: submit it again under the same id.
    fn failed(self: Box<Self>, error: Error);
}

/// The sender's claim on a submitted entry. Exactly one of its two ends is told; a dropped receipt fails.
pub struct Receipt(Option<Box<dyn Completion>>);

impl Receipt {
    /// A receipt that tells `completion`.
    pub fn new(completion: Box<dyn Completion>) -> Self {
        Self(Some(completion))
    }

    /// A receipt that nobody waits for.
    pub fn ignored() -> Self {
        Self(None)
    }

    /// See [`Completion::accepted`].
    pub fn accepted(mut self, position: Option<Position>) {
        if let Some(completion) = self.0.take() {
            completion.accepted(position);
        }
    }

    /// See [`Completion::failed`].
    pub fn failed(mut self, error: Error) {
        if let Some(completion) = self.0.take() {
            completion.failed(error);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(completion) = self.0.take() {
            completion.failed(Error::new(crate::ErrorKind::Unavailable, "broker", "the outcome is not known"));
        }
    }
}

impl Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

/// The broker did not take an entry, and says so at once. The receipt comes back untold.
#[derive(Debug)]
pub struct Refused {
    /// Why, and whether trying again may help.
    pub error: Error,
    /// The receipt of the entry that was refused.
    pub receipt: Receipt,
}

/// Who reads a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reader {
    /// A node, to broadcast. The log forgets it when the stream is dropped.
    Node,
    /// The history's writer. What it has not settled is not trimmed.
    History,
}

/// Where a reader starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// After this entry.
    After(Position),
    /// With the next entry to come.
    Present,
    /// With the oldest entry that the log still has.
    Oldest,
    /// With the last so many entries that the log still has, or with all of them if there are fewer. A broker that can't
    /// [rewind](Profile::rewinds) has none: the present.
    Last(u64),
}

impl From {
    /// Where a reader stands in a log that holds what follows `oldest`, up to `tail`, and the events that it is told first. `oldest`
    /// and `tail` are of one epoch, with an offset for each entry between them; a log that holds nothing has both in the same place.
    pub fn attach(self, oldest: Position, tail: Position) -> (Position, Vec<Event>) {
        let (at, lost) = match self {
            Self::Present => (tail, None),
            Self::Oldest => (oldest, None),
            Self::Last(n) => (Position::new(tail.epoch, tail.offset.saturating_sub(n.into()).max(oldest.offset)), None),
            Self::After(last) if (oldest..=tail).contains(&last) => (last, None),
            Self::After(last) => (oldest, Some(Event::Lost { last, epoch: oldest.epoch })),
        };
        (at, lost.into_iter().chain([Event::Attached(at)]).collect())
    }
}

/// An entry that came back from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Its place.
    pub position: Position,
    /// The [encoded](Message::encode) message.
    pub bytes: Bytes,
}

/// What a reader is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// First of all: the reader stands after this position, and everything later follows.
    Attached(Position),
    /// The next entries, in order, never empty.
    Batch(Vec<Delivered>),
    /// Entries after `last` can't be had any more. [`Attached`](Self::Attached) comes next and says where reading goes on: in
    /// `epoch`, or after a hole.
    Lost {
        /// The last position that was delivered before the loss.
        last: Position,
        /// The epoch of what follows.
        epoch: u64,
    },
}

/// A log's and a broker's state, for `/queue`, `/ready` and metrics.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// Whether entries are taken just now.
    pub healthy: bool,
    /// What is wrong, or how durably the broker is really set up.
    pub detail: String,
    /// For each log, how many entries the history has not settled.
    pub depths: Vec<u64>,
}

impl Status {
    /// A state; brokers make them.
    pub fn new(healthy: bool, detail: impl Into<String>, depths: Vec<u64>) -> Self {
        Self { healthy, detail: detail.into(), depths }
    }
}

/// Who opens a broker, and what they know.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Opening {
    /// The latest epoch that the history knows; 0 without one.
    pub floor: u64,
    /// The same for each log, where that is known: a log that is in its own latest epoch is whole, however far others have come.
    pub floors: Vec<u64>,
    /// The node, unique among those that share the broker.
    pub node: NodeId,
    /// The [identity](crate::MessageStore::identity) of the history that this node writes. What a history has not settled is kept for
    /// it, whichever node writes it next. `None`: this node keeps none.
    pub history: Option<String>,
}

impl Opening {
    /// A node without a history, before any epoch.
    pub fn new(node: impl Into<NodeId>) -> Self {
        Self { floor: 0, floors: Vec::new(), node: node.into(), history: None }
    }

    /// The same, writing the history called `identity`, whose latest epoch is `floor`.
    #[must_use]
    pub fn with_history(mut self, identity: impl Into<String>, floor: u64) -> Self {
        (self.history, self.floor) = (Some(identity.into()), floor);
        self
    }

    /// The same, knowing the latest epoch of each log.
    #[must_use]
    pub fn with_floors(mut self, floors: Vec<u64>) -> Self {
        self.floors = floors;
        self
    }

    /// The latest epoch of `log` that the history knows.
    pub fn floor_of(&self, log: LogId) -> u64 {
        self.floors.get(usize::from(log.0)).copied().unwrap_or(self.floor)
    }
}

/// An ordered set of logs.
///
/// A room lives in one log, so its order is the log's order, the same for everybody who reads it.
///
/// # Guarantees
/// The conformance suite's cases cite these numbers.
/// 1. **Order.** The order of `submit` calls that return `Ok` on one log from one task is the order of their entries.
///    Every reader of a log gets the same entries at the same positions, and positions only grow.
/// 2. **Reach.** Every entry whose receipt was accepted reaches every reader that is attached, and each that attaches
///    at an earlier position, or the reader gets [`Event::Lost`].
/// 3. **Accepted is held.** A receipt is accepted once the entry is held as [`Profile::durability`] says, never before.
/// 4. **A receipt is told once**: accepted or failed. Failed may still mean that the entry is in the log: the id tells.
/// 5. **Bounds.** `submit` never waits. What can't be taken is refused at once, with an error that says if it may
///    succeed later. Unsettled entries are never dropped to make room.
/// 6. **Settling.** Entries after the position that a history settled last stay readable for its [`Reader::History`], across
///    restarts of the reader and, where the broker is durable, of node and broker.
/// 7. **Epochs.** A position is given to one entry for good. A log that was lost, cut or wound back goes on in a greater epoch,
///    greater than any `floor` that it was opened with; a reader whose last position is not in the log any more is told
///    [`Event::Lost`], then where it goes on.
/// 8. **Recovery.** While the backend is away, `submit` is refused at once and streams wait; once it is back they go on where
///    they were within five seconds, by themselves.
/// 9. **Close.** After `close`, `submit` is refused with [`ErrorKind::Closed`](crate::ErrorKind::Closed). Streams give what they
///    have not given yet and end, without an error; they end for no other reason. A new `read` fails with the same kind or ends.
#[async_trait]
pub trait Broker: Debug + Send + Sync + 'static {
    /// What this broker is. Does not change once `open` has returned.
    fn profile(&self) -> &Profile;

    /// Called once before anything else: makes at the backend what is missing there.
    ///
    /// # Errors
    /// The backend can't be reached, does not let us in, or is set up in a way that breaks the guarantees
    /// ([`ErrorKind::Config`](crate::ErrorKind::Config)), another number of logs included.
    async fn open(&self, opening: &Opening) -> Result<()>;

    /// Puts an entry into its log. Never waits; the receipt is told later, or within the call.
    ///
    /// # Errors
    /// [`Refused`]: now or for good, as its error says.
    fn submit(&self, entry: Entry, receipt: Receipt) -> Result<(), Refused>;

    /// Reads one log from `from` on. The first event is [`Event::Attached`], or [`Event::Lost`] and then it when `from` is gone.
    ///
    /// What a stream has read and its reader has not taken is bounded; a reader that stands still holds up nobody else, and may be
    /// told that it lost something.
    ///
    /// # Cancel safety
    /// Dropping the stream loses nothing: read again after the last position.
    ///
    /// # Errors
    /// The log can't be read just now. An error in the stream ends it.
    async fn read(&self, log: LogId, reader: Reader, from: From) -> Result<BoxStream<'static, Result<Event>>>;

    /// This node's history holds everything through `through`: for its part, that may be trimmed. Where no node has a history,
    /// nodes settle what they have read.
    ///
    /// # Errors
    /// The backend did not answer; settle a later position instead.
    async fn settle(&self, log: LogId, through: Position) -> Result<()>;

    /// Health and depths. Answers within a second, from what it knows.
    async fn status(&self) -> Status;

    /// Ends it: see guarantee 9.
    ///
    /// # Errors
    /// What was submitted may not have reached the backend.
    async fn close(&self) -> Result<()>;
}

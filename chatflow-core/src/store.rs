//! The history: what was said, for good.

pub(crate) mod batch;
mod dead_letters;
mod exclusive;
mod memory;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod projections;
mod retention;
mod shared;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod sql;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod summary;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod times;

pub use dead_letters::{FileDeadLetters, MemoryDeadLetters};
pub use memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use mysql::MySqlStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
pub use projections::{Projections, SUMMARIES};
pub use retention::Retention;
pub use shared::{Mark, SharedStore};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use sql::DatabaseConfig;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteAccounts, SqliteConfig, SqliteStore};

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::accounts::Accounts;
use crate::broker::Durability;
use crate::{Analytics, LogId, Message, MessageId, NodeId, Position, Result, RoomId, Timestamp};

/// The most messages that one page holds.
pub const LARGEST_PAGE: usize = 1_000;

/// A message with its place: what a store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it stands in its room's log.
    pub position: Position,
    /// The message.
    pub message: Message,
}

/// The right to take one log into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The log.
    pub log: LogId,
    /// Grows with each claim; a commit under an older one is [`Fenced`](crate::ErrorKind::Fenced).
    pub generation: u64,
    /// How far the log is in the store, as the holder knows it: go on after this. A commit under a lease that is further than
    /// the store is [`Fenced`](crate::ErrorKind::Fenced).
    pub through: Position,
}

impl Lease {
    /// A lease; stores make them.
    pub fn new(log: LogId, generation: u64, through: Position) -> Self {
        Self { log, generation, through }
    }

    /// The same lease once the log is in the store up to `through`.
    #[must_use]
    pub fn at(&self, through: Position) -> Self {
        Self { through: self.through.max(through), ..self.clone() }
    }
}

/// Why a committed entry did not become a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exception {
    /// The history has this message already, at `first`: same id, room and digest.
    Repeat {
        /// Where the first copy stands.
        first: Position,
    },
    /// The history has another message of this id, at `first`.
    Conflict {
        /// Where the other message stands.
        first: Position,
    },
}

impl Exception {
    /// What `message` is when its id has a row in `room` at `first` already: a digest leaves the room out, so both count.
    pub(crate) fn of(message: &Message, first: Position, room: &str, digest: u64) -> Self {
        if message.digest == digest && message.room.as_str() == room { Self::Repeat { first } } else { Self::Conflict { first } }
    }
}

/// Where the history has a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Located {
    /// Its place in its room's log.
    pub position: Position,
    /// Its room.
    pub room: RoomId,
    /// Its digest.
    pub digest: u64,
}

impl Located {
    /// A place; stores make them.
    pub fn new(position: Position, room: RoomId, digest: u64) -> Self {
        Self { position, room, digest }
    }
}

/// One page of a room's history to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PageQuery {
    /// Only later than this position.
    pub after: Option<Position>,
    /// Only earlier than this position.
    pub before: Option<Position>,
    /// Only accepted at this time or later.
    pub start: Option<Timestamp>,
    /// Only accepted earlier than this time.
    pub end: Option<Timestamp>,
    /// At most so many, 1 to [`LARGEST_PAGE`].
    pub limit: usize,
    /// Which end of the range to take when there are more: the newest, or the oldest.
    pub newest: bool,
}

impl PageQuery {
    /// The oldest `limit` messages after `position`.
    pub fn after(position: Position, limit: usize) -> Self {
        Self { after: Some(position), before: None, start: None, end: None, limit, newest: false }
    }

    /// The newest `limit` messages.
    pub fn latest(limit: usize) -> Self {
        Self { after: None, before: None, start: None, end: None, limit, newest: true }
    }
}

/// A page of history, in log order whichever end it was taken from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Page {
    /// The messages, oldest first.
    pub messages: Vec<Stored>,
    /// Whether the range holds more, beyond the end that was not taken.
    pub more: bool,
    /// The log's watermark in the same snapshot: up to here nothing is missing from what the range holds.
    pub through: Position,
    /// Where this history begins, for the room: what was said at or before this position may not be here. Whoever has seen
    /// everything up to here, and reads on from here, misses nothing.
    pub since: Position,
}

impl Page {
    /// A page; stores make them.
    pub fn new(messages: Vec<Stored>, more: bool, through: Position, since: Position) -> Self {
        Self { messages, more, through, since }
    }
}

/// A room that has messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RoomSummary {
    /// Its name.
    pub room: RoomId,
    /// When its last message was accepted.
    pub last: Timestamp,
}

impl RoomSummary {
    /// A summary; stores make them.
    pub fn new(room: RoomId, last: Timestamp) -> Self {
        Self { room, last }
    }
}

/// A store's state, for `/ready` and metrics.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct StoreStatus {
    /// Whether it can be read and written.
    pub healthy: bool,
    /// What is wrong, or how it is set up.
    pub detail: String,
}

/// Keeps what was said: leases, commits with their cursor, and pages of history.
///
/// # Guarantees
/// The conformance suite's cases cite these numbers.
/// 1. **One writer.** A log has one valid lease; a claim fences all earlier ones, and a fenced commit writes nothing. A store that
///    nodes share refuses a claim while another holder's lease has not run out; commits and renewals let it run for as long again.
/// 2. **Batch and cursor are one.** A commit's rows and its `through` become visible and durable together, or not at all.
///    The cursor never goes back, and no row appears behind it, where readers have been. A commit under a lease whose `through`
///    the store has not reached is fenced: what it follows was not written, or is lost, and it must not leave a hole.
/// 3. **Exactly one row for an id.** A second entry of an id is reported as an [`Exception`]; the first row stays.
///    Committing the same batch again, after an answer was lost, is reported as repeats *at their own position*
///    (`first` is the entry's position) and changes nothing.
/// 4. **Durable.** Where `durability` says so, a commit that returned survives the crash of this process, and of the machine where the backend's page
///    in the guarantees says so.
/// 5. **Order.** Pages are in position order, ties cannot happen, and no page holds anything past its `through`.
/// 6. **Readers and writers** do not wait for each other: pages are read while commits fail, and the reverse.
/// 7. **Beginning.** `since` of a page never goes back, and reading on from a position at or after it misses nothing. A log
///    begins in the epoch of its first commit, and again where it was [skipped](Self::skip) to.
/// 8. **Bounds.** A page holds at most [`LARGEST_PAGE`] messages.
#[async_trait]
pub trait MessageStore: Debug + Send + Sync + 'static {
    /// Names this history, the same for everybody who uses it.
    fn identity(&self) -> &str;

    /// What a commit that returned survives: this process, or nothing.
    fn durability(&self) -> Durability;

    /// How many commits of one log may be under way at once, at least 1: more than one where they only queue up, so that what
    /// comes meanwhile need not wait for an answer. Each says in its lease what it follows (guarantee 2).
    fn commits_under_way(&self) -> usize {
        1
    }

    /// This store as one that other nodes may write, if it is one.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }

    /// This store as one that can be asked about users and numbers, if it is one.
    fn analytics(&self) -> Option<&dyn Analytics> {
        None
    }

    /// This store as one from which old messages can be removed, if it is one.
    fn retention(&self) -> Option<&dyn Retention> {
        None
    }

    /// The accounts that this store keeps, if it keeps any.
    fn accounts(&self) -> Option<&dyn Accounts> {
        None
    }

    /// Dead letters in this store, where all who use it see them, if it keeps any.
    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        None
    }

    /// This store as one whose summaries are counted after the commits, if it has any.
    fn projections(&self) -> Option<&dyn Projections> {
        None
    }

    /// The latest epoch of any position that was ever committed or claimed through; 0 when there is none.
    ///
    /// # Errors
    /// The store can't be read.
    async fn last_epoch(&self) -> Result<u64>;

    /// Takes the lease of `log` for `holder`, fencing whoever held it before.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) while another holder's lease has not run out.
    async fn claim(&self, log: LogId, holder: &NodeId) -> Result<Lease>;

    /// Keeps the lease from running out.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) when somebody else has it by now.
    async fn renew(&self, lease: &Lease) -> Result<()>;

    /// Gives the lease back at once.
    ///
    /// # Errors
    /// It runs out by itself then.
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Writes `batch`, in position order, and moves the log's watermark to `through` (which may be past the last entry,
    /// but not before it), in one transaction. Answers with the index and reason of each entry that did not become a row.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have committed; commit the same batch again (guarantee 3).
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced); [`Invalid`](crate::ErrorKind::Invalid) when a row can never be written, one that
    /// is not in the history and stands behind the watermark included (the caller finds out which by halving the batch);
    /// transient kinds otherwise. Nothing was written.
    async fn commit(&self, lease: &Lease, batch: &[Stored], through: Position) -> Result<Vec<(usize, Exception)>>;

    /// Says that nothing between the log's watermark and `to` will ever come: the watermark moves there, and with it where the
    /// history of the log's rooms begins, so that nobody is told that they missed nothing.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit).
    async fn skip(&self, lease: &Lease, to: Position) -> Result<()>;

    /// How far `log` is in the store; [`Position::ZERO`] when nothing is.
    ///
    /// # Errors
    /// The store can't be read.
    async fn watermark(&self, log: LogId) -> Result<Position>;

    /// Where the messages of these ids stand, each answer in its id's place; `None` for an id without a row. At most
    /// [`LARGEST_PAGE`] ids.
    ///
    /// # Errors
    /// The store can't be read.
    async fn locate(&self, ids: &[MessageId]) -> Result<Vec<Option<Located>>>;

    /// A page of `room`'s history, which lives in `log`.
    ///
    /// # Errors
    /// The store can't be read.
    async fn page(&self, log: LogId, room: &RoomId, query: &PageQuery) -> Result<Page>;

    /// Rooms that have messages, by name, after `after`, at most `limit`.
    ///
    /// # Errors
    /// The store can't be read.
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomSummary>>;

    /// Health. Answers within a second.
    async fn status(&self) -> StoreStatus;

    /// Writes what is pending and closes. Later calls fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// # Errors
    /// The backend refused.
    async fn close(&self) -> Result<()>;
}

/// An entry that was acknowledged and can't be written: kept for a person to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The log that it came from. Two logs may hold different messages at one position, so it takes both to name a letter.
    pub log: LogId,
    /// Its position in that log.
    pub position: Position,
    /// The message's id; nil when the entry could not be decoded.
    pub id: MessageId,
    /// The room; `None` when the entry could not be decoded.
    pub room: Option<RoomId>,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// The [encoded](Message::encode) message, or whatever the entry held.
    #[serde(with = "hex_bytes")]
    pub entry: bytes::Bytes,
}

impl DeadLetter {
    /// What names it among all letters.
    pub fn place(&self) -> (LogId, Position) {
        (self.log, self.position)
    }
}

/// Keeps dead letters, elsewhere than in the store that refused them.
///
/// # Guarantees
/// The conformance suite's cases cite these numbers.
/// 1. **Durable.** A `put` that returned survives a crash, where the implementation is one that can.
/// 2. **Once.** Putting a letter of the same [place](DeadLetter::place) again changes nothing: the first one stays.
/// 3. **Order.** Letters are listed by log, then position.
/// 4. **Discarded for good.** A letter whose `discard` returned `true` is gone; put again, it is a new one.
#[async_trait]
pub trait DeadLetters: Debug + Send + Sync + 'static {
    /// Keeps `letters`.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have kept them; put them again (guarantee 2).
    ///
    /// # Errors
    /// They could not be kept, or not all; the caller must not go past them.
    async fn put(&self, letters: &[DeadLetter]) -> Result<()>;

    /// Letters whose place is after `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// They can't be read.
    async fn list(&self, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>>;

    /// Forgets the letter at `position` of `log`; `false` when there is none.
    ///
    /// # Errors
    /// It could not be forgotten.
    async fn discard(&self, log: LogId, position: Position) -> Result<bool>;
}

pub(crate) mod hex_bytes {
    //! Bytes as lower-case hexadecimal text.

    use std::borrow::Cow;

    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{bytes:x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
        let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
        text.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>().map(Bytes::from).ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

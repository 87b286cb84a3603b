//! What a node needs to know of the logs that other nodes write.

use async_trait::async_trait;

use super::MessageStore;
use crate::{LogId, MessageId, Position, Result, RoomId};

/// How far a log is in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mark {
    /// The log.
    pub log: LogId,
    /// Its watermark.
    pub through: Position,
    /// Where its history begins: see [`Page::since`](super::Page::since).
    pub since: Position,
}

impl Mark {
    /// A mark; stores make them.
    pub fn new(log: LogId, through: Position, since: Position) -> Self {
        Self { log, through, since }
    }
}

/// Where the row of an id stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The id.
    pub id: MessageId,
    /// The row's room.
    pub room: RoomId,
    /// The row's place in the room's log.
    pub position: Position,
    /// The row's digest.
    pub digest: u64,
}

impl Found {
    /// What was found; stores make them.
    pub fn new(id: MessageId, room: RoomId, position: Position, digest: u64) -> Self {
        Self { id, room, position, digest }
    }
}

/// A [`MessageStore`] that several nodes write, each log by one of them at a time.
///
/// # Guarantees
/// 9. **What is marked is found.** Neither call looks at a copy that lags: what a commit that returned, on any node, has
///    written is seen, and a row at or before a mark's `through` is found by every later call.
#[async_trait]
pub trait SharedStore: MessageStore {
    /// Every log that was ever claimed, all as of one moment.
    ///
    /// # Errors
    /// The store can't be read.
    async fn marks(&self) -> Result<Vec<Mark>>;

    /// The rows of these ids, in any order; nothing for an id that has none.
    ///
    /// # Errors
    /// The store can't be read.
    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Found>>;
}

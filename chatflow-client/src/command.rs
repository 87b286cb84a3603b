//! What a client's handle asks of its connection.

use std::time::Duration;

use chatflow_core::{MessageId, Position, RoomId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{Error, Published};

/// How to enter a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JoinOptions {
    /// Resume after this position: everything later comes first. A program that keeps the position of the last
    /// message it has seen goes on there after a restart of its own.
    pub after: Option<Position>,
    /// The last so many messages first. The server bounds it (1,000 unless set otherwise).
    pub history: Option<usize>,
}

/// A room was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// Its messages follow this position.
    pub position: Option<Position>,
    /// Whether everything after [`JoinOptions::after`] follows; true when none was asked.
    pub recovered: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// The way an answer comes back to a caller.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A message to publish.
#[derive(Debug)]
pub(crate) struct Publish {
    /// Counts up in the order of calls; `p<number>` is the frame's `ref`.
    pub(crate) number: u64,
    pub(crate) id: MessageId,
    pub(crate) room: RoomId,
    pub(crate) frame: Utf8Bytes,
    pub(crate) deadline: Instant,
    pub(crate) within: Duration,
    pub(crate) reply: Reply<Published>,
    /// Held as long as the message waits for its answer: this is what bounds those in flight.
    pub(crate) permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(crate) enum Command {
    Publish(Publish),
    Join { room: RoomId, options: JoinOptions, reply: Reply<Joined> },
    Leave { room: RoomId, reply: Reply<()> },
    Close,
}

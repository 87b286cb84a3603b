//! What a node needs to know of the logs that other nodes write.

use std::time::Duration;

use async_trait::async_trait;

use super::MessageStore;
use crate::{LogId, Position, Result};

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

/// A [`MessageStore`] that several nodes write, each log by one of them at a time.
///
/// # Guarantees
/// 9. **What is marked is found.** Neither [`marks`](Self::marks) nor [`watermark`](MessageStore::watermark) nor
///    [`locate`](MessageStore::locate) looks at a copy that lags: what a commit that returned, on any node, has written is seen, and
///    a row at or before a mark's `through` is located by every later call.
#[async_trait]
pub trait SharedStore: MessageStore {
    /// How long a node that is not heard of keeps its logs.
    fn lease(&self) -> Duration;

    /// Every log that was ever claimed, all as of one moment.
    ///
    /// # Errors
    /// The store can't be read.
    async fn marks(&self) -> Result<Vec<Mark>>;
}

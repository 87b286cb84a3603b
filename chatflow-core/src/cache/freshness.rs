//! How far logs are, asked once for all who want to know.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::Mutex;

use super::logs::Logs;
use crate::store::Mark;
use crate::{LogId, MessageStore, Position, Result};

/// Watermarks, each by a look that began after it was asked for.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// All logs of a store that nodes share, in one question: an answer is a way over the network, however much is in it.
    marks: Looks<Vec<Mark>>,
    /// Each log of any other store.
    logs: Logs<Looks<Position>>,
}

impl Freshness {
    /// The watermark of `log`: everything that was committed when this was called is at or before it.
    ///
    /// # Cancel safety
    /// A dropped look is made by the next one who waits.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn watermark(&self, store: &dyn MessageStore, log: LogId) -> Result<Position> {
        match store.shared() {
            Some(shared) => {
                let of = |marks: &Vec<Mark>| marks.iter().find(|mark| mark.log == log).map_or(Position::ZERO, |mark| mark.through);
                self.marks.look(shared.marks(), of).await
            }
            None => self.logs.of(log).look(store.watermark(log), |through| *through).await,
        }
    }
}

/// Looks at the same thing, one at a time.
#[derive(Debug, Default)]
struct Looks<T> {
    /// Counts who asks.
    asked: AtomicU64,
    /// Whoever holds it looks; the others wait, and find that it was for them.
    last: Mutex<Look<T>>,
}

#[derive(Debug, Default)]
struct Look<T> {
    /// It began after this many had asked.
    after: u64,
    found: T,
}

impl<T> Looks<T> {
    /// What `read` makes of a look that began after this was called, by whomever.
    async fn look<R>(&self, look: impl Future<Output = Result<T>>, read: impl FnOnce(&T) -> R) -> Result<R> {
        let turn = self.asked.fetch_add(1, SeqCst) + 1;
        let mut last = self.last.lock().await;
        if last.after < turn {
            let after = self.asked.load(SeqCst);
            let found = look.await?;
            *last = Look { after, found };
        }
        Ok(read(&last.found))
    }
}

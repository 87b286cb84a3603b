//! How far logs are, asked once for all who want to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::{LogId, MessageStore, Position, Result};

/// Watermarks, each by a look that began after it was asked for.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// One for each log, as soon as somebody asks; there are as many as the broker has.
    logs: RwLock<Vec<Arc<Log>>>,
}

#[derive(Debug, Default)]
struct Log {
    /// Counts who asks.
    asked: AtomicU64,
    /// Whoever holds it looks; the others wait, and find that it was for them.
    last: Mutex<Look>,
}

#[derive(Debug, Default)]
struct Look {
    /// It began after this many had asked.
    after: u64,
    found: Position,
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
        let known = self.log(log);
        let turn = known.asked.fetch_add(1, SeqCst) + 1;
        let mut last = known.last.lock().await;
        if last.after < turn {
            let after = known.asked.load(SeqCst);
            let found = store.watermark(log).await?;
            *last = Look { after, found };
        }
        Ok(last.found)
    }

    fn log(&self, log: LogId) -> Arc<Log> {
        let index = usize::from(log.0);
        if let Some(log) = self.logs.read().get(index) {
            return Arc::clone(log);
        }
        let mut logs = self.logs.write();
        if logs.len() <= index {
            logs.resize_with(index + 1, Arc::default);
        }
        Arc::clone(&logs[index])
    }
}

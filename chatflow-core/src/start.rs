//! What an engine waits for when it starts: that every log was read up to where it ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::{Error, ErrorKind, Result};

/// How long nothing may come of any log.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often whoever waits is told how far it is.
const TELL: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Start {
    /// Logs that were not read to their end yet.
    logs: usize,
    /// Entries that were read of all logs.
    entries: u64,
}

/// A log that is not read to its end yet. Dropped when it is.
#[derive(Debug)]
pub(crate) struct Starting(Arc<watch::Sender<Start>>);

impl Starting {
    /// So many more entries were read.
    pub(crate) fn has_read(&self, entries: usize) {
        self.0.send_modify(|start| start.entries += entries as u64);
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.send_modify(|start| start.logs -= 1);
    }
}

/// All logs while they are read.
#[derive(Debug, Default)]
pub(crate) struct Starts(Arc<watch::Sender<Start>>);

impl Starts {
    pub(crate) fn another(&self) -> Starting {
        self.0.send_modify(|start| start.logs += 1);
        Starting(Arc::clone(&self.0))
    }

    /// Waits until all logs were read, or are given up. However much that is, something has to come.
    pub(crate) async fn done(self) -> Result<()> {
        let slow = |_| Error::new(ErrorKind::Timeout, "broker", format!("the logs can't be read: nothing came back within {PATIENCE:?}"));
        let mut news = self.0.subscribe();
        let mut told = Instant::now();
        loop {
            let Start { logs, entries } = *news.borrow_and_update();
            if logs == 0 {
                return Ok(());
            }
            if told.elapsed() >= TELL {
                tracing::info!(logs, entries, "still reading what the logs hold");
                told = Instant::now();
            }
            // The sender is ours, so there is always one.
            let _ = timeout(PATIENCE, news.changed()).await.map_err(slow)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn it_takes_as_long_as_something_comes() {
        let starts = Starts::default();
        let (one, other) = (starts.another(), starts.another());
        let begun = Instant::now();
        tokio::spawn(async move {
            for _ in 0..10 {
                sleep(PATIENCE * 9 / 10).await;
                one.has_read(1);
            }
            drop(one);
            sleep(PATIENCE * 9 / 10).await;
            drop(other);
        });
        starts.done().await.unwrap();
        assert_eq!(begun.elapsed(), PATIENCE * 99 / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_says_nothing_is_given_up() {
        let starts = Starts::default();
        let (one, _other) = (starts.another(), starts.another());
        one.has_read(1);
        drop(one);
        let begun = Instant::now();
        let error = starts.done().await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::Timeout, PATIENCE));
    }
}

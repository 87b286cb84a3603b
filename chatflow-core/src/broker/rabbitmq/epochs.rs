//! The queue of epochs: how all nodes come to know the same ones, and how one begins another.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::chain::{Chain, Record, Turn};
use super::config::RabbitMqConfig;
use super::envelope::Mark;
use super::fault::{Fault, error};
use super::link::{Feed, Link, Start, log_arguments, stream_arguments};
use crate::{Error, ErrorKind, MessageId, Result, Timestamp};

/// How long a record may take to come back.
const PATIENCE: Duration = Duration::from_secs(5);
const SEGMENT: u64 = 1 << 20;

/// The epochs as one connection knows them.
#[derive(Debug)]
pub(super) struct Epochs {
    link: Arc<Link>,
    config: Arc<RabbitMqConfig>,
    /// This connection's own, by which it knows its records: what one before it has written comes again, too.
    life: u64,
    /// How many records it has written, and the last that was read back.
    written: Mutex<u64>,
    heard: watch::Sender<u64>,
    chain: watch::Sender<Chain>,
}

impl Epochs {
    /// Makes the queue if it is missing and begins to read it. Nothing is known before [`hello`](Self::hello).
    pub(super) async fn open(link: Arc<Link>, config: Arc<RabbitMqConfig>) -> Result<(Self, Feed)> {
        let queue = queue(&config);
        link.declare(&queue, stream_arguments(SEGMENT)).await?;
        let feed = link.consume(&queue, Start::At(0)).await.map_err(|fault| fault.into_error("reading the epochs"))?;
        let life = MessageId::new_v4().as_u64_pair().0;
        let (heard, chain) = (watch::Sender::new(0), watch::Sender::new(Chain::default()));
        Ok((Self { link, config, life, written: Mutex::new(0), heard, chain }, feed))
    }

    /// Reads records as they come, until the connection or the queue is lost.
    pub(super) async fn follow(&self, feed: &mut Feed) -> Error {
        loop {
            match self.take(feed).await {
                Ok(()) => {}
                Err(fault) => return fault.into_error("reading the epochs"),
            }
        }
    }

    async fn take(&self, feed: &mut Feed) -> Result<(), Fault> {
        let batch = feed.next(1_024, 1 << 20).await?;
        for record in batch.iter().filter_map(|fed| serde_json::from_slice::<Record>(&fed.data).ok()) {
            self.chain.send_if_modified(|chain| {
                let before = chain.clone();
                chain.apply(&record);
                *chain != before
            });
            if record.by.0 == self.life {
                self.heard.send_replace(record.by.1);
            }
        }
        feed.acknowledge(true).await
    }

    pub(super) fn chain(&self) -> watch::Receiver<Chain> {
        self.chain.subscribe()
    }

    /// Brings every log into an epoch that is not below what `least` says of it. Someone
    /// [follows](Self::follow) meanwhile.
    pub(super) async fn hello(&self, least: impl Fn(u16) -> u64) -> Result<()> {
        self.write(Vec::new()).await?;
        loop {
            let turns: Vec<_> = {
                let chain = self.chain.borrow();
                let (theirs, ours) = (chain.logs, self.config.logs);
                if theirs != ours {
                    let text = format!(
                        "the queues with the prefix {:?} are for {theirs} logs, not {ours}: set as many, or another prefix",
                        self.config.prefix
                    );
                    return Err(error(ErrorKind::Config, text));
                }
                let short = |log: &u16| chain.current(*log) == 0 || chain.current(*log) < least(*log);
                let turn = |log| Turn { log, from: chain.current(log), to: fresh(chain.current(log).max(least(log))) };
                (0..ours).filter(short).map(turn).collect()
            };
            if turns.is_empty() {
                return Ok(());
            }
            self.propose(turns).await?;
        }
    }

    /// Makes a log leave the epoch `from` for one above `least`, unless it has already. Entries that RabbitMQ takes into the old one
    /// from now on do not count.
    pub(super) async fn turn(&self, log: u16, from: u64, least: u64) -> Result<()> {
        if self.chain.borrow().current(log) == from {
            self.propose(vec![Turn { log, from, to: fresh(from.max(least)) }]).await?;
        }
        Ok(())
    }

    async fn propose(&self, turns: Vec<Turn>) -> Result<()> {
        stream::iter(turns.clone()).map(|turn| self.prepare(turn)).buffer_unordered(8).try_collect::<()>().await?;
        self.write(turns.clone()).await?;
        for turn in turns {
            let counts = self.chain.borrow().has(turn.log, turn.to);
            if counts {
                tracing::info!(log = turn.log, from = turn.from, epoch = turn.to, "a log begins an epoch");
            } else {
                // Somebody else was first; nobody will use ours.
                self.link.delete(&queue_of(&self.config, turn.log, turn.to)).await?;
            }
        }
        Ok(())
    }

    /// Ends the old queue and makes the new one.
    async fn prepare(&self, turn: Turn) -> Result<()> {
        if turn.from > 0 {
            let mark = Mark { life: self.life, number: u64::MAX };
            self.link.end(&queue_of(&self.config, turn.log, turn.from), mark).await?;
        }
        self.link.declare(&queue_of(&self.config, turn.log, turn.to), log_arguments(&self.config)).await
    }

    /// Writes a record and waits until it is read back: everything that was written before it is known then.
    async fn write(&self, turns: Vec<Turn>) -> Result<()> {
        // One at a time, so that they come back in the order of their numbers.
        let mut written = self.written.lock().await;
        *written += 1;
        let number = *written;
        let record = Record { logs: self.config.logs, by: (self.life, number), turns };
        let bytes = serde_json::to_vec(&record).map_err(|cause| error(ErrorKind::Internal, "a record of epochs").with_source(cause))?;
        let mut heard = self.heard.subscribe();
        self.link.put(&queue(&self.config), &bytes).await?;
        match timeout(PATIENCE, heard.wait_for(|heard| *heard >= number)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(error(ErrorKind::Timeout, "the queue of epochs does not give back what was put into it")),
        }
    }
}

/// An epoch greater than `last`.
fn fresh(last: u64) -> u64 {
    u64::try_from(Timestamp::now().0).unwrap_or_default().max(last.saturating_add(1))
}

/// The queue of epochs.
pub(super) fn queue(config: &RabbitMqConfig) -> String {
    format!("{}.epochs", config.prefix)
}

/// The queue of a log in an epoch.
pub(super) fn queue_of(config: &RabbitMqConfig, log: u16, epoch: u64) -> String {
    format!("{}.{log}.{epoch}", config.prefix)
}

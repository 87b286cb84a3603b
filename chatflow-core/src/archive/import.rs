//! Into a store, line by line.

use std::sync::Arc;

use super::line::{Line, VERSION};
use super::{LONGEST_LINE, ORIGIN};
use crate::store::{Exception, Lease, Stored};
use crate::{Error, ErrorKind, LogId, MessageStore, NodeId, Position, Result};

/// Messages in one commit.
const ROWS: usize = 1_000;

/// Bytes of their bodies in one commit; the last message may go beyond it.
const BYTES: usize = 4 << 20;

/// Places that are named of what was refused.
const NAMED: usize = 10;

/// What became of the lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Messages that are in the history now and were not before.
    pub messages: u64,
    /// Messages that the history had already.
    pub repeats: u64,
    /// Messages whose id the history has for another message. They were left out.
    pub conflicts: u64,
    /// Messages that the history does not have, and has no place for any more: readers have been past there. They were left out.
    pub behind: u64,
    /// Where the first few of those that were left out stand.
    pub left_out: Vec<(LogId, Position)>,
}

/// Puts lines into a store, each log under a lease of its own, in order: while it goes on, no node may write the log, and it says so when
/// one does. Doing it again changes nothing.
#[derive(Debug)]
pub struct Import {
    store: Arc<dyn MessageStore>,
    logs: u16,
    node: NodeId,
    lines: u64,
    begun: bool,
    /// The log that is being written, how far it is in the store, and how far in the lines.
    lease: Option<Lease>,
    through: Position,
    read: Position,
    batch: Vec<Stored>,
    bytes: usize,
    report: Imported,
}

impl Import {
    /// Into `store`, whose rooms are spread over `logs` logs, by somebody who is called `node`.
    pub fn new(store: Arc<dyn MessageStore>, logs: u16, node: impl Into<NodeId>) -> Self {
        let (through, read) = (Position::ZERO, Position::ZERO);
        let (batch, report) = (Vec::new(), Imported::default());
        Self { store, logs: logs.max(1), node: node.into(), lines: 0, begun: false, lease: None, through, read, batch, bytes: 0, report }
    }

    /// What has become of the lines so far; some may wait for others.
    pub fn so_far(&self) -> &Imported {
        &self.report
    }

    /// Takes the next line. An empty one is nothing.
    ///
    /// # Cancel safety
    /// When dropped, begin anew: what is there is told apart.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the line is none, or not in its place; [`ErrorKind::Config`]: it is of a history over another number of logs;
    /// otherwise the store's, [`ErrorKind::Unavailable`] while a node writes the log. What was committed before stays.
    pub async fn line(&mut self, text: &str) -> Result<()> {
        self.lines += 1;
        if text.trim().is_empty() {
            return Ok(());
        }
        if text.len() > LONGEST_LINE {
            return Err(self.invalid("is too long"));
        }
        let line: Line<'_> = serde_json::from_str(text).map_err(|error| self.invalid("is not of an archive").with_source(error))?;
        match line {
            Line::Archive { version, .. } if version > VERSION => Err(self.invalid("is of a newer program")),
            Line::Archive { logs, .. } if logs != self.logs => {
                let text = format!("the archive is of a history over {logs} logs, this one is over {}: set broker.logs", self.logs);
                Err(Error::new(ErrorKind::Config, ORIGIN, text))
            }
            Line::Archive { .. } => {
                self.begun = true;
                Ok(())
            }
            _ if !self.begun => Err(self.invalid("comes before the one that says that this is an archive")),
            Line::Begin { log, begins } => self.begin(log, begins).await,
            Line::End { log, through } => self.end(log, through).await,
            Line::Message(row) => {
                let log = row.log;
                let stored = row.stored().map_err(|error| self.invalid("can't be taken").with_source(error))?;
                self.message(log, stored).await
            }
        }
    }

    /// Writes what waits, and gives the lease back.
    ///
    /// # Errors
    /// The store's.
    pub async fn finish(mut self) -> Result<Imported> {
        self.leave().await?;
        Ok(self.report)
    }

    async fn message(&mut self, log: LogId, stored: Stored) -> Result<()> {
        if log != LogId::of(stored.message.room.as_str(), self.logs) {
            return Err(self.invalid("names a log in which its room does not live"));
        }
        self.enter(log).await?;
        if stored.position <= self.read {
            return Err(self.invalid("is not in the order of positions"));
        }
        self.read = stored.position;
        self.bytes += stored.message.body.len();
        self.batch.push(stored);
        if self.batch.len() >= ROWS || self.bytes >= BYTES { self.flush().await } else { Ok(()) }
    }

    async fn begin(&mut self, log: LogId, begins: Position) -> Result<()> {
        self.enter(log).await?;
        self.flush().await?;
        if let Some(lease) = self.lease.as_ref().filter(|_| begins > self.through) {
            self.store.skip(lease, begins).await?;
            self.through = begins;
        }
        Ok(())
    }

    async fn end(&mut self, log: LogId, through: Position) -> Result<()> {
        self.enter(log).await?;
        self.flush().await?;
        if let Some(lease) = self.lease.as_ref().filter(|_| through > self.through) {
            self.store.commit(lease, &[], through).await?;
            self.through = through;
        }
        Ok(())
    }

    /// Goes on to `log`, unless it is there.
    async fn enter(&mut self, log: LogId) -> Result<()> {
        if self.lease.as_ref().is_some_and(|lease| lease.log == log) {
            return Ok(());
        }
        if log.0 >= self.logs {
            return Err(self.invalid("names a log that there isn't"));
        }
        self.leave().await?;
        let lease = self.store.claim(log, &self.node).await?;
        (self.through, self.read) = (lease.through, Position::ZERO);
        self.lease = Some(lease);
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.flush().await?;
        match self.lease.take() {
            Some(lease) => self.store.release(&lease).await,
            None => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let (old, new) = batch.split_at(batch.partition_point(|stored| stored.position <= self.through));
        let ids: Vec<_> = old.iter().map(|stored| stored.message.id).collect();
        let located = if ids.is_empty() { Vec::new() } else { self.store.locate(&ids).await? };
        for (Stored { position, message }, located) in old.iter().zip(located) {
            match located {
                Some(kept) if kept.digest == message.digest && kept.room == message.room => self.report.repeats += 1,
                Some(_) => {
                    self.report.conflicts += 1;
                    name(&mut self.report.left_out, lease.log, *position);
                }
                None => {
                    self.report.behind += 1;
                    name(&mut self.report.left_out, lease.log, *position);
                }
            }
        }
        let Some(last) = new.last() else { return Ok(()) };
        let exceptions = self.store.commit(lease, new, last.position).await?;
        self.through = last.position;
        self.report.messages += (new.len() - exceptions.len()) as u64;
        for (index, exception) in exceptions {
            match exception {
                Exception::Repeat { .. } => self.report.repeats += 1,
                Exception::Conflict { .. } => {
                    self.report.conflicts += 1;
                    name(&mut self.report.left_out, lease.log, new[index].position);
                }
            }
        }
        Ok(())
    }

    fn invalid(&self, what: &str) -> Error {
        Error::new(ErrorKind::Invalid, ORIGIN, format!("line {} {what}", self.lines))
    }
}

fn name(places: &mut Vec<(LogId, Position)>, log: LogId, position: Position) {
    if places.len() < NAMED {
        places.push((log, position));
    }
}

//! The one thread that writes: whatever is queued goes into one transaction, answered once that is on the disk.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::accounts;
use super::checkpoint::Turn;
use super::commit::{self, RoomNumbers, Stop};
use super::projection::{self, Change};
use super::retention::{self, Oldest};
use super::{failure, letters};
use crate::store::exclusive::Exclusive;
use crate::store::{DeadLetter, Exception, Lease, Stored};
use crate::{Error, LogId, NodeId, Position, Result};

/// Requests that may wait: a few for each log, each of one pipeline's batch.
pub(super) const WAITING: usize = 64;

/// Rows beyond which a group takes no further request.
const GROUP_ROWS: usize = 8_000;

/// How long requests are added after the first was run: what the first waits for the others.
const GROUP_TIME: Duration = Duration::from_millis(5);

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// Something to write.
pub(super) enum Request {
    Commit {
        lease: Lease,
        batch: Vec<Stored>,
        through: Position,
        reply: Reply<Vec<(usize, Exception)>>,
    },
    Skip {
        lease: Lease,
        to: Position,
        reply: Reply<()>,
    },
    Claim {
        log: LogId,
        holder: NodeId,
        reply: Reply<Lease>,
    },
    Release {
        lease: Lease,
        reply: Reply<()>,
    },
    Remove {
        lease: Lease,
        rows: Oldest,
        reply: Reply<usize>,
    },
    Account {
        change: accounts::Change,
        reply: Reply<accounts::Outcome>,
    },
    Put {
        letters: Vec<DeadLetter>,
        reply: Reply<()>,
    },
    Discard {
        log: LogId,
        position: Position,
        reply: Reply<bool>,
    },
    /// Changes the summaries.
    Count {
        lease: Lease,
        change: Box<Change>,
        reply: Reply<()>,
    },
    /// Finds out whether writing works again.
    Probe,
}

/// Why the last transaction failed, if it did.
pub(super) type Health = Mutex<Option<Error>>;

/// Tells a waiter what became of its request, or that the whole group failed.
type Answer = Box<dyn FnOnce(Option<&rusqlite::Error>)>;

pub(super) struct Writer {
    db: Connection,
    numbers: RoomNumbers,
    health: Arc<Health>,
    turn: Arc<Turn>,
}

impl Writer {
    /// A thread that writes on `db` until the sender is gone and everything sent is done.
    pub(super) fn spawn(
        db: Connection,
        health: Arc<Health>,
        turn: Arc<Turn>,
        lock: Arc<Exclusive>,
    ) -> std::io::Result<(mpsc::Sender<Request>, JoinHandle<()>)> {
        let (sender, mut queue) = mpsc::channel(WAITING);
        let thread = Builder::new().name("sqlite-writer".into()).spawn(move || {
            let _lock = lock;
            let mut writer = Self { db, numbers: RoomNumbers::default(), health, turn };
            while let Some(first) = queue.blocking_recv() {
                writer.group(first, &mut queue);
            }
            if let Err(error) = writer.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
                tracing::warn!(%error, "the write-ahead log of the history stays until it is opened again");
            }
        })?;
        Ok((sender, thread))
    }

    fn group(&mut self, first: Request, queue: &mut mpsc::Receiver<Request>) {
        let mut answers = Vec::new();
        let turn = self.turn.clone();
        let turn = turn.lock();
        let outcome = self.transaction(first, queue, &mut answers);
        if let Err(error) = &outcome {
            self.numbers.forget();
            if !self.db.is_autocommit()
                && let Err(error) = self.db.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "a transaction of the history can't be rolled back");
            }
            if self.health.lock().replace(failure::error(error)).is_none() {
                tracing::warn!(%error, "the history can't be written");
            }
        } else if self.health.lock().take().is_some() {
            tracing::info!("the history can be written again");
        }
        drop(turn);
        let failed = outcome.err();
        answers.into_iter().for_each(|answer| answer(failed.as_ref()));
    }

    fn transaction(&mut self, first: Request, queue: &mut mpsc::Receiver<Request>, answers: &mut Vec<Answer>) -> rusqlite::Result<()> {
        let begun = self.db.execute_batch("BEGIN IMMEDIATE");
        if let Err(error) = begun {
            // Whoever queued up meanwhile is told too: one after the other, each would wait out the lock's time again.
            let queued = (0..queue.len()).map_while(|_| queue.try_recv().ok()).collect::<Vec<_>>();
            answers.extend(std::iter::once(first).chain(queued).map(Request::refused));
            return Err(error);
        }
        let mut rows = first.rows();
        self.run(first, answers)?;
        let since = Instant::now();
        while rows < GROUP_ROWS && since.elapsed() < GROUP_TIME {
            let Ok(next) = queue.try_recv() else { break };
            rows += next.rows();
            self.run(next, answers)?;
        }
        self.db.execute_batch("COMMIT")
    }

    fn run(&mut self, request: Request, answers: &mut Vec<Answer>) -> rusqlite::Result<()> {
        match request {
            // Nobody waits for it any more.
            Request::Commit { reply, .. } if reply.is_closed() => Ok(()),
            Request::Commit { lease, batch, through, reply } => {
                self.step(reply, answers, |db, numbers| commit::commit(db, numbers, &lease, &batch, through))
            }
            Request::Skip { lease, to, reply } => self.step(reply, answers, |db, _| commit::skip(db, &lease, to)),
            Request::Claim { log, holder, reply } => self.step(reply, answers, |db, _| commit::claim(db, log, &holder)),
            Request::Release { lease, reply } => self.step(reply, answers, |db, _| commit::release(db, &lease)),
            Request::Remove { reply, .. } if reply.is_closed() => Ok(()),
            Request::Remove { lease, rows, reply } => self.step(reply, answers, |db, _| retention::remove(db, &lease, &rows)),
            Request::Account { change, reply } => self.step(reply, answers, |db, _| accounts::change(db, &change)),
            Request::Put { letters, reply } => self.step(reply, answers, |db, _| letters::put(db, &letters)),
            Request::Discard { log, position, reply } => self.step(reply, answers, |db, _| letters::discard(db, log, position)),
            Request::Count { lease, change, reply } => self.step(reply, answers, |db, _| projection::write(db, &lease, &change)),
            Request::Probe => {
                // A new value each time: SQLite does not write what has not changed.
                let sql = "INSERT INTO meta (name, value) VALUES ('probe', randomblob(8)) ON CONFLICT DO UPDATE SET value = excluded.value";
                self.db.execute(sql, []).map(|_| ())
            }
        }
    }

    /// Runs `work` so that it leaves nothing behind if it is refused. `Err` only when the transaction can't go on.
    fn step<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        answers: &mut Vec<Answer>,
        work: impl FnOnce(&Connection, &mut RoomNumbers) -> Result<T, Stop>,
    ) -> rusqlite::Result<()> {
        let (result, failed) = match self.savepoint(work) {
            Ok(done) => (Ok(done), None),
            Err(Stop::Refused(error)) => (Err(error), None),
            Err(Stop::Failed(error)) => (Err(failure::error(&error)), Some(error)),
        };
        answers.push(Box::new(move |group| {
            let result = match (result, group) {
                (Ok(_), Some(error)) => Err(failure::error(error)),
                (result, _) => result,
            };
            let _ = reply.send(result);
        }));
        failed.map_or(Ok(()), Err)
    }

    fn savepoint<T>(&mut self, work: impl FnOnce(&Connection, &mut RoomNumbers) -> Result<T, Stop>) -> Result<T, Stop> {
        self.db.prepare_cached("SAVEPOINT request")?.execute([])?;
        let result = work(&self.db, &mut self.numbers);
        match &result {
            // A full disk may have ended the whole transaction.
            Err(Stop::Failed(_)) => return result,
            Err(Stop::Refused(_)) => {
                self.numbers.forget();
                self.db.prepare_cached("ROLLBACK TO request")?.execute([])?;
            }
            Ok(_) => {}
        }
        self.db.prepare_cached("RELEASE request")?.execute([])?;
        result
    }
}

impl Request {
    fn rows(&self) -> usize {
        match self {
            Self::Commit { batch, .. } => batch.len(),
            Self::Remove { rows, .. } => rows.len(),
            Self::Count { change, .. } => change.len(),
            _ => 1,
        }
    }

    /// The answer when its group could not even begin.
    fn refused(self) -> Answer {
        Box::new(move |group| {
            let Some(error) = group.map(failure::error) else { return };
            match self {
                Self::Commit { reply, .. } => drop(reply.send(Err(error))),
                Self::Claim { reply, .. } => drop(reply.send(Err(error))),
                Self::Remove { reply, .. } => drop(reply.send(Err(error))),
                Self::Account { reply, .. } => drop(reply.send(Err(error))),
                Self::Skip { reply, .. } | Self::Release { reply, .. } | Self::Put { reply, .. } | Self::Count { reply, .. } => {
                    drop(reply.send(Err(error)));
                }
                Self::Discard { reply, .. } => drop(reply.send(Err(error))),
                Self::Probe => {}
            }
        })
    }
}

//! History in one SQLite file, on this machine, for this process.

mod accounts;
mod analytics;
mod beside;
mod checkpoint;
mod commit;
pub(crate) mod failure;
mod letters;
mod place;
mod projection;
mod reader;
mod retention;
mod schema;
mod summaries;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Mutex, mpsc, oneshot};

pub use self::beside::SqliteAccounts;
use self::checkpoint::Turn;
use self::reader::Job;
use self::writer::{Health, Reply, Request, Writer};
use super::exclusive::Exclusive;
use super::{
    DeadLetters, Exception, Lease, Located, MessageStore, Page, PageQuery, Projections, Retention, RoomSummary, StoreStatus, Stored, batch,
};
use crate::accounts::Accounts;
use crate::broker::Durability;
use crate::{Analytics, Error, ErrorKind, LogId, MessageId, NodeId, Position, Result, RoomId};

const ORIGIN: &str = "sqlite";

/// Commits of one log that wait in the writer's queue: with one, whatever comes during a commit stands back behind whoever asked meanwhile,
/// and rooms that share a log are served later than others.
const COMMITS_UNDER_WAY: usize = 4;

/// How long a write waits for a lock that another process has on the database.
const WRITE_BUSY: Duration = Duration::from_secs(1);

/// How long a read waits in the rare moments in which SQLite makes one wait (a log that is being recovered).
const READ_BUSY: Duration = Duration::from_secs(1);

/// How long a checkpoint may hold up the writer while it waits for readers.
const CHECKPOINT_BUSY: Duration = Duration::from_millis(100);

/// Where the file is and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The file; created if it does not exist. `-wal`, `-shm` and `.lock` files appear beside it.
    pub path: PathBuf,
    /// Connections that read beside the writer, 1 to 64. Default 4.
    pub readers: usize,
    /// Whether questions are answered from summaries and lists of users' rows, which an engine writes after the commits; if not, from the
    /// rows, all of which are looked at. Default: yes.
    pub summaries: bool,
}

impl SqliteConfig {
    /// The file at `path`, with the defaults.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), readers: 4, summaries: true }
    }

    /// With so many readers.
    #[must_use]
    pub fn with_readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// Questions are answered from the rows, and nothing is written for them.
    #[must_use]
    pub fn without_summaries(mut self) -> Self {
        self.summaries = false;
        self
    }
}

/// A [`MessageStore`] in one SQLite file: WAL, synced at every commit, so that an acknowledged commit survives a power cut.
///
/// Commits of all logs that are waiting go into one transaction (group commit) on a thread of their own; pages are read
/// on others, beside it. The file belongs to one process at a time, so a lease is never waited for, only fenced.
///
/// Dropping it without [`close`](MessageStore::close) ends its threads too, once what was queued is written.
#[derive(Debug)]
pub struct SqliteStore {
    identity: String,
    path: PathBuf,
    summaries: bool,
    health: Arc<Health>,
    /// `None` once closed. Held to clone a sender, never across an await.
    queues: RwLock<Option<Queues>>,
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug, Clone)]
struct Queues {
    write: mpsc::Sender<Request>,
    read: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Threads {
    readers: Vec<JoinHandle<()>>,
    writers: Vec<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the file, brings its schema up to date and starts the threads.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when another process uses the file, when a newer program made it, or when WAL is not to be
    /// had there; [`ErrorKind::Corrupt`] when it is no database; [`ErrorKind::Unavailable`] when it is locked or the disk fails.
    pub async fn open(config: SqliteConfig) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(config)).await;
        opened.map_err(|error| Error::new(ErrorKind::Internal, ORIGIN, "opening panicked").with_source(error))?
    }

    fn open_blocking(config: SqliteConfig) -> Result<Self> {
        let SqliteConfig { path, readers, summaries } = config;
        if !(1..=64).contains(&readers) {
            return Err(Error::new(ErrorKind::Config, ORIGIN, format!("readers = {readers}: 1 to 64 are allowed")));
        }
        let lock = Arc::new(Exclusive::lock(&path, ORIGIN)?);
        let mut db = schema::prepare(&path, WRITE_BUSY)?;
        let identity = db.query_row("SELECT value FROM meta WHERE name = 'identity'", [], |row| row.get(0)).map_err(sqlite)?;
        let woken = checkpoint::watch(&mut db).map_err(sqlite)?;
        let checkpointer = schema::connect(&path, CHECKPOINT_BUSY, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sqlite)?;
        let reader = |_| schema::connect(&path, READ_BUSY, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connections = (0..readers).map(reader).collect::<rusqlite::Result<Vec<_>>>().map_err(sqlite)?;

        let thread = |error| Error::new(ErrorKind::Unavailable, ORIGIN, "no thread could be started").with_source(error);
        let health = Arc::new(Health::default());
        let turn = Arc::new(Turn::default());
        let checkpoints = checkpoint::spawn(checkpointer, woken, turn.clone(), lock.clone()).map_err(thread)?;
        let (write, writer) = Writer::spawn(db, health.clone(), turn, lock.clone()).map_err(thread)?;
        let (read, readers) = reader::spawn(connections, &lock).map_err(thread)?;
        let threads = Threads { readers, writers: vec![writer, checkpoints] };
        let queues = RwLock::new(Some(Queues { write, read }));
        Ok(Self { identity, path, summaries, health, queues, threads: Mutex::new(Some(threads)) })
    }

    /// Forgets the summaries in the file, which nobody uses meanwhile, so that they are counted anew.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn rebuild_summaries(config: SqliteConfig) -> Result<()> {
        let forget = move || {
            let _lock = Exclusive::lock(&config.path, ORIGIN)?;
            let mut db = schema::prepare(&config.path, WRITE_BUSY)?;
            let tx = db.transaction().map_err(sqlite)?;
            projection::forget(&tx).and_then(|()| tx.commit()).map_err(sqlite)
        };
        let forgotten = tokio::task::spawn_blocking(forget).await;
        forgotten.map_err(|error| Error::new(ErrorKind::Internal, ORIGIN, "forgetting panicked").with_source(error))?
    }

    fn queues(&self) -> Result<Queues> {
        self.queues.read().clone().ok_or_else(|| batch::closed(ORIGIN))
    }

    async fn write<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.queues()?.write.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn read<T: Send + 'static>(&self, look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            if !reply.is_closed() {
                let _ = reply.send(look(db).map_err(sqlite));
            }
        });
        self.queues()?.read.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn sqlite(error: rusqlite::Error) -> Error {
    failure::error(&error)
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal, ORIGIN, "a thread of the store has ended; what became of the call is not known")
}

#[async_trait]
impl MessageStore for SqliteStore {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(self)
    }

    fn commits_under_way(&self) -> usize {
        // They go into the writer's queue, and together into its next transaction.
        COMMITS_UNDER_WAY
    }

    fn analytics(&self) -> Option<&dyn Analytics> {
        Some(self)
    }

    fn retention(&self) -> Option<&dyn Retention> {
        Some(self)
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(self)
    }

    fn projections(&self) -> Option<&dyn Projections> {
        self.summaries.then_some(self as _)
    }

    async fn last_epoch(&self) -> Result<u64> {
        self.read(reader::last_epoch).await
    }

    async fn claim(&self, log: LogId, holder: &NodeId) -> Result<Lease> {
        let holder = holder.clone();
        self.write(|reply| Request::Claim { log, holder, reply }).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        // Nothing runs out, so there is nothing to write: it works beside a writer that is stuck.
        let lease = lease.clone();
        self.read(move |db| reader::holds(db, &lease)).await?.then_some(()).ok_or_else(|| batch::fenced(ORIGIN))
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let lease = lease.clone();
        self.write(|reply| Request::Release { lease, reply }).await
    }

    async fn commit(&self, lease: &Lease, batch: &[Stored], through: Position) -> Result<Vec<(usize, Exception)>> {
        let (lease, batch) = (lease.clone(), batch.to_vec());
        self.write(|reply| Request::Commit { lease, batch, through, reply }).await
    }

    async fn skip(&self, lease: &Lease, to: Position) -> Result<()> {
        let lease = lease.clone();
        self.write(|reply| Request::Skip { lease, to, reply }).await
    }

    async fn watermark(&self, log: LogId) -> Result<Position> {
        self.read(move |db| reader::watermark(db, log)).await
    }

    async fn locate(&self, ids: &[MessageId]) -> Result<Vec<Option<Located>>> {
        let ids = ids.to_vec();
        self.read(move |db| reader::locate(db, &ids)).await
    }

    async fn page(&self, log: LogId, room: &RoomId, query: &PageQuery) -> Result<Page> {
        let (room, query) = (room.clone(), query.clone());
        self.read(move |db| reader::page(db, log, &room, &query)).await
    }

    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomSummary>> {
        let after = after.map_or(String::new(), |room| room.as_str().to_owned());
        self.read(move |db| reader::rooms(db, &after, limit)).await
    }

    async fn status(&self) -> StoreStatus {
        let unhealthy = |error: Error| StoreStatus { healthy: false, detail: error.to_string() };
        let read = tokio::time::timeout(Duration::from_millis(900), self.read(|db| db.query_row("SELECT 1", [], |_| Ok(())))).await;
        match read {
            Err(_) => return unhealthy(Error::new(ErrorKind::Timeout, ORIGIN, "reading takes longer than 900 ms")),
            Ok(Err(error)) => return unhealthy(error),
            Ok(Ok(())) => {}
        }
        let failing = self.health.lock().as_ref().map(Error::to_string);
        match failing {
            None => StoreStatus { healthy: true, detail: format!("{}, synced at every commit", self.path.display()) },
            Some(detail) => {
                // Publishers may be refused meanwhile, so that no commit comes that would show the recovery: ask for one.
                if let Ok(queues) = self.queues() {
                    let _ = queues.write.try_send(Request::Probe);
                }
                StoreStatus { healthy: false, detail }
            }
        }
    }

    async fn close(&self) -> Result<()> {
        // Whoever closes second waits here for the first.
        let mut threads = self.threads.lock().await;
        let queues = self.queues.write().take();
        let Some(Threads { readers, writers }) = threads.take() else { return Ok(()) };
        let joined = tokio::task::spawn_blocking(move || {
            // Readers first: the last checkpoint needs them gone.
            let write = queues.map(|queues| queues.write);
            let read = readers.into_iter().try_for_each(JoinHandle::join);
            drop(write);
            writers.into_iter().try_for_each(JoinHandle::join).and(read)
        });
        match joined.await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Error::new(ErrorKind::Internal, ORIGIN, "a thread of the store panicked")),
        }
    }
}

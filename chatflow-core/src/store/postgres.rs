//! History in a PostgreSQL database, which several nodes share.

mod accounts;
mod analytics;
mod commit;
mod copy;
pub(crate) mod failure;
mod lease;
mod letters;
mod projection;
mod reader;
mod retention;
mod schema;
mod summaries;
mod text;

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Postgres};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::sql::{DatabaseConfig, Dialect, Lent, Outcome, Pools, STATUS, Small, Together, misses, slow, with};
use super::{
    DeadLetters, Exception, Lease, Located, Mark, MessageStore, Page, PageQuery, Projections, Retention, RoomSummary, SharedStore,
    StoreStatus, Stored,
};
use crate::accounts::Accounts;
use crate::broker::Durability;
use crate::{Analytics, Error, ErrorKind, LogId, MessageId, NodeId, Position, Result, RoomId};

const ORIGIN: &str = "postgres";

/// What a writer's connection is told once. A node that stands still in the middle of a commit is cut off, so that it does not hold
/// the lock on its log for ever. Each statement is planned for what it is asked and what the tables hold by then: a plan that was made
/// for an empty table, and kept, reads all of a large one.
const WRITER: &str = "SET lock_timeout = '2s'; SET statement_timeout = '5s'; SET idle_in_transaction_session_timeout = '3s';
    SET plan_cache_mode = force_custom_plan;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// The same for a reader. Pages walk an index in its order and stop when they are full: a database that does not know its tables yet takes
/// ranges for short, and would read all of one and sort it.
const READER: &str = "SET statement_timeout = '5s'; SET default_transaction_read_only = on; SET plan_cache_mode = force_custom_plan;
    SET enable_bitmapscan = off";

/// A [`MessageStore`] in a PostgreSQL database, 13 or later, that any number of nodes share.
///
/// A batch, its cursor and the check of the lease are one transaction, committed with `synchronous_commit` on. Leases run by the
/// database's clock: a node that takes no part for [`DatabaseConfig::lease`] is fenced once another claims its logs. Reading has
/// connections of its own, at a replica if one is given; a page for which it lags is read at the database itself.
#[derive(Debug)]
pub struct PostgresStore {
    identity: String,
    lease: Duration,
    pools: Pools<Postgres>,
    together: Together,
    /// What this node is counting into the summaries; `None` when it answers from the rows.
    pass: Option<Mutex<projection::Pass>>,
}

impl PostgresStore {
    /// Connects, brings the schema up to date unless [`DatabaseConfig::migrate`] is off, and checks that everything may be used.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the URL, the user, the rights or the schema are wrong; [`ErrorKind::Unavailable`]: the database can't
    /// be reached. No error holds the password.
    pub async fn open(config: DatabaseConfig) -> Result<Self> {
        config.check(ORIGIN)?;
        let (writer, reader) = (options(&config.url)?, config.replica().map(options).transpose()?);
        let (_, identity) = timeout(config.opening, begin(&writer, reader.as_ref(), config.migrate)).await.map_err(|_| slow(ORIGIN))??;
        let dialect = Dialect { origin: ORIGIN, writer: |db| greet(db, WRITER), reader: |db| greet(db, READER), failure: failure::error };
        Ok(Self {
            identity,
            lease: config.lease,
            pools: Pools::new(&config, &dialect, writer, reader),
            together: Together::new(ORIGIN),
            pass: config.summaries.then(Mutex::default),
        })
    }

    /// Brings the schema of the database at `config` up to date and disconnects; how many steps that took.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn migrate(config: &DatabaseConfig) -> Result<usize> {
        config.check(ORIGIN)?;
        let (steps, _) = begin(&options(&config.url)?, None, true).await?;
        Ok(steps)
    }

    /// Forgets the summaries of the database at `config`, so that they are counted anew: nodes may be running, and count beside what
    /// they do. Until then answers say that little is counted.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn rebuild_summaries(config: &DatabaseConfig) -> Result<()> {
        config.check(ORIGIN)?;
        let mut db = connect(&options(&config.url)?).await?;
        schema::check(&mut db).await?;
        projection::forget(&mut db).await
    }

    /// Finds out whether reading works, and writing, if it did not the last time. How the database is set up.
    async fn look(&self) -> Result<String> {
        let mut reader = self.pools.reader().await?;
        let fsync = sqlx::query_scalar("SELECT current_setting('fsync')").fetch_one(&mut *reader).await;
        let fsync: String = fsync.map_err(failure::error)?;
        if self.pools.is_troubled() {
            let mut writer = self.pools.writer().await?;
            let probe = sqlx::query("UPDATE chatflow_meta SET value = clock_timestamp()::text WHERE name = 'probe'");
            let outcome = probe.execute(&mut *writer).await.map(|_| ()).map_err(failure::error);
            self.pools.done(Lent::new(writer), outcome, "writer")?;
        }
        let synced = if fsync == "on" { "synced at every commit" } else { "not synced: fsync is off" };
        Ok(format!("{synced}; {}", if self.pools.apart { "read at a replica" } else { "read where it is written" }))
    }
}

fn options(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).map_err(failure::opening)?;
    // Statements are not logged, by the driver either.
    Ok(options.application_name("chatflow").disable_statement_logging())
}

/// One connection, for opening.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    PgConnection::connect_with(options).await.map_err(|error| {
        if matches!(error, sqlx::Error::Io(_)) {
            let text = format!("{}:{} can't be reached", options.get_host(), options.get_port());
            return Error::new(ErrorKind::Unavailable, ORIGIN, text).with_source(error.to_string());
        }
        failure::opening(error)
    })
}

fn greet<'a>(db: &'a mut PgConnection, settings: &'static str) -> BoxFuture<'a, Result<(), sqlx::Error>> {
    async move { db.execute(settings).await.map(|_| ()) }.boxed()
}

/// Finds out whether the database can be used: how many steps its schema took, and the name of its history.
fn begin<'a>(writer: &'a PgConnectOptions, reader: Option<&'a PgConnectOptions>, migrate: bool) -> BoxFuture<'a, Result<(usize, String)>> {
    Box::pin(async move {
        let mut db = connect(writer).await?;
        let steps = if migrate { schema::migrate(&mut db).await? } else { 0 };
        let identity = schema::check(&mut db).await?;
        if let Some(reader) = reader {
            schema::is_same(&mut connect(reader).await?, &identity).await?;
        }
        Ok((steps, identity))
    })
}

/// The position in a column.
fn place(bytes: &[u8]) -> Result<Position> {
    super::sql::place(ORIGIN, bytes)
}

#[async_trait]
impl MessageStore for PostgresStore {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(self)
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
        self.pass.as_ref().map(|_| self as _)
    }

    async fn last_epoch(&self) -> Result<u64> {
        with!(self.pools, writer, |db| reader::last_epoch(db))
    }

    async fn claim(&self, log: LogId, holder: &NodeId) -> Result<Lease> {
        with!(self.pools, writer, |db| lease::claim(db, log, holder, self.lease))
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        with!(self.pools, writer, |db| lease::renew(db, lease, self.lease))
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        with!(self.pools, writer, |db| lease::release(db, lease))
    }

    /// Small batches share a transaction with those of other logs that come meanwhile.
    async fn commit(&self, lease: &Lease, batch: &[Stored], through: Position) -> Result<Vec<(usize, Exception)>> {
        if let Some(small) = Small::of(lease, batch, through) {
            let run = |group: Vec<Small>| async move { with!(self.pools, writer, |db| commit::together(db, &group, self.lease)) };
            if let Outcome::Committed(exceptions) = self.together.commit(small, run).await? {
                return Ok(exceptions);
            }
        }
        with!(self.pools, writer, |db| commit::commit(db, lease, batch, through, self.lease))
    }

    async fn skip(&self, lease: &Lease, to: Position) -> Result<()> {
        with!(self.pools, writer, |db| commit::skip(db, lease, to))
    }

    async fn watermark(&self, log: LogId) -> Result<Position> {
        with!(self.pools, primary, |db| reader::watermark(db, log))
    }

    async fn locate(&self, ids: &[MessageId]) -> Result<Vec<Option<Located>>> {
        with!(self.pools, primary, |db| reader::locate(db, ids))
    }

    async fn page(&self, log: LogId, room: &RoomId, query: &PageQuery) -> Result<Page> {
        let page = with!(self.pools, reader, |db| reader::page(db, log, room, query))?;
        // While it can't be asked how far the log is, what the replica has is better than nothing.
        if self.pools.apart && !self.pools.is_troubled() && misses(&page, query, self.watermark(log).await.unwrap_or_default()) {
            return with!(self.pools, primary, |db| reader::page(db, log, room, query));
        }
        Ok(page)
    }

    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomSummary>> {
        with!(self.pools, reader, |db| reader::rooms(db, after.map_or("", RoomId::as_str), limit))
    }

    async fn status(&self) -> StoreStatus {
        match timeout(STATUS, self.look()).await {
            Ok(Ok(detail)) => StoreStatus { healthy: true, detail },
            Ok(Err(error)) => StoreStatus { healthy: false, detail: error.to_string() },
            Err(_) => StoreStatus { healthy: false, detail: slow(ORIGIN).to_string() },
        }
    }

    async fn close(&self) -> Result<()> {
        self.pools.close().await;
        Ok(())
    }
}

#[async_trait]
impl SharedStore for PostgresStore {
    fn lease(&self) -> Duration {
        self.lease
    }

    async fn marks(&self) -> Result<Vec<Mark>> {
        with!(self.pools, primary, |db| reader::marks(db))
    }
}

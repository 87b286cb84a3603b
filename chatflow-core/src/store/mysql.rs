//! History in a MySQL or MariaDB database, which several nodes share.

mod accounts;
mod analytics;
mod commit;
pub(crate) mod failure;
mod lease;
mod letters;
mod projection;
mod reader;
mod retention;
mod schema;
mod summaries;

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, MySql, MySqlConnection};
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

const ORIGIN: &str = "mysql";

/// What a writer's connection is told once. A node that stands still in the middle of a commit is cut off, so that it does not hold the
/// lock on its log for ever: by MariaDB as such, by MySQL as a connection that says nothing. A lock on a whole table is waited for no longer
/// than one on a row.
const WRITER_MARIADB: &str = "SET SESSION tx_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, max_statement_time = 5, idle_transaction_timeout = 3";
const WRITER_MYSQL: &str =
    "SET SESSION transaction_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, wait_timeout = 10";
const READER_MARIADB: &str = "SET SESSION tx_read_only = ON, max_statement_time = 5";
const READER_MYSQL: &str = "SET SESSION transaction_read_only = ON, max_execution_time = 5000";

/// A [`MessageStore`] in a database of MariaDB, 10.6 or later, or MySQL, 8 or later, that any number of nodes share.
///
/// A batch, its cursor and the check of the lease are one transaction. Leases run by the database's clock: a node that takes no part for
/// [`DatabaseConfig::lease`] is fenced once another claims its logs. Reading has connections of its own, at a replica if one is given; a
/// page for which it lags is read at the database itself.
#[derive(Debug)]
pub struct MySqlStore {
    identity: String,
    lease: Duration,
    pools: Pools<MySql>,
    together: Together,
    /// What this node is counting into the summaries; `None` when it answers from the rows.
    pass: Option<Mutex<projection::Pass>>,
}

impl MySqlStore {
    /// Connects, brings the schema up to date unless [`DatabaseConfig::migrate`] is off, and checks that everything may be used.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the URL, the user, the rights or the schema are wrong; [`ErrorKind::Unavailable`]: the database can't
    /// be reached. No error holds the password.
    pub async fn open(config: DatabaseConfig) -> Result<Self> {
        config.check(ORIGIN)?;
        let (writer, reader) = (options(&config.url)?, config.replica().map(options).transpose()?);
        let (_, identity) = timeout(config.opening, begin(&writer, reader.as_ref(), config.migrate)).await.map_err(|_| slow(ORIGIN))??;
        let dialect = Dialect {
            origin: ORIGIN,
            writer: |db| greet(db, WRITER_MARIADB, WRITER_MYSQL),
            reader: |db| greet(db, READER_MARIADB, READER_MYSQL),
            failure: failure::error,
        };
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
        let setting = "SELECT CAST(@@global.innodb_flush_log_at_trx_commit AS SIGNED)";
        let synced: i64 = sqlx::query_scalar(setting).fetch_one(&mut *reader).await.map_err(failure::error)?;
        if self.pools.is_troubled() {
            let mut writer = self.pools.writer().await?;
            let probe = sqlx::query("UPDATE chatflow_meta SET value = SYSDATE(6) WHERE name = 'probe'");
            let outcome = probe.execute(&mut *writer).await.map(|_| ()).map_err(failure::error);
            self.pools.done(Lent::new(writer), outcome, "writer")?;
        }
        let synced =
            if synced == 1 { "synced at every commit".into() } else { format!("not synced: innodb_flush_log_at_trx_commit is {synced}") };
        Ok(format!("{synced}; {}", if self.pools.apart { "read at a replica" } else { "read where it is written" }))
    }
}

fn options(url: &str) -> Result<MySqlConnectOptions> {
    let options = MySqlConnectOptions::from_str(url).map_err(failure::opening)?;
    // Statements are not logged, by the driver either.
    Ok(options.disable_statement_logging())
}

/// One connection, for opening.
async fn connect(options: &MySqlConnectOptions) -> Result<MySqlConnection> {
    MySqlConnection::connect_with(options).await.map_err(|error| {
        if matches!(error, sqlx::Error::Io(_)) {
            let text = format!("{}:{} can't be reached", options.get_host(), options.get_port());
            return Error::new(ErrorKind::Unavailable, ORIGIN, text).with_source(error.to_string());
        }
        failure::opening(error)
    })
}

/// Finds out whether the database can be used: how many steps its schema took, and the name of its history.
fn begin<'a>(
    writer: &'a MySqlConnectOptions,
    reader: Option<&'a MySqlConnectOptions>,
    migrate: bool,
) -> BoxFuture<'a, Result<(usize, String)>> {
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

fn greet<'a>(db: &'a mut MySqlConnection, mariadb: &'static str, mysql: &'static str) -> BoxFuture<'a, Result<(), sqlx::Error>> {
    async move {
        let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut *db).await?;
        db.execute(if version.contains("MariaDB") { mariadb } else { mysql }).await?;
        Ok(())
    }
    .boxed()
}

fn place(bytes: &[u8]) -> Result<Position> {
    super::sql::place(ORIGIN, bytes)
}

#[async_trait]
impl MessageStore for MySqlStore {
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
impl SharedStore for MySqlStore {
    fn lease(&self) -> Duration {
        self.lease
    }

    async fn marks(&self) -> Result<Vec<Mark>> {
        with!(self.pools, primary, |db| reader::marks(db))
    }
}

//! History in a PostgreSQL database, which several nodes share.

mod commit;
mod config;
mod failure;
mod lease;
mod pools;
mod reader;
mod schema;
mod text;

use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use sqlx::PgConnection;
use tokio::time::timeout;

pub use config::PostgresConfig;

use self::config::Options;
use self::pools::Pools;
use super::{Exception, Lease, Located, Mark, MessageStore, Page, PageQuery, RoomSummary, SharedStore, StoreStatus, Stored};
use crate::broker::Durability;
use crate::{Error, ErrorKind, LogId, MessageId, NodeId, Position, Result, RoomId};

const ORIGIN: &str = "postgres";

/// How long the answer to one call is waited for. The database gives up a little sooner by itself.
const CALL: Duration = Duration::from_secs(6);

/// How long a status may take, less than the second that it is promised in.
const STATUS: Duration = Duration::from_millis(900);

/// A [`MessageStore`] in a PostgreSQL database, 13 or later, that any number of nodes share.
///
/// A batch, its cursor and the check of the lease are one transaction, committed with `synchronous_commit` on. Leases run by the
/// database's clock: a node that takes no part for [`PostgresConfig::lease`] is fenced once another claims its logs. Reading has
/// connections of its own, at a replica if one is given; a page of a replica that lags ends sooner, and says where.
#[derive(Debug)]
pub struct PostgresStore {
    identity: String,
    lease: Duration,
    pools: Pools,
}

impl PostgresStore {
    /// Connects, brings the schema up to date unless [`PostgresConfig::migrate`] is off, and checks that everything may be used.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the URL, the user, the rights or the schema are wrong; [`ErrorKind::Unavailable`]: the database can't
    /// be reached. No error holds the password.
    pub async fn open(config: PostgresConfig) -> Result<Self> {
        let options = config.check()?;
        let (_, identity) = timeout(config.opening, begin(&options, config.migrate)).await.map_err(|_| slow())??;
        Ok(Self { identity, lease: config.lease, pools: Pools::new(&config, options) })
    }

    /// Brings the schema of the database at `config` up to date and disconnects; how many steps that took.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub async fn migrate(config: &PostgresConfig) -> Result<usize> {
        let options = config.check()?;
        let (steps, _) = begin(&options, true).await?;
        Ok(steps)
    }
}

/// Finds out whether the database can be used: how many steps its schema took, and the name of its history.
fn begin<'a>(options: &'a Options, migrate: bool) -> BoxFuture<'a, Result<(usize, String)>> {
    Box::pin(async move {
        let mut db = config::connect(&options.writer).await?;
        let steps = if migrate { schema::migrate(&mut db).await? } else { 0 };
        let identity = schema::check(&mut db).await?;
        if options.apart {
            let mut replica = config::connect(&options.reader).await?;
            pools::is_same(&mut replica, &identity).await?;
        }
        Ok((steps, identity))
    })
}

fn slow() -> Error {
    Error::new(ErrorKind::Timeout, ORIGIN, "the database does not answer")
}

/// The position in a column.
fn place(bytes: &[u8]) -> Result<Position> {
    Position::from_bytes(bytes).ok_or_else(|| Error::new(ErrorKind::Corrupt, ORIGIN, "a position is not 24 bytes long"))
}

/// Runs `$call` with a connection of the writers or readers, for as long as it may take.
macro_rules! with {
    ($pools:expr, $which:ident, |$db:ident| $call:expr) => {{
        let mut connection = $pools.$which().await?;
        let outcome = timeout(CALL, async {
            let $db: &mut PgConnection = &mut connection;
            $call.await
        })
        .await;
        $pools.done(connection, outcome.unwrap_or_else(|_| Err(slow())), stringify!($which))
    }};
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

    async fn commit(&self, lease: &Lease, batch: &[Stored], through: Position) -> Result<Vec<(usize, Exception)>> {
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
        with!(self.pools, reader, |db| reader::page(db, log, room, query))
    }

    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomSummary>> {
        with!(self.pools, reader, |db| reader::rooms(db, after.map_or("", RoomId::as_str), limit))
    }

    async fn status(&self) -> StoreStatus {
        match timeout(STATUS, self.pools.look()).await {
            Ok(Ok(detail)) => StoreStatus { healthy: true, detail },
            Ok(Err(error)) => StoreStatus { healthy: false, detail: error.to_string() },
            Err(_) => StoreStatus { healthy: false, detail: slow().to_string() },
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

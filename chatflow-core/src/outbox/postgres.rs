//! The outbox in a PostgreSQL database.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgListener;
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{OutboxRow, OutboxTable, compose};
use crate::store::postgres::failure;
use crate::{Backoff, Draft, Engine, MessageId, PublishError, Result, RoomId};

/// Where a commit is told. Of the whole database: a table of another schema only causes a look in vain.
const CHANNEL: &str = "chatflow_outbox";

/// Pauses between attempts to listen, meanwhile the table is looked at.
const LISTEN_AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Held while the tables are made. A number of nobody else's.
const LOCK: i64 = 0x6368_6174_6f75_7462;

/// The outbox in the application's own PostgreSQL database, 13 or later: writes within the application's transactions, and is the table
/// for a [`Forwarder`](super::Forwarder).
///
/// ```no_run
/// # use std::sync::Arc;
/// # use chatflow_core::outbox::{Forwarder, ForwarderConfig, PostgresOutbox};
/// # use chatflow_core::{Draft, Engine, RoomId};
/// # async fn run(engine: Engine, pool: sqlx::PgPool, room: RoomId, draft: Draft) -> Result<(), Box<dyn std::error::Error>> {
/// PostgresOutbox::migrate(&mut *pool.acquire().await?).await?;
/// let forwarder = Forwarder::start(&engine, Arc::new(PostgresOutbox::new(pool.clone())), ForwarderConfig::default())?;
///
/// let mut transaction = pool.begin().await?;
/// sqlx::query("UPDATE orders SET state = 'packed' WHERE id = 17").execute(&mut *transaction).await?;
/// let id = PostgresOutbox::publish(&mut transaction, &engine, &room, draft).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PostgresOutbox {
    pool: PgPool,
    news: Arc<Notify>,
    listener: OnceLock<Listener>,
}

/// A task that listens, and ends with this.
#[derive(Debug)]
struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PostgresOutbox {
    /// The outbox in the database of `pool`, of which it uses up to two connections: one that listens as long as it leads, one now and
    /// then. Without a pooler in between that does not keep sessions: through one, commits are found by looking only.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, news: Arc::default(), listener: OnceLock::new() }
    }

    /// Makes the tables, where they are missing: `chatflow_outbox`, into which a user who publishes may INSERT, and
    /// `chatflow_outbox_lead`. A user who forwards may SELECT and DELETE in the first, UPDATE and SELECT in the second.
    ///
    /// # Errors
    /// The database refuses, or can't be reached.
    pub async fn migrate(connection: &mut PgConnection) -> Result<()> {
        let mut tx = connection.begin().await.map_err(failure::error)?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await.map_err(failure::error)?;
        tx.execute(include_str!("schema/postgres.sql")).await.map_err(failure::error)?;
        tx.commit().await.map_err(failure::error)
    }

    /// Writes a message into the outbox, within the transaction that `connection` is in (a [`sqlx::Transaction`] dereferences to its
    /// connection). It is published in `room` if and once that commits, as by [`Engine::publish`]: the validator and the hooks
    /// decide here and now, and what they refuse was not written. The id of the message, which stays.
    ///
    /// # Cancel safety
    /// As of any statement: when dropped, roll the transaction back.
    ///
    /// # Errors
    /// [`PublishError::Invalid`]; [`PublishError::Failed`] when it is larger than the broker takes, or the database refused, which ends
    /// the transaction.
    pub async fn publish(connection: &mut PgConnection, engine: &Engine, room: &RoomId, draft: Draft) -> Result<MessageId, PublishError> {
        let (id, entry) = compose(engine, room, &draft)?;
        let sql = "INSERT INTO chatflow_outbox (id, entry) VALUES ($1, $2) RETURNING pg_notify('chatflow_outbox', '')";
        let written = sqlx::query(sql).bind(id).bind(&entry[..]).execute(connection).await;
        written.map_err(failure::error)?;
        Ok(id)
    }
}

/// Tells `news` of every commit, and of every time at which one may have been missed.
async fn listen(pool: PgPool, news: Arc<Notify>) {
    for attempt in 0.. {
        let began = tokio::time::Instant::now();
        let Err(error) = hear(&pool, &news).await;
        tracing::debug!(%error, "commits of the outbox are not heard of; it is looked at");
        let attempt = if began.elapsed() > Duration::from_secs(60) { 0 } else { attempt };
        tokio::time::sleep(LISTEN_AGAIN.delay(attempt)).await;
    }
}

async fn hear(pool: &PgPool, news: &Notify) -> Result<Infallible, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    news.notify_one();
    loop {
        // Also where the connection was lost and made again: something may have been told meanwhile.
        listener.try_recv().await?;
        news.notify_one();
    }
}

#[async_trait]
impl OutboxTable for PostgresOutbox {
    async fn lead(&self, holder: &str, lease: Duration) -> Result<bool> {
        let sql = "UPDATE chatflow_outbox_lead SET holder = $1, expires = clock_timestamp() + $2 * interval '1 ms'
                   WHERE one = 1 AND (holder = $1 OR expires <= clock_timestamp())";
        let milliseconds = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let taken = sqlx::query(sql).bind(holder).bind(milliseconds).execute(&self.pool).await;
        Ok(taken.map_err(failure::error)?.rows_affected() == 1)
    }

    async fn resign(&self, holder: &str) -> Result<()> {
        let sql = "UPDATE chatflow_outbox_lead SET expires = '-infinity' WHERE one = 1 AND holder = $1";
        sqlx::query(sql).bind(holder).execute(&self.pool).await.map(|_| ()).map_err(failure::error)
    }

    async fn first(&self, limit: usize) -> Result<Vec<OutboxRow>> {
        let sql = "SELECT number, id, entry FROM chatflow_outbox ORDER BY number LIMIT $1";
        let rows = sqlx::query_as(sql).bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(&self.pool).await;
        let rows: Vec<(i64, MessageId, Vec<u8>)> = rows.map_err(failure::error)?;
        Ok(rows.into_iter().map(|(number, id, entry)| OutboxRow::new(number, id, entry.into())).collect())
    }

    async fn remove(&self, numbers: &[i64]) -> Result<()> {
        let sql = "DELETE FROM chatflow_outbox WHERE number = ANY($1)";
        sqlx::query(sql).bind(numbers).execute(&self.pool).await.map(|_| ()).map_err(failure::error)
    }

    async fn news(&self) {
        self.listener.get_or_init(|| Listener(tokio::spawn(listen(self.pool.clone(), Arc::clone(&self.news)))));
        self.news.notified().await;
    }
}

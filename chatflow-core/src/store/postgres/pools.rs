//! Connections: some to write, some to read.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor, PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use super::config::{Options, PostgresConfig};
use super::{ORIGIN, failure};
use crate::{Error, ErrorKind, Result};

/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(3);

/// How long closing waits for what is under way.
const CLOSE: Duration = Duration::from_secs(3);

/// What a writer's connection is told once. A node that stands still in the middle of a commit is cut off, so that it does not hold
/// the lock on its log for ever.
const WRITER: &str = "SET lock_timeout = '2s'; SET statement_timeout = '5s'; SET idle_in_transaction_session_timeout = '3s';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

const READER: &str = "SET statement_timeout = '5s'; SET default_transaction_read_only = on";

/// The connections of a store.
pub(super) struct Pools {
    writers: PgPool,
    readers: PgPool,
    apart: bool,
    /// Why the last call of a writer failed, if it did.
    trouble: Mutex<Option<String>>,
}

impl Pools {
    pub(super) fn new(config: &PostgresConfig, options: Options) -> Self {
        let pool = |most: u32, settings: &'static str, options: PgConnectOptions| {
            let pool = PgPoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE).acquire_slow_threshold(ACQUIRE);
            let pool = pool.after_connect(move |db, _| Box::pin(async move { db.execute(settings).await.map(|_| ()) }));
            pool.connect_lazy_with(options)
        };
        Self {
            writers: pool(config.writers, WRITER, options.writer),
            readers: pool(config.readers, READER, options.reader),
            apart: options.apart,
            trouble: Mutex::default(),
        }
    }

    pub(super) async fn writer(&self) -> Result<PoolConnection<Postgres>> {
        let connection = self.writers.acquire().await.map_err(failure::error);
        connection.inspect_err(|error| self.note(Some(error)))
    }

    pub(super) async fn reader(&self) -> Result<PoolConnection<Postgres>> {
        self.readers.acquire().await.map_err(failure::error)
    }

    /// One that sees everything that was committed.
    pub(super) async fn primary(&self) -> Result<PoolConnection<Postgres>> {
        if self.apart { self.writer().await } else { self.reader().await }
    }

    /// Gives a connection back, or up: one that was not waited for is good for nothing any more.
    pub(super) fn done<T>(&self, connection: PoolConnection<Postgres>, outcome: Result<T>, of: &str) -> Result<T> {
        if matches!(&outcome, Err(error) if error.kind() == ErrorKind::Timeout) {
            drop(connection.detach());
        }
        if of == "writer" {
            self.note(outcome.as_ref().err());
        }
        outcome
    }

    fn note(&self, error: Option<&Error>) {
        let trouble = match error {
            None => None,
            // These are the caller's affair.
            Some(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Fenced | ErrorKind::Closed) => return,
            // A lease that another node has is as it should be.
            Some(error) if crate::store::batch::is_held(error) => None,
            Some(error) => Some(error.to_string()),
        };
        let mut kept = self.trouble.lock();
        match (&*kept, &trouble) {
            (None, Some(error)) => tracing::warn!(%error, "the history can't be written"),
            (Some(_), None) => tracing::info!("the history can be written again"),
            _ => {}
        }
        *kept = trouble;
    }

    /// Finds out whether reading works, and writing, if it did not the last time. How the database is set up.
    pub(super) async fn look(&self) -> Result<String> {
        let mut reader = self.reader().await?;
        let fsync = sqlx::query_scalar("SELECT current_setting('fsync')").fetch_one(&mut *reader).await;
        let fsync: String = fsync.map_err(failure::error)?;
        if self.trouble.lock().is_some() {
            // Publishers may be refused meanwhile, so that no commit comes that would show the recovery.
            let mut writer = self.writer().await?;
            let probe = sqlx::query("UPDATE chatflow_meta SET value = clock_timestamp()::text WHERE name = 'probe'");
            let outcome = probe.execute(&mut *writer).await.map(|_| ()).map_err(failure::error);
            self.done(writer, outcome, "writer")?;
        }
        let synced = if fsync == "on" { "synced at every commit" } else { "not synced: fsync is off" };
        Ok(format!("{synced}; {}", if self.apart { "read at a replica" } else { "read where it is written" }))
    }

    pub(super) async fn close(&self) {
        let closing = async { tokio::join!(self.writers.close(), self.readers.close()) };
        // What has not ended by then is cut off with the last connection's owner.
        let _ = timeout(CLOSE, closing).await;
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").field("writers", &self.writers.size()).field("readers", &self.readers.size()).finish_non_exhaustive()
    }
}

/// Checks that the readers' database holds the same history.
pub(super) async fn is_same(replica: &mut PgConnection, identity: &str) -> Result<()> {
    let theirs = sqlx::query_scalar("SELECT value FROM chatflow_meta WHERE name = 'identity'").fetch_optional(replica).await;
    let theirs: Option<String> = theirs.map_err(failure::opening)?;
    if theirs.as_deref() == Some(identity) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, ORIGIN, "the reader URL leads to another history: it must be a replica of the database"))
}

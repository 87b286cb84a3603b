//! Connections: some to write, some to read.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::{Connection, Database, Pool};
use tokio::time::timeout;

use super::DatabaseConfig;
use crate::store::batch;
use crate::{Error, ErrorKind, Result};

/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(3);

/// How long closing waits for what is under way.
const CLOSE: Duration = Duration::from_secs(3);

/// What a database says of itself, and needs to be told.
pub(in crate::store) struct Dialect<DB: Database> {
    pub(in crate::store) origin: &'static str,
    /// Told to each new connection.
    pub(in crate::store) writer: Greeting<DB>,
    pub(in crate::store) reader: Greeting<DB>,
    pub(in crate::store) failure: fn(sqlx::Error) -> Error,
}

type Greeting<DB> = for<'a> fn(&'a mut <DB as Database>::Connection) -> BoxFuture<'a, Result<(), sqlx::Error>>;

type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// The connections of a store.
pub(in crate::store) struct Pools<DB: Database> {
    writers: Pool<DB>,
    readers: Pool<DB>,
    /// Whether readers are at a replica.
    pub(in crate::store) apart: bool,
    failure: fn(sqlx::Error) -> Error,
    origin: &'static str,
    /// Why the last call of a writer failed, if it did.
    trouble: Mutex<Option<String>>,
}

impl<DB: Database> Pools<DB> {
    /// Connections to `writer`, and to a replica at `reader` if there is one. None is made before it is needed.
    pub(in crate::store) fn new(config: &DatabaseConfig, dialect: &Dialect<DB>, writer: Options<DB>, reader: Option<Options<DB>>) -> Self {
        let pool = |most: u32, greet: Greeting<DB>, options: Options<DB>| {
            let pool = PoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE).acquire_slow_threshold(ACQUIRE);
            pool.after_connect(move |db, _| greet(db)).connect_lazy_with(options)
        };
        let apart = reader.is_some();
        let reader = reader.unwrap_or_else(|| writer.clone());
        Self {
            writers: pool(config.writers, dialect.writer, writer),
            readers: pool(config.readers, dialect.reader, reader),
            apart,
            failure: dialect.failure,
            origin: dialect.origin,
            trouble: Mutex::default(),
        }
    }

    pub(in crate::store) async fn writer(&self) -> Result<PoolConnection<DB>> {
        let connection = self.writers.acquire().await.map_err(self.failure);
        connection.inspect_err(|error| self.note(Some(error)))
    }

    /// One that writes what nobody waits for: its failures are not the history's.
    pub(in crate::store) async fn projector(&self) -> Result<PoolConnection<DB>> {
        self.writers.acquire().await.map_err(self.failure)
    }

    pub(in crate::store) async fn reader(&self) -> Result<PoolConnection<DB>> {
        self.readers.acquire().await.map_err(self.failure)
    }

    /// One that sees everything that was committed.
    pub(in crate::store) async fn primary(&self) -> Result<PoolConnection<DB>> {
        if self.apart { self.writer().await } else { self.reader().await }
    }

    /// Gives a connection back, or up: one that was not waited for is good for nothing any more.
    pub(in crate::store) fn done<T>(&self, lent: Lent<DB>, outcome: Result<T>, of: &str) -> Result<T> {
        match &outcome {
            Err(error) if error.kind() == ErrorKind::Timeout => drop(lent),
            _ => lent.back(),
        }
        if of == "writer" {
            self.note(outcome.as_ref().err());
        }
        outcome
    }

    /// Whether the last call of a writer failed. Publishers may be refused meanwhile, so that no commit comes that would show the
    /// recovery: it has to be looked for.
    pub(in crate::store) fn is_troubled(&self) -> bool {
        self.trouble.lock().is_some()
    }

    fn note(&self, error: Option<&Error>) {
        let trouble = match error {
            None => None,
            // These are the caller's affair.
            Some(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Fenced | ErrorKind::Closed) => return,
            // A lease that another node has is as it should be.
            Some(error) if batch::is_held(error) => None,
            Some(error) => Some(error.to_string()),
        };
        let mut kept = self.trouble.lock();
        match (&*kept, &trouble) {
            (None, Some(error)) => tracing::warn!(store = self.origin, %error, "the history can't be written"),
            (Some(_), None) => tracing::info!(store = self.origin, "the history can be written again"),
            _ => {}
        }
        *kept = trouble;
    }

    pub(in crate::store) async fn close(&self) {
        let closing = async { tokio::join!(self.writers.close(), self.readers.close()) };
        // What has not ended by then is cut off with the last connection's owner.
        let _ = timeout(CLOSE, closing).await;
    }
}

/// A connection in use. Whoever is dropped in the middle of a call gives it up: what the database makes of a transaction that was about to
/// begin is not known then, and the next call must not find itself in it.
pub(in crate::store) struct Lent<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> Lent<DB> {
    pub(in crate::store) fn new(connection: PoolConnection<DB>) -> Self {
        Self(Some(connection))
    }

    /// `None` once it was given back.
    pub(in crate::store) fn connection(&mut self) -> Option<&mut DB::Connection> {
        self.0.as_deref_mut()
    }

    fn back(mut self) {
        drop(self.0.take());
    }
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }
}

impl<DB: Database> fmt::Debug for Pools<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").field("writers", &self.writers.size()).field("readers", &self.readers.size()).finish_non_exhaustive()
    }
}

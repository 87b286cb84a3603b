//! The outbox in an SQLite file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, params};

use super::{OutboxRow, OutboxTable, compose};
use crate::store::sqlite::failure;
use crate::{Draft, Engine, Error, ErrorKind, MessageId, PublishError, Result, RoomId, Timestamp};

/// How long a lock of somebody else's on the file is waited for.
const BUSY: Duration = Duration::from_secs(2);

/// The outbox in the application's own SQLite file: writes within the application's transactions, which are `rusqlite`'s, and is the
/// table for a [`Forwarder`](super::Forwarder), which looks at it from time to time. Another file than the history's, which belongs
/// to the engine alone.
#[derive(Debug)]
pub struct SqliteOutbox {
    /// Held for the length of a call, on a thread that may block.
    db: Arc<Mutex<Connection>>,
}

impl SqliteOutbox {
    /// The outbox in the file at `path`, on a connection of its own.
    ///
    /// # Errors
    /// There is no such file, or it can't be opened.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let open = move || {
            let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            db.busy_timeout(BUSY)?;
            Ok(db)
        };
        Ok(Self { db: Arc::new(Mutex::new(blocking(open).await?)) })
    }

    /// Makes the tables, where they are missing: `chatflow_outbox` and `chatflow_outbox_lead`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn migrate(connection: &Connection) -> Result<()> {
        connection.execute_batch(include_str!("schema/sqlite.sql")).map_err(|error| failure::error(&error))
    }

    /// Writes a message into the outbox, within the transaction that `connection` is in (a [`rusqlite::Transaction`] and a
    /// [`rusqlite::Savepoint`] dereference to their connection). It is published in `room` if and once that commits, as by
    /// [`Engine::publish`]: the validator and the hooks decide here and now, and what they refuse was not written. The id of the
    /// message, which stays. Blocks as SQLite does.
    ///
    /// # Errors
    /// [`PublishError::Invalid`]; [`PublishError::Failed`] when it is larger than the broker takes, or SQLite refused: roll the
    /// transaction back.
    pub fn publish(connection: &Connection, engine: &Engine, room: &RoomId, draft: Draft) -> Result<MessageId, PublishError> {
        let (id, entry) = compose(engine, room, &draft)?;
        let write = || {
            let mut statement = connection.prepare_cached("INSERT INTO chatflow_outbox (id, entry) VALUES (?, ?)")?;
            statement.execute(params![&id.as_bytes()[..], &entry[..]])
        };
        write().map_err(|error| failure::error(&error))?;
        Ok(id)
    }

    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
        let db = Arc::clone(&self.db);
        blocking(move || work(&mut db.lock())).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Error::new(ErrorKind::Internal, "outbox", "a call panicked").with_source(error))?;
    done.map_err(|error| failure::error(&error))
}

#[async_trait]
impl OutboxTable for SqliteOutbox {
    // Whoever shares the file is on this machine: its clock is one for all.
    async fn lead(&self, holder: &str, lease: Duration) -> Result<bool> {
        let (holder, now) = (holder.to_owned(), Timestamp::now().0);
        let until = now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        // A look alone takes no lock from the application.
        let look = "SELECT holder = ?1 OR expires <= ?2 FROM chatflow_outbox_lead WHERE one = 1";
        let take = "UPDATE chatflow_outbox_lead SET holder = ?1, expires = ?3 WHERE one = 1 AND (holder = ?1 OR expires <= ?2)";
        self.with(move |db| {
            let may: bool = db.prepare_cached(look)?.query_row(params![holder, now], |row| row.get(0))?;
            Ok(may && db.prepare_cached(take)?.execute(params![holder, now, until])? == 1)
        })
        .await
    }

    async fn resign(&self, holder: &str) -> Result<()> {
        let holder = holder.to_owned();
        let sql = "UPDATE chatflow_outbox_lead SET expires = 0 WHERE one = 1 AND holder = ?";
        self.with(move |db| db.execute(sql, [holder]).map(|_| ())).await
    }

    async fn first(&self, limit: usize) -> Result<Vec<OutboxRow>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.with(move |db| {
            let mut statement = db.prepare_cached("SELECT number, id, entry FROM chatflow_outbox ORDER BY number LIMIT ?")?;
            let row = |row: &rusqlite::Row<'_>| {
                Ok(OutboxRow::new(row.get(0)?, MessageId::from_bytes(row.get(1)?), row.get::<_, Vec<u8>>(2)?.into()))
            };
            statement.query_map([limit], row)?.collect()
        })
        .await
    }

    async fn remove(&self, numbers: &[i64]) -> Result<()> {
        let numbers = numbers.to_vec();
        self.with(move |db| {
            let tx = db.transaction()?;
            for number in numbers {
                tx.prepare_cached("DELETE FROM chatflow_outbox WHERE number = ?")?.execute([number])?;
            }
            tx.commit()
        })
        .await
    }
}

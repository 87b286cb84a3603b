//! The outbox in a MariaDB or MySQL database.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Executor, MySqlConnection, MySqlPool};

use super::{OutboxRow, OutboxTable, compose};
use crate::store::mysql::failure;
use crate::{Draft, Engine, Error, ErrorKind, MessageId, PublishError, Result, RoomId};

/// The database's clock, in milliseconds.
macro_rules! clock {
    () => {
        "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000 AS SIGNED)"
    };
}

/// The outbox in the application's own database of MariaDB, 10.6 or later, or MySQL 8: writes within the application's transactions,
/// and is the table for a [`Forwarder`](super::Forwarder), which looks at it from time to time.
#[derive(Debug)]
pub struct MySqlOutbox {
    pool: MySqlPool,
}

impl MySqlOutbox {
    /// The outbox in the database of `pool`, of which it uses a connection now and then.
    pub fn new(pool: MySqlPool) -> Self {
        Self { pool }
    }

    /// Makes the tables, where they are missing: `chatflow_outbox`, into which a user who publishes may INSERT, and
    /// `chatflow_outbox_lead`. A user who forwards may SELECT and DELETE in the first, UPDATE and SELECT in the second. Ends the
    /// transaction that the connection may be in, as the database does whenever a table is made.
    ///
    /// # Errors
    /// The database refuses, or can't be reached.
    pub async fn migrate(connection: &mut MySqlConnection) -> Result<()> {
        for statement in include_str!("schema/mysql.sql").split(";\n") {
            connection.execute(statement).await.map_err(failure::error)?;
        }
        Ok(())
    }

    /// Writes a message into the outbox, within the transaction that `connection` is in (a [`sqlx::Transaction`] dereferences to its
    /// connection). It is published in `room` if and once that commits, as by [`Engine::publish`]: the validator and the hooks
    /// decide here and now, and what they refuse was not written. The id of the message, which stays.
    ///
    /// # Cancel safety
    /// As of any statement: when dropped, roll the transaction back.
    ///
    /// # Errors
    /// [`PublishError::Invalid`]; [`PublishError::Failed`] when it is larger than the broker takes, or the database refused: roll the
    /// transaction back.
    pub async fn publish(
        connection: &mut MySqlConnection,
        engine: &Engine,
        room: &RoomId,
        draft: Draft,
    ) -> Result<MessageId, PublishError> {
        let (id, entry) = compose(engine, room, &draft)?;
        let sql = "INSERT INTO chatflow_outbox (id, entry) VALUES (?, ?)";
        let written = sqlx::query(sql).bind(&id.as_bytes()[..]).bind(&entry[..]).execute(connection).await;
        written.map_err(failure::error)?;
        Ok(id)
    }
}

#[async_trait]
impl OutboxTable for MySqlOutbox {
    async fn lead(&self, holder: &str, lease: Duration) -> Result<bool> {
        let sql = concat!(
            "UPDATE chatflow_outbox_lead SET holder = ?, expires = ",
            clock!(),
            " + ? WHERE one = 1 AND (holder = ? OR expires <= ",
            clock!(),
            ")"
        );
        let milliseconds = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let taken = sqlx::query(sql).bind(holder.as_bytes()).bind(milliseconds).bind(holder.as_bytes()).execute(&self.pool).await;
        // The driver counts the rows that were found, changed or not.
        Ok(taken.map_err(failure::error)?.rows_affected() == 1)
    }

    async fn resign(&self, holder: &str) -> Result<()> {
        let sql = "UPDATE chatflow_outbox_lead SET expires = 0 WHERE one = 1 AND holder = ?";
        sqlx::query(sql).bind(holder.as_bytes()).execute(&self.pool).await.map(|_| ()).map_err(failure::error)
    }

    async fn first(&self, limit: usize) -> Result<Vec<OutboxRow>> {
        let sql = "SELECT number, id, entry FROM chatflow_outbox ORDER BY number LIMIT ?";
        let rows = sqlx::query_as(sql).bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(&self.pool).await;
        let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = rows.map_err(failure::error)?;
        let corrupt = |_| Error::new(ErrorKind::Corrupt, "outbox", "an id is not 16 bytes long");
        let row = |(number, id, entry): (_, Vec<u8>, Vec<u8>)| {
            Ok(OutboxRow::new(number, MessageId::from_slice(&id).map_err(corrupt)?, entry.into()))
        };
        rows.into_iter().map(row).collect()
    }

    async fn remove(&self, numbers: &[i64]) -> Result<()> {
        for numbers in numbers.chunks(1_000) {
            let places = vec!["?"; numbers.len()].join(", ");
            let sql = format!("DELETE FROM chatflow_outbox WHERE number IN ({places})");
            let mut query = sqlx::query(&sql).persistent(false);
            for number in numbers {
                query = query.bind(number);
            }
            query.execute(&self.pool).await.map_err(failure::error)?;
        }
        Ok(())
    }
}

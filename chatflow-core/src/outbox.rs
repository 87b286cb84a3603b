//! Messages in the application's own transactions: they go out if and only if the transaction commits.
//!
//! The application writes a message into a table of its own database, `chatflow_outbox`, inside the transaction that the message is about.
//! It is validated and encoded first, as by [`Engine::publish`], and gets its id then. A [`Forwarder`] takes what was committed
//! and publishes it under that id, and removes a row only once the history has the message (without a history: once the broker
//! holds it). The database need not be the history's.
//!
//! | | in a transaction of | table | who forwards is woken |
//! |---|---|---|---|
//! | PostgreSQL | `sqlx` | `PostgresOutbox` | by `NOTIFY`, at the commit |
//! | MariaDB, MySQL | `sqlx` | `MySqlOutbox` | by looking |
//! | SQLite | `rusqlite` | `SqliteOutbox` | by looking |
//!
//! SQLite goes through `rusqlite`, because one program can link one SQLite: that of `sqlx` 0.8 and 0.9 and that of `rusqlite` 0.41, which
//! the history uses, are different ones, and cargo refuses to have both.
//!
//! # What is promised
//! - **Rolled back, nothing goes out**: until the commit nobody else sees the row.
//! - **Committed, it goes out once.** A row whose message went out and that could not be removed, because of a crash perhaps, is
//!   published again, and the engine finds that it was there: by the history however long ago that was, without a history within
//!   the bounds of [`Settings::dedup_window`](crate::Settings::dedup_window).
//! - **In order.** Messages of one room and one transaction keep the order in which they were written, and so do those of transactions
//!   that came one after the other: B began to write after A's commit had returned. Of two that ran at the same time, either may come
//!   first: rows get their numbers before the commit, so a lower number can appear later. It is not lost: forwarding begins with the
//!   lowest number that is there, not after the last that was seen. A broker that loses its log may lose order with it.
//! - **One that can never be published** (its id was used for another message; the broker takes no message of this size any more; it was
//!   written by a program that this one can't read) becomes a [dead letter](crate::DeadLetter), under the place epoch 0, and is out of
//!   the way. One that can't be published now is tried again, with pauses that grow.
//! - **Any number of nodes** may run a forwarder on one table: one leads by a lease, and another takes over when it ends, at once, or
//!   is not heard of, after the lease.

mod batch;
mod config;
mod forwarder;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use config::ForwarderConfig;
pub use forwarder::Forwarder;
#[cfg(feature = "mysql")]
pub use mysql::MySqlOutbox;
#[cfg(feature = "postgres")]
pub use postgres::PostgresOutbox;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteOutbox;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Draft, Engine, Error, ErrorKind, MessageId, PublishError, Result, RoomId};

/// A committed row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxRow {
    /// Its number: later rows have greater ones.
    pub number: i64,
    /// The message's id.
    pub id: MessageId,
    /// The [encoded](crate::Message::encode) message.
    pub entry: Bytes,
}

impl OutboxRow {
    /// A row; tables make them.
    pub fn new(number: i64, id: MessageId, entry: Bytes) -> Self {
        Self { number, id, entry }
    }
}

/// The table in which messages wait, as a [`Forwarder`] sees it. How a row gets into it inside a transaction is each database's own.
///
/// # Guarantees
/// 1. **Committed.** [`first`](Self::first) shows rows whose transaction has committed, all of them, in the order of their numbers. A
///    row that was written after another was committed has a greater number.
/// 2. **One leads.** [`lead`](Self::lead) is true for one holder at a time, by one clock for all.
///
/// # Errors
/// The database does not answer or refuses; the forwarder goes on later, whatever the kind.
///
/// # Cancel safety
/// A dropped call may have had its effect; each may be repeated. Nothing is lost by dropping [`news`](Self::news).
#[async_trait]
pub trait OutboxTable: Debug + Send + Sync + 'static {
    /// Takes the lead for `lease` from now on, or keeps it; false while another holder has it.
    ///
    /// # Errors
    /// See above.
    async fn lead(&self, holder: &str, lease: Duration) -> Result<bool>;

    /// Gives the lead away, if `holder` has it.
    ///
    /// # Errors
    /// The lease runs out by itself then.
    async fn resign(&self, holder: &str) -> Result<()>;

    /// The first rows, at most `limit`.
    ///
    /// # Errors
    /// See above.
    async fn first(&self, limit: usize) -> Result<Vec<OutboxRow>>;

    /// Removes these rows, as far as they are there.
    ///
    /// # Errors
    /// See above.
    async fn remove(&self, numbers: &[i64]) -> Result<()>;

    /// Returns when something may have been committed. By default never: then the table is looked at from time to time.
    async fn news(&self) {
        std::future::pending().await
    }
}

/// What is written of `draft`: the message's id and its entry.
#[allow(dead_code, reason = "only the tables behind features use it")]
fn compose(engine: &Engine, room: &RoomId, draft: &Draft) -> Result<(MessageId, Bytes), PublishError> {
    let message = engine.message(room, draft)?;
    let entry = message.encode();
    let most = engine.largest_entry();
    if entry.len() > most {
        let text = format!("the message has {} bytes, the broker takes {most}", entry.len());
        return Err(Error::new(ErrorKind::Invalid, "outbox", text).into());
    }
    Ok((message.id, entry))
}

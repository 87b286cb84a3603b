//! Somebody who keeps everybody else from writing.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection as SqliteConnection;
use sqlx::{Connection, MySqlConnection, PgConnection};

use crate::Service;

/// A lock on a history, so that nothing can be committed until it is freed or dropped. Readers go on.
#[derive(Debug)]
pub struct DatabaseLock(Holder);

#[derive(Debug)]
enum Holder {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

impl DatabaseLock {
    /// The write lock of a server's own file.
    ///
    /// # Panics
    /// It can't be had within 10 s.
    pub fn of_file(path: &Path) -> Self {
        let db = SqliteConnection::open(path).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(Holder::Sqlite(db))
    }

    /// The table of messages in a database, once those who are at it are done.
    ///
    /// # Panics
    /// There is no such table.
    pub async fn of(database: &Service) -> Self {
        let url = database.url();
        if url.starts_with("postgres:") {
            let mut db = PgConnection::connect(&url).await.unwrap();
            sqlx::raw_sql("BEGIN; LOCK TABLE chatflow_messages IN SHARE MODE").execute(&mut db).await.unwrap();
            Self(Holder::Postgres(db))
        } else {
            let mut db = MySqlConnection::connect(&url).await.unwrap();
            sqlx::raw_sql("LOCK TABLES chatflow_messages READ").execute(&mut db).await.unwrap();
            Self(Holder::MySql(db))
        }
    }

    /// Lets others write again.
    pub async fn free(self) {
        match self.0 {
            Holder::Sqlite(db) => drop(db),
            Holder::Postgres(db) => db.close().await.unwrap(),
            Holder::MySql(db) => db.close().await.unwrap(),
        }
    }
}

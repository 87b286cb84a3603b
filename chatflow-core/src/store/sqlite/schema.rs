//! The tables, and how an older file becomes a current one.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{ORIGIN, failure};
use crate::{Error, ErrorKind, Result};

/// Each takes the schema one version on; its place in the list is the version, kept in `user_version`. Only ever append.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
];

/// A connection on which the schema is current, for the writer.
pub(super) fn prepare(path: &Path, busy: Duration) -> Result<Connection> {
    let mut db = connect(path, busy, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).map_err(|e| failure::error(&e))?;
    configure(&db).and_then(|()| migrate(&mut db)).map_err(|error| match error {
        Refused::Sqlite(error) => failure::error(&error),
        Refused::Newer(version) => {
            let known = MIGRATIONS.len();
            Error::new(ErrorKind::Config, ORIGIN, format!("the file has schema version {version}, this program knows up to {known}"))
        }
    })?;
    Ok(db)
}

/// A connection beside the process that has the file, which must be one that knows the same schema.
pub(super) fn beside(path: &Path, busy: Duration) -> Result<Connection> {
    let open = || {
        let db = connect(path, busy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.pragma_update(None, "synchronous", "FULL")?;
        // Checkpoints are the other's affair.
        db.pragma_update(None, "wal_autocheckpoint", 0)?;
        let version = db.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
        Ok((db, version))
    };
    let (db, version) = open().map_err(|error: rusqlite::Error| failure::error(&error))?;
    match version == MIGRATIONS.len() {
        true => Ok(db),
        false => Err(Error::new(ErrorKind::Config, ORIGIN, "the process that uses the file is of another version")),
    }
}

/// One more connection to a prepared file.
pub(super) fn connect(path: &Path, busy: Duration, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(busy)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(db)
}

enum Refused {
    Sqlite(rusqlite::Error),
    Newer(usize),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn configure(db: &Connection) -> Result<(), Refused> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    // An acknowledged commit survives a power cut, not just a crash of the process: sync the log at every commit.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "journal_size_limit", super::checkpoint::LARGEST_LOG)?;
    db.pragma_update(None, "cache_size", -64 * 1024)?;
    Ok(())
}

fn migrate(db: &mut Connection) -> Result<(), Refused> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: usize = tx.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    let missing = MIGRATIONS.get(version..).ok_or(Refused::Newer(version))?;
    for migration in missing {
        tx.execute_batch(migration)?;
    }
    tx.pragma_update(None, "user_version", MIGRATIONS.len() as u32)?;
    let keep = "INSERT INTO meta (name, value) VALUES ('identity', ?), ('secret', ?) ON CONFLICT DO NOTHING";
    tx.execute(keep, [uuid::Uuid::new_v4().to_string(), crate::accounts::new_secret()])?;
    Ok(tx.commit()?)
}

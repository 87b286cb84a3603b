//! Accounts in the file.

use async_trait::async_trait;
use bytestring::ByteString;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::SqliteStore;
use super::commit::Stop;
use super::writer::Request;
use crate::accounts::{self, Account, Accounts, Added};
use crate::{Result, Timestamp};

/// What the writer is to change.
pub(super) enum Change {
    Add(Account),
    Replace(Uuid, Account),
    Remove(String),
}

/// What became of it.
pub(super) enum Outcome {
    Done,
    NameTaken,
    UserTaken,
    /// There is none to change.
    Missing,
}

pub(super) fn change(db: &Connection, change: &Change) -> Result<Outcome, Stop> {
    match change {
        Change::Add(account) => add(db, account),
        Change::Replace(was, now) => {
            let sql = "UPDATE accounts SET password = ?, stamp = ?, ended = ?, changed = ?, edition = ? WHERE key = ? AND edition = ?";
            let (stamp, ended, edition) = (now.stamp.as_bytes(), now.ended_bytes(), now.edition.as_bytes());
            let row = params![&now.password[..], &stamp[..], ended, now.changed.0, &edition[..], now.key(), &was.as_bytes()[..]];
            Ok(there(db.prepare_cached(sql)?.execute(row)?))
        }
        Change::Remove(key) => Ok(there(db.prepare_cached("DELETE FROM accounts WHERE key = ?")?.execute([key])?)),
    }
}

fn add(db: &Connection, account: &Account) -> Result<Outcome, Stop> {
    let Account { name, user, password, stamp, created, changed, edition, .. } = account;
    let sql = "INSERT INTO accounts (key, name, user, password, stamp, ended, created, changed, edition)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let (name, user, password, stamp, edition) = (&name[..], &user[..], &password[..], &stamp.as_bytes()[..], &edition.as_bytes()[..]);
    let row = params![account.key(), name, user, password, stamp, account.ended_bytes(), created.0, changed.0, edition];
    if db.prepare_cached(sql)?.execute(row)? > 0 {
        return Ok(Outcome::Done);
    }
    let has_name = db.prepare_cached("SELECT 1 FROM accounts WHERE key = ?")?.exists([account.key()])?;
    Ok(if has_name { Outcome::NameTaken } else { Outcome::UserTaken })
}

fn there(rows: usize) -> Outcome {
    if rows > 0 { Outcome::Done } else { Outcome::Missing }
}

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    let text = |column| row.get_ref(column)?.as_str().map(ByteString::from).map_err(rusqlite::Error::from);
    let id = |column| row.get::<_, [u8; 16]>(column).map(Uuid::from_bytes);
    Ok(Account {
        name: text(0)?,
        user: text(1)?,
        password: text(2)?,
        stamp: id(3)?,
        ended: Account::ended_from(row.get_ref(4)?.as_blob()?),
        created: Timestamp(row.get(5)?),
        changed: Timestamp(row.get(6)?),
        edition: id(7)?,
    })
}

pub(super) fn find(db: &Connection, key: &str) -> rusqlite::Result<Option<Account>> {
    let sql = "SELECT name, user, password, stamp, ended, created, changed, edition FROM accounts WHERE key = ?";
    db.prepare_cached(sql)?.query_row([key], account).optional()
}

pub(super) fn list(db: &Connection, after: &str, limit: usize) -> rusqlite::Result<Vec<Account>> {
    let sql = "SELECT name, user, password, stamp, ended, created, changed, edition FROM accounts WHERE key > ? ORDER BY key LIMIT ?";
    db.prepare_cached(sql)?.query_map(params![after, i64::try_from(limit).unwrap_or(i64::MAX)], account)?.collect()
}

pub(super) fn secret(db: &Connection) -> rusqlite::Result<ByteString> {
    db.query_row("SELECT value FROM meta WHERE name = 'secret'", [], |row| row.get::<_, String>(0)).map(ByteString::from)
}

impl Outcome {
    /// Of an account that was to be added.
    pub(super) fn added(self) -> Added {
        match self {
            Self::UserTaken => Added::UserTaken,
            Self::NameTaken => Added::NameTaken,
            Self::Done | Self::Missing => Added::Done,
        }
    }

    /// Of one that was to be changed.
    pub(super) fn changed(self) -> bool {
        matches!(self, Self::Done)
    }
}

impl SqliteStore {
    async fn change(&self, change: Change) -> Result<Outcome> {
        self.write(|reply| Request::Account { change, reply }).await
    }
}

#[async_trait]
impl Accounts for SqliteStore {
    async fn add(&self, account: &Account) -> Result<Added> {
        self.change(Change::Add(account.clone())).await.map(Outcome::added)
    }

    async fn find(&self, name: &str) -> Result<Option<Account>> {
        let key = accounts::key(name);
        self.read(move |db| find(db, &key)).await
    }

    async fn replace(&self, was: Uuid, now: &Account) -> Result<bool> {
        self.change(Change::Replace(was, now.clone())).await.map(Outcome::changed)
    }

    async fn remove(&self, name: &str) -> Result<bool> {
        self.change(Change::Remove(accounts::key(name))).await.map(Outcome::changed)
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>> {
        let after = after.unwrap_or_default().to_owned();
        self.read(move |db| list(db, &after, limit)).await
    }

    async fn secret(&self) -> Result<ByteString> {
        self.read(secret).await
    }
}

//! Accounts in the database.

use async_trait::async_trait;
use bytestring::ByteString;
use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, Row};
use uuid::Uuid;

use super::{MySqlStore, ORIGIN, failure};
use crate::accounts::{self, Account, Accounts, Added};
use crate::store::sql::with;
use crate::{Error, ErrorKind, Result, Timestamp};

const COLUMNS: &str = "name, user, password, stamp, ended, created, changed, edition";

async fn add(db: &mut MySqlConnection, account: &Account) -> Result<Added> {
    let sql = format!("INSERT IGNORE INTO chatflow_accounts (`key`, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    let added = sqlx::query(&sql)
        .bind(account.key().into_bytes())
        .bind(account.name[..].as_bytes())
        .bind(account.user[..].as_bytes())
        .bind(account.password[..].as_bytes())
        .bind(&account.stamp.as_bytes()[..])
        .bind(account.ended_bytes())
        .bind(account.created.0)
        .bind(account.changed.0)
        .bind(&account.edition.as_bytes()[..])
        .execute(&mut *db)
        .await;
    if added.map_err(failure::error)?.rows_affected() > 0 {
        return Ok(Added::Done);
    }
    let has_name =
        sqlx::query_scalar("SELECT COUNT(*) FROM chatflow_accounts WHERE `key` = ?").bind(account.key().into_bytes()).fetch_one(db);
    let has_name: i64 = has_name.await.map_err(failure::error)?;
    Ok(if has_name > 0 { Added::NameTaken } else { Added::UserTaken })
}

async fn find(db: &mut MySqlConnection, key: &str) -> Result<Option<Account>> {
    let sql = format!("SELECT {COLUMNS} FROM chatflow_accounts WHERE `key` = ?");
    let row = sqlx::query(&sql).bind(key.as_bytes()).fetch_optional(db).await;
    row.map_err(failure::error)?.as_ref().map(account).transpose()
}

async fn replace(db: &mut MySqlConnection, was: Uuid, now: &Account) -> Result<bool> {
    let sql = "UPDATE chatflow_accounts SET password = ?, stamp = ?, ended = ?, changed = ?, edition = ? WHERE `key` = ? AND edition = ?";
    let replaced = sqlx::query(sql)
        .bind(now.password[..].as_bytes())
        .bind(&now.stamp.as_bytes()[..])
        .bind(now.ended_bytes())
        .bind(now.changed.0)
        .bind(&now.edition.as_bytes()[..])
        .bind(now.key().into_bytes())
        .bind(&was.as_bytes()[..])
        .execute(db)
        .await;
    Ok(replaced.map_err(failure::error)?.rows_affected() > 0)
}

async fn remove(db: &mut MySqlConnection, key: &str) -> Result<bool> {
    let removed = sqlx::query("DELETE FROM chatflow_accounts WHERE `key` = ?").bind(key.as_bytes()).execute(db).await;
    Ok(removed.map_err(failure::error)?.rows_affected() > 0)
}

async fn list(db: &mut MySqlConnection, after: &str, limit: usize) -> Result<Vec<Account>> {
    let sql = format!("SELECT {COLUMNS} FROM chatflow_accounts WHERE `key` > ? ORDER BY `key` LIMIT ?");
    let rows = sqlx::query(&sql).bind(after.as_bytes()).bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(db).await;
    rows.map_err(failure::error)?.iter().map(account).collect()
}

async fn secret(db: &mut MySqlConnection) -> Result<ByteString> {
    let secret = sqlx::query_scalar("SELECT CAST(value AS CHAR) FROM chatflow_meta WHERE name = 'secret'").fetch_optional(db).await;
    let secret: Option<String> = secret.map_err(failure::error)?;
    secret.map(ByteString::from).ok_or_else(|| Error::new(ErrorKind::Corrupt, ORIGIN, "the secret of the tokens is gone"))
}

fn account(row: &MySqlRow) -> Result<Account> {
    let bytes = |column: usize| row.try_get::<&[u8], _>(column).map_err(failure::error);
    let number = |column: usize| row.try_get::<i64, _>(column).map_err(failure::error);
    let corrupt = || Error::new(ErrorKind::Corrupt, ORIGIN, "an account can't be read back");
    let text = |column| ByteString::try_from(bytes(column)?).map_err(|_| corrupt());
    let id = |column| Uuid::from_slice(bytes(column)?).map_err(|_| corrupt());
    Ok(Account {
        name: text(0)?,
        user: text(1)?,
        password: text(2)?,
        stamp: id(3)?,
        ended: Account::ended_from(bytes(4)?),
        created: Timestamp(number(5)?),
        changed: Timestamp(number(6)?),
        edition: id(7)?,
    })
}

#[async_trait]
impl Accounts for MySqlStore {
    async fn add(&self, account: &Account) -> Result<Added> {
        with!(self.pools, writer, |db| add(db, account))
    }

    async fn find(&self, name: &str) -> Result<Option<Account>> {
        with!(self.pools, primary, |db| find(db, &accounts::key(name)))
    }

    async fn replace(&self, was: Uuid, now: &Account) -> Result<bool> {
        with!(self.pools, writer, |db| replace(db, was, now))
    }

    async fn remove(&self, name: &str) -> Result<bool> {
        with!(self.pools, writer, |db| remove(db, &accounts::key(name)))
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>> {
        with!(self.pools, primary, |db| list(db, after.unwrap_or_default(), limit))
    }

    async fn secret(&self) -> Result<ByteString> {
        with!(self.pools, primary, |db| secret(db))
    }
}

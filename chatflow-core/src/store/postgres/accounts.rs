//! Accounts in the database.

use async_trait::async_trait;
use bytestring::ByteString;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::text::{escaped, plain};
use super::{ORIGIN, PostgresStore, failure};
use crate::accounts::{self, Account, Accounts, Added};
use crate::store::sql::with;
use crate::{Error, ErrorKind, Result, Timestamp};

const COLUMNS: &str = r#"name, "user", password, stamp, ended, created, changed, edition"#;

async fn add(db: &mut PgConnection, account: &Account) -> Result<Added> {
    let sql = format!("INSERT INTO chatflow_accounts (key, {COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING");
    let added = sqlx::query(&sql)
        .bind(account.key())
        .bind(&account.name[..])
        .bind(escaped(&account.user))
        .bind(&account.password[..])
        .bind(account.stamp)
        .bind(account.ended_bytes())
        .bind(account.created.0)
        .bind(account.changed.0)
        .bind(account.edition)
        .execute(&mut *db)
        .await;
    if added.map_err(failure::error)?.rows_affected() > 0 {
        return Ok(Added::Done);
    }
    let has_name = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM chatflow_accounts WHERE key = $1)").bind(account.key()).fetch_one(db);
    let has_name: bool = has_name.await.map_err(failure::error)?;
    Ok(if has_name { Added::NameTaken } else { Added::UserTaken })
}

async fn find(db: &mut PgConnection, key: &str) -> Result<Option<Account>> {
    let sql = format!("SELECT {COLUMNS} FROM chatflow_accounts WHERE key = $1");
    let row = sqlx::query(&sql).bind(key).fetch_optional(db).await;
    row.map_err(failure::error)?.as_ref().map(account).transpose()
}

async fn replace(db: &mut PgConnection, was: Uuid, now: &Account) -> Result<bool> {
    let sql =
        "UPDATE chatflow_accounts SET password = $3, stamp = $4, ended = $5, changed = $6, edition = $7 WHERE key = $1 AND edition = $2";
    let replaced = sqlx::query(sql)
        .bind(now.key())
        .bind(was)
        .bind(&now.password[..])
        .bind(now.stamp)
        .bind(now.ended_bytes())
        .bind(now.changed.0)
        .bind(now.edition)
        .execute(db)
        .await;
    Ok(replaced.map_err(failure::error)?.rows_affected() > 0)
}

async fn remove(db: &mut PgConnection, key: &str) -> Result<bool> {
    let removed = sqlx::query("DELETE FROM chatflow_accounts WHERE key = $1").bind(key).execute(db).await;
    Ok(removed.map_err(failure::error)?.rows_affected() > 0)
}

async fn list(db: &mut PgConnection, after: &str, limit: usize) -> Result<Vec<Account>> {
    let sql = format!("SELECT {COLUMNS} FROM chatflow_accounts WHERE key > $1 ORDER BY key LIMIT $2");
    let rows = sqlx::query(&sql).bind(after).bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(db).await;
    rows.map_err(failure::error)?.iter().map(account).collect()
}

async fn secret(db: &mut PgConnection) -> Result<ByteString> {
    let secret = sqlx::query_scalar("SELECT value FROM chatflow_meta WHERE name = 'secret'").fetch_optional(db).await;
    let secret: Option<String> = secret.map_err(failure::error)?;
    secret.map(ByteString::from).ok_or_else(|| Error::new(ErrorKind::Corrupt, ORIGIN, "the secret of the tokens is gone"))
}

fn account(row: &PgRow) -> Result<Account> {
    let read = || {
        Ok(Account {
            name: row.try_get::<&str, _>(0)?.into(),
            user: plain(row.try_get(1)?),
            password: row.try_get::<&str, _>(2)?.into(),
            stamp: row.try_get(3)?,
            ended: Account::ended_from(row.try_get(4)?),
            created: Timestamp(row.try_get(5)?),
            changed: Timestamp(row.try_get(6)?),
            edition: row.try_get(7)?,
        })
    };
    read().map_err(failure::error)
}

#[async_trait]
impl Accounts for PostgresStore {
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

//! The tables, and how an older database becomes a current one.

use sqlx::{Connection, Executor, PgConnection};

use super::{ORIGIN, failure};
use crate::{Error, ErrorKind, Result};

/// Each takes the schema one version on; its place in the list is the version, kept in `chatflow_meta`. Only ever append.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
];

/// Held while the schema is changed, so that of nodes that start together one does it. A number of nobody else's.
const LOCK: i64 = 0x6368_6174_666c_6f77;

/// What tables a node uses, and how.
const RIGHTS: &str = "SELECT string_agg(t.name || ' (' || t.rights || ')', ', ') FROM (VALUES
    ('chatflow_meta', 'SELECT, UPDATE'), ('chatflow_logs', 'SELECT, INSERT, UPDATE'),
    ('chatflow_rooms', 'SELECT, INSERT, UPDATE'), ('chatflow_messages', 'SELECT, INSERT'), ('chatflow_times', 'SELECT, INSERT'),
    ('chatflow_accounts', 'SELECT, INSERT, UPDATE, DELETE'),
    ('chatflow_dead_letters', 'SELECT, INSERT, DELETE'),
    ('chatflow_counted', 'SELECT, INSERT, UPDATE'), ('chatflow_users', 'SELECT, INSERT'), ('chatflow_user_rooms', 'SELECT, INSERT'),
    ('chatflow_summaries', 'SELECT, INSERT, UPDATE')) t (name, rights)
    WHERE NOT (SELECT bool_and(has_table_privilege(t.name, r)) FROM unnest(string_to_array(t.rights, ', ')) r)";

/// Makes what is missing; nothing, and without any right to, where the schema is current. How many steps that took.
///
/// # Errors
/// [`ErrorKind::Config`] when a newer program made the schema, or this user may not make it.
pub(super) async fn migrate(db: &mut PgConnection) -> Result<usize> {
    let version = version(db).await?;
    if version == Some(MIGRATIONS.len()) {
        return Ok(0);
    }
    // For the session, which ends soon: a transaction that began before the wait might not see what was made meanwhile.
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut *db).await.map_err(failure::opening)?;
    let mut tx = db.begin().await.map_err(failure::opening)?;
    // Somebody else may have done it.
    let version = self::version(&mut tx).await?.unwrap_or(0);
    let missing = MIGRATIONS.get(version..).ok_or_else(|| newer(version))?;
    for migration in missing {
        tx.execute(*migration).await.map_err(failure::opening)?;
    }
    let keep = "INSERT INTO chatflow_meta (name, value) VALUES ('version', $1), ('identity', $2), ('probe', ''), ('secret', $3)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE excluded.name = 'version'";
    let identity = uuid::Uuid::new_v4().to_string();
    let kept =
        sqlx::query(keep).bind(MIGRATIONS.len().to_string()).bind(identity).bind(crate::accounts::new_secret()).execute(&mut *tx).await;
    kept.map_err(failure::opening)?;
    tx.commit().await.map_err(failure::opening)?;
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(db).await.map_err(failure::opening)?;
    Ok(missing.len())
}

/// Checks that the schema is current and may be used; the name of the history.
///
/// # Errors
/// [`ErrorKind::Config`]: it is not, or this user may not.
pub(super) async fn check(db: &mut PgConnection) -> Result<String> {
    let config = |text: String| Error::new(ErrorKind::Config, ORIGIN, text);
    match version(db).await? {
        Some(version) if version == MIGRATIONS.len() => {}
        Some(version) if version > MIGRATIONS.len() => return Err(newer(version)),
        _ => return Err(config("the tables are missing or old: run `chatflow-server migrate` with a user who may make them".into())),
    }
    let lacking: Option<String> = sqlx::query_scalar(RIGHTS).fetch_one(&mut *db).await.map_err(failure::opening)?;
    if let Some(lacking) = lacking {
        return Err(config(format!("the user lacks rights on {lacking}")));
    }
    let read_only: bool = sqlx::query_scalar("SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool")
        .fetch_one(&mut *db)
        .await
        .map_err(failure::opening)?;
    if read_only {
        return Err(config("the database is read-only: a replica can only be the readers' (reader URL)".into()));
    }
    let identity = sqlx::query_scalar("SELECT value FROM chatflow_meta WHERE name = 'identity'").fetch_one(&mut *db).await;
    identity.map_err(failure::opening)
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

/// The schema's version; `None` when there is no schema.
async fn version(db: &mut PgConnection) -> Result<Option<usize>> {
    let there = sqlx::query_scalar("SELECT to_regclass('chatflow_meta') IS NOT NULL").fetch_one(&mut *db).await;
    if !there.map_err(failure::opening)? {
        return Ok(None);
    }
    let version = sqlx::query_scalar("SELECT value FROM chatflow_meta WHERE name = 'version'").fetch_optional(&mut *db).await;
    let version: Option<String> = version.map_err(failure::opening)?;
    Ok(version.and_then(|version| version.parse().ok()))
}

fn newer(version: usize) -> Error {
    let known = MIGRATIONS.len();
    Error::new(ErrorKind::Config, ORIGIN, format!("the database has schema version {version}, this program knows up to {known}"))
}

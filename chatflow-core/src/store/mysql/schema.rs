//! The tables, and how an older database becomes a current one.

use sqlx::{Executor, MySqlConnection};

use super::{ORIGIN, failure};
use crate::{Error, ErrorKind, Result};

/// Each takes the schema one version on; its place in the list is the version, kept in `chatflow_meta`. Only ever append. The database
/// can't take back what changes a table, so each statement may be there already.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
];

/// Held while the schema is changed, so that of nodes that start together one does it.
const LOCK: &str = "chatflow";

/// What tables a node uses, and how: each statement changes nothing, and needs the right that it would change something with.
const RIGHTS: &[(&str, &str, &str)] = &[
    ("chatflow_meta", "SELECT", "SELECT 1 FROM chatflow_meta LIMIT 0"),
    ("chatflow_meta", "UPDATE", "UPDATE chatflow_meta SET value = value WHERE false"),
    ("chatflow_logs", "SELECT", "SELECT 1 FROM chatflow_logs LIMIT 0"),
    ("chatflow_logs", "INSERT", "INSERT INTO chatflow_logs SELECT * FROM chatflow_logs WHERE false"),
    ("chatflow_logs", "UPDATE", "UPDATE chatflow_logs SET expires = expires WHERE false"),
    ("chatflow_rooms", "SELECT", "SELECT 1 FROM chatflow_rooms LIMIT 0"),
    ("chatflow_rooms", "INSERT", "INSERT INTO chatflow_rooms SELECT * FROM chatflow_rooms WHERE false"),
    ("chatflow_rooms", "UPDATE", "UPDATE chatflow_rooms SET last = last WHERE false"),
    ("chatflow_messages", "SELECT", "SELECT 1 FROM chatflow_messages LIMIT 0"),
    (
        "chatflow_messages",
        "INSERT",
        "INSERT INTO chatflow_messages (id, digest, at, session, room, place, sender, kind, node, origin, body)
      SELECT id, digest, at, session, room, place, sender, kind, node, origin, body FROM chatflow_messages WHERE false",
    ),
    ("chatflow_times", "SELECT", "SELECT 1 FROM chatflow_times LIMIT 0"),
    ("chatflow_times", "INSERT", "INSERT INTO chatflow_times SELECT * FROM chatflow_times WHERE false"),
    ("chatflow_accounts", "SELECT", "SELECT 1 FROM chatflow_accounts LIMIT 0"),
    ("chatflow_accounts", "INSERT", "INSERT INTO chatflow_accounts SELECT * FROM chatflow_accounts WHERE false"),
    ("chatflow_accounts", "UPDATE", "UPDATE chatflow_accounts SET changed = changed WHERE false"),
    ("chatflow_accounts", "DELETE", "DELETE FROM chatflow_accounts WHERE false"),
    ("chatflow_dead_letters", "SELECT", "SELECT 1 FROM chatflow_dead_letters LIMIT 0"),
    ("chatflow_dead_letters", "INSERT", "INSERT INTO chatflow_dead_letters SELECT * FROM chatflow_dead_letters WHERE false"),
    ("chatflow_dead_letters", "DELETE", "DELETE FROM chatflow_dead_letters WHERE false"),
    ("chatflow_counted", "SELECT", "SELECT 1 FROM chatflow_counted LIMIT 0"),
    ("chatflow_counted", "INSERT", "INSERT INTO chatflow_counted SELECT * FROM chatflow_counted WHERE false"),
    ("chatflow_counted", "UPDATE", "UPDATE chatflow_counted SET place = place WHERE false"),
    ("chatflow_users", "SELECT", "SELECT 1 FROM chatflow_users LIMIT 0"),
    ("chatflow_users", "INSERT", "INSERT INTO chatflow_users SELECT * FROM chatflow_users WHERE false"),
    ("chatflow_user_rooms", "SELECT", "SELECT 1 FROM chatflow_user_rooms LIMIT 0"),
    ("chatflow_user_rooms", "INSERT", "INSERT INTO chatflow_user_rooms SELECT * FROM chatflow_user_rooms WHERE false"),
    ("chatflow_summaries", "SELECT", "SELECT 1 FROM chatflow_summaries LIMIT 0"),
    ("chatflow_summaries", "INSERT", "INSERT INTO chatflow_summaries SELECT * FROM chatflow_summaries WHERE false"),
    ("chatflow_summaries", "UPDATE", "UPDATE chatflow_summaries SET data = data WHERE false"),
];

/// Makes what is missing; nothing, and without any right to, where the schema is current. How many steps that took.
///
/// # Errors
/// [`ErrorKind::Config`] when a newer program made the schema, or this user may not make it.
pub(super) async fn migrate(db: &mut MySqlConnection) -> Result<usize> {
    if version(db).await? == Some(MIGRATIONS.len()) {
        return Ok(0);
    }
    // For the session, which ends soon.
    let locked = sqlx::query_scalar("SELECT CAST(GET_LOCK(?, 8) AS SIGNED)").bind(LOCK).fetch_one(&mut *db).await;
    let locked: Option<i64> = locked.map_err(failure::opening)?;
    if locked != Some(1) {
        return Err(Error::new(ErrorKind::Unavailable, ORIGIN, "another node changes the tables for too long"));
    }
    // Somebody else may have done it.
    let version = version(db).await?.unwrap_or(0);
    let missing = MIGRATIONS.get(version..).ok_or_else(|| newer(version))?;
    for statement in missing.iter().flat_map(|migration| migration.split(";\n")) {
        match db.execute(statement).await {
            // A column or key that is there, or gone, already.
            Err(error) if matches!(failure::number(&error), 1060 | 1061 | 1091) => {}
            done => _ = done.map_err(failure::opening)?,
        }
    }
    if !missing.is_empty() {
        let keep = "INSERT INTO chatflow_meta (name, value) VALUES ('identity', ?), ('probe', ''), ('secret', ?)
                    ON DUPLICATE KEY UPDATE name = name";
        let identity = uuid::Uuid::new_v4().to_string();
        sqlx::query(keep).bind(identity).bind(crate::accounts::new_secret()).execute(&mut *db).await.map_err(failure::opening)?;
        let keep = "REPLACE INTO chatflow_meta (name, value) VALUES ('version', ?)";
        sqlx::query(keep).bind(MIGRATIONS.len().to_string()).execute(&mut *db).await.map_err(failure::opening)?;
    }
    let freed = sqlx::query("SELECT RELEASE_LOCK(?)").bind(LOCK).execute(db).await;
    freed.map_err(failure::opening)?;
    Ok(missing.len())
}

/// Checks that the schema is current and may be used; the name of the history.
///
/// # Errors
/// [`ErrorKind::Config`]: it is not, or this user may not.
pub(super) async fn check(db: &mut MySqlConnection) -> Result<String> {
    let config = |text: String| Error::new(ErrorKind::Config, ORIGIN, text);
    match version(db).await? {
        Some(version) if version == MIGRATIONS.len() => {}
        Some(version) if version > MIGRATIONS.len() => return Err(newer(version)),
        _ => return Err(config("the tables are missing or old: run `chatflow-server migrate` with a user who may make them".into())),
    }
    let read_only: i64 =
        sqlx::query_scalar("SELECT CAST(@@global.read_only AS SIGNED)").fetch_one(&mut *db).await.map_err(failure::opening)?;
    if read_only != 0 {
        return Err(config("the database is read-only: a replica can only be the readers' (reader URL)".into()));
    }
    let mut lacking = Vec::new();
    for (table, right, statement) in RIGHTS {
        match sqlx::query(statement).execute(&mut *db).await {
            Err(error) if matches!(failure::number(&error), 1142 | 1143) => lacking.push(format!("{table} ({right})")),
            done => _ = done.map_err(failure::opening)?,
        }
    }
    if !lacking.is_empty() {
        return Err(config(format!("the user lacks rights on {}", lacking.join(", "))));
    }
    identity(db).await?.ok_or_else(|| config("the history has no name".into()))
}

/// Checks that the readers' database holds the same history.
pub(super) async fn is_same(replica: &mut MySqlConnection, identity: &str) -> Result<()> {
    if self::identity(replica).await?.as_deref() == Some(identity) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, ORIGIN, "the reader URL leads to another history: it must be a replica of the database"))
}

/// The name of the history.
async fn identity(db: &mut MySqlConnection) -> Result<Option<String>> {
    let identity = sqlx::query_scalar("SELECT CAST(value AS CHAR) FROM chatflow_meta WHERE name = 'identity'").fetch_optional(db).await;
    identity.map_err(failure::opening)
}

/// The schema's version; `None` when there is no schema, or none that this user may see.
async fn version(db: &mut MySqlConnection) -> Result<Option<usize>> {
    let version = sqlx::query_scalar("SELECT CAST(value AS CHAR) FROM chatflow_meta WHERE name = 'version'").fetch_optional(db).await;
    match version {
        // No such table; no right to look at it, which without any other to it says nothing of whether it is there.
        Err(error) if matches!(failure::number(&error), 1146 | 1142) => Ok(None),
        version => Ok(version.map_err(failure::opening)?.and_then(|version: String| version.parse().ok())),
    }
}

fn newer(version: usize) -> Error {
    let known = MIGRATIONS.len();
    Error::new(ErrorKind::Config, ORIGIN, format!("the database has schema version {version}, this program knows up to {known}"))
}

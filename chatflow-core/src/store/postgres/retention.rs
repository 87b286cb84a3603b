//! Removing what is old.

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};

use super::{ORIGIN, PostgresStore, failure, place};
use crate::store::retention::removable;
use crate::store::sql::{hex, with};
use crate::store::{LARGEST_PAGE, Lease, Retention, batch};
use crate::{Error, ErrorKind, MessageId, Position, Result, RoomId, Timestamp};

#[async_trait]
impl Retention for PostgresStore {
    async fn may_remove(&self) -> Result<()> {
        let sql = "SELECT has_table_privilege('chatflow_messages', 'DELETE') AND has_table_privilege('chatflow_meta', 'INSERT')";
        let may: bool = with!(self.pools, primary, |db| async { sqlx::query_scalar(sql).fetch_one(db).await.map_err(failure::error) })?;
        let lacking = "to remove old messages, the user lacks rights: DELETE on chatflow_messages, INSERT on chatflow_meta";
        if may { Ok(()) } else { Err(Error::new(ErrorKind::Config, ORIGIN, lacking)) }
    }

    async fn remove(&self, lease: &Lease, room: &RoomId, before: Timestamp, limit: usize) -> Result<usize> {
        let summaries = self.pass.is_some();
        with!(self.pools, writer, |db| remove(db, lease, room, before, limit.min(LARGEST_PAGE), summaries))
    }
}

/// With `summaries`, only of what is counted.
async fn remove(db: &mut PgConnection, lease: &Lease, room: &RoomId, before: Timestamp, limit: usize, summaries: bool) -> Result<usize> {
    // The log's row is not locked: what the lease's `through` has reached nobody commits again, whoever holds the lease by the end.
    let held = "SELECT 1 FROM chatflow_logs WHERE log = $1 AND generation = $2 AND holder IS NOT NULL";
    let held = sqlx::query(held).bind(i32::from(lease.log.0)).bind(lease.generation as i64).fetch_optional(&mut *db).await;
    held.map_err(failure::error)?.ok_or_else(|| batch::fenced(ORIGIN))?;
    let oldest = "SELECT id, place, at FROM chatflow_messages WHERE room = $1 AND place <= $2
                      AND (NOT $4 OR place <= (SELECT place FROM chatflow_counted WHERE room = $1)) ORDER BY place LIMIT $3";
    let (room, through) = (room.as_str(), lease.through.to_bytes());
    let rows = sqlx::query_as(oldest).bind(room).bind(&through[..]).bind(limit as i64 + 1).bind(summaries).fetch_all(&mut *db).await;
    let rows: Vec<(MessageId, Vec<u8>, i64)> = rows.map_err(failure::error)?;
    let times: Vec<_> = rows.iter().map(|(.., at)| Timestamp(*at)).collect();
    let rows = &rows[..removable(&times, before, limit)];
    match rows.last() {
        Some((_, last, _)) => delete(db, lease, rows.iter().map(|(id, ..)| *id).collect(), place(last)?).await,
        None => Ok(0),
    }
}

/// Removes the rows of these ids, which end at `last`, and keeps that; how many there were.
async fn delete(db: &mut PgConnection, lease: &Lease, ids: Vec<MessageId>, last: Position) -> Result<usize> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    let deleted = sqlx::query("DELETE FROM chatflow_messages WHERE id = ANY ($1)").bind(ids).execute(&mut *tx).await;
    let deleted = deleted.map_err(failure::error)?.rows_affected();
    let keep = "INSERT INTO chatflow_meta AS m (name, value) VALUES ('removed/' || $1::text, $2)
                ON CONFLICT (name) DO UPDATE SET value = greatest(m.value, excluded.value)";
    sqlx::query(keep).bind(i32::from(lease.log.0)).bind(hex(last)).execute(&mut *tx).await.map_err(failure::error)?;
    tx.commit().await.map_err(failure::error)?;
    Ok(deleted as usize)
}

//! Removing what is old.

use async_trait::async_trait;
use sqlx::{Connection, MySqlConnection};

use super::{MySqlStore, ORIGIN, failure, place};
use crate::store::retention::removable;
use crate::store::sql::{hex, with};
use crate::store::{LARGEST_PAGE, Lease, Retention, batch};
use crate::{Error, ErrorKind, Position, Result, RoomId, Timestamp};

/// Rows of one statement: fewer are filled up, so that there are two statements to prepare.
const STEPS: [usize; 2] = [32, 512];

#[async_trait]
impl Retention for MySqlStore {
    async fn may_remove(&self) -> Result<()> {
        with!(self.pools, writer, |db| may_remove(db))
    }

    async fn remove(&self, lease: &Lease, room: &RoomId, before: Timestamp, limit: usize) -> Result<usize> {
        let summaries = self.pass.is_some();
        with!(self.pools, writer, |db| remove(db, lease, room, before, limit.min(LARGEST_PAGE), summaries))
    }
}

/// Tries what changes nothing and takes the same rights.
async fn may_remove(db: &mut MySqlConnection) -> Result<()> {
    for sql in ["DELETE FROM chatflow_messages WHERE false", "INSERT INTO chatflow_meta SELECT * FROM chatflow_meta WHERE false"] {
        match sqlx::query(sql).execute(&mut *db).await {
            Err(error) if matches!(failure::number(&error), 1142 | 1143) => {
                let lacking = "to remove old messages, the user lacks rights: DELETE on chatflow_messages, INSERT on chatflow_meta";
                return Err(Error::new(ErrorKind::Config, ORIGIN, lacking));
            }
            done => _ = done.map_err(failure::error)?,
        }
    }
    Ok(())
}

/// With `summaries`, only of what is counted.
async fn remove(db: &mut MySqlConnection, lease: &Lease, room: &RoomId, before: Timestamp, limit: usize, summaries: bool) -> Result<usize> {
    // The log's row is not locked: what the lease's `through` has reached nobody commits again, whoever holds the lease by the end.
    let held = "SELECT 1 FROM chatflow_logs WHERE log = ? AND generation = ? AND holder IS NOT NULL";
    let held = sqlx::query(held).bind(lease.log.0).bind(lease.generation as i64).fetch_optional(&mut *db).await;
    held.map_err(failure::error)?.ok_or_else(|| batch::fenced(ORIGIN))?;
    let (room, mut through) = (room.as_str().as_bytes(), lease.through.to_bytes().to_vec());
    if summaries {
        let counted = sqlx::query_scalar("SELECT place FROM chatflow_counted WHERE room = ?").bind(room).fetch_optional(&mut *db).await;
        let counted: Option<Vec<u8>> = counted.map_err(failure::error)?;
        through = through.min(counted.unwrap_or_default());
    }
    let oldest = "SELECT id, place, at FROM chatflow_messages WHERE room = ? AND place <= ? ORDER BY place LIMIT ?";
    let rows = sqlx::query_as(oldest).bind(room).bind(&through[..]).bind(limit as i64 + 1).fetch_all(&mut *db).await;
    let rows: Vec<(Vec<u8>, Vec<u8>, i64)> = rows.map_err(failure::error)?;
    let times: Vec<_> = rows.iter().map(|(.., at)| Timestamp(*at)).collect();
    let rows = &rows[..removable(&times, before, limit)];
    match rows.last() {
        Some((_, last, _)) => delete(db, lease, &rows.iter().map(|(id, ..)| &id[..]).collect::<Vec<_>>(), place(last)?).await,
        None => Ok(0),
    }
}

/// Removes the rows of these ids, which end at `last`, and keeps that; how many there were.
async fn delete(db: &mut MySqlConnection, lease: &Lease, ids: &[&[u8]], last: Position) -> Result<usize> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    let (mut deleted, [few, many]) = (0, STEPS);
    for part in ids.chunks(many) {
        let step = if part.len() <= few { few } else { many };
        let sql = format!("DELETE FROM chatflow_messages WHERE id IN ({})", vec!["?"; step].join(", "));
        let query = (0..step).fold(sqlx::query(&sql), |query, n| query.bind(part[n.min(part.len() - 1)]));
        deleted += query.execute(&mut *tx).await.map_err(failure::error)?.rows_affected();
    }
    let keep = "INSERT INTO chatflow_meta (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = greatest(value, VALUES(value))";
    let (name, last) = (format!("removed/{}", lease.log.0), hex(last));
    sqlx::query(keep).bind(name.into_bytes()).bind(last.into_bytes()).execute(&mut *tx).await.map_err(failure::error)?;
    tx.commit().await.map_err(failure::error)?;
    Ok(deleted as usize)
}

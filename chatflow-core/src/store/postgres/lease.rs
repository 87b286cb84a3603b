//! Leases: who writes which log, by the database's own clock.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::PgConnection;

use super::{ORIGIN, failure, place};
use crate::store::sql::written_log;
use crate::store::times::Times;
use crate::store::{Lease, batch};
use crate::{LogId, NodeId, Position, Result};

/// Takes the lease if it is free, `holder`'s own, or has run out.
///
/// # Errors
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) while another holder has it.
pub(super) async fn claim(db: &mut PgConnection, log: LogId, holder: &NodeId, lease: Duration) -> Result<Lease> {
    // Nodes that stand by ask again and again: a look alone writes nothing.
    let look = "SELECT holder FROM chatflow_logs WHERE log = $1 AND holder <> $2 AND expires > clock_timestamp()";
    let other = sqlx::query_scalar(look).bind(i32::from(log.0)).bind(&holder[..]).fetch_optional(&mut *db).await;
    let other: Option<String> = other.map_err(failure::error)?;
    if let Some(other) = other {
        return Err(batch::held(ORIGIN, log, &other));
    }
    let sql = "INSERT INTO chatflow_logs AS l (log, generation, holder, expires, through)
               VALUES ($1, 1, $2, clock_timestamp() + $3 * interval '1 ms', $4)
               ON CONFLICT (log) DO UPDATE SET generation = l.generation + 1, holder = excluded.holder, expires = excluded.expires
               WHERE l.holder IS NULL OR l.holder = excluded.holder OR l.expires <= clock_timestamp()
               RETURNING generation, through";
    let row = sqlx::query_as(sql)
        .bind(i32::from(log.0))
        .bind(&holder[..])
        .bind(milliseconds(lease))
        .bind(&Position::ZERO.to_bytes()[..])
        .fetch_optional(&mut *db)
        .await;
    let row: Option<(i64, Vec<u8>)> = row.map_err(failure::error)?;
    let (generation, through) = row.ok_or_else(|| batch::held(ORIGIN, log, "another node"))?;
    Ok(Lease::new(log, generation as u64, place(&through)?))
}

/// Lets the lease run for as long again. One that has run out and was not taken over is good as well.
pub(super) async fn renew(db: &mut PgConnection, lease: &Lease, time: Duration) -> Result<()> {
    let sql = "UPDATE chatflow_logs SET expires = clock_timestamp() + $3 * interval '1 ms'
               WHERE log = $1 AND generation = $2 AND holder IS NOT NULL";
    let query = sqlx::query(sql).bind(i32::from(lease.log.0)).bind(lease.generation as i64).bind(milliseconds(time));
    changed(query.execute(db).await.map_err(failure::error)?.rows_affected())
}

/// Gives the lease back.
pub(super) async fn release(db: &mut PgConnection, lease: &Lease) -> Result<()> {
    let sql = "UPDATE chatflow_logs SET holder = NULL WHERE log = $1 AND generation = $2 AND holder IS NOT NULL";
    let query = sqlx::query(sql).bind(i32::from(lease.log.0)).bind(lease.generation as i64);
    changed(query.execute(db).await.map_err(failure::error)?.rows_affected())
}

/// The watermark of a log whose lease is still this one, which stays so until the transaction ends.
pub(super) async fn held(tx: &mut PgConnection, lease: &Lease) -> Result<Position> {
    Ok(held_with_times(tx, lease).await?.0)
}

/// The same, and what is known of the times in the log.
pub(super) async fn held_with_times(tx: &mut PgConnection, lease: &Lease) -> Result<(Position, Times)> {
    let sql = "SELECT through, latest, disorder, unmarked FROM chatflow_logs
               WHERE log = $1 AND generation = $2 AND holder IS NOT NULL FOR UPDATE";
    let query = sqlx::query_as(sql).bind(i32::from(lease.log.0)).bind(lease.generation as i64);
    let row: Option<(Vec<u8>, Option<i64>, i64, i64)> = query.fetch_optional(tx).await.map_err(failure::error)?;
    let (through, latest, disorder, rows) = row.ok_or_else(|| batch::fenced(ORIGIN))?;
    Ok((place(&through)?, Times { latest, disorder, rows }))
}

/// A log, its watermark, and what is known of its times.
type Row = (i32, Vec<u8>, Option<i64>, i64, i64);

/// The same of several logs, but of those whose lease is another or whose row somebody has locked.
pub(super) async fn held_together<'a>(
    tx: &mut PgConnection,
    leases: impl Iterator<Item = &'a Lease>,
) -> Result<HashMap<LogId, (Position, Times)>> {
    let sql = "SELECT l.log, l.through, l.latest, l.disorder, l.unmarked
               FROM chatflow_logs l JOIN unnest($1::int4[], $2::int8[]) g (log, generation) ON l.log = g.log AND l.generation = g.generation
               WHERE l.holder IS NOT NULL ORDER BY l.log FOR UPDATE OF l SKIP LOCKED";
    let (logs, generations): (Vec<_>, Vec<_>) = leases.map(|lease| (i32::from(lease.log.0), lease.generation as i64)).unzip();
    let rows = sqlx::query_as(sql).bind(logs).bind(generations).fetch_all(tx).await;
    let rows: Vec<Row> = rows.map_err(failure::error)?;
    let held = |(log, through, latest, disorder, rows): Row| {
        Ok((written_log(ORIGIN, log.into())?, (place(&through)?, Times { latest, disorder, rows })))
    };
    rows.into_iter().map(held).collect()
}

fn changed(rows: u64) -> Result<()> {
    if rows == 0 { Err(batch::fenced(ORIGIN)) } else { Ok(()) }
}

pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

//! Leases: who writes which log, by the database's own clock.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::{Connection, MySqlConnection};

use super::{ORIGIN, failure, place};
use crate::store::sql::written_log;
use crate::store::times::Times;
use crate::store::{Lease, batch};
use crate::{LogId, NodeId, Position, Result};

/// The database's clock, in milliseconds: the time at which it is looked at, not at which the statement began and waited.
macro_rules! clock {
    () => {
        "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000 AS SIGNED)"
    };
}
pub(super) use clock;

/// Takes the lease if it is free, `holder`'s own, or has run out.
///
/// # Errors
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) while another holder has it.
pub(super) async fn claim(db: &mut MySqlConnection, log: LogId, holder: &NodeId, lease: Duration) -> Result<Lease> {
    // Nodes that stand by ask again and again: a look alone writes nothing and locks nothing.
    let look = concat!("SELECT coalesce(holder, ''), expires > ", clock!(), " FROM chatflow_logs WHERE log = ?");
    let other = sqlx::query_as(look).bind(log.0).fetch_optional(&mut *db).await;
    let other: Option<(Vec<u8>, i64)> = other.map_err(failure::error)?;
    match other {
        Some((other, 1)) if !other.is_empty() && other != holder[..].as_bytes() => {
            return Err(batch::held(ORIGIN, log, &String::from_utf8_lossy(&other)));
        }
        Some(_) => {}
        // By itself: in one transaction with the claim, two nodes would wait for each other.
        None => {
            let new = "INSERT IGNORE INTO chatflow_logs (log, generation, expires, through) VALUES (?, 0, 0, ?)";
            let new = sqlx::query(new).bind(log.0).bind(&Position::ZERO.to_bytes()[..]).execute(&mut *db).await;
            new.map_err(failure::error)?;
        }
    }
    let mut tx = db.begin().await.map_err(failure::error)?;
    let sql = concat!(
        "UPDATE chatflow_logs SET generation = generation + 1, holder = ?, expires = ",
        clock!(),
        " + ? WHERE log = ? AND (holder IS NULL OR holder = ? OR expires <= ",
        clock!(),
        ")"
    );
    let query = sqlx::query(sql).bind(holder[..].as_bytes()).bind(milliseconds(lease)).bind(log.0).bind(holder[..].as_bytes());
    if query.execute(&mut *tx).await.map_err(failure::error)?.rows_affected() == 0 {
        return Err(batch::held(ORIGIN, log, "another node"));
    }
    let sql = "SELECT generation, through FROM chatflow_logs WHERE log = ?";
    let row = sqlx::query_as(sql).bind(log.0).fetch_one(&mut *tx).await;
    let (generation, through): (i64, Vec<u8>) = row.map_err(failure::error)?;
    tx.commit().await.map_err(failure::error)?;
    Ok(Lease::new(log, generation as u64, place(&through)?))
}

/// Lets the lease run for as long again. One that has run out and was not taken over is good as well.
pub(super) async fn renew(db: &mut MySqlConnection, lease: &Lease, time: Duration) -> Result<()> {
    let sql = concat!("UPDATE chatflow_logs SET expires = ", clock!(), " + ? WHERE log = ? AND generation = ? AND holder IS NOT NULL");
    let query = sqlx::query(sql).bind(milliseconds(time)).bind(lease.log.0).bind(lease.generation as i64);
    changed(query.execute(db).await.map_err(failure::error)?.rows_affected())
}

/// Gives the lease back.
pub(super) async fn release(db: &mut MySqlConnection, lease: &Lease) -> Result<()> {
    let sql = "UPDATE chatflow_logs SET holder = NULL WHERE log = ? AND generation = ? AND holder IS NOT NULL";
    let query = sqlx::query(sql).bind(lease.log.0).bind(lease.generation as i64);
    changed(query.execute(db).await.map_err(failure::error)?.rows_affected())
}

/// The watermark of a log whose lease is still this one, which stays so until the transaction ends.
pub(super) async fn held(tx: &mut MySqlConnection, lease: &Lease) -> Result<Position> {
    Ok(held_with_times(tx, lease).await?.0)
}

/// The same, and what is known of the times in the log.
pub(super) async fn held_with_times(tx: &mut MySqlConnection, lease: &Lease) -> Result<(Position, Times)> {
    let sql = "SELECT through, latest, disorder, unmarked FROM chatflow_logs
               WHERE log = ? AND generation = ? AND holder IS NOT NULL FOR UPDATE";
    let query = sqlx::query_as(sql).bind(lease.log.0).bind(lease.generation as i64);
    let row: Option<(Vec<u8>, Option<i64>, i64, i64)> = query.fetch_optional(tx).await.map_err(failure::error)?;
    let (through, latest, disorder, rows) = row.ok_or_else(|| batch::fenced(ORIGIN))?;
    Ok((place(&through)?, Times { latest, disorder, rows }))
}

/// A log, its generation, its watermark, and what is known of its times.
type Row = (i64, i64, Vec<u8>, Option<i64>, i64, i64);

/// The same of several logs, but of those whose lease is another or whose row somebody has locked.
pub(super) async fn held_together(
    tx: &mut MySqlConnection,
    leases: impl ExactSizeIterator<Item = &Lease> + Clone,
) -> Result<HashMap<LogId, (Position, Times)>> {
    let logs = vec!["?"; leases.len()].join(", ");
    let sql = format!(
        "SELECT log, generation, through, latest, disorder, unmarked FROM chatflow_logs
         WHERE log IN ({logs}) AND holder IS NOT NULL ORDER BY log FOR UPDATE SKIP LOCKED"
    );
    let mut query = sqlx::query_as(&sql);
    for lease in leases.clone() {
        query = query.bind(lease.log.0);
    }
    let rows: Vec<Row> = query.fetch_all(tx).await.map_err(failure::error)?;
    let generations: HashMap<_, _> = leases.map(|lease| (lease.log, lease.generation as i64)).collect();
    let mut held = HashMap::with_capacity(rows.len());
    for (log, generation, through, latest, disorder, rows) in rows {
        let log = written_log(ORIGIN, log)?;
        if generations.get(&log) == Some(&generation) {
            held.insert(log, (place(&through)?, Times { latest, disorder, rows }));
        }
    }
    Ok(held)
}

/// The driver counts the rows that were found, changed or not.
fn changed(rows: u64) -> Result<()> {
    if rows == 0 { Err(batch::fenced(ORIGIN)) } else { Ok(()) }
}

pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

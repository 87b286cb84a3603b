//! Takes the write-ahead log into the database, off the writer's thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::store::exclusive::Exclusive;

/// Bytes of log between two checkpoints.
const STEP: i64 = 8 << 20;

/// Bytes of log beyond which the writer is held up until the log could begin anew. It may pass this by what is written
/// during one checkpoint, and by more only while another process reads without end.
pub(super) const LARGEST_LOG: i64 = 64 << 20;

/// Held by the writer for a transaction and by the checkpointer to begin the log anew. SQLite's own lock would not do: who
/// waits for it polls, and never finds it free beside a writer that takes it again at once; this one is fair.
pub(super) type Turn = Mutex<()>;

/// Wakes the checkpoint thread whenever the log on `writer` has grown enough.
pub(super) fn watch(writer: &mut Connection) -> rusqlite::Result<Receiver<()>> {
    let frame = frame_bytes(writer)?;
    let (wake, woken): (SyncSender<()>, _) = sync_channel(1);
    let mut noted = 0;
    writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, frames| {
        let bytes = i64::from(frames) * frame;
        // Smaller than before: the log began anew.
        noted = if bytes < noted { 0 } else { noted };
        if bytes - noted >= STEP && wake.try_send(()).is_ok() {
            noted = bytes;
        }
        Ok(())
    }))?;
    Ok(woken)
}

/// A thread that checkpoints on `db` whenever it is woken, until the writer's connection is closed.
pub(super) fn spawn(db: Connection, woken: Receiver<()>, turn: Arc<Turn>, lock: Arc<Exclusive>) -> std::io::Result<JoinHandle<()>> {
    Builder::new().name("sqlite-checkpoint".into()).spawn(move || {
        let _lock = lock;
        while woken.recv().is_ok() {
            if let Err(error) = checkpoint(&db, &turn) {
                tracing::warn!(%error, "a checkpoint of the history failed; the write-ahead log grows until one succeeds");
            }
        }
    })
}

fn checkpoint(db: &Connection, turn: &Turn) -> rusqlite::Result<()> {
    // Nearly all of the work, beside readers and the writer.
    let log = run(db, "PRAGMA wal_checkpoint(PASSIVE)")?;
    // Under a writer that never pauses there is always a new tail, and under readers that overlap always one who needs
    // it, so the log would grow for ever. RESTART holds both up, for the tail and the longest read, or gives up after
    // this connection's busy time-out.
    if log > LARGEST_LOG {
        let _turn = turn.lock();
        run(db, "PRAGMA wal_checkpoint(RESTART)")?;
    }
    Ok(())
}

/// Runs a checkpoint; the bytes of the log.
fn run(db: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    let frames: i64 = db.query_row(pragma, [], |row| row.get(1))?;
    Ok(frames * frame_bytes(db)?)
}

fn frame_bytes(db: &Connection) -> rusqlite::Result<i64> {
    let page: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(page + 24)
}

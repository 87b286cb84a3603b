//! Whether all servers have the same history.

use std::hash::Hasher;
use std::path::Path;
use std::time::{Duration, Instant};

use chatflow_testkit::Cluster;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use twox_hash::XxHash3_64;

/// How long a server may take to write what others already have.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a history is, in short.
#[derive(Debug, PartialEq, Eq)]
struct Digest {
    rows: i64,
    ids: i64,
    /// Over every row's room, position, id and body, in order.
    hash: u64,
}

/// Compares the histories of all servers, which may still be writing; says what they are.
pub(crate) async fn histories(cluster: &Cluster) -> bool {
    let begun = Instant::now();
    loop {
        let digests: Vec<_> = cluster.servers.iter().map(|server| digest(&server.database())).collect();
        let same = digests.iter().all(|digest| *digest == digests[0] && digest.rows == digest.ids);
        if same || begun.elapsed() > PATIENCE {
            for (n, Digest { rows, ids, hash }) in (1..).zip(&digests) {
                println!("history        server {n}: {rows} rows, {ids} ids, hash {hash:016x}");
            }
            println!("{}", if same { "the same order in all histories" } else { "HISTORIES DIFFER" });
            return same;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn digest(file: &Path) -> Digest {
    const ROWS: &str = r#"SELECT r.name, m.epoch, m."offset", m.id, m.body FROM messages m JOIN rooms r ON r.id = m.room
        ORDER BY r.name, m.epoch, m."offset""#;
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    let (mut hash, mut rows) = (XxHash3_64::new(), 0);
    let mut statement = db.prepare(ROWS).unwrap();
    let mut found = statement.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        rows += 1;
        hash.write(row.get_ref(0).unwrap().as_bytes().unwrap());
        for number in [1, 2] {
            match row.get_ref(number).unwrap() {
                ValueRef::Integer(number) => hash.write(&number.to_be_bytes()),
                // One that needs more than 64 bits.
                large => hash.write(large.as_blob().unwrap()),
            }
        }
        for bytes in [3, 4] {
            hash.write(row.get_ref(bytes).unwrap().as_bytes().unwrap());
        }
    }
    let ids = db.query_row("SELECT count(DISTINCT id) FROM messages", [], |row| row.get(0)).unwrap();
    Digest { rows, ids, hash: hash.finish() }
}

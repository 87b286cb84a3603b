//! The least that does it: many rows in one statement, and a commit.

use chatflow_core::{Message, Stored};
use futures::future::join_all;
use rusqlite::params;
use sqlx::{Connection, MySqlConnection, PgConnection};

use crate::Share;

/// Rows of one of MariaDB's and MySQL's statements, which take 65,535 values at the most.
const ROWS: usize = 500;

pub(crate) async fn postgres(url: &str, shares: Vec<Share>) {
    let sql = "INSERT INTO chatflow_messages (id, digest, at, session, room, place, sender, kind, node, origin, body)
               SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::int8[], $5::text[], $6::bytea[],
                                    $7::text[], $8::text[], $9::text[], $10::text[], $11::bytea[])";
    let write = shares.iter().map(async |share| {
        let mut db = PgConnection::connect(url).await.unwrap();
        for batch in share {
            let places: Vec<_> = batch.iter().map(|row| row.position.to_bytes()).collect();
            let messages = || batch.iter().map(|row| &row.message);
            let text = |of: fn(&Message) -> &str| messages().map(of).collect::<Vec<_>>();
            // A statement by itself is a transaction.
            let inserted = sqlx::query(sql)
                .bind(messages().map(|message| message.id).collect::<Vec<_>>())
                .bind(messages().map(|message| message.digest as i64).collect::<Vec<_>>())
                .bind(messages().map(|message| message.at.0).collect::<Vec<_>>())
                .bind(messages().map(|message| message.session as i64).collect::<Vec<_>>())
                .bind(text(|message| message.room.as_str()))
                .bind(places.iter().map(|place| &place[..]).collect::<Vec<_>>())
                .bind(text(|message| &message.sender))
                .bind(text(|message| &message.kind))
                .bind(text(|message| &message.node))
                .bind(text(|message| &message.origin))
                .bind(messages().map(|message| &message.body[..]).collect::<Vec<_>>())
                .execute(&mut db);
            assert_eq!(inserted.await.unwrap().rows_affected(), batch.len() as u64);
        }
        db.close().await.unwrap();
    });
    join_all(write).await;
}

pub(crate) async fn mysql(url: &str, shares: Vec<Share>) {
    let write = shares.iter().map(async |share| {
        let mut db = MySqlConnection::connect(url).await.unwrap();
        for batch in share {
            let mut tx = db.begin().await.unwrap();
            for rows in batch.chunks(ROWS) {
                let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; rows.len()].join(", ");
                let into = "INSERT INTO chatflow_messages (id, digest, at, session, room, place, sender, kind, node, origin, body)";
                let sql = format!("{into} VALUES {values}");
                let mut query = sqlx::query(&sql);
                for Stored { position, message } in rows {
                    query = query.bind(&message.id.as_bytes()[..]).bind(message.digest as i64).bind(message.at.0);
                    query = query.bind(message.session as i64).bind(message.room.as_str().as_bytes()).bind(position.to_bytes().to_vec());
                    for text in [&message.sender, &message.kind, &message.node, &message.origin] {
                        query = query.bind(text.as_bytes().as_ref());
                    }
                    query = query.bind(&message.body[..]);
                }
                assert_eq!(query.execute(&mut *tx).await.unwrap().rows_affected(), rows.len() as u64);
            }
            tx.commit().await.unwrap();
        }
        db.close().await.unwrap();
    });
    join_all(write).await;
}

pub(crate) async fn sqlite(path: &str, shares: Vec<Share>) {
    let path = path.to_owned();
    let write = tokio::task::spawn_blocking(move || {
        let mut db = rusqlite::Connection::open(path).unwrap();
        db.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -65536").unwrap();
        assert_eq!(db.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0)).unwrap(), "wal");
        // In turn, as they come from several logs.
        let most = shares.iter().map(Vec::len).max().unwrap_or_default();
        for (writer, batch) in
            (0..most).flat_map(|n| shares.iter().enumerate().filter_map(move |(writer, share)| Some((writer, share.get(n)?))))
        {
            let tx = db.transaction().unwrap();
            tx.execute("INSERT OR IGNORE INTO rooms (name) VALUES (?)", [batch[0].message.room.as_str()]).unwrap();
            let sql = "INSERT INTO messages (room, epoch, \"offset\", id, digest, at, sender, kind, node, session, origin, body)
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let mut insert = tx.prepare_cached(sql).unwrap();
            for Stored { position, message } in batch {
                let (epoch, offset) = (position.epoch as i64, position.offset as i64);
                let (sender, kind, node, origin): (&str, &str, &str, &str) =
                    (&message.sender, &message.kind, &message.node, &message.origin);
                let id = &message.id.as_bytes()[..];
                let (digest, session, body) = (message.digest as i64, message.session as i64, &message.body[..]);
                let room = writer as i64 + 1;
                insert.execute(params![room, epoch, offset, id, digest, message.at.0, sender, kind, node, session, origin, body]).unwrap();
            }
            drop(insert);
            tx.commit().unwrap();
        }
    });
    write.await.unwrap();
}

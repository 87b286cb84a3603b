//! How long answers take with many rows. Not run unless it is asked for: `cargo test --test postgres -- --ignored volume`; so many rows as
//! `CHATFLOW_ROWS` says, a million otherwise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_core::analytics::{Minutes, Step, UserQuery};
use chatflow_core::store::{DatabaseConfig, PostgresStore, SUMMARIES};
use chatflow_core::{Analytics, MessageStore, Timestamp, UserId};
use chatflow_testkit::{Postgres, needs};

use super::database::Database;

/// Messages of 100,000 users in 20 rooms, a thousand a second.
const ROWS: &str = "INSERT INTO chatflow_messages SELECT gen_random_uuid(), n, 1700000000000 + n, 0, 'room' || n % 20,
        decode(lpad(to_hex(1), 16, '0') || lpad(to_hex(n), 32, '0'), 'hex'), 'user' || (n::int8 * 7919 + n / 977 * 31) % 100000, 'TEXT', 'n', '',
        '\\x00'::bytea FROM generate_series(1, $ROWS) n;
    INSERT INTO chatflow_rooms SELECT room, max(at), (array_agg(place ORDER BY n DESC))[1] FROM (SELECT *, digest AS n FROM chatflow_messages) m
        GROUP BY room;
    INSERT INTO chatflow_logs (log, generation, expires, through, fresh_at) VALUES (0, 1, now(), decode(lpad('ff', 48, '0'), 'hex'), 0);
    VACUUM ANALYZE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn volume() {
    needs!(Postgres);
    let rows = std::env::var("CHATFLOW_ROWS").unwrap_or("1000000".into());
    let database = Database::new().await;
    let store = Arc::new(PostgresStore::open(DatabaseConfig::new(database.url())).await.unwrap());
    for statement in ROWS.replace("$ROWS", &rows).split(";\n") {
        database.run(statement).await;
    }
    let lease = store.claim(SUMMARIES, &"n".into()).await.unwrap();
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    loop {
        let turn = Instant::now();
        let more = store.project(&lease).await;
        longest = longest.max(turn.elapsed());
        if !more {
            break;
        }
    }
    println!("{rows} rows are counted in {:?}, a turn takes up to {longest:?}", begun.elapsed());
    let range = |minutes: i64| Minutes::covering(Some(Timestamp(1_700_000_061_000)), Some(Timestamp(1_700_000_060_000 + minutes * 60_000)));
    for (what, question) in [("everything", Minutes::default()), ("7 minutes", range(7)), ("90 minutes", range(90))] {
        for kind in ["active users", "top users", "top rooms", "rate by second", "participation", "a user's messages", "a user's rooms"] {
            let readers = (0..8).map(|reader| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut took = Vec::new();
                    for n in 0..25 {
                        let (begun, user) = (Instant::now(), UserId::from(format!("user{}", (reader * 31 + n) * 97)));
                        match kind {
                            "active users" => drop(store.active_users(question).await.unwrap()),
                            "top users" => drop(store.top_users(question, 10).await.unwrap()),
                            "top rooms" => drop(store.top_rooms(question, 10).await.unwrap()),
                            "rate by second" => drop(store.message_rate(question, Step::Second, 100).await.unwrap()),
                            "participation" => drop(store.participation(question, 10).await.unwrap()),
                            "a user's messages" => drop(store.user_messages(&user, &UserQuery::latest(100)).await.unwrap()),
                            _ => drop(store.user_rooms(&user, None, 100).await.unwrap()),
                        }
                        took.push(begun.elapsed());
                    }
                    took
                })
            });
            let mut took = Vec::new();
            for reader in readers.collect::<Vec<_>>() {
                took.extend(reader.await.unwrap());
            }
            took.sort_unstable();
            println!("{what}, {kind}: p50 {:?}, p99 {:?} (8 at once)", took[took.len() / 2], took[took.len() * 99 / 100]);
        }
    }
}

trait Project {
    async fn project(&self, lease: &chatflow_core::Lease) -> bool;
}

impl Project for PostgresStore {
    async fn project(&self, lease: &chatflow_core::Lease) -> bool {
        self.projections().unwrap().project(lease, usize::MAX).await.unwrap()
    }
}

//! What a store takes: ChatFlow's commits and a bare bulk insert, into the same tables of one database, in turn.
//!
//! `cargo bench --bench stores -- [--store postgres] [--rows 200000] [--batch 2000] [--writers 4] [--rounds 3] [--only bare]`
//!
//! A private database is started, with the tables and indexes of ChatFlow's schema. The bare loop does the least that makes rows of messages
//! for good: one statement of many rows and a commit, over `--writers` connections (SQLite has one). ChatFlow's commits check a lease, leave
//! out what is there already and move a cursor besides; nothing counts summaries meanwhile. The ratio is the median of the rounds.

#![allow(clippy::unwrap_used)]

mod bare;
#[path = "../database/mod.rs"]
mod database;
mod ours;

use std::time::{Duration, Instant};

use chatflow_core::{Message, MessageId, Position, RoomId, Stored, Timestamp, kind};
use chatflow_testkit::Service;
use clap::{Parser, ValueEnum};

use database::Store;

#[derive(Debug, Clone, Parser)]
struct Args {
    /// Which store.
    #[arg(long, value_enum, default_value = "postgres")]
    store: Store,
    /// Messages of a round.
    #[arg(long, default_value = "200000")]
    rows: u64,
    /// Messages of a transaction.
    #[arg(long, default_value = "2000", value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Transactions at once, each of a log of its own.
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u16).range(1..))]
    writers: u16,
    /// Bytes of a message's body.
    #[arg(long, default_value = "150")]
    size: usize,
    #[arg(long, default_value = "3")]
    rounds: u64,
    /// One of the two by itself, into tables that hold nothing of the other.
    #[arg(long, value_enum)]
    only: Option<Side>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Bare,
    Ours,
}

/// What one writer writes in a round: batches of rows whose places go on behind those of the round before.
type Share = Vec<Vec<Stored>>;

impl Args {
    /// The shares of all writers; each round has other ids, and stands in the log behind the last.
    fn shares(&self, round: u64) -> Vec<Share> {
        let each = self.rows / u64::from(self.writers);
        let share = |writer: u16| {
            let room = RoomId::new(&format!("room-{writer}")).unwrap();
            let row = |n: u64| {
                let offset = u128::from(round * each + n + 1);
                Stored { position: Position::new(1, offset), message: self.message(&room, n) }
            };
            let rows: Vec<_> = (0..each).map(row).collect();
            rows.chunks(self.batch as usize).map(<[_]>::to_vec).collect()
        };
        (0..self.writers).map(share).collect()
    }

    fn message(&self, room: &RoomId, n: u64) -> Message {
        Message {
            id: MessageId::now_v7(),
            room: room.clone(),
            sender: (n * 7_919 % 100_000).to_string().into(),
            kind: kind::TEXT,
            body: vec![b'x'; self.size].into(),
            digest: n,
            at: Timestamp::now(),
            node: "node-1".into(),
            session: n % 64,
            origin: "127.0.0.1".into(),
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let (bench, given): (Vec<_>, Vec<_>) = std::env::args().partition(|arg| arg == "--bench");
    if bench.is_empty() {
        return println!("measured by cargo bench --bench stores");
    }
    let args = Args::parse_from(given);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.db");
    let service = args.store.start(&[]).await;
    let url = service.as_ref().map_or_else(|| file.display().to_string(), Service::url);
    println!("{:?}, {} rows a round in batches of {}, {} writers", args.store, args.rows, args.batch, args.writers);
    ours::migrate(args.store, &url).await;
    let mut ratios = Vec::new();
    for round in 0..args.rounds {
        let bare = match args.only {
            Some(Side::Ours) => None,
            _ => Some(bare(args.store, &url, args.shares(2 * round)).await),
        };
        let ours = match args.only {
            Some(Side::Bare) => None,
            _ => Some(ours::write(args.store, &url, args.shares(2 * round + 1)).await),
        };
        let rate = |took: Duration| args.rows as f64 / took.as_secs_f64();
        match (bare.map(rate), ours.map(rate)) {
            (Some(bare), Some(ours)) => {
                println!("round {}: bare {bare:.0} rows/s, ChatFlow {ours:.0} rows/s, {:.2} of bare", round + 1, ours / bare);
                ratios.push(ours / bare);
            }
            (bare, ours) => println!("round {}: {:.0} rows/s", round + 1, bare.or(ours).unwrap_or_default()),
        }
    }
    ratios.sort_by(f64::total_cmp);
    if let Some(median) = ratios.get(ratios.len() / 2) {
        println!("median: {median:.2} of bare");
    }
}

/// Inserts every share over a connection of its own; how long that took.
async fn bare(store: Store, url: &str, shares: Vec<Share>) -> Duration {
    let begun = Instant::now();
    match store {
        Store::Sqlite => bare::sqlite(url, shares).await,
        Store::Postgres => bare::postgres(url, shares).await,
        Store::MariaDb | Store::MySql => bare::mysql(url, shares).await,
    }
    begun.elapsed()
}

//! Questions about a history: how long they take, with how many rows.
//!
//! `cargo bench --bench queries -- [--store sqlite|postgres|mariadb|mysql] [--rows 1000000,10000000] [--readers 8] [--seconds 10]`
//!
//! Starts a private database, or makes a file, fills it through the store's trait with messages of several logs, rooms and users over
//! some days, counts the summaries to the end, and starts a release `chatflow-server` on it without a cache. Then readers ask it, over
//! HTTP, one question after the other about rooms, users and ranges by chance, each reader as soon as it has its answer. The server is
//! built before: `cargo build --release -p chatflow-server --features full`. Everything shares this machine, and so do the figures.
//!
//! Exit code: 1 when 99 of 100 answers to some question took longer than a tenth of its limit. `cargo test` makes a short run on each
//! store that is there.

#![allow(clippy::unwrap_used)]

mod args;
mod ask;
#[path = "../database/mod.rs"]
mod database;
mod fill;
mod history;
mod questions;
mod store;
mod table;
mod usage;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chatflow_testkit::{Options, Server, eventually_async};

use args::Args;
use history::History;
use questions::QUESTIONS;
use store::Home;
use usage::Usage;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let mut good = true;
    for args in &Args::all() {
        good &= run(args).await;
    }
    // A short run in a test says nothing about time.
    if good || !is_bench { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether all questions were answered in time, with any number of rows.
async fn run(args: &Args) -> bool {
    println!("{:?}, {} rooms, {} users, {} readers for {:?} a question", args.store, args.rooms, args.users, args.readers, args.seconds);
    let (home, mut history) = (Home::new(args).await, History::new(args));
    let (mut all, mut good) = (Vec::new(), true);
    for rows in &args.rows {
        fill::fill(&home.url, &mut history, *rows).await;
        home.settle().await;
        let options = Options::new().store(&home.url).set("cache.url", "none").set("log.level", "warn");
        let options = args.settings.iter().fold(options, |options, (key, value)| options.set(key, value));
        let mut server = Server::start(options);
        has(&server, history.rows).await;
        let answers = questions(args, &home, &server, &Arc::new(history.clone())).await;
        good &= table::tell(history.rows, &answers);
        all.push((history.rows, answers));
        server.terminate();
        server.ended(Duration::from_secs(30)).await;
    }
    if let [first, .., last] = &all[..] {
        table::compare(first, last);
    }
    good
}

async fn questions(args: &Args, home: &Home, server: &Server, history: &Arc<History>) -> table::Answers {
    let mut answers = Vec::new();
    for question in QUESTIONS.into_iter().filter(|question| question.name.contains(&args.only)) {
        eprintln!("{}", question.name);
        let usage = || [Usage::of(&[server.id()]), Usage::of(&home.processes())];
        let measured = ask::ask(question, history, (server.address, args.readers, args.seconds), usage).await;
        answers.push((question, measured));
    }
    answers
}

/// Waits until the server counts all rows, and no more.
async fn has(server: &Server, rows: u64) {
    let counted = async || {
        let rooms = server.get("/api/v1/analytics/top-rooms?limit=1000").await.json();
        let each = rooms["rooms"].as_array()?.iter().map(|room| room["messages"].as_u64());
        (rooms["asOf"].is_null() && each.sum::<Option<u64>>()? == rows).then_some(())
    };
    eventually_async("the server has the history", Duration::from_secs(60), counted).await;
}

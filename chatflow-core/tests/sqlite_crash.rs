//! kill -9 in the middle of commits: what was acknowledged is there, and nothing is there by half.
//!
//! This program runs itself again as the process that is killed.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chatflow_core::conformance::store::{at, batch, room};
use chatflow_core::store::{PageQuery, SqliteConfig, SqliteStore};
use chatflow_core::{ErrorKind, LogId, MessageStore, NodeId, Position};

const FOLDER: &str = "CHATFLOW_CRASH_TEST_FOLDER";
const ROUNDS: u64 = 20;
const LOGS: u16 = 3;
const BATCH: u64 = 7;

/// Opens the store, once a predecessor's threads have let go of it.
async fn open(folder: &Path) -> SqliteStore {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match SqliteStore::open(SqliteConfig::new(folder.join("chatflow.db"))).await {
            Err(error) if error.kind() == ErrorKind::Config && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// The process that is killed: commits for ever, and says each `through` that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = open(Path::new(&folder)).await;
    let store = &store;
    futures::future::join_all((0..LOGS).map(|log| async move {
        let lease = store.claim(LogId(log), &NodeId::from_static("child")).await.unwrap();
        let mut first = lease.through.offset as u64 + 1;
        loop {
            let last = first + BATCH - 1;
            store.commit(&lease, &batch(&format!("room{log}"), first..=last), at(last)).await.unwrap();
            writeln!(std::io::stdout(), "acknowledged {log} {last}").unwrap();
            first = last + 1;
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_rows_survive_kill_9_and_batches_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; LOGS as usize];
    for round in 0..ROUNDS {
        kill_in_the_middle(folder.path(), round, &mut acknowledged);

        let store = open(folder.path()).await;
        for (log, acknowledged) in (0..LOGS).zip(acknowledged) {
            let (mut after, mut expected) = (Position::ZERO, 1);
            let through = loop {
                let page = store.page(LogId(log), &room(&format!("room{log}")), &PageQuery::after(after, 1_000)).await.unwrap();
                for row in &page.messages {
                    assert_eq!(row.position, at(expected), "round {round}, log {log}: a row is missing or there twice");
                    (after, expected) = (row.position, expected + 1);
                }
                if !page.more {
                    break page.through;
                }
            };
            assert_eq!(through, after, "round {round}, log {log}: rows and cursor differ");
            assert_eq!((expected - 1) % BATCH, 0, "round {round}, log {log}: half a batch");
            assert!(expected > acknowledged, "round {round}, log {log}: {acknowledged} was acknowledged, {} are there", expected - 1);
        }
        // Not always with a tidy close: a dirty log of a dirty log must recover too.
        if round % 2 == 0 {
            store.close().await.unwrap();
        } else {
            drop(store);
        }
    }
    assert!(acknowledged.iter().all(|last| *last > 0), "{acknowledged:?}");
}

fn kill_in_the_middle(folder: &Path, round: u64, acknowledged: &mut [u64; LOGS as usize]) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut note = |line: std::io::Result<String>| {
        // The pipe's last line may be torn, or the harness's own.
        let line = line.unwrap();
        let mut words = line.split(' ').skip_while(|word| !word.ends_with("acknowledged")).skip(1);
        if let (Some(Ok(log)), Some(Ok(last))) = (words.next().map(str::parse::<usize>), words.next().map(str::parse::<u64>)) {
            acknowledged[log] = acknowledged[log].max(last);
        }
    };
    // Some commits in, and then at no particular moment.
    (0..1 + round * 3).for_each(|_| note(lines.next().expect("the child goes on until it is killed")));
    std::thread::sleep(Duration::from_micros(u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * 200));
    child.kill().unwrap();
    lines.for_each(note);
    child.wait().unwrap();
}

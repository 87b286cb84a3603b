//! Who is silent, and who only waits for the server.

mod support;

use std::sync::Arc;
use std::time::Duration;

use chatflow_core::store::{SqliteConfig, SqliteStore};
use chatflow_core::{Engine, Settings};
use support::{Client, request, text};

/// A second's silence, then a ping, then another second.
fn impatient() -> Settings {
    let mut settings = Settings::default();
    (settings.ping, settings.pong) = (Duration::from_secs(1), Duration::from_secs(1));
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_waits_for_answers_is_not_taken_for_dead() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chatflow.db");
    let store = SqliteStore::open(SqliteConfig::new(file.clone())).await.unwrap();
    let mut settings = impatient();
    settings.in_flight = 2;
    let engine = Engine::builder().store(Arc::new(store)).settings(settings).build().await.unwrap();
    let mut publisher = Client::connect(&engine, request("7")).await;
    let lock = rusqlite::Connection::open(file).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    // With two answers due it is not read any more, so its pongs are not heard either.
    for n in 0..3 {
        publisher.send(text(&n.to_string())).await;
    }
    let mut bystander = Client::connect(&engine, request("8")).await;
    let long_enough = tokio::time::Instant::now() + Duration::from_secs(5);
    while tokio::time::timeout_at(long_enough, bystander.frame()).await.is_ok() {}
    lock.execute_batch("ROLLBACK").unwrap();
    for _ in 0..3 {
        assert_eq!(publisher.answer().await["status"], "SUCCESS");
    }
}

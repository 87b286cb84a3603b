//! The PostgreSQL store: the public suite, and what only a database on its own can do to it.

#![allow(clippy::unwrap_used)]

mod database;
mod faults;
#[path = "../support/held_logs.rs"]
mod held_logs;
#[path = "../support/older.rs"]
mod older;
mod opening;
mod plans;
mod replica;
mod together;
mod volume;

use std::sync::Arc;
use std::time::Duration;

use chatflow_core::conformance::dead_letters;
use chatflow_core::conformance::store::Subject;
use chatflow_core::store::{DatabaseConfig, PostgresStore};
use chatflow_core::{DeadLetters, MessageStore};
use chatflow_testkit::{Postgres, can_use};

use database::Database;

/// Short, so that cases that wait for one to run out don't wait long.
const LEASE: Duration = Duration::from_secs(1);

async fn postgres_store() -> Subject {
    subject(|config| config).await
}

async fn postgres_rows() -> Subject {
    subject(DatabaseConfig::without_summaries).await
}

async fn subject(set: impl Fn(DatabaseConfig) -> DatabaseConfig) -> Subject {
    let database = Database::new().await;
    let config = set(DatabaseConfig::new(database.url()).with_connections(4, 4).with_lease(LEASE));
    let open = async |config: DatabaseConfig| Arc::new(PostgresStore::open(config).await.unwrap()) as Arc<dyn MessageStore>;
    let (one, two) = (open(config.clone()).await, open(config.clone()).await);
    Subject::new(one).shared_with(two, LEASE).reopening(move || open(config.clone()))
}

async fn postgres_letters() -> dead_letters::Subject {
    let database = Database::new().await;
    let config = DatabaseConfig::new(database.url()).with_connections(4, 4);
    let open = async |config: DatabaseConfig| Arc::new(PostgresStore::open(config).await.unwrap()) as Arc<dyn DeadLetters>;
    dead_letters::Subject::new(open(config.clone()).await).reopening(move || open(config.clone()))
}

chatflow_core::dead_letters_suite!(dead_letters_in_postgres, postgres_letters, if: can_use::<Postgres>());
chatflow_core::store_suite!(postgres, postgres_store, if: can_use::<Postgres>());
chatflow_core::accounts_suite!(postgres_accounts, postgres_store, if: can_use::<Postgres>());
chatflow_core::analytics_suite!(analytics_of_summaries, postgres_store, if: can_use::<Postgres>());
chatflow_core::analytics_suite!(analytics_of_rows, postgres_rows, if: can_use::<Postgres>());

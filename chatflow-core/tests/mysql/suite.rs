//! The MySQL store on one server: the public suite, and what only a database on its own can do to it.

mod database;
mod faults;
#[path = "../support/held_logs.rs"]
mod held_logs;
#[path = "../support/older.rs"]
mod older;
mod opening;
mod replica;
mod together;

use std::sync::Arc;
use std::time::Duration;

use chatflow_core::conformance::dead_letters;
use chatflow_core::conformance::store::Subject;
use chatflow_core::store::{DatabaseConfig, MySqlStore};
use chatflow_core::{DeadLetters, MessageStore};
use chatflow_testkit::can_use;

use crate::Server;
use database::Database;

/// Short, so that cases that wait for one to run out don't wait long.
const LEASE: Duration = Duration::from_secs(1);

async fn mysql_store() -> Subject {
    subject(|config| config).await
}

async fn mysql_rows() -> Subject {
    subject(DatabaseConfig::without_summaries).await
}

async fn subject(set: impl Fn(DatabaseConfig) -> DatabaseConfig) -> Subject {
    let database = Database::new().await;
    let config = set(DatabaseConfig::new(database.url()).with_connections(4, 4).with_lease(LEASE));
    let open = async |config: DatabaseConfig| Arc::new(MySqlStore::open(config).await.unwrap()) as Arc<dyn MessageStore>;
    let (one, two) = (open(config.clone()).await, open(config.clone()).await);
    Subject::new(one).shared_with(two, LEASE).reopening(move || open(config.clone()))
}

async fn mysql_letters() -> dead_letters::Subject {
    let database = Database::new().await;
    let config = DatabaseConfig::new(database.url()).with_connections(4, 4);
    let open = async |config: DatabaseConfig| Arc::new(MySqlStore::open(config).await.unwrap()) as Arc<dyn DeadLetters>;
    dead_letters::Subject::new(open(config.clone()).await).reopening(move || open(config.clone()))
}

chatflow_core::dead_letters_suite!(dead_letters_in_mysql, mysql_letters, if: can_use::<Server>());
chatflow_core::store_suite!(mysql, mysql_store, if: can_use::<Server>());
chatflow_core::accounts_suite!(mysql_accounts, mysql_store, if: can_use::<Server>());
chatflow_core::analytics_suite!(analytics_of_summaries, mysql_store, if: can_use::<Server>());
chatflow_core::analytics_suite!(analytics_of_rows, mysql_rows, if: can_use::<Server>());

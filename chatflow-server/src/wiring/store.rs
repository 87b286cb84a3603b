//! The histories.

use std::path::PathBuf;
use std::sync::Arc;

use chatflow_core::store::MemoryStore;
use chatflow_core::{Accounts, MessageStore, NodeId};

use super::no_such;
use crate::config::{ConfigError, StoreSection};

/// The history at `store.url`; `None` when none is kept.
pub(super) async fn open(section: &StoreSection) -> Result<Option<Arc<dyn MessageStore>>, ConfigError> {
    match section.url.split() {
        ("none", "") => Ok(None),
        ("memory", "") => Ok(Some(Arc::new(MemoryStore::keeping(section.keep)))),
        #[cfg(feature = "sqlite")]
        ("sqlite", file) if !file.is_empty() => {
            let opened = chatflow_core::store::SqliteStore::open(sqlite(section, file)).await;
            let store = opened.map_err(|error| match error.to_string().contains("in use by another process") {
                true => ConfigError::line(format!("store.url = {:?}: {error}: stop the server that has it first", section.url)),
                false => wrong(section, error),
            })?;
            Ok(Some(Arc::new(store)))
        }
        #[cfg(feature = "postgres")]
        ("postgres" | "postgresql", _) => {
            let store = chatflow_core::store::PostgresStore::open(database(section)).await.map_err(|error| wrong(section, error))?;
            Ok(Some(Arc::new(store)))
        }
        #[cfg(feature = "mysql")]
        ("mysql" | "mariadb", _) => {
            let store = chatflow_core::store::MySqlStore::open(database(section)).await.map_err(|error| wrong(section, error))?;
            Ok(Some(Arc::new(store)))
        }
        _ => Err(no_such("store.url", &section.url)),
    }
}

/// Its accounts alone.
pub(super) async fn accounts(section: &StoreSection) -> Result<Arc<dyn Accounts>, ConfigError> {
    match section.url.split() {
        #[cfg(feature = "sqlite")]
        ("sqlite", file) if !file.is_empty() => {
            let accounts = chatflow_core::store::SqliteAccounts::open(file).await.map_err(|error| wrong(section, error))?;
            Ok(Arc::new(accounts))
        }
        #[cfg(feature = "postgres")]
        ("postgres" | "postgresql", _) => {
            let store = chatflow_core::store::PostgresStore::open(database(section)).await.map_err(|error| wrong(section, error))?;
            Ok(Arc::new(store))
        }
        #[cfg(feature = "mysql")]
        ("mysql" | "mariadb", _) => {
            let store = chatflow_core::store::MySqlStore::open(database(section)).await.map_err(|error| wrong(section, error))?;
            Ok(Arc::new(store))
        }
        _ => Err(no_such("store.url", &section.url)),
    }
}

/// Brings its tables up to date; what was done.
pub(super) async fn migrate(section: &StoreSection) -> Result<String, ConfigError> {
    match section.url.split() {
        #[cfg(feature = "sqlite")]
        ("sqlite", file) if !file.is_empty() => {
            let store = open(section).await?;
            if let Some(store) = store {
                store.close().await.map_err(|error| wrong(section, error))?;
            }
            Ok(format!("{file} is up to date"))
        }
        #[cfg(feature = "postgres")]
        ("postgres" | "postgresql", _) => {
            let steps = chatflow_core::store::PostgresStore::migrate(&database(section)).await.map_err(|error| wrong(section, error))?;
            Ok(done(&section.url, steps))
        }
        #[cfg(feature = "mysql")]
        ("mysql" | "mariadb", _) => {
            let steps = chatflow_core::store::MySqlStore::migrate(&database(section)).await.map_err(|error| wrong(section, error))?;
            Ok(done(&section.url, steps))
        }
        ("none" | "memory", "") => Err(ConfigError::at("store.url", &section.url, "there are no tables in it")),
        _ => Err(no_such("store.url", &section.url)),
    }
}

/// Empties the summaries, so that they are counted anew.
pub(super) async fn rebuild_summaries(section: &StoreSection) -> Result<(), ConfigError> {
    let rebuilt = match section.url.split() {
        #[cfg(feature = "sqlite")]
        ("sqlite", file) => chatflow_core::store::SqliteStore::rebuild_summaries(sqlite(section, file)).await,
        #[cfg(feature = "postgres")]
        ("postgres" | "postgresql", _) => chatflow_core::store::PostgresStore::rebuild_summaries(&database(section)).await,
        #[cfg(feature = "mysql")]
        ("mysql" | "mariadb", _) => chatflow_core::store::MySqlStore::rebuild_summaries(&database(section)).await,
        _ => Ok(()),
    };
    rebuilt.map_err(|error| wrong(section, error))
}

#[cfg(feature = "sqlite")]
fn sqlite(section: &StoreSection, file: &str) -> chatflow_core::store::SqliteConfig {
    let config = chatflow_core::store::SqliteConfig::new(file).with_readers(section.readers);
    if section.summaries { config } else { config.without_summaries() }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn done(url: &crate::config::BackendUrl, steps: usize) -> String {
    if steps == 0 { format!("{url} is up to date") } else { format!("{url} was brought up to date in {steps} steps") }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn database(section: &StoreSection) -> chatflow_core::store::DatabaseConfig {
    let mut config = chatflow_core::store::DatabaseConfig::new(section.url.reveal());
    if !section.reader_url.reveal().is_empty() {
        config = config.with_reader_url(section.reader_url.reveal());
    }
    if !section.migrate {
        config = config.without_migrations();
    }
    if !section.summaries {
        config = config.without_summaries();
    }
    config.with_connections(section.writers as u32, section.readers as u32).with_lease(section.lease)
}

/// The line for a history that does not open.
fn wrong(section: &StoreSection, error: chatflow_core::Error) -> ConfigError {
    ConfigError::line(format!("store.url = {:?}: {error}", section.url))
}

/// Whether another node can write it.
pub(super) fn is_shared(section: &StoreSection) -> bool {
    !matches!(section.url.split().0, "none" | "memory" | "sqlite")
}

/// Whether it outlives the process.
pub(super) fn lasts(section: &StoreSection) -> bool {
    !matches!(section.url.split().0, "none" | "memory")
}

/// Whether there is none.
pub(super) fn is_none(section: &StoreSection) -> bool {
    section.url.split().0 == "none"
}

/// Where dead letters go; `None` where nothing outlives the process anyway. Not into the database that refused them.
pub(super) fn dead_letters(section: &StoreSection, node: &NodeId) -> Option<PathBuf> {
    match (section.dead_letters.as_str(), section.url.split()) {
        ("", ("sqlite", file)) => Some(format!("{file}.dead-letters").into()),
        ("", ("memory" | "none", _)) => None,
        ("", _) => Some(format!("{node}.dead-letters").into()),
        (path, _) => Some(path.into()),
    }
}

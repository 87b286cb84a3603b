//! From configuration to an engine: the only place that knows which backends there are.

use std::path::PathBuf;
use std::sync::Arc;

use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};
use chatflow_core::store::{FileDeadLetters, MemoryStore};
use chatflow_core::{Broker, ChatValidator, Engine, MessageStore, NodeId};

use crate::config::{BrokerSection, Config, ConfigError, StoreSection};

/// Opens the backends and starts the engine.
///
/// # Errors
/// There is no such backend, or it can't be reached.
pub(crate) async fn engine(config: &Config, node: NodeId) -> Result<Engine, ConfigError> {
    let rooms = config.rooms.clone();
    let mut builder = Engine::builder()
        .node(node)
        .settings(config.settings())
        .validator(ChatValidator::new(config.validator.limits()))
        .broker(broker(&config.broker)?)
        .rooms(move |named| rooms.room(named));
    if let Some(store) = store(&config.store).await? {
        builder = builder.store(store);
    }
    if let Some(path) = dead_letters(&config.store) {
        let letters = FileDeadLetters::open(&path).await;
        let letters = letters.map_err(|error| ConfigError::at("store.dead_letters", &path.display().to_string(), error))?;
        builder = builder.dead_letters(Arc::new(letters));
    }
    builder.build().await.map_err(|error| {
        let (broker, store) = (&config.broker.url, &config.store.url);
        ConfigError::line(format!("the engine can't start with broker.url = {broker:?} and store.url = {store:?}: {error}"))
    })
}

fn broker(section: &BrokerSection) -> Result<Arc<dyn Broker>, ConfigError> {
    match section.url.split() {
        ("memory", "") => {
            let mut config = MemoryBrokerConfig::default();
            (config.logs, config.entries, config.bytes, config.retain) = (section.logs, section.entries, section.bytes, section.retain);
            Ok(Arc::new(InMemoryBroker::new(config)))
        }
        _ => Err(ConfigError::at("broker.url", &section.url, NO_SUCH)),
    }
}

async fn store(section: &StoreSection) -> Result<Option<Arc<dyn MessageStore>>, ConfigError> {
    match section.url.split() {
        ("none", "") => Ok(None),
        ("memory", "") => Ok(Some(Arc::new(MemoryStore::keeping(section.keep)))),
        #[cfg(feature = "sqlite")]
        ("sqlite", file) if !file.is_empty() => {
            use chatflow_core::store::{SqliteConfig, SqliteStore};
            let config = SqliteConfig::new(file).with_readers(section.readers);
            let store = SqliteStore::open(config).await.map_err(|error| ConfigError::at("store.url", &section.url, error))?;
            Ok(Some(Arc::new(store)))
        }
        _ => Err(ConfigError::at("store.url", &section.url, NO_SUCH)),
    }
}

const NO_SUCH: &str = "there is no such backend in this program";

/// Where dead letters go; `None` where nothing outlives the process anyway.
fn dead_letters(section: &StoreSection) -> Option<PathBuf> {
    match (section.dead_letters.as_str(), section.url.split()) {
        ("", ("sqlite", file)) => Some(format!("{file}.dead-letters").into()),
        ("", _) => None,
        (path, _) => Some(path.into()),
    }
}

//! The histories.

use std::path::PathBuf;
use std::sync::Arc;

use chatflow_core::MessageStore;
use chatflow_core::store::MemoryStore;

use super::no_such;
use crate::config::{ConfigError, StoreSection};

/// The history at `store.url`; `None` when none is kept.
pub(super) async fn open(section: &StoreSection) -> Result<Option<Arc<dyn MessageStore>>, ConfigError> {
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
        _ => Err(no_such("store.url", &section.url)),
    }
}

/// Whether another node can write it; none at all is fine, too.
pub(super) fn is_shared(section: &StoreSection) -> bool {
    !matches!(section.url.split().0, "memory" | "sqlite")
}

/// Where dead letters go; `None` where nothing outlives the process anyway.
pub(super) fn dead_letters(section: &StoreSection) -> Option<PathBuf> {
    match (section.dead_letters.as_str(), section.url.split()) {
        ("", ("sqlite", file)) => Some(format!("{file}.dead-letters").into()),
        ("", _) => None,
        (path, _) => Some(path.into()),
    }
}

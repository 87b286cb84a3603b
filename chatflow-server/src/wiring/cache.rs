//! The cache in front of the history.

use std::sync::Arc;

use chatflow_core::MessageStore;
use chatflow_core::cache::{CacheConfig, CachedStore};

use super::no_such;
use crate::config::{CacheSection, Config, ConfigError};

/// `store` with the cache at `cache.url` in front; `None` when there is to be none, or the history is in memory anyway.
pub(super) fn open(config: &Config, store: &Arc<dyn MessageStore>) -> Result<Option<Arc<CachedStore>>, ConfigError> {
    let CacheSection { url, bytes, idle, figures } = &config.cache;
    if url.split() == ("none", "") || config.store.url.split().0 == "memory" {
        return Ok(None);
    }
    let settings = CacheConfig::default().with_bytes(*bytes as u64).with_idle(*idle).with_figures(*figures);
    let cached = CachedStore::new(Arc::clone(store), &settings);
    match url.split() {
        ("memory", "") => Ok(Some(Arc::new(cached))),
        #[cfg(feature = "redis")]
        ("redis" | "rediss", _) => {
            use chatflow_core::cache::RedisCache;
            let second = RedisCache::new(url.reveal(), &config.broker.prefix, *idle);
            let second = second.map_err(|error| ConfigError::at("cache.url", url, error))?;
            Ok(Some(Arc::new(cached.with_second_level(Arc::new(second)))))
        }
        _ => Err(no_such("cache.url", url)),
    }
}

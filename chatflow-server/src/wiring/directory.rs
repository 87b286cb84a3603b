//! The directories of nodes.

use std::sync::Arc;

use chatflow_core::NodeDirectory;

use super::{broker, no_such};
use crate::config::{BackendUrl, Config, ConfigError};

const KEY: &str = "cluster.directory";

/// The directory at `cluster.directory`; `None` when there is none.
pub(super) fn open(config: &Config) -> Result<Option<Arc<dyn NodeDirectory>>, ConfigError> {
    let url = &config.cluster.directory;
    match url.split() {
        ("none", "") => Ok(None),
        ("", "") if !broker::is_shared(&config.broker) => Ok(None),
        ("", "") => beside(config),
        ("broker", "") if broker::is_shared(&config.broker) => match beside(config)? {
            Some(directory) => Ok(Some(directory)),
            None => Err(ConfigError::at(KEY, url, format!("broker.url = {:?} has no directory", config.broker.url))),
        },
        ("broker", "") => Err(ConfigError::at(KEY, url, "the memory broker is this node's own")),
        _ => at(url, config).map(Some),
    }
}

/// The directory that comes with the broker.
fn beside(config: &Config) -> Result<Option<Arc<dyn NodeDirectory>>, ConfigError> {
    match config.broker.url.split().0 {
        "redis" | "rediss" | "redis-cluster" | "rediss-cluster" => at(&config.broker.url, config).map(Some),
        _ => Ok(None),
    }
}

fn at(url: &BackendUrl, config: &Config) -> Result<Arc<dyn NodeDirectory>, ConfigError> {
    match (url.split().0, url.reveal(), &config.broker.prefix) {
        #[cfg(feature = "redis")]
        ("redis" | "rediss" | "redis-cluster" | "rediss-cluster", address, prefix) => {
            use chatflow_core::directory::redis::{RedisDirectory, RedisDirectoryConfig};
            let settings = RedisDirectoryConfig::new(address).with_prefix(prefix);
            Ok(Arc::new(RedisDirectory::new(settings).map_err(|error| ConfigError::at(KEY, url, error))?))
        }
        _ => Err(no_such(KEY, url)),
    }
}

//! The brokers.

use std::sync::Arc;

use chatflow_core::Broker;
use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};

use super::no_such;
use crate::config::{BrokerSection, ConfigError};

/// The broker at `broker.url`, not opened yet.
pub(super) async fn open(section: &BrokerSection) -> Result<Arc<dyn Broker>, ConfigError> {
    match section.url.split() {
        ("memory", "") => {
            let mut config = MemoryBrokerConfig::default();
            (config.logs, config.entries, config.bytes, config.retain) = (section.logs, section.entries, section.bytes, section.retain);
            Ok(Arc::new(InMemoryBroker::new(config)))
        }
        _ => Err(no_such("broker.url", &section.url)),
    }
}

/// Whether nodes can share it.
pub(super) fn is_shared(section: &BrokerSection) -> bool {
    section.url.split().0 != "memory"
}

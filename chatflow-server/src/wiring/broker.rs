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
        #[cfg(feature = "redis")]
        ("redis" | "rediss" | "redis-cluster" | "rediss-cluster", _) => {
            use chatflow_core::broker::redis::{RedisBroker, RedisBrokerConfig};
            let config = RedisBrokerConfig::new(section.url.reveal()).with_prefix(&section.prefix).with_logs(section.logs);
            let retain = config.retain.max(section.retain);
            let broker = RedisBroker::new(config.with_backlog(section.entries, section.bytes).with_retain(retain));
            Ok(Arc::new(broker.map_err(|error| ConfigError::at("broker.url", &section.url, error))?))
        }
        #[cfg(feature = "rabbitmq")]
        ("amqp" | "amqps", _) => {
            use chatflow_core::broker::rabbitmq::{RabbitMqBroker, RabbitMqConfig};
            let config = RabbitMqConfig::new(section.url.reveal()).with_prefix(&section.prefix).with_logs(section.logs);
            let broker = RabbitMqBroker::new(config.with_backlog(section.entries, section.bytes));
            Ok(Arc::new(broker.map_err(|error| ConfigError::at("broker.url", &section.url, error))?))
        }
        #[cfg(feature = "sqs")]
        ("sqs", _) => {
            use chatflow_core::broker::sqs::{SqsBroker, SqsBrokerConfig, http_client};
            let wrong = |error| ConfigError::at("broker.url", &section.url, error);
            let mut config = SqsBrokerConfig::from_url(section.url.reveal()).map_err(wrong)?.with_logs(section.logs);
            if section.prefix != "chatflow" {
                config = config.with_prefix(&section.prefix);
            }
            // Credentials as every AWS program finds them: environment, profile, the task's or the machine's role.
            let sdk = aws_config::from_env().region(aws_config::Region::new(config.region.clone())).http_client(http_client()).load().await;
            Ok(Arc::new(SqsBroker::new(config, &sdk).map_err(wrong)?))
        }
        _ => Err(no_such("broker.url", &section.url)),
    }
}

/// Whether nodes can share it.
pub(super) fn is_shared(section: &BrokerSection) -> bool {
    section.url.split().0 != "memory"
}

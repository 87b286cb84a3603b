//! The broker on RabbitMQ against the public suite, and against what only RabbitMQ does.

mod rabbit;

use std::sync::Arc;

use chatflow_core::broker::rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use chatflow_core::broker_suite;
use chatflow_core::conformance::broker::Subject;

use rabbit::{Rabbit, prefix};

fn config(rabbit: &Rabbit, prefix: &str) -> RabbitMqConfig {
    RabbitMqConfig::new(rabbit.url()).with_prefix(prefix).with_logs(2)
}

broker_suite!(suite, async {
    let rabbit = tokio::task::spawn_blocking(Rabbit::shared).await.unwrap();
    let config = config(rabbit, &prefix()).with_backlog(64, 1 << 20);
    Subject::new(Arc::new(RabbitMqBroker::new(config).unwrap()), 64)
});

//! The brokers of the library against the public suite.

use std::sync::Arc;

use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};
use chatflow_core::broker_suite;
use chatflow_core::conformance::broker::Subject;

broker_suite!(memory, async {
    let mut config = MemoryBrokerConfig::default();
    (config.logs, config.entries, config.retain) = (2, 64, 16);
    Subject::new(Arc::new(InMemoryBroker::new(config)), 64)
});

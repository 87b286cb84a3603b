//! The broker of the example against the public suite.

#[path = "../custom_broker.rs"]
#[allow(dead_code, reason = "its main is not for here")]
mod custom_broker;

use chatflow_core::conformance::broker::Subject;

chatflow_core::broker_suite!(watch_broker, async { Subject::new(custom_broker::broker(2, 64), 64) });

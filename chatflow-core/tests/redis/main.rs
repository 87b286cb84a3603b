//! The Redis broker: the public suite on one server and on a cluster, and what only Redis can do to it.

#![allow(clippy::unwrap_used)]

mod node;
mod server;

mod lives;
mod nodes;
mod setup;

use std::sync::{Arc, LazyLock};

use chatflow_core::broker::redis::RedisBroker;
use chatflow_core::broker_suite;
use chatflow_core::conformance::broker::Subject;

use server::{Cluster, Redis};

static REDIS: LazyLock<Redis> = LazyLock::new(Redis::start);
static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);

fn subject(url: &str) -> Subject {
    Subject::new(Arc::new(RedisBroker::new(node::config(url)).unwrap()), 64)
}

broker_suite!(single, async { subject(&REDIS.url()) });
broker_suite!(cluster, async { subject(&CLUSTER.url()) });

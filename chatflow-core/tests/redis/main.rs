//! The Redis broker: the public suite on one server and on a cluster, and what only Redis can do to it.

#![allow(clippy::unwrap_used)]

mod harm;
mod node;
mod server;

mod lives;
mod nodes;
mod setup;

use std::sync::LazyLock;

use chatflow_core::broker_suite;

use harm::{common, private_cluster, private_server};
use server::{Cluster, Redis};

static REDIS: LazyLock<Redis> = LazyLock::new(Redis::start);
static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);

broker_suite!(shared single, async { common(&REDIS.url()) }, faults: async { private_server() });
broker_suite!(shared cluster, async { common(&CLUSTER.url()) }, faults: async { private_cluster() });

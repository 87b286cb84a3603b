//! The harm that the public suite does to a backend, done to private servers.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use chatflow_core::broker::redis::{RedisBroker, RedisBrokerConfig};
use chatflow_core::conformance::broker::{Backend, Capabilities, Subject};
use tempfile::TempDir;

use super::server::{Cluster, Redis};

/// A server, or those of a cluster, that one test has for itself.
struct Private(Vec<Redis>);

#[async_trait]
impl Backend for Private {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn stop(&self) {
        self.0.iter().for_each(Redis::kill);
    }

    async fn start(&self) {
        self.0.iter().for_each(Redis::begin);
    }

    async fn wipe(&self) {
        for redis in &self.0 {
            redis.call(&["FLUSHALL"]);
        }
    }

    async fn snapshot(&self) -> Box<dyn Any + Send> {
        Box::new(self.0.iter().map(Redis::copy).collect::<Vec<_>>())
    }

    async fn restore(&self, copy: Box<dyn Any + Send>) {
        let copies = copy.downcast::<Vec<TempDir>>().unwrap();
        for (redis, copy) in self.0.iter().zip(copies.iter()) {
            redis.kill();
            redis.put(copy);
            redis.begin();
        }
    }

    async fn lose_live(&self) {
        for redis in &self.0 {
            redis.call(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            redis.call(&["CLIENT", "KILL", "TYPE", "normal"]);
        }
    }
}

impl Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} private servers", self.0.len())
    }
}

fn on(config: RedisBrokerConfig) -> Subject {
    let full_at = config.entries;
    let broker = Arc::new(RedisBroker::new(config.clone()).unwrap());
    Subject::new(broker, full_at).shared_by(move |logs| Arc::new(RedisBroker::new(config.clone().with_logs(logs)).unwrap()))
}

/// On a service that others use, too.
pub(crate) fn common(url: &str) -> Subject {
    on(super::node::config(url))
}

/// On a service of its own, with logs that keep what is settled while a node connects again.
fn private(url: &str, servers: Vec<Redis>) -> Subject {
    on(super::node::config(url).with_backlog(40_000, 0).with_retain(10_000)).on(Arc::new(Private(servers)))
}

pub(crate) fn private_server() -> Subject {
    let redis = Redis::start();
    private(&redis.url(), vec![redis])
}

pub(crate) fn private_cluster() -> Subject {
    let cluster = Cluster::start();
    private(&cluster.url(), cluster.0)
}

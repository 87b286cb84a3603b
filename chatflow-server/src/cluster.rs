//! This node among the others: who is alive, and where clients go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use chatflow_core::directory::Heartbeat;
use chatflow_core::{Engine, NodeDirectory, NodeInfo, Result};
use parking_lot::Mutex;

/// The most other nodes that a client is told when this one shuts down.
const MOST_ALTERNATES: usize = 8;
/// How long a rate is measured at least.
const MEASURED: Duration = Duration::from_secs(1);
/// How long a farewell may take; without one the node is gone after its lease.
const FAREWELL: Duration = Duration::from_secs(2);

/// This node, and the live ones as it knows them.
#[derive(Debug)]
pub(crate) struct Cluster {
    me: Arc<Me>,
    heart: Option<Heartbeat>,
}

/// What this node says of itself.
#[derive(Debug)]
struct Me {
    /// What does not change.
    fixed: NodeInfo,
    engine: Engine,
    draining: AtomicBool,
    pace: Mutex<Pace>,
}

/// How many messages are accepted.
#[derive(Debug)]
struct Pace {
    since: Instant,
    accepted: u64,
    rate: u64,
}

impl Cluster {
    /// Announces `fixed`, this node as it will stay, in the directory, if there is one; its figures come from `engine`.
    ///
    /// # Errors
    /// The directory can't be reached, or another live node has this name.
    pub(crate) async fn join(directory: Option<Arc<dyn NodeDirectory>>, fixed: NodeInfo, engine: Engine) -> Result<Self> {
        let pace = Pace { since: Instant::now(), accepted: 0, rate: 0 };
        let me = Arc::new(Me { fixed, engine, draining: AtomicBool::new(false), pace: Mutex::new(pace) });
        let heart = match directory {
            Some(directory) => {
                let me = Arc::clone(&me);
                Some(Heartbeat::start(directory, move || me.now()).await?)
            }
            None => None,
        };
        Ok(Self { me, heart })
    }

    /// The live nodes, by name: this one as it is now, the others as they were last announced.
    pub(crate) fn nodes(&self) -> Vec<NodeInfo> {
        let me = self.me.now();
        let live = self.heart.as_ref().map(Heartbeat::live);
        let mut nodes: Vec<_> = live.iter().flat_map(|live| live.iter()).filter(|node| !self.is_me(node)).cloned().collect();
        let place = nodes.partition_point(|node| node.node < me.node);
        nodes.insert(place, me);
        nodes
    }

    /// Whether `node` is this one.
    pub(crate) fn is_me(&self, node: &NodeInfo) -> bool {
        node.node == self.me.fixed.node
    }

    /// How many nodes live.
    pub(crate) fn count(&self) -> usize {
        self.nodes().len()
    }

    /// The `ws(s)://` URLs of other nodes that take clients, those with the fewest connections first.
    pub(crate) fn alternates(&self) -> Vec<String> {
        let mut able: Vec<_> = self.nodes().into_iter().filter(|node| !self.is_me(node) && node.takes_clients()).collect();
        able.sort_by_key(|node| node.connections);
        able.iter().filter_map(NodeInfo::websocket_url).take(MOST_ALTERNATES).collect()
    }

    /// This node takes no new clients any more: everybody is told at once.
    pub(crate) fn drain(&self) {
        self.me.draining.store(true, Relaxed);
        if let Some(heart) = &self.heart {
            heart.changed();
        }
    }

    /// This node is gone.
    pub(crate) async fn leave(&self) {
        let Some(heart) = &self.heart else { return };
        match tokio::time::timeout(FAREWELL, heart.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the directory was not told that this node leaves"),
            Err(_) => tracing::warn!("the directory was not told in time that this node leaves"),
        }
    }
}

impl Me {
    fn now(&self) -> NodeInfo {
        let stats = self.engine.stats();
        let mut me = self.fixed.clone();
        me.connections = stats.connections;
        me.rate = self.pace.lock().measure(stats.accepted);
        me.draining = self.draining.load(Relaxed) || self.engine.is_draining();
        me
    }
}

impl Pace {
    /// Messages per second since the last measurement, or the last one when that is no second ago.
    fn measure(&mut self, accepted: u64) -> u64 {
        let elapsed = self.since.elapsed();
        if elapsed >= MEASURED {
            self.rate = (accepted.saturating_sub(self.accepted) as f64 / elapsed.as_secs_f64()).round() as u64;
            (self.since, self.accepted) = (Instant::now(), accepted);
        }
        self.rate
    }
}

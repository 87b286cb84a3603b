//! The directory of nodes in one process.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{NodeDirectory, NodeInfo};
use crate::{NodeId, Result};

/// A [`NodeDirectory`] for engines that share a process, each with a clone of one `Arc`.
#[derive(Debug, Default)]
pub struct MemoryDirectory {
    /// Who announced what, and until when that holds. The lock is held for a look-up only.
    nodes: Mutex<BTreeMap<NodeId, (NodeInfo, Instant)>>,
}

impl MemoryDirectory {
    /// A directory without nodes.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl NodeDirectory for MemoryDirectory {
    async fn announce(&self, me: &NodeInfo, lease: Duration) -> Result<()> {
        let now = Instant::now();
        let mut nodes = self.nodes.lock();
        nodes.retain(|_, (_, until)| *until > now);
        if let Some((held, _)) = nodes.get(&me.node) {
            me.succeeds(held)?;
        }
        nodes.insert(me.node.clone(), (me.clone(), now + lease));
        Ok(())
    }

    async fn withdraw(&self, node: &NodeId, boot: u64) -> Result<()> {
        let mut nodes = self.nodes.lock();
        if nodes.get(node).is_some_and(|(held, _)| held.boot == boot) {
            nodes.remove(node);
        }
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeInfo>> {
        let now = Instant::now();
        Ok(self.nodes.lock().values().filter(|(_, until)| *until > now).map(|(info, _)| info.clone()).collect())
    }
}

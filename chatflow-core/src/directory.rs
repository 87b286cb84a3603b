//! Which nodes are alive, and where a new client goes.

mod assign;
mod heartbeat;
pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, NodeId, Result};

pub use assign::assign;
pub use heartbeat::{EVERY, Heartbeat, LEASE};

/// What a node does: one that serves sockets.
pub const GATEWAY: &str = "gateway";
/// What a node does: one that writes the history.
pub const HISTORY: &str = "history";
/// What a node does: one that answers reads.
pub const API: &str = "api";

/// One running node, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its name.
    pub node: NodeId,
    /// Grows with each start of the node: milliseconds since 1970 will do.
    pub boot: u64,
    /// The `http://` or `https://` URL at which clients reach it; empty when nobody said.
    pub url: String,
    /// What it does: [`GATEWAY`], [`HISTORY`], [`API`].
    pub roles: Vec<String>,
    /// WebSocket connections now.
    pub connections: u64,
    /// Messages that it accepted per second of late.
    pub rate: u64,
    /// Whether it is shutting down.
    pub draining: bool,
    /// The version of the program.
    pub version: String,
}

impl NodeInfo {
    /// A node that has just started, without a URL, in no role.
    pub fn new(node: impl Into<NodeId>, boot: u64) -> Self {
        let (url, version) = (String::new(), String::new());
        Self { node: node.into(), boot, url, roles: Vec::new(), connections: 0, rate: 0, draining: false, version }
    }

    /// The same at `url`.
    #[must_use]
    pub fn with_url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// The same in these roles.
    #[must_use]
    pub fn with_roles<R: Into<String>>(mut self, roles: impl IntoIterator<Item = R>) -> Self {
        self.roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Whether new clients may be sent to it: it serves sockets, its URL is known, and it is not shutting down.
    pub fn takes_clients(&self) -> bool {
        !self.draining && !self.url.is_empty() && self.roles.iter().any(|role| role == GATEWAY)
    }

    /// Its WebSocket URL without a path, such as `wss://chat.example`; `None` without an `http(s)` URL.
    pub fn websocket_url(&self) -> Option<String> {
        let url = self.url.trim_end_matches('/');
        let secure = url.strip_prefix("https://").map(|rest| format!("wss://{rest}"));
        secure.or_else(|| url.strip_prefix("http://").map(|rest| format!("ws://{rest}")))
    }

    /// What becomes of an announcement by `self` while the directory holds `held` for a node of the same name, whose lease has not
    /// run out: see guarantee 4.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], [`ErrorKind::Fenced`].
    pub fn succeeds(&self, held: &Self) -> Result<()> {
        if held.boot == self.boot {
            return Ok(());
        }
        if held.url != self.url && !held.url.is_empty() && !self.url.is_empty() {
            return Err(two_of_a_name(&self.node, &held.url));
        }
        if held.boot > self.boot { Err(succeeded(&self.node)) } else { Ok(()) }
    }
}

fn two_of_a_name(node: &str, url: &str) -> Error {
    let text = format!("two nodes are called {node:?}, the other is at {url}: give each a node.id of its own");
    Error::new(ErrorKind::Config, "directory", text)
}

fn succeeded(node: &str) -> Error {
    Error::new(ErrorKind::Fenced, "directory", format!("a node called {node:?} was started later and has the place"))
}

/// Where nodes tell that they are alive, and find each other.
///
/// # Guarantees
/// The conformance suite's cases cite these numbers.
/// 1. **Lease.** A node is among [`nodes`](Self::nodes) of everybody as soon as its `announce` has returned, and for `lease` from
///    then on. One that stops announcing is gone once its lease has run out; nobody's clock but the directory's own counts.
/// 2. **Leaving.** Once `withdraw` has returned, the node is gone at once.
/// 3. **As announced.** What others see is what was announced last, every field of it; nodes are in the order of their names, each
///    once.
/// 4. **One of a name.** While a lease runs, an announcement under the same name by another boot
///    - at another URL (both not empty) is refused with [`ErrorKind::Config`]: two nodes have one name;
///    - otherwise is a restart of the same node: a greater boot takes the place at once, however long the lease of the earlier one;
///      a lower one is refused with [`ErrorKind::Fenced`]. So a node that was killed is back with its first announcement, and
///      one that was only thought dead learns of its successor.
///
///    A refused announcement changes nothing, nor does the `withdraw` of another boot. Once the lease has run out, nothing is
///    remembered.
///
/// # Errors
/// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] when the directory does not answer within a few seconds. A call that failed
/// may have had its effect.
///
/// # Cancel safety
/// A dropped call may have had its effect; all calls may be repeated.
#[async_trait]
pub trait NodeDirectory: Debug + Send + Sync + 'static {
    /// Heartbeat: this node lives for `lease` from now on, and this is how it does.
    ///
    /// # Errors
    /// Guarantee 4, or the directory can't be reached.
    async fn announce(&self, me: &NodeInfo, lease: Duration) -> Result<()>;

    /// It leaves. Nothing happens if it is not there, or there by another boot.
    ///
    /// # Errors
    /// The directory can't be reached.
    async fn withdraw(&self, node: &NodeId, boot: u64) -> Result<()>;

    /// Live nodes, by name.
    ///
    /// # Errors
    /// The directory can't be reached.
    async fn nodes(&self) -> Result<Vec<NodeInfo>>;
}

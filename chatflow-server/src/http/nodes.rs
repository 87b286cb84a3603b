//! The live nodes, and which of them is best for a new client.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chatflow_core::directory::assign;
use chatflow_core::protocol::code;
use chatflow_core::{NodeId, NodeInfo};
use serde::Serialize;

use super::{App, Problem};

/// The live nodes, by name.
#[derive(Debug, Serialize)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

/// A node, as people want to see it.
#[derive(Debug, Serialize)]
struct Node {
    node: NodeId,
    url: String,
    roles: Vec<String>,
    connections: u64,
    rate: u64,
    draining: bool,
    version: String,
    #[serde(rename = "self")]
    is_me: bool,
}

/// `GET /api/v1/nodes`: everybody in the directory; without one, this node.
pub(super) async fn nodes(State(app): State<App>) -> Json<Nodes> {
    let node = |info: NodeInfo| {
        let is_me = app.cluster.is_me(&info);
        let NodeInfo { node, url, roles, connections, rate, draining, version, .. } = info;
        Node { node, url, roles, connections, rate, draining, version, is_me }
    };
    Json(Nodes { nodes: app.cluster.nodes().into_iter().map(node).collect() })
}

/// Where a new client should go.
#[derive(Debug, Serialize)]
pub(super) struct Assignment {
    node: NodeId,
    url: String,
    /// The same as a WebSocket URL, to which `/chat` is appended.
    ws: String,
}

/// `GET /api/v1/assign`: answered by every node from what it knows, so that there is nobody whose absence stops it.
pub(super) async fn best(State(app): State<App>) -> Result<Json<Assignment>, Problem> {
    let nodes = app.cluster.nodes();
    let best = assign(&nodes).and_then(|best| {
        Some(Assignment { node: best.node.clone(), url: best.url.trim_end_matches('/').to_owned(), ws: best.websocket_url()? })
    });
    best.map(Json).ok_or_else(|| Problem::unavailable(code::UNAVAILABLE, "no node takes new clients now", Duration::from_secs(1)))
}

/// What of `/api/v1` is answered by nodes of another role.
pub(super) async fn elsewhere() -> Problem {
    Problem::unavailable(code::UNAVAILABLE, "this node does not answer the API: its node.roles are without api", Duration::from_secs(1))
}

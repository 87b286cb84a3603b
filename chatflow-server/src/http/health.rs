//! `/health` and `/ready`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chatflow_core::{Component, Timestamp};
use serde::Serialize;

use super::App;

/// What `/health` says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alive {
    status: &'static str,
    node: String,
    version: &'static str,
    uptime_seconds: u64,
    durable: bool,
    timestamp: String,
}

/// Liveness: the process answers. Asks no backend.
pub(super) async fn health(State(app): State<App>) -> Json<Alive> {
    Json(Alive {
        status: "healthy",
        node: app.engine.node().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: app.started.elapsed().as_secs(),
        durable: app.durable,
        timestamp: Timestamp::now().to_string(),
    })
}

/// What `/ready` says.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    status: &'static str,
    node: String,
    draining: bool,
    durable: bool,
    components: Vec<Component>,
}

/// Readiness: 503 while a part is down or the node drains.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let mut health = app.engine.health().await;
    // Clients can be served without.
    health.components.extend(app.backups.as_ref().map(|backups| backups.component()));
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = match (health.ready, health.draining) {
        (true, _) => "ready",
        (false, true) => "draining",
        (false, false) => "unavailable",
    };
    let node = app.engine.node().to_string();
    let readiness = Readiness { status: word, node, draining: health.draining, durable: health.durable, components: health.components };
    (status, Json(readiness))
}

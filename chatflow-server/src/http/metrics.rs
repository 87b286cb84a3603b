//! `/metrics`: Prometheus text, or JSON.

use std::fmt::Write;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chatflow_core::Stats;
use serde_json::{Map, Value};

use super::App;

struct Metric {
    name: &'static str,
    counter: bool,
    help: &'static str,
    value: fn(&Stats) -> u64,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Stats) -> u64) -> Metric {
    Metric { name, counter: true, help, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Stats) -> u64) -> Metric {
    Metric { name, counter: false, help, value }
}

const METRICS: &[Metric] = &[
    gauge("connections", "WebSocket connections now.", |s| s.connections),
    counter("connections_opened", "WebSocket connections since the start.", |s| s.connections_total),
    gauge("members", "Members now, over all rooms.", |s| s.registry.members),
    gauge("rooms", "Rooms with members now.", |s| s.registry.rooms),
    counter("messages_accepted", "Messages that the broker took.", |s| s.accepted),
    counter("messages_rejected", "Messages refused for what they are.", |s| s.rejected),
    counter("messages_refused", "Messages refused for the state that the server is in.", |s| s.refused),
    counter("messages_acknowledged", "Messages answered with SUCCESS.", |s| s.acknowledged),
    counter("messages_repeated", "Messages that came again under the same id.", |s| s.repeats),
    counter("messages_conflicting", "Messages whose id was used for another message.", |s| s.conflicts),
    counter("messages_persisted", "Rows committed to the store.", |s| s.persisted),
    counter("store_commits", "Commits to the store.", |s| s.commits),
    counter("store_commit_failures", "Commits that failed and were tried again.", |s| s.commit_failures),
    counter("dead_letters", "Messages that became dead letters.", |s| s.dead_letters),
    counter("broadcasts", "Messages given to rooms with members.", |s| s.registry.broadcasts),
    counter("deliveries", "Broadcast frames written to members.", |s| s.registry.deliveries),
    counter("sent_bytes", "Bytes written to clients.", |s| s.bytes_out),
    counter("received_bytes", "Bytes read from clients.", |s| s.bytes_in),
    counter("slow_members", "Members that were too slow.", |s| s.registry.slow),
    counter("caught_up_messages", "Messages read from the store for members that came back.", |s| s.caught_up),
    gauge("recent_bytes", "Bytes of recent messages in memory.", |s| s.registry.recent_bytes),
];

/// Counters and gauges of the engine, and of the process.
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let stats = app.engine.stats();
    let uptime = app.started.elapsed().as_secs_f64();
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match accept.contains("application/json") {
        true => Json(json(&app, &stats, uptime)).into_response(),
        false => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&app, &stats, uptime)).into_response(),
    }
}

fn text(app: &App, stats: &Stats, uptime: f64) -> String {
    let mut out = String::with_capacity(4096);
    let mut line = |name: &str, kind: &str, help: &str, labels: &str, value: &dyn std::fmt::Display| {
        // Writing to a string can't fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}\n");
    };
    let node = app.engine.node().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = format!("{{node=\"{node}\",version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    line("chatflow_info", "gauge", "This node.", &labels, &1);
    line("chatflow_nodes", "gauge", "Live nodes that this node knows, itself included.", "", &app.cluster.count());
    line("chatflow_uptime_seconds", "gauge", "Seconds since the start.", "", &uptime);
    if let Some(bytes) = resident_bytes() {
        line("process_resident_memory_bytes", "gauge", "Resident memory of the process.", "", &bytes);
    }
    for Metric { name, counter, help, value } in METRICS {
        let (kind, suffix) = if *counter { ("counter", "_total") } else { ("gauge", "") };
        line(&format!("chatflow_{name}{suffix}"), kind, help, "", &value(stats));
    }
    out
}

fn json(app: &App, stats: &Stats, uptime: f64) -> Map<String, Value> {
    let process = [
        ("node", app.engine.node().to_string().into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("nodes", app.cluster.count().into()),
        ("uptimeSeconds", uptime.into()),
        ("residentBytes", resident_bytes().into()),
    ];
    let process = process.map(|(name, value): (&str, Value)| (name.to_owned(), value));
    process.into_iter().chain(METRICS.iter().map(|metric| (camel_case(metric.name), (metric.value)(stats).into()))).collect()
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
}

/// Resident memory in bytes; `None` where the system has no `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_the_engine_is_shown() {
        let figures = serde_json::to_value(Stats::default()).unwrap().as_object().unwrap().len();
        assert_eq!(METRICS.len(), figures);
    }

    #[test]
    fn names_of_json_are_in_camel_case() {
        assert_eq!(camel_case("messages_accepted"), "messagesAccepted");
        assert_eq!(camel_case("rooms"), "rooms");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_known_on_linux() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}

//! `/metrics`: Prometheus text, or JSON.

use std::fmt::Write;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chatflow_core::Stats;
use chatflow_core::cache::CacheStats;
use serde_json::{Map, Value};

use super::App;

/// What the metrics are made of.
#[derive(Default)]
struct Figures {
    engine: Stats,
    cache: CacheStats,
}

struct Metric {
    name: &'static str,
    counter: bool,
    help: &'static str,
    value: fn(&Figures) -> u64,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Figures) -> u64) -> Metric {
    Metric { name, counter: true, help, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Figures) -> u64) -> Metric {
    Metric { name, counter: false, help, value }
}

const METRICS: &[Metric] = &[
    gauge("connections", "WebSocket connections now.", |f| f.engine.connections),
    counter("connections_opened", "WebSocket connections since the start.", |f| f.engine.connections_total),
    gauge("members", "Members now, over all rooms.", |f| f.engine.registry.members),
    gauge("rooms", "Rooms with members now.", |f| f.engine.registry.rooms),
    counter("messages_accepted", "Messages that the broker took.", |f| f.engine.accepted),
    counter("messages_rejected", "Messages refused for what they are.", |f| f.engine.rejected),
    counter("messages_refused", "Messages refused for the state that the server is in.", |f| f.engine.refused),
    counter("messages_acknowledged", "Messages answered with SUCCESS.", |f| f.engine.acknowledged),
    counter("messages_repeated", "Messages that came again under the same id.", |f| f.engine.repeats),
    counter("messages_conflicting", "Messages whose id was used for another message.", |f| f.engine.conflicts),
    counter("messages_persisted", "Rows committed to the store.", |f| f.engine.persisted),
    counter("store_commits", "Commits to the store.", |f| f.engine.commits),
    counter("store_commit_microseconds", "Microseconds that batches took until they were committed, added up.", |f| f.engine.commit_us),
    counter("store_commit_failures", "Commits that failed and were tried again.", |f| f.engine.commit_failures),
    counter("messages_removed", "Rows removed from the store because they were too old.", |f| f.engine.removed),
    counter("store_removal_failures", "Times at which old rows could not be removed.", |f| f.engine.removal_failures),
    counter("dead_letters", "Messages that became dead letters.", |f| f.engine.dead_letters),
    counter("broadcasts", "Messages given to rooms with members.", |f| f.engine.registry.broadcasts),
    counter("deliveries", "Broadcast frames written to members.", |f| f.engine.registry.deliveries),
    counter("sent_bytes", "Bytes written to clients.", |f| f.engine.bytes_out),
    counter("received_bytes", "Bytes read from clients.", |f| f.engine.bytes_in),
    counter("slow_members", "Members that were too slow.", |f| f.engine.registry.slow),
    counter("caught_up_messages", "Messages read from the store for members that came back.", |f| f.engine.caught_up),
    counter("cache_page_hits", "Pages of the history that were in this process, or being read.", |f| f.cache.page_hits),
    counter("cache_second_hits", "Pages that were in the cache that nodes share.", |f| f.cache.second_hits),
    counter("cache_page_misses", "Pages that the store was asked for.", |f| f.cache.page_misses),
    counter("cache_figure_hits", "Figures that had been counted, or were being counted.", |f| f.cache.figure_hits),
    counter("cache_figure_misses", "Figures that were counted.", |f| f.cache.figure_misses),
    gauge("recent_bytes", "Bytes of recent messages in memory.", |f| f.engine.registry.recent_bytes),
];

/// Counters and gauges of the engine, and of the process.
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let cache = app.cache.as_ref().map(|cache| cache.stats()).unwrap_or_default();
    let figures = Figures { engine: app.engine.stats(), cache };
    let uptime = app.started.elapsed().as_secs_f64();
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match accept.contains("application/json") {
        true => Json(json(&app, &figures, uptime)).into_response(),
        false => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&app, &figures, uptime)).into_response(),
    }
}

fn text(app: &App, figures: &Figures, uptime: f64) -> String {
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
        line(&format!("chatflow_{name}{suffix}"), kind, help, "", &value(figures));
    }
    out
}

fn json(app: &App, figures: &Figures, uptime: f64) -> Map<String, Value> {
    let process = [
        ("node", app.engine.node().to_string().into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("nodes", app.cluster.count().into()),
        ("uptimeSeconds", uptime.into()),
        ("residentBytes", resident_bytes().into()),
    ];
    let process = process.map(|(name, value): (&str, Value)| (name.to_owned(), value));
    process.into_iter().chain(METRICS.iter().map(|metric| (camel_case(metric.name), (metric.value)(figures).into()))).collect()
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
        let Figures { engine, cache } = Figures::default();
        let values = [serde_json::to_value(engine).unwrap(), serde_json::to_value(cache).unwrap()];
        assert_eq!(METRICS.len(), values.iter().map(|value| value.as_object().unwrap().len()).sum::<usize>());
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

//! A server as a line: for a person in a pipe, or for a program.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::figures::{NONE, known, latency, rate, span};
use super::rates::Counter;
use super::sample::{Figures, Node, Part, Queue};
use super::server::{Server, State};

/// How the server does, on one line. It begins with the time and the server, and ends with what is wrong, if anything is.
pub(super) fn plain(server: &Server, time: &str, now: Instant) -> String {
    let mut line = format!("{time}  {}", server.url);
    let mut state = server.state().word().to_owned();
    if server.state() != State::Ready {
        state += &format!(" for {}", span(server.since(now)));
    }
    if !server.reason().is_empty() {
        state += &format!(" ({})", server.reason());
    }
    let Some(sample) = server.sample() else { return format!("{line}  {state}") };
    let figures = &sample.figures;
    line += &format!("  {}  {state}", if figures.node.is_empty() { NONE } else { &figures.node });
    for (name, counter) in [("in", Counter::Accepted), ("out", Counter::Deliveries), ("saved", Counter::Persisted)] {
        line += &format!("  {name} {}/s", rate(server.rate(counter)));
    }
    line += &format!("  waiting {}", known(server.queues().map(|queues| queues.waiting)));
    line += &format!("  lag {}  commit {}", latency(server.lag_seconds()), latency(server.commit_seconds()));
    line += &format!("  connections {}  members {}", known(figures.connections), known(figures.members));
    line += &format!("  nodes {}", known(sample.nodes.as_ref().ok().map(|nodes| nodes.len() as u64)));
    for (name, counter) in [("refused", Counter::Refused), ("rejected", Counter::Rejected)] {
        line += &format!("  {name} {}/s", rate(server.rate(counter)));
    }
    for (name, counter) in
        [("commit failures", Counter::CommitFailures), ("dead letters", Counter::DeadLetters), ("slow members", Counter::SlowMembers)]
    {
        // Rare, and worth a word when they come.
        if let Some(growth) = server.growth(counter).filter(|n| *n > 0) {
            line += &format!("  {name} +{growth}");
        }
    }
    line
}

/// The same in full, for a program. What is not known is `null`.
pub(super) fn json(server: &Server, time: &str, now: Instant) -> Value {
    let mut line = json!({
        "at": time, "server": server.url, "state": server.state().word(), "forSeconds": server.since(now).as_secs_f64(),
        "reason": Some(server.reason()).filter(|reason| !reason.is_empty()),
    });
    let Some(sample) = server.sample() else { return line };
    let Figures { node, version, uptime, resident_bytes, recent_bytes, connections, members, rooms, counters } = &sample.figures;
    let per_second: Map<_, _> = Counter::ALL.iter().map(|(counter, name)| ((*name).to_owned(), json!(server.rate(*counter)))).collect();
    let since_start: Map<_, _> = Counter::ALL.iter().map(|(counter, name)| ((*name).to_owned(), json!(counters.of(*counter)))).collect();
    let queues = server.queues();
    let more = json!({
        "node": node, "version": version, "uptimeSeconds": uptime.as_secs_f64(), "residentBytes": resident_bytes,
        "recentBytes": recent_bytes, "connections": connections, "members": members, "rooms": rooms,
        "perSecond": per_second, "sinceStart": since_start,
        "waiting": queues.map(|queues| queues.waiting), "writing": queues.map(|queues| queues.writing),
        "lagSeconds": server.lag_seconds(), "commitSeconds": server.commit_seconds(),
        "rowsPerCommit": server.each(Counter::Persisted, Counter::Commits),
        "queues": queues.map(|queues| queues.fullest.iter().map(queue).collect::<Vec<_>>()),
        "parts": sample.readiness.as_ref().ok().map(|readiness| readiness.parts.iter().map(part).collect::<Vec<_>>()),
        "nodes": sample.nodes.as_ref().ok().map(|nodes| nodes.iter().map(node_line).collect::<Vec<_>>()),
    });
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
    }
    line
}

fn queue(queue: &Queue) -> Value {
    json!({"roomId": queue.room, "waiting": queue.waiting, "writing": queue.writing, "log": queue.log})
}

fn part(part: &Part) -> Value {
    json!({"name": part.name, "healthy": part.healthy, "detail": part.detail})
}

fn node_line(node: &Node) -> Value {
    json!({
        "node": node.name, "url": node.url, "roles": node.roles, "connections": node.connections, "rate": node.rate,
        "state": node.state(), "version": node.version, "asked": node.asked,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::monitor::invented::{Invented, server};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_line_says_how_it_does_and_what_is_wrong() {
        let now = Instant::now();
        let mut server = server(now);
        let first = |at, uptime| Invented::at(at, uptime).figure("deliveries", 0).figure("messagesRefused", 0).figure("deadLetters", 1);
        server.observe(Ok(first(now, 5).accepted(0).persisted(0, 0, 0).waiting(0).node("node-1").sample()));
        assert_eq!(
            plain(&server, "T", now),
            "T  ws://127.0.0.1:8080  node-1  ready  in -/s  out -/s  saved -/s  waiting 0  lag 0  commit -  connections 64  members 1,280  \
             nodes 1  refused -/s  rejected -/s"
        );
        let second = Invented::at(now + SECOND, 6).figure("deliveries", 61_000).figure("messagesRefused", 3).figure("deadLetters", 3);
        let second = second.accepted(12_310).persisted(12_000, 60, 246_000).waiting(120).broken("store", "slow");
        server.observe(Ok(second.sample()));
        assert_eq!(
            plain(&server, "T", now + 3 * SECOND),
            "T  ws://127.0.0.1:8080  node-1  not ready for 2 s (store: slow)  in 12,310/s  out 61,000/s  saved 12,000/s  waiting 120  \
             lag 10.0 ms  commit 4.1 ms  connections 64  members 1,280  nodes 0  refused 3.0/s  rejected -/s  dead letters +2"
        );
        server.observe(Err((now + 4 * SECOND, "nobody listens there".to_owned())));
        assert_eq!(plain(&server, "T", now + 9 * SECOND), "T  ws://127.0.0.1:8080  down for 5 s (nobody listens there)");
    }

    #[test]
    fn a_program_is_told_everything() {
        let now = Instant::now();
        let mut server = server(now);
        server.observe(Ok(Invented::at(now, 5).accepted(100).sample()));
        server.observe(Ok(Invented::at(now + SECOND, 6).accepted(350).waiting(7).node("node-1").node("node-2").sample()));
        let line = json(&server, "T", now + SECOND);
        assert_eq!((&line["state"], &line["reason"], &line["waiting"]), (&json!("ready"), &Value::Null, &json!(7)));
        assert_eq!((&line["perSecond"]["messagesAccepted"], &line["sinceStart"]["messagesAccepted"]), (&json!(250.0), &json!(350)));
        assert_eq!(line["perSecond"]["deliveries"], Value::Null);
        assert_eq!(line["queues"], json!([{"roomId": "room-0", "waiting": 7, "writing": 3, "log": 263}]));
        assert_eq!((&line["nodes"][1]["state"], &line["parts"][0]["name"]), (&json!("draining"), &json!("broker")));
        server.observe(Err((now + 2 * SECOND, "gone".to_owned())));
        let line = json(&server, "T", now + 4 * SECOND);
        assert_eq!(
            line,
            json!({"at": "T", "server": "ws://127.0.0.1:8080", "state": "down", "forSeconds": 2.0, "reason": "gone"}),
            "nothing is told that is not so now"
        );
    }
}

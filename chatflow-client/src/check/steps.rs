//! The steps, one after the other; what can't be done after a failure is left out.

use std::time::Duration;

use chatflow_client::{Client, Draft, Endpoint, Error, Events, Incoming, MessageId, Position, code, http};
use serde_json::Value;

use super::Args;
use super::plain::PlainMember;
use super::report::Report;

/// How often the history is asked until it has what was acknowledged: it may be behind the log.
const HISTORY_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn run(report: &mut Report, endpoint: &Endpoint, room: &str, args: &Args) {
    let (limit, token) = (args.timeout, args.token.as_deref());
    report.step("health", limit, health(endpoint, token), state).await;
    report.step("ready", limit, ready(endpoint, token), components).await;

    let connecting = PlainMember::connect(endpoint, room, token);
    let plain = report.step("plain", limit, connecting, |_| "connected without a subprotocol".to_owned()).await;
    let connected = report.step("v1", limit, connect(endpoint, room, args), |v1| v1.welcome.clone()).await;
    let Some(V1 { client, mut events, .. }) = connected else { return };

    let draft = Draft::new("chatflow-client check");
    let id = draft.message_id();
    let told = |position: &Option<Position>| position.map_or("acknowledged".to_owned(), |p| format!("acknowledged at {p}"));
    let published = report.step("publish", limit, publish(&client, room, draft.clone()), told).await;
    let Some(first) = published else { return client.close().await };

    let at = |position: &String| format!("at {position}");
    let mut places = vec![first.map(|p| p.to_string()).unwrap_or_default()];
    places.extend(report.step("seen", limit, sees(&mut events, id), at).await);
    if let Some(mut plain) = plain {
        places.extend(report.step("seen plain", limit, async { plain.sees(id).await }, at).await);
    }
    let again = async {
        let again = publish(&client, room, draft).await?.map(|p| p.to_string()).unwrap_or_default();
        places.push(again);
        same(&places)
    };
    report.step("again", limit, again, |place| format!("the same id again: still one message, at {place}")).await;
    let place = places.iter().find(|p| !p.is_empty()).cloned().unwrap_or_default();
    report.step("history", limit, in_history(endpoint, room, token, id, &place), Clone::clone).await;
    client.close().await;
}

async fn health(endpoint: &Endpoint, token: Option<&str>) -> Result<Value, String> {
    let health = http::get(endpoint, "/health", token).await.map_err(|e| e.to_string())?.success()?;
    match health["status"].as_str() {
        Some("healthy") => Ok(health),
        _ => Err(format!("no {{\"status\":\"healthy\"}} but {health}")),
    }
}

async fn ready(endpoint: &Endpoint, token: Option<&str>) -> Result<Value, String> {
    let answer = http::get(endpoint, "/ready", token).await.map_err(|e| e.to_string())?;
    match answer.status {
        503 => Err(format!("not ready: {}", components(&answer.body))),
        _ => answer.success(),
    }
}

fn state(health: &Value) -> String {
    let node = ["node", "nodeId", "serverId"].iter().find_map(|name| health.get(name)?.as_str());
    let durable = match health["durable"].as_bool() {
        Some(false) => ", not durable",
        _ => "",
    };
    format!("healthy{}{durable}", node.map(|n| format!(", node {n}")).unwrap_or_default())
}

/// What is said of each component, in few words.
fn components(ready: &Value) -> String {
    let of_list = |list: &Vec<Value>| {
        let one = |c: &Value| {
            let name = c["name"].as_str()?;
            let healthy = c["healthy"].as_bool().unwrap_or(false);
            Some(if healthy { name.to_owned() } else { format!("{name} DOWN ({})", c["detail"].as_str().unwrap_or_default()) })
        };
        list.iter().filter_map(one).collect::<Vec<_>>().join(", ")
    };
    let text = ready["components"].as_array().map(of_list).unwrap_or_default();
    crate::terminal::harmless(&text)
}

struct V1 {
    client: Client,
    events: Events,
    welcome: String,
}

async fn connect(endpoint: &Endpoint, room: &str, args: &Args) -> Result<V1, String> {
    let builder = Client::builder(endpoint.to_string()).user(&args.user_id, &args.username).room(room);
    let builder = match &args.token {
        Some(token) => builder.token(token),
        None => builder,
    };
    let (client, mut events) =
        builder.connect_timeout(args.timeout).answer_timeout(args.timeout).connect().await.map_err(|e| explain(&e))?;
    loop {
        if let Incoming::Welcome { position, durable, .. } = events.recv().await.ok_or("the connection ended")? {
            let place = position.map(|p| format!(" at {p}")).unwrap_or_default();
            let durable = if durable { "durable" } else { "not durable: what is acknowledged does not survive the server" };
            return Ok(V1 { client, events, welcome: format!("joined{place}; {durable}") });
        }
    }
}

async fn publish(client: &Client, room: &str, draft: Draft) -> Result<Option<Position>, String> {
    client.publish_draft(room, draft).await.map(|published| published.position).map_err(|e| explain(&e))
}

async fn sees(events: &mut Events, id: MessageId) -> Result<String, String> {
    loop {
        match events.recv().await.ok_or("the connection ended")? {
            Incoming::Message(message) if message.id() == id => {
                return Ok(message.position().map(|p| p.to_string()).unwrap_or_default());
            }
            Incoming::Disconnected { reason, .. } => return Err(reason),
            _ => {}
        }
    }
}

/// The one place that all agree on; who does not know it says nothing.
fn same(places: &[String]) -> Result<String, String> {
    let mut known: Vec<_> = places.iter().filter(|p| !p.is_empty()).collect();
    known.dedup();
    match known[..] {
        [] => Err("nobody said its position".to_owned()),
        [one] => Ok(one.clone()),
        _ => Err(format!("one id has several positions: {}", places.join(", "))),
    }
}

async fn in_history(endpoint: &Endpoint, room: &str, token: Option<&str>, id: MessageId, place: &str) -> Result<String, String> {
    let (path, id) = (format!("/api/v1/rooms/{room}/messages?limit=100"), id.to_string());
    loop {
        let answer = http::get(endpoint, &path, token).await.map_err(|e| e.to_string())?;
        if matches!(answer.status, 404 | 501) {
            let problem = answer.success().err().unwrap_or_default();
            return Ok(format!("no history ({problem})"));
        }
        let page = answer.success()?;
        let messages = page["messages"].as_array().ok_or("the answer has no list of messages")?;
        let found: Vec<_> = messages.iter().filter(|m| m["messageId"] == id).collect();
        match found[..] {
            [] => tokio::time::sleep(HISTORY_INTERVAL).await,
            [one] if one["position"] == place => return Ok(format!("read back at {place}")),
            [one] => return Err(format!("the history has it at {}, members saw it at {place}", one["position"])),
            _ => return Err(format!("the history has it {} times", found.len())),
        }
    }
}

fn explain(error: &Error) -> String {
    match error {
        Error::Refused(frame) if frame.code == code::BAD_ROOM => restricted(&error.to_string()),
        Error::ClosedByServer { code, reason } => closed(*code, reason),
        other => other.to_string(),
    }
}

/// A close frame in words.
pub(super) fn closed(code: u16, reason: &str) -> String {
    let text = format!("the server closed the connection ({code} {reason})");
    if matches!(code, 1003 | 1007 | 1008) { restricted(&text) } else { text }
}

fn restricted(problem: &str) -> String {
    format!("{problem}; if the server allows only some rooms (rooms.allow), name one with --room")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn positions_agree_when_all_who_know_say_the_same() {
        let places = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        assert_eq!(same(&places(&["", "1:2", "1:2"])), Ok("1:2".into()));
        assert!(same(&places(&["1:2", "1:3"])).is_err());
        assert!(same(&places(&["1:2", "1:3", "1:2"])).is_err());
        assert!(same(&places(&["", ""])).is_err());
    }

    #[test]
    fn components_that_are_down_are_named() {
        let ready = json!({"components": [
            {"name": "broker", "healthy": true, "detail": "memory"}, {"name": "store", "healthy": false, "detail": "locked\u{1b}"},
        ]});
        assert_eq!(components(&ready), r"broker, store DOWN (locked\u{1b})");
        assert_eq!(components(&json!({})), "");
    }
}

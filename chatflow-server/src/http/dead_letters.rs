//! `/api/v1/dead-letters`: what can't be stored or published, on all nodes.

mod replay;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use chatflow_core::protocol::code;
use chatflow_core::{DeadLetter, LogId, Message, NodeInfo, Position, Shelf, Stored};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use super::query::Reading;
use super::{App, Checked, Problem, access};
use crate::listener::Visitor;
use crate::peers;

pub(super) use replay::replay;

/// How long a node, or the database, may take to tell what it has.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a letter's id must be.
const PLACE: &str = "must be written \"<log>/<position>\"";

/// What names a letter: log and position.
type Place = (LogId, Position);

/// The query of all calls.
#[derive(Debug, Deserialize)]
pub(super) struct LettersQuery {
    limit: Option<String>,
    after: Option<String>,
    id: Option<String>,
    scope: Option<String>,
    node: Option<String>,
}

/// What a call is about.
struct Asked {
    limit: usize,
    after: Option<Place>,
    id: Option<Place>,
    /// Whether only what no other node can get at is asked for.
    alone: bool,
}

impl Asked {
    /// Whether letters in the history's database are meant too: where nodes share it, whoever was asked first sees to them.
    fn means_store(&self, app: &App) -> bool {
        !self.alone || !app.engine.shares_history()
    }
}

impl LettersQuery {
    /// Lets an admin call pass, and reads it.
    fn read(&self, app: &App, visitor: &Visitor, headers: &HeaderMap) -> Result<Asked, Problem> {
        access::admin(app, visitor, headers)?;
        if self.node.as_deref().is_some_and(|node| *node != app.engine.node()[..]) {
            // Its URL is not its own, but that of something in front of all nodes.
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, code::UNAVAILABLE, "this is another node"));
        }
        let mut reading = Reading::default();
        let mut place = |name: &str, text: Option<&str>| {
            let place = text.map(read_place);
            if place == Some(None) {
                reading.wrong(name, PLACE);
            }
            place.flatten()
        };
        let (after, id) = (place("after", self.after.as_deref()), place("id", self.id.as_deref()));
        let limit = reading.limit(self.limit.as_deref());
        if self.scope.as_deref().is_some_and(|scope| scope != "node") {
            reading.wrong("scope", "must be node");
        }
        reading.done()?;
        Ok(Asked { limit, after, id, alone: self.scope.is_some() })
    }

    /// The letter that a call is about.
    fn one(asked: &Asked) -> Result<Place, Problem> {
        asked.id.ok_or_else(|| Problem::invalid(vec![format!("id: {PLACE}")]))
    }
}

fn read_place(text: &str) -> Option<Place> {
    let (log, position) = text.split_once('/')?;
    Some((LogId(log.parse().ok()?), position.parse().ok()?))
}

fn write_place((log, position): Place) -> String {
    format!("{log}/{position}")
}

/// A page of letters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    dead_letters: Vec<Value>,
    next: Option<String>,
    missing: Vec<Missing>,
}

/// Whose letters are not told of.
#[derive(Debug, Serialize)]
struct Missing {
    part: &'static str,
    name: String,
    reason: String,
}

impl Missing {
    fn node(node: &NodeInfo, reason: String) -> Self {
        Self { part: "node", name: node.node.to_string(), reason }
    }

    fn store(error: &chatflow_core::Error) -> Self {
        tracing::warn!(%error, "the dead letters of the history can't be had");
        Self { part: "store", name: "store".into(), reason: "the database does not answer".into() }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Letter<'a> {
    id: String,
    log: LogId,
    position: Position,
    message_id: Option<String>,
    room_id: Option<&'a str>,
    at: String,
    reason: &'a str,
    node: Option<&'a str>,
    bytes: usize,
    message: Value,
}

/// A letter as it is shown; `shelf` is where it is.
fn show(app: &App, letter: &DeadLetter, shelf: Shelf) -> Value {
    let message = Message::decode(letter.entry.clone()).ok().map(|message| Stored { position: letter.position, message });
    let message = message.and_then(|stored| serde_json::from_slice(&app.engine.show(&stored)).ok());
    let shown = Letter {
        id: write_place(letter.place()),
        log: letter.log,
        position: letter.position,
        message_id: Some(letter.id).filter(|id| !id.is_nil()).map(|id| id.to_string()),
        room_id: letter.room.as_ref().map(|room| room.as_str()),
        at: letter.at.to_string(),
        reason: &letter.reason,
        node: (shelf == Shelf::Node || !app.engine.shares_history()).then(|| &app.engine.node()[..]),
        bytes: letter.entry.len(),
        message: message.unwrap_or_default(),
    };
    serde_json::to_value(&shown).unwrap_or_default()
}

/// `GET /api/v1/dead-letters`.
pub(super) async fn list(
    State(app): State<App>,
    Checked(Query(query)): Checked<Query<LettersQuery>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Result<Json<Page>, Problem> {
    let asked = query.read(&app, &visitor, &headers)?;
    let Asked { limit, after, .. } = asked;
    let (mut letters, mut missing): (BTreeMap<Place, Value>, Vec<_>) = Default::default();
    // One more than asked tells whether there is a next page.
    for letter in app.engine.dead_letters(Shelf::Node, after, limit + 1).await? {
        letters.insert(letter.place(), show(&app, &letter, Shelf::Node));
    }
    let mut more = letters.len() > limit;
    if !asked.alone {
        let after = after.map(|after| format!("&after={}", write_place(after))).unwrap_or_default();
        let path = format!("/api/v1/dead-letters?scope=node&limit={limit}{after}");
        for (node, answer) in ask_others(&app, &Method::GET, &path, PATIENCE).await {
            match answer {
                Ok((StatusCode::OK, body)) => {
                    more |= body["next"].is_string();
                    if body["missing"].as_array().is_some_and(|missing| !missing.is_empty()) {
                        missing.push(Missing::node(&node, "its database does not answer".into()));
                    }
                    let shown = body["deadLetters"].as_array().cloned().unwrap_or_default();
                    letters.extend(shown.into_iter().filter_map(|letter| Some((read_place(letter["id"].as_str()?)?, letter))));
                }
                answer => missing.push(Missing::node(&node, refusal(answer))),
            }
        }
    }
    if asked.means_store(&app) {
        match stored(&app, after, limit + 1).await {
            Ok(stored) => letters.extend(stored.iter().map(|letter| (letter.place(), show(&app, letter, Shelf::Store)))),
            Err(error) => missing.push(Missing::store(&error)),
        }
    }
    more |= letters.len() > limit;
    let next = letters.keys().take(limit).next_back().filter(|_| more).copied().map(write_place);
    Ok(Json(Page { dead_letters: letters.into_values().take(limit).collect(), next, missing }))
}

async fn stored(app: &App, after: Option<Place>, limit: usize) -> chatflow_core::Result<Vec<DeadLetter>> {
    let slow = |_| chatflow_core::Error::new(chatflow_core::ErrorKind::Timeout, "dead letters", "the database does not answer in time");
    timeout(PATIENCE, app.engine.dead_letters(Shelf::Store, after, limit)).await.map_err(slow)?
}

type Answered = Result<(StatusCode, Value), String>;

/// Asks every other live node for what is its own.
async fn ask_others(app: &App, method: &Method, path: &str, patience: Duration) -> Vec<(NodeInfo, Answered)> {
    let others: Vec<_> = app.cluster.nodes().into_iter().filter(|node| !app.cluster.is_me(node)).collect();
    let token = app.config.admin.token.reveal();
    let asking = others.into_iter().map(|node| async move {
        let path = format!("{path}&node={}", node.node);
        let answer = peers::ask(&node, token, method.clone(), &path, patience).await;
        (node, answer)
    });
    futures::future::join_all(asking).await
}

/// What an answer that is none says, for a person.
fn refusal(answer: Answered) -> String {
    match answer {
        Ok((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _)) => "it has another admin.token".into(),
        Ok((StatusCode::MISDIRECTED_REQUEST, _)) => "its URL leads to another node".into(),
        Ok((status, _)) => format!("it answered {}", status.as_u16()),
        Err(reason) => reason,
    }
}

/// What a discarding did.
#[derive(Debug, Serialize)]
pub(super) struct Discarded {
    discarded: u64,
    missing: Vec<Missing>,
}

/// `DELETE /api/v1/dead-letters?id=…`.
pub(super) async fn discard(
    State(app): State<App>,
    Checked(Query(query)): Checked<Query<LettersQuery>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Result<Json<Discarded>, Problem> {
    let asked = query.read(&app, &visitor, &headers)?;
    let (log, position) = LettersQuery::one(&asked)?;
    let mut missing = Vec::new();
    let mut found = match timeout(PATIENCE, app.engine.discard_dead_letter(log, position)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            missing.push(Missing::store(&error));
            false
        }
        Err(_) => {
            missing.push(Missing { part: "store", name: "store".into(), reason: "the database does not answer".into() });
            false
        }
    };
    if !asked.alone {
        // Everywhere, even if it was here: on its way into the database it is in both.
        let path = format!("/api/v1/dead-letters?scope=node&id={}", write_place((log, position)));
        for (node, answer) in ask_others(&app, &Method::DELETE, &path, PATIENCE).await {
            match answer {
                Ok((StatusCode::OK, _)) => found = true,
                Ok((StatusCode::NOT_FOUND, _)) => {}
                answer => missing.push(Missing::node(&node, refusal(answer))),
            }
        }
    }
    match (found, missing.first()) {
        (true, _) => Ok(Json(Discarded { discarded: 1, missing })),
        (false, None) => Err(no_such_letter()),
        (false, Some(first)) => Err(not_found_so_far(first)),
    }
}

fn no_such_letter() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such dead letter")
}

fn not_found_so_far(missing: &Missing) -> Problem {
    let detail = format!("it is nowhere that could be asked, and {} {} could not be: {}", missing.part, missing.name, missing.reason);
    Problem::unavailable(code::UNAVAILABLE, detail, Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_by_log_and_position() {
        let place = (LogId(3), Position::new(1_795_178_145_734, 11));
        assert_eq!(write_place(place), "3/1795178145734:11");
        assert_eq!(read_place("3/1795178145734:11"), Some(place));
        for bad in ["", "3", "3/", "/1:2", "65536/1:2", "3/1", "3/1:2/3", "-1/1:2"] {
            assert_eq!(read_place(bad), None, "{bad:?}");
        }
    }
}

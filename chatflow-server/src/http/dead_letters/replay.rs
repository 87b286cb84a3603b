//! `POST /api/v1/dead-letters/replay`: publishing letters again, under the ids that they have.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use chatflow_core::protocol::code;
use chatflow_core::{DeadLetter, ErrorKind, PublishError, Shelf};
use futures::StreamExt;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Asked, Checked, LettersQuery, Missing, Place, Problem, ask_others, no_such_letter, not_found_so_far, read_place, refusal, stored,
    write_place,
};
use crate::http::App;
use crate::listener::Visitor;

/// How long one letter may take to be in the history.
const ONE: Duration = Duration::from_secs(5);
/// How long another node may take with its own.
const OTHERS: Duration = Duration::from_secs(20);
/// Letters on their way at once.
const AT_ONCE: usize = 64;

/// What a replay did.
#[derive(Debug, Default, Serialize)]
pub(in crate::http) struct Replayed {
    replayed: u64,
    failed: Vec<Value>,
    next: Option<String>,
    missing: Vec<Missing>,
}

/// Replays one letter or a page of them.
pub(in crate::http) async fn replay(
    State(app): State<App>,
    Checked(Query(query)): Checked<Query<LettersQuery>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Result<Json<Replayed>, Problem> {
    let asked = query.read(&app, &visitor, &headers)?;
    let mut outcome = Replayed::default();
    let letters = take(&app, &asked, &mut outcome).await?;
    let found = !letters.is_empty();
    let replaying = replay_all(&app, letters, &mut outcome);
    if asked.alone || (asked.id.is_some() && found) {
        replaying.await;
    } else {
        let path = path(&asked);
        let ((), theirs) = tokio::join!(replaying, ask_others(&app, &Method::POST, &path, OTHERS));
        for (node, answer) in theirs {
            match answer {
                Ok((StatusCode::OK, body)) => outcome.add(&body),
                Ok((StatusCode::NOT_FOUND, _)) => {}
                answer => outcome.missing.push(Missing::node(&node, refusal(answer))),
            }
        }
    }
    if asked.id.is_some() && outcome.replayed == 0 && outcome.failed.is_empty() {
        return Err(outcome.missing.first().map_or_else(no_such_letter, not_found_so_far));
    }
    Ok(Json(outcome))
}

/// What is asked of the others.
fn path(asked: &Asked) -> String {
    let mut path = format!("/api/v1/dead-letters/replay?scope=node&limit={}", asked.limit);
    for (name, place) in [("after", asked.after), ("id", asked.id)] {
        if let Some(place) = place {
            path.push_str(&format!("&{name}={}", write_place(place)));
        }
    }
    path
}

/// The letters that this node is to replay: of its own, and of those in the database unless it is asked for its own alone.
async fn take(app: &App, asked: &Asked, outcome: &mut Replayed) -> Result<Vec<DeadLetter>, Problem> {
    let (after, limit) = match asked.id {
        Some((log, position)) => (chatflow_core::place_before(log, position), 1),
        None => (asked.after, asked.limit + 1),
    };
    let own = app.engine.dead_letters(Shelf::Node, after, limit).await?;
    let mut letters: BTreeMap<Place, DeadLetter> = own.into_iter().map(|letter| (letter.place(), letter)).collect();
    if asked.means_store(app) {
        match stored(app, after, limit).await {
            Ok(stored) => letters.extend(stored.into_iter().map(|letter| (letter.place(), letter))),
            Err(error) => outcome.missing.push(Missing::store(&error)),
        }
    }
    match asked.id {
        Some(id) => letters.retain(|place, _| *place == id),
        None if letters.len() > asked.limit => outcome.next = letters.keys().nth(asked.limit - 1).copied().map(write_place),
        None => {}
    }
    Ok(letters.into_values().take(asked.limit).collect())
}

/// In order, many on their way at once.
async fn replay_all(app: &App, letters: Vec<DeadLetter>, outcome: &mut Replayed) {
    let replays = letters.into_iter().map(|letter| async move {
        let replayed = timeout(ONE, app.engine.replay(&letter)).await;
        (letter, replayed)
    });
    let mut replays = futures::stream::iter(replays).buffered(AT_ONCE);
    while let Some((letter, replayed)) = replays.next().await {
        let (code, reason) = match replayed {
            Ok(Ok(_)) => {
                outcome.replayed += 1;
                continue;
            }
            Ok(Err(error)) => (code_of(&error), error.to_string()),
            Err(_) => (code::UNAVAILABLE, format!("it was not in the history within {} s", ONE.as_secs())),
        };
        tracing::warn!(letter = %write_place(letter.place()), %reason, "a dead letter could not be replayed");
        outcome.failed.push(json!({ "id": write_place(letter.place()), "code": code, "reason": reason }));
    }
}

fn code_of(error: &PublishError) -> &'static str {
    match error {
        PublishError::Invalid(_) => code::INVALID,
        PublishError::IdConflict => code::ID_CONFLICT,
        PublishError::Failed(error) => match error.kind() {
            ErrorKind::Corrupt => code::INVALID,
            ErrorKind::Invalid if error.origin() == "store" => code::INTERNAL,
            ErrorKind::Invalid => code::TOO_BIG,
            ErrorKind::Full => code::OVERLOADED,
            ErrorKind::Draining => code::DRAINING,
            kind if error.is_transient() || kind == ErrorKind::Closed => code::UNAVAILABLE,
            _ => code::INTERNAL,
        },
    }
}

impl Replayed {
    /// Counts what another node did.
    fn add(&mut self, body: &Value) {
        self.replayed += body["replayed"].as_u64().unwrap_or_default();
        self.failed.extend(body["failed"].as_array().into_iter().flatten().cloned());
        // Whoever goes on from the first place at which anybody stopped passes over nothing.
        if let Some(theirs) = body["next"].as_str() {
            let place = |text: &str| read_place(text);
            let ours = self.next.as_deref().and_then(place);
            if ours.is_none_or(|ours| place(theirs).is_some_and(|theirs| theirs < ours)) {
                self.next = Some(theirs.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_on_passes_over_nothing() {
        let mut outcome = Replayed { next: Some("3/1:20".into()), ..Replayed::default() };
        for (theirs, next) in [(json!("4/1:2"), "3/1:20"), (json!("3/1:9"), "3/1:9"), (Value::Null, "3/1:9"), (json!("3/1:10"), "3/1:9")] {
            outcome.add(&json!({"replayed": 1, "failed": [], "next": theirs}));
            assert_eq!(outcome.next.as_deref(), Some(next));
        }
        assert_eq!(outcome.replayed, 4);
    }
}

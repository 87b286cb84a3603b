//! Rows on their way through the engine.

use std::collections::HashMap;

use futures::future::join_all;
use parking_lot::Mutex;

use super::OutboxRow;
use crate::answers::is_buried;
use crate::engine::{Answered, ended};
use crate::{DeadLetter, Engine, Error, ErrorKind, LogId, Message, Position, PublishError, Result, RoomId, Timestamp};

/// What became of a batch so far.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The rows that are done with.
    pub(super) done: Vec<i64>,
    /// How many of them were published.
    pub(super) published: u64,
    /// Why others have to be tried again.
    pub(super) trouble: Option<Error>,
}

/// Publishes `rows`, the rooms side by side, and notes in `outcome` what became of each as soon as it is known.
///
/// # Cancel safety
/// Nothing is lost when it is dropped: a row that is not among those done with is published again.
pub(super) async fn publish(engine: &Engine, rows: Vec<OutboxRow>, outcome: &Mutex<Outcome>) {
    let mut rooms: HashMap<RoomId, Vec<(OutboxRow, Message)>> = HashMap::new();
    let mut unreadable = Vec::new();
    for row in rows {
        match Message::decode(row.entry.clone()) {
            Ok(message) => rooms.entry(message.room.clone()).or_default().push((row, message)),
            Err(error) => unreadable.push((row, error)),
        }
    }
    for (row, error) in unreadable {
        bury(engine, &row, None, error.to_string(), outcome).await;
    }
    join_all(rooms.into_values().map(|rows| publish_room(engine, rows, outcome))).await;
}

/// Publishes rows of one room: each has its place in the log before the next is given to the broker, which may refuse one and take the
/// next. One that is refused for now holds up the rest of its room.
async fn publish_room(engine: &Engine, rows: Vec<(OutboxRow, Message)>, outcome: &Mutex<Outcome>) {
    let mut placed: Vec<(OutboxRow, RoomId, Answered)> = Vec::with_capacity(rows.len());
    for (row, message) in rows {
        let room = message.room.clone();
        let (is_placed, answer) = match engine.submit(message) {
            Ok(answers) => answers,
            Err(error) => {
                outcome.lock().trouble = Some(error);
                break;
            }
        };
        if is_placed.await.is_ok() {
            placed.push((row, room, answer));
        } else if !settle(engine, &row, room, answer, outcome).await {
            break;
        }
    }
    for (row, room, answer) in placed {
        settle(engine, &row, room, answer, outcome).await;
    }
}

/// Waits for what becomes of a row; whether it is done with.
async fn settle(engine: &Engine, row: &OutboxRow, room: RoomId, answer: Answered, outcome: &Mutex<Outcome>) -> bool {
    match answer.await.unwrap_or_else(|_| Err(ended().into())) {
        Ok(_) => {
            let mut outcome = outcome.lock();
            outcome.done.push(row.number);
            outcome.published += 1;
            true
        }
        // Whoever wrote the log has put it aside.
        Err(PublishError::Failed(error)) if is_buried(&error) => {
            outcome.lock().done.push(row.number);
            true
        }
        Err(PublishError::Failed(error)) if error.is_transient() || error.kind() == ErrorKind::Closed => {
            outcome.lock().trouble = Some(error);
            false
        }
        Err(error) => bury(engine, row, Some(room), error.to_string(), outcome).await,
    }
}

/// Puts a row aside that can never be published; whether it is done with.
async fn bury(engine: &Engine, row: &OutboxRow, room: Option<RoomId>, reason: String, outcome: &Mutex<Outcome>) -> bool {
    tracing::error!(id = %row.id, %reason, "a message of the outbox can't be published: it becomes a dead letter");
    match put(engine, row, room, reason).await {
        Ok(()) => {
            outcome.lock().done.push(row.number);
            true
        }
        Err(error) => {
            outcome.lock().trouble = Some(error);
            false
        }
    }
}

/// It has no place in a log. What names it is its id, before every epoch that a log has, so that it is put aside once however often it
/// is tried.
async fn put(engine: &Engine, row: &OutboxRow, room: Option<RoomId>, reason: String) -> Result<()> {
    let log = room.as_ref().map_or(LogId(0), |room| engine.log_of(room));
    let position = Position::new(0, row.id.as_u128());
    let letter = DeadLetter { log, position, id: row.id, room, at: Timestamp::now(), reason, entry: row.entry.clone() };
    engine.bury(letter).await
}

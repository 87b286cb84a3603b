//! Rooms, their members, and what waits in them.

use axum::Json;
use axum::extract::{Path, Query, State};
use chatflow_core::protocol::MemberInfo;
use chatflow_core::{QueueDepth, RoomId};
use serde::{Deserialize, Serialize};

use super::query::Reading;
use super::{App, Checked, Problem};

/// The query of the list of rooms.
#[derive(Debug, Deserialize)]
pub(super) struct RoomsQuery {
    after: Option<String>,
    limit: Option<String>,
}

/// A page of rooms, by name.
#[derive(Debug, Serialize)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
    /// What to pass as `after` for the next page.
    next: Option<RoomId>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Room {
    room_id: RoomId,
    members: usize,
    last_activity: Option<String>,
}

/// Rooms with members or messages.
pub(super) async fn rooms(State(app): State<App>, Checked(Query(query)): Checked<Query<RoomsQuery>>) -> Result<Json<Rooms>, Problem> {
    let mut reading = Reading::default();
    let after: Option<RoomId> = reading.parsed("after", query.after.as_deref());
    let limit = reading.limit(query.limit.as_deref());
    reading.done()?;
    // One more than asked tells whether there is a next page.
    let mut found = app.engine.rooms(after.as_ref(), limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let room = |(room_id, members, last): (RoomId, usize, Option<_>)| Room { room_id, members, last_activity: last.map(text) };
    let rooms: Vec<_> = found.into_iter().map(room).collect();
    let next = rooms.last().filter(|_| more).map(|room| room.room_id.clone());
    Ok(Json(Rooms { rooms, next }))
}

fn text(at: chatflow_core::Timestamp) -> String {
    at.to_string()
}

/// Who is in a room, on all nodes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Members {
    room_id: RoomId,
    /// Not all of them need be known by name.
    count: usize,
    members: Vec<MemberInfo>,
}

/// The members of a room.
pub(super) async fn members(State(app): State<App>, Checked(Path(room)): Checked<Path<String>>) -> Result<Json<Members>, Problem> {
    let room_id = app.room(&room)?;
    let members = app.engine.members(&room_id);
    let count = app.engine.member_count(&room_id).max(members.len());
    Ok(Json(Members { room_id, count, members }))
}

/// What waits, in the words of the queues that operators know.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Depth {
    approximate_messages: u64,
    approximate_not_visible: u64,
    approximate_delayed: u64,
    broker_depth: u64,
}

impl From<QueueDepth> for Depth {
    fn from(depth: QueueDepth) -> Self {
        // Nothing is ever delayed here; the field is what clients of older queues look for.
        let QueueDepth { waiting, writing, log, .. } = depth;
        Self { approximate_messages: waiting, approximate_not_visible: writing, approximate_delayed: 0, broker_depth: log }
    }
}

/// What waits in one room.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queue {
    room_id: RoomId,
    #[serde(flatten)]
    depth: Depth,
}

/// `/queue/{room}`.
pub(super) async fn queue(State(app): State<App>, Checked(Path(room)): Checked<Path<String>>) -> Result<Json<Queue>, Problem> {
    let room_id = app.room(&room)?;
    let depth = app.engine.queue(&room_id).await.into();
    Ok(Json(Queue { room_id, depth }))
}

/// What waits in every room.
#[derive(Debug, Serialize)]
pub(super) struct Queues {
    queues: Vec<Queue>,
    total: Total,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Total {
    approximate_messages: u64,
    approximate_not_visible: u64,
    approximate_delayed: u64,
}

/// `/queue/all`. The total has no depth of the broker: rooms share logs, and would count them twice.
pub(super) async fn queues(State(app): State<App>) -> Json<Queues> {
    let queues = app.engine.queues().await.into_iter().map(|(room_id, depth)| Queue { room_id, depth: depth.into() });
    let queues: Vec<_> = queues.collect();
    let total = queues.iter().fold(Total::default(), |total, Queue { depth, .. }| Total {
        approximate_messages: total.approximate_messages + depth.approximate_messages,
        approximate_not_visible: total.approximate_not_visible + depth.approximate_not_visible,
        approximate_delayed: total.approximate_delayed + depth.approximate_delayed,
    });
    Json(Queues { queues, total })
}

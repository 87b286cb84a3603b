//! `/api/v1/analytics/…`: who said how much, and where.

use axum::Json;
use axum::extract::{Query, State};
use chatflow_core::analytics::{Counted, Minutes, Step};
use chatflow_core::{RoomId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::query::Reading;
use super::{App, Checked, Problem};

/// The query of every one of them, as texts; `limit` and `step` where there is something to bound.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    start: Option<String>,
    end: Option<String>,
    limit: Option<String>,
    step: Option<String>,
}

impl Parameters {
    /// The least stretch of whole minutes around what was asked for.
    fn range(&self, reading: &mut Reading) -> Minutes {
        let (start, end) = (reading.time("start", self.start.as_deref()), reading.time("end", self.end.as_deref()));
        // A minute may begin before the first moment that can be written, or end after the last: then there is nothing beyond.
        let written = |at: &Timestamp| jiff::Timestamp::from_millisecond(at.0).is_ok();
        let range = Minutes::covering(start, end);
        Minutes::covering(range.start().filter(written), range.end().filter(written))
    }

    fn limit(&self, reading: &mut Reading) -> usize {
        reading.limit(self.limit.as_deref())
    }

    fn step(&self, reading: &mut Reading) -> Step {
        match self.step.as_deref() {
            None | Some("minute") => Step::Minute,
            Some("second") => Step::Second,
            Some("hour") => Step::Hour,
            Some("day") => Step::Day,
            Some(_) => {
                reading.wrong("step", "must be second, minute, hour or day");
                Step::Minute
            }
        }
    }
}

/// An answer, with the range that it is about and how far it was counted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About<T> {
    #[serde(flatten)]
    answer: T,
    start: Option<String>,
    end: Option<String>,
    as_of: Option<String>,
    /// An answer out of a cache is older than its question.
    counted_at: String,
}

impl<T> About<T> {
    fn new<V>(range: Minutes, counted: Counted<V>, show: impl FnOnce(V) -> T) -> Json<Self> {
        let Counted { value, as_of, at, .. } = counted;
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let (start, end) = (text(range.start()), text(range.end()));
        Json(Self { answer: show(value), start, end, as_of: text(as_of), counted_at: at.to_string() })
    }
}

type Answer<T> = Result<Json<About<T>>, Problem>;
type Asked = Checked<Query<Parameters>>;

/// How many.
#[derive(Debug, Serialize)]
pub(super) struct ActiveUsers {
    users: u64,
}

/// `GET /api/v1/analytics/active-users`.
pub(super) async fn active_users(State(app): State<App>, Checked(Query(parameters)): Asked) -> Answer<ActiveUsers> {
    let mut reading = Reading::default();
    let range = parameters.range(&mut reading);
    reading.done()?;
    let counted = app.analytics()?.active_users(range).await?;
    Ok(About::new(range, counted, |users| ActiveUsers { users }))
}

/// A user, and how many messages.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UserMessages {
    user_id: UserId,
    messages: u64,
}

/// Who has said the most.
#[derive(Debug, Serialize)]
pub(super) struct TopUsers {
    users: Vec<UserMessages>,
}

/// `GET /api/v1/analytics/top-users`.
pub(super) async fn top_users(State(app): State<App>, Checked(Query(parameters)): Asked) -> Answer<TopUsers> {
    let mut reading = Reading::default();
    let (range, limit) = (parameters.range(&mut reading), parameters.limit(&mut reading));
    reading.done()?;
    let counted = app.analytics()?.top_users(range, limit).await?;
    let user = |(user_id, messages)| UserMessages { user_id, messages };
    Ok(About::new(range, counted, |users| TopUsers { users: users.into_iter().map(user).collect() }))
}

/// A room, and how many messages.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomMessages {
    room_id: RoomId,
    messages: u64,
}

/// Where the most was said.
#[derive(Debug, Serialize)]
pub(super) struct TopRooms {
    rooms: Vec<RoomMessages>,
}

/// `GET /api/v1/analytics/top-rooms`.
pub(super) async fn top_rooms(State(app): State<App>, Checked(Query(parameters)): Asked) -> Answer<TopRooms> {
    let mut reading = Reading::default();
    let (range, limit) = (parameters.range(&mut reading), parameters.limit(&mut reading));
    reading.done()?;
    let counted = app.analytics()?.top_rooms(range, limit).await?;
    let room = |(room_id, messages)| RoomMessages { room_id, messages };
    Ok(About::new(range, counted, |rooms| TopRooms { rooms: rooms.into_iter().map(room).collect() }))
}

/// A step, and how many messages.
#[derive(Debug, Serialize)]
struct StepMessages {
    at: String,
    messages: u64,
}

/// How many messages each step has.
#[derive(Debug, Serialize)]
pub(super) struct MessageRate {
    step: Step,
    steps: Vec<StepMessages>,
}

/// `GET /api/v1/analytics/message-rate`.
pub(super) async fn message_rate(State(app): State<App>, Checked(Query(parameters)): Asked) -> Answer<MessageRate> {
    let mut reading = Reading::default();
    let (range, limit) = (parameters.range(&mut reading), parameters.limit(&mut reading));
    let step = parameters.step(&mut reading);
    reading.done()?;
    let counted = app.analytics()?.message_rate(range, step, limit).await?;
    let one = |(at, messages): (Timestamp, u64)| StepMessages { at: at.to_string(), messages };
    Ok(About::new(range, counted, |steps| MessageRate { step, steps: steps.into_iter().map(one).collect() }))
}

/// A room, and how many users.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomUsers {
    room_id: RoomId,
    users: u64,
}

/// A user, and how many rooms.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UserRooms {
    user_id: UserId,
    rooms: u64,
}

/// Who was in how many rooms.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Participation {
    users: u64,
    rooms: u64,
    pairs: u64,
    users_per_room: f64,
    rooms_per_user: f64,
    fullest_rooms: Vec<RoomUsers>,
    busiest_users: Vec<UserRooms>,
}

/// `GET /api/v1/analytics/participation`.
pub(super) async fn participation(State(app): State<App>, Checked(Query(parameters)): Asked) -> Answer<Participation> {
    let mut reading = Reading::default();
    let (range, limit) = (parameters.range(&mut reading), parameters.limit(&mut reading));
    reading.done()?;
    let counted = app.analytics()?.participation(range, limit).await?;
    Ok(About::new(range, counted, |found| {
        let per = |of: u64| if of == 0 { 0.0 } else { found.pairs as f64 / of as f64 };
        Participation {
            users: found.users,
            rooms: found.rooms,
            pairs: found.pairs,
            users_per_room: per(found.rooms),
            rooms_per_user: per(found.users),
            fullest_rooms: found.fullest.into_iter().map(|(room_id, users)| RoomUsers { room_id, users }).collect(),
            busiest_users: found.busiest.into_iter().map(|(user_id, rooms)| UserRooms { user_id, rooms }).collect(),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_can_not_be_written_is_open() {
        let range = |start: &str, end: &str| {
            let parameters = Parameters { start: Some(start.into()), end: Some(end.into()), ..Parameters::default() };
            let mut reading = Reading::default();
            let range = parameters.range(&mut reading);
            assert_eq!(reading.errors(), Vec::<String>::new());
            (range.start().map(|at| at.to_string()), range.end().map(|at| at.to_string()))
        };
        let (first, last) = (jiff::Timestamp::MIN.to_string(), jiff::Timestamp::MAX.to_string());
        assert_eq!(range(&first, &last), (None, None));
        let minutes = range("2026-11-20T11:02:10Z", "2026-11-20T11:02:10Z");
        assert_eq!(minutes, (Some("2026-11-20T11:02:00.000Z".into()), Some("2026-11-20T11:03:00.000Z".into())));
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let wrong = || Some("x".to_owned());
        let parameters = Parameters { start: wrong(), end: wrong(), limit: wrong(), step: wrong() };
        let mut reading = Reading::default();
        parameters.range(&mut reading);
        parameters.limit(&mut reading);
        parameters.step(&mut reading);
        let names: Vec<_> = reading.errors().iter().filter_map(|error| Some(error.split(':').next()?.to_owned())).collect();
        assert_eq!(names, ["start", "end", "limit", "step"]);
    }
}

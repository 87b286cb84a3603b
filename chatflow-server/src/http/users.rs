//! `/api/v1/users/{id}/…`: what somebody said, and where.

use axum::extract::{Path, Query, State};
use chatflow_core::UserId;
use chatflow_core::analytics::{UserCursor, UserQuery, UserRoom};
use serde::{Deserialize, Serialize};

use super::history::{Cursors, Json, PageParameters, body};
use super::query::Reading;
use super::{App, Checked, Problem};

/// `GET /api/v1/users/{id}/messages`: a page as of a room's history, over all rooms, in the order of acceptance.
pub(super) async fn messages(
    State(app): State<App>,
    Checked(Path(user)): Checked<Path<String>>,
    Checked(Query(parameters)): Checked<Query<PageParameters>>,
) -> Result<Json, Problem> {
    let mut reading = Reading::default();
    let query = user_query(&parameters, &mut reading);
    reading.done()?;
    let page = app.analytics()?.user_messages(&UserId::from(user), &query).await?;
    let cursors = Cursors::of(&page.messages, page.more, query.newest, UserCursor::of);
    Ok(body(&app, &page.messages, &cursors))
}

fn user_query(parameters: &PageParameters, reading: &mut Reading) -> UserQuery {
    let PageParameters { after, before, start, end, limit } = parameters;
    let after = reading.parsed("after", after.as_deref());
    let before = reading.parsed("before", before.as_deref());
    let (start, end) = (reading.time("start", start.as_deref()), reading.time("end", end.as_deref()));
    let mut query = UserQuery::latest(reading.limit(limit.as_deref()));
    (query.after, query.before, query.start, query.end) = (after, before, start, end);
    query.newest = after.is_none();
    query
}

/// The query of a user's rooms.
#[derive(Debug, Deserialize)]
pub(super) struct RoomsParameters {
    after: Option<String>,
    limit: Option<String>,
}

/// A page of a user's rooms, by name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rooms {
    user_id: UserId,
    rooms: Vec<Room>,
    /// What to pass as `after` for the next page.
    next: Option<String>,
    as_of: Option<String>,
    counted_at: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Room {
    room_id: String,
    last_activity: String,
}

/// `GET /api/v1/users/{id}/rooms`.
pub(super) async fn rooms(
    State(app): State<App>,
    Checked(Path(user)): Checked<Path<String>>,
    Checked(Query(parameters)): Checked<Query<RoomsParameters>>,
) -> Result<axum::Json<Rooms>, Problem> {
    let mut reading = Reading::default();
    let after = reading.parsed("after", parameters.after.as_deref());
    let limit = reading.limit(parameters.limit.as_deref());
    reading.done()?;
    let (analytics, user_id) = (app.analytics()?, UserId::from(user));
    let found = analytics.user_rooms(&user_id, after.as_ref(), limit).await?;
    // A store gives no more than the largest page, so that one more can't always be asked for at once.
    let next = match found.value.last().filter(|_| found.value.len() >= limit) {
        Some(last) => {
            let beyond = analytics.user_rooms(&user_id, Some(&last.room_id), 1).await?;
            (!beyond.value.is_empty()).then(|| last.room_id.to_string())
        }
        None => None,
    };
    let room = |UserRoom { room_id, last, .. }: UserRoom| Room { room_id: room_id.to_string(), last_activity: last.to_string() };
    let (as_of, counted_at) = (found.as_of.map(|at| at.to_string()), found.at.to_string());
    Ok(axum::Json(Rooms { user_id, rooms: found.value.into_iter().map(room).collect(), next, as_of, counted_at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &str) -> Result<UserQuery, Vec<String>> {
        let uri = format!("/x?{pairs}").parse().unwrap();
        let mut reading = Reading::default();
        let query = user_query(&Query::<PageParameters>::try_from_uri(&uri).unwrap().0, &mut reading);
        let errors = reading.errors();
        if errors.is_empty() { Ok(query) } else { Err(errors) }
    }

    #[test]
    fn the_newest_page_is_the_default_and_after_turns_it_round() {
        assert_eq!(query("").unwrap(), UserQuery::latest(100));
        let cursor = "1763636530123.018f2f6e-7c1b-7c5e-9b0e-3a4d5c6b7a89";
        let after = query(&format!("after={cursor}&limit=7")).unwrap();
        assert!(!after.newest && after.after == cursor.parse().ok() && after.limit == 7);
        let before = query(&format!("before={cursor}")).unwrap();
        assert!(before.newest && before.before == cursor.parse().ok());
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let errors = query("after=1:2&before=x&start=now&end=2026-13-01T00:00:00Z&limit=0").unwrap_err();
        let names: Vec<_> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        assert_eq!(names, ["after", "before", "start", "end", "limit"]);
    }
}

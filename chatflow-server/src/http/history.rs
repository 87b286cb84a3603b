//! `GET /api/v1/rooms/{room}/messages`: pages of a room's history.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, header};
use bytes::{BufMut, Bytes, BytesMut};
use chatflow_core::{PageQuery, Position, Stored};
use serde::Deserialize;

use super::query::Reading;
use super::{App, Checked, Problem};

/// The query of a page of messages, as texts.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PageParameters {
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
    pub(super) start: Option<String>,
    pub(super) end: Option<String>,
    pub(super) limit: Option<String>,
}

/// JSON that is put together here.
pub(super) type Json = ([(HeaderName, &'static str); 1], Bytes);

/// A page: the newest messages of the range, or the oldest when it is read from `after` on. Oldest first either way.
pub(super) async fn messages(
    State(app): State<App>,
    Checked(Path(room)): Checked<Path<String>>,
    Checked(Query(parameters)): Checked<Query<PageParameters>>,
) -> Result<Json, Problem> {
    let room = app.room(&room)?;
    let mut reading = Reading::default();
    let query = page_query(&parameters, &mut reading);
    reading.done()?;
    let page = app.engine.history(&room, &query).await?;
    let cursors = Cursors::of(&page.messages, page.more, query.newest, |stored| stored.position);
    Ok(body(&app, &page.messages, &cursors))
}

/// Where the pages beside a page are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cursors {
    next: Option<String>,
    previous: Option<String>,
}

impl Cursors {
    /// Of a page of which `more` lies beyond one end: before it when it is of the `newest`.
    pub(super) fn of<C: ToString>(messages: &[Stored], more: bool, newest: bool, cursor: impl Fn(&Stored) -> C) -> Self {
        let text = |stored: Option<&Stored>| stored.filter(|_| more).map(|stored| cursor(stored).to_string());
        if newest { Self { next: None, previous: text(messages.first()) } } else { Self { next: text(messages.last()), previous: None } }
    }
}

/// The messages exactly as they were broadcast: their bytes are not taken apart and put together again.
pub(super) fn body(app: &App, messages: &[Stored], cursors: &Cursors) -> Json {
    // About what a message has besides its text.
    let fields = 384;
    let mut out = BytesMut::with_capacity(192 + messages.iter().map(|stored| stored.message.body.len() + fields).sum::<usize>());
    out.put_slice(br#"{"messages":["#);
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        app.engine.show_in(message, &mut out);
    }
    // A cursor has no character that JSON escapes.
    let text = |cursor: &Option<String>| cursor.as_ref().map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
    out.put_slice(format!(r#"],"next":{},"previous":{}}}"#, text(&cursors.next), text(&cursors.previous)).as_bytes());
    ([(header::CONTENT_TYPE, "application/json")], out.freeze())
}

fn page_query(parameters: &PageParameters, reading: &mut Reading) -> PageQuery {
    let PageParameters { after, before, start, end, limit } = parameters;
    let after = reading.parsed::<Position>("after", after.as_deref());
    let before = reading.parsed("before", before.as_deref());
    let (start, end) = (reading.time("start", start.as_deref()), reading.time("end", end.as_deref()));
    let mut page = PageQuery::latest(reading.limit(limit.as_deref()));
    (page.after, page.before, page.start, page.end) = (after, before, start, end);
    page.newest = after.is_none();
    page
}

#[cfg(test)]
mod tests {
    use chatflow_core::Timestamp;

    use super::*;

    fn query(pairs: &str) -> Result<PageQuery, Vec<String>> {
        let uri = format!("/x?{pairs}").parse().unwrap();
        let mut reading = Reading::default();
        let query = page_query(&Query::<PageParameters>::try_from_uri(&uri).unwrap().0, &mut reading);
        let errors = reading.errors();
        if errors.is_empty() { Ok(query) } else { Err(errors) }
    }

    #[test]
    fn the_newest_page_is_the_default_and_after_turns_it_round() {
        assert_eq!(query("").unwrap(), PageQuery::latest(100));
        let after = query("after=1:2&limit=7").unwrap();
        assert_eq!(after, PageQuery::after(Position::new(1, 2), 7));
        let before = query("before=1:2").unwrap();
        assert!(before.newest && before.before == Some(Position::new(1, 2)));
    }

    #[test]
    fn a_plus_in_a_query_is_written_with_a_percent_sign() {
        let range = query("start=2025-11-20T11:02:10.123Z&end=2025-11-20T12:02:11%2B01:00").unwrap();
        assert_eq!((range.start, range.end), (Some(Timestamp(1_763_636_530_123)), Some(Timestamp(1_763_636_531_000))));
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let errors = query("after=x&before=1&start=now&end=2026-13-01T00:00:00Z&limit=0").unwrap_err();
        let names: Vec<_> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        assert_eq!(names, ["after", "before", "start", "end", "limit"]);
    }
}

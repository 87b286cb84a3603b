//! `GET /api/v1/rooms/{room}/messages`: pages of a room's history.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, header};
use bytes::{BufMut, Bytes, BytesMut};
use chatflow_core::store::LARGEST_PAGE;
use chatflow_core::{Page, PageQuery, Position, Timestamp};
use serde::Deserialize;

use super::{App, Checked, Problem};

const DEFAULT_LIMIT: usize = 100;

/// The query, as texts: everything that is wrong with it is told at once.
#[derive(Debug, Default, Deserialize)]
pub(super) struct HistoryQuery {
    after: Option<String>,
    before: Option<String>,
    start: Option<String>,
    end: Option<String>,
    limit: Option<String>,
}

/// A page: the newest messages of the range, or the oldest when it is read from `after` on. Oldest first either way.
pub(super) async fn messages(
    State(app): State<App>,
    Checked(Path(room)): Checked<Path<String>>,
    Checked(Query(query)): Checked<Query<HistoryQuery>>,
) -> Result<([(HeaderName, &'static str); 1], Bytes), Problem> {
    let room = app.room(&room)?;
    let query = page_query(&query).map_err(Problem::invalid)?;
    let page = app.engine.history(&room, &query).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body(&app, &page, query.newest)))
}

/// The messages exactly as they were broadcast: their bytes are not taken apart and put together again.
fn body(app: &App, page: &Page, newest: bool) -> Bytes {
    let shown: Vec<_> = page.messages.iter().map(|stored| app.engine.show(stored)).collect();
    let mut out = BytesMut::with_capacity(128 + shown.iter().map(|message| message.len() + 1).sum::<usize>());
    out.put_slice(br#"{"messages":["#);
    for (index, message) in shown.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        out.put_slice(message);
    }
    let cursor = |from: Option<&chatflow_core::Stored>, wanted: bool| match from.filter(|_| wanted && page.more) {
        Some(stored) => format!("\"{}\"", stored.position),
        None => "null".to_owned(),
    };
    let (next, previous) = (cursor(page.messages.last(), !newest), cursor(page.messages.first(), newest));
    out.put_slice(format!(r#"],"next":{next},"previous":{previous}}}"#).as_bytes());
    out.freeze()
}

fn page_query(query: &HistoryQuery) -> Result<PageQuery, Vec<String>> {
    let mut errors = Vec::new();
    let mut position = |name: &str, text: &Option<String>| {
        let text = text.as_deref()?;
        text.parse::<Position>().map_err(|error| errors.push(format!("{name}: {error}"))).ok()
    };
    let (after, before) = (position("after", &query.after), position("before", &query.before));
    let mut time = |name: &str, text: &Option<String>| {
        let moment = text.as_deref()?.parse::<jiff::Timestamp>();
        let wrong = || format!("{name}: must be an ISO-8601 time with an offset such as 2026-11-20T11:02:10Z");
        moment.map(|moment| Timestamp(moment.as_millisecond())).map_err(|_| errors.push(wrong())).ok()
    };
    let (start, end) = (time("start", &query.start), time("end", &query.end));
    let limit = limit(query.limit.as_deref()).map_err(|error| errors.push(error)).unwrap_or(DEFAULT_LIMIT);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut page = PageQuery::latest(limit);
    (page.after, page.before, page.start, page.end) = (after, before, start, end);
    page.newest = after.is_none();
    Ok(page)
}

/// How many a page holds: 1 to 1,000, 100 unless asked.
pub(super) fn limit(text: Option<&str>) -> Result<usize, String> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let number = text.parse().ok().filter(|number| (1..=LARGEST_PAGE).contains(number));
    number.ok_or_else(|| format!("limit: must be a whole number from 1 to {LARGEST_PAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &str) -> Result<PageQuery, Vec<String>> {
        let uri = format!("/x?{pairs}").parse().unwrap();
        page_query(&Query::<HistoryQuery>::try_from_uri(&uri).unwrap().0)
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
    fn times_are_read_to_the_millisecond() {
        let range = query("start=2025-11-20T11:02:10.123Z&end=2025-11-20T12:02:11%2B01:00").unwrap();
        assert_eq!((range.start, range.end), (Some(Timestamp(1_763_636_530_123)), Some(Timestamp(1_763_636_531_000))));
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let errors = query("after=x&before=1&start=now&end=2026-13-01T00:00:00Z&limit=0").unwrap_err();
        let names: Vec<_> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        assert_eq!(names, ["after", "before", "start", "end", "limit"]);
        for bad in ["-1", "1001", "1e9", "", " 1", "18446744073709551616"] {
            assert!(limit(Some(bad)).is_err(), "{bad:?}");
        }
    }
}

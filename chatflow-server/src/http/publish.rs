//! `POST /api/v1/rooms/{room}/messages`: a back end publishes.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use bytes::{Bytes, BytesMut};
use chatflow_core::protocol::{Answer, code};
use chatflow_core::{Ack, PublishError};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;

use super::{App, Checked, Problem, access};
use crate::listener::Visitor;

/// The query of a publish.
#[derive(Debug, Deserialize)]
pub(super) struct PublishQuery {
    ack: Option<String>,
}

/// Publishes the message frame in the body; answers what a connection would be answered.
pub(super) async fn publish(
    State(app): State<App>,
    Checked(Path(room)): Checked<Path<String>>,
    Checked(Query(query)): Checked<Query<PublishQuery>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Body,
) -> Result<([(HeaderName, &'static str); 1], Bytes), Problem> {
    access::admin(&app, &visitor, &headers)?;
    let room = app.room(&room)?;
    let ack = match query.ack.as_deref() {
        None | Some("accepted") => Ack::Accepted,
        Some("persisted") => Ack::Persisted,
        Some(_) => return Err(Problem::invalid(vec!["ack: must be accepted or persisted".into()])),
    };
    let body = read(body, app.config.limits.body, app.config.limits.handshake).await?;
    let frame = std::str::from_utf8(&body).map_err(|_| Problem::many(code::BAD_JSON, vec!["frame: must be UTF-8".into()]))?;
    let draft = app.engine.decode(frame).map_err(|bad| Problem::many(bad.code, texts(&bad.violations)))?;
    if draft.room.as_ref().is_some_and(|named| app.engine.allows_room(named).as_ref() != Some(&room)) {
        return Err(Problem::many(code::WRONG_ROOM, vec!["roomId: must be the room in the path".into()]));
    }
    let (said_at, reference) = (draft.timestamp.clone(), draft.reference.clone());
    let published = app.engine.publish(&room, draft, ack).await.map_err(|error| match error {
        PublishError::Invalid(violations) => Problem::invalid(texts(&violations)),
        PublishError::IdConflict => Problem::new(StatusCode::CONFLICT, code::ID_CONFLICT, "the messageId was used for another message"),
        PublishError::Failed(error) => error.into(),
    })?;
    let answer = Answer {
        id: published.id,
        room: room.as_str(),
        position: published.position,
        at: published.at,
        client_timestamp: &said_at,
        reference: reference.as_deref(),
        echo: b"",
    };
    let mut out = BytesMut::with_capacity(512);
    answer.write(&mut out);
    Ok(([(header::CONTENT_TYPE, "application/json")], out.freeze()))
}

fn texts(violations: &[chatflow_core::Violation]) -> Vec<String> {
    violations.iter().map(ToString::to_string).collect()
}

/// The whole body.
pub(super) async fn read(body: Body, most: usize, patience: Duration) -> Result<Bytes, Problem> {
    let too_big = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, code::TOO_BIG, format!("the body is larger than {most} bytes"));
    // What is announced as too big isn't waited for.
    if body.size_hint().lower() > most as u64 {
        return Err(too_big());
    }
    match tokio::time::timeout(patience, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_big()),
        Ok(Err(_)) => Err(Problem::bad_request("the body could not be read")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long")),
    }
}

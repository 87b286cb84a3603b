//! Errors: `application/problem+json` (RFC 9457) with a stable `code`.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chatflow_core::protocol::code;
use chatflow_core::{Error, ErrorKind};
use serde::Serialize;

/// What went wrong with a request.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<String>,
    retry_after: Option<Duration>,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    errors: &'a [String],
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem that trying again doesn't solve. `code` is one of the protocol's where one fits.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), retry_after: None, header: None }
    }

    /// The request is not well-formed.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::INVALID, detail)
    }

    /// Each of `errors` names a field or parameter and what it must be.
    pub(crate) fn invalid(errors: Vec<String>) -> Self {
        Self::many(code::INVALID, errors)
    }

    /// The same with another code.
    pub(crate) fn many(code: &'static str, errors: Vec<String>) -> Self {
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, code, "the request breaks rules: see errors") }
    }

    /// Not now; the same again after `wait` may succeed.
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// A fault of the server.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL, "a fault of the server")
    }

    /// The same with one more header.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

/// What the engine could not do. A backend's own words go to the log, not to the client: they name hosts and files.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let wait = Duration::from_secs(1);
        match error.kind() {
            ErrorKind::Full => Self::unavailable(code::OVERLOADED, "the server has as much to do as it takes", wait),
            ErrorKind::Draining | ErrorKind::Closed => Self::unavailable(code::DRAINING, "this server is shutting down", wait),
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Fenced => {
                tracing::warn!(%error, "a request failed");
                Self::unavailable(code::UNAVAILABLE, "a part of the server is away", wait)
            }
            ErrorKind::Forbidden => Self::new(StatusCode::FORBIDDEN, code::FORBIDDEN, "not allowed"),
            ErrorKind::Invalid => Self::new(StatusCode::PAYLOAD_TOO_LARGE, code::TOO_BIG, "larger than the broker takes"),
            _ => {
                tracing::error!(%error, "a request failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            errors: &self.errors,
            retryable: self.retry_after.is_some(),
            retry_after_ms: self.retry_after.map(|wait| wait.as_millis() as u64),
        };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/problem+json")], json).into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

//! Errors: `application/problem+json` (RFC 9457) with a stable `code`.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chatflow_core::protocol::code;
use chatflow_core::{Error, ErrorKind};
use serde::Serialize;

/// What went wrong with a request. Boxed, because it is the rare end of every `Result` here.
#[derive(Debug)]
pub(crate) struct Problem(Box<Fault>);

#[derive(Debug)]
struct Fault {
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
        Self(Box::new(Fault { status, code, detail: detail.into(), errors: Vec::new(), retry_after: None, header: None }))
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
        let mut problem = Self::new(StatusCode::BAD_REQUEST, code, "the request breaks rules: see errors");
        problem.0.errors = errors;
        problem
    }

    /// Not now; the same again after `wait` may succeed.
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>, wait: Duration) -> Self {
        Self::later(StatusCode::SERVICE_UNAVAILABLE, code, detail, wait)
    }

    /// The same with another status.
    pub(crate) fn later(status: StatusCode, code: &'static str, detail: impl Into<String>, wait: Duration) -> Self {
        let mut problem = Self::new(status, code, detail);
        problem.0.retry_after = Some(wait);
        problem
    }

    /// Who asks is not known.
    pub(crate) fn unauthenticated(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail);
        problem.with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// A fault of the server.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL, "a fault of the server")
    }

    /// The same with one more header.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
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
            ErrorKind::Timeout => {
                tracing::warn!(%error, "a request failed");
                Self::unavailable(code::UNAVAILABLE, "the answer took too long: try again, or ask for less (a shorter range)", wait)
            }
            ErrorKind::Unavailable | ErrorKind::Fenced => {
                tracing::warn!(%error, "a request failed");
                Self::unavailable(code::UNAVAILABLE, "a part of the server is away", wait)
            }
            ErrorKind::NotFound => Self::new(StatusCode::NOT_FOUND, "not_found", "this server keeps no such thing"),
            ErrorKind::Unauthenticated => Self::unauthenticated("name, password or token is not valid"),
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
        let Fault { status, code, detail, errors, retry_after, header: extra } = *self.0;
        let body = Body {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code,
            detail: &detail,
            errors: &errors,
            retryable: retry_after.is_some(),
            retry_after_ms: retry_after.map(|wait| wait.as_millis() as u64),
        };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], json).into_response();
        if let Some(wait) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1_000).max(1) as u64));
        }
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

//! The chat page: a few files in the binary.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Only what this server itself serves, no inline code, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

pub(super) async fn index(headers: HeaderMap) -> Response {
    file(&headers, "text/html; charset=utf-8", include_str!("../pages/index.html"))
}

pub(super) async fn script(headers: HeaderMap) -> Response {
    file(&headers, "text/javascript; charset=utf-8", include_str!("../pages/app.js"))
}

pub(super) async fn connection(headers: HeaderMap) -> Response {
    file(&headers, "text/javascript; charset=utf-8", include_str!("../pages/connection.js"))
}

pub(super) async fn conversation(headers: HeaderMap) -> Response {
    file(&headers, "text/javascript; charset=utf-8", include_str!("../pages/conversation.js"))
}

pub(super) async fn style(headers: HeaderMap) -> Response {
    file(&headers, "text/css; charset=utf-8", include_str!("../pages/style.css"))
}

pub(super) async fn icon(headers: HeaderMap) -> Response {
    file(&headers, "image/svg+xml", include_str!("../pages/icon.svg"))
}

/// The file, or 304 when the browser has it. It asks each time, so that a new server's page is seen at once.
fn file(headers: &HeaderMap, kind: &'static str, content: &'static str) -> Response {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let known = known.is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag));
    let shared = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    match known {
        true => (StatusCode::NOT_MODIFIED, shared).into_response(),
        false => (shared, [(header::CONTENT_TYPE, kind)], content).into_response(),
    }
}

//! `GET /openapi.json`: the API's own description, kept beside the code by hand. A test holds both together.

use axum::http::{HeaderName, header};

/// OpenAPI 3.1.
pub(crate) const DOCUMENT: &str = include_str!("openapi.json");

/// The description.
pub(super) async fn document() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

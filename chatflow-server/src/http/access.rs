//! Who may make admin calls.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use chatflow_core::protocol::code;
use chatflow_core::{Authenticator, Credentials};

use super::{App, Problem, origin};
use crate::listener::{Entrance, Visitor};

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Lets an admin call pass: with the token, or without one on the admin listener when that is loopback.
///
/// # Errors
/// What is missing.
pub(super) fn admin(app: &App, visitor: &Visitor, headers: &HeaderMap) -> Result<(), Problem> {
    let token = app.config.admin.token.reveal();
    if let (Some(token), Some(shown)) = (token, bearer(headers))
        && are_equal(token, shown)
    {
        return Ok(());
    }
    let loopback = app.config.server.admin_listen.is_some_and(|address| address.ip().is_loopback());
    if visitor.entrance == Entrance::Admin && loopback {
        // Any page in a browser on this machine reaches loopback too, even under a name of its own that resolves to it.
        return match is_local(headers) && origin::is_allowed(headers, &app.config.server) {
            true => Ok(()),
            false => Err(Problem::new(StatusCode::FORBIDDEN, code::FORBIDDEN, "pages of other origins may not make admin calls")),
        };
    }
    if token.is_none() {
        let detail = "admin calls need admin.token in the configuration, or a loopback server.admin_listen";
        return Err(Problem::new(StatusCode::FORBIDDEN, code::FORBIDDEN, detail));
    }
    Err(Problem::unauthenticated("admin calls need the admin token: Authorization: Bearer"))
}

/// Lets a request through to what is for members: where `auth.required` is set, with a token of an account, or as an admin call.
pub(super) async fn member(State(app): State<App>, request: Request, next: Next) -> Result<Response, Problem> {
    if app.config.auth.required {
        let visitor = request.extensions().get::<Visitor>().cloned().ok_or_else(Problem::internal)?;
        if admin(&app, &visitor, request.headers()).is_err() {
            let needed = || Problem::unauthenticated("a token is needed: Authorization: Bearer");
            let token = bearer(request.headers()).ok_or_else(needed)?.to_owned();
            let accounts = app.accounts.as_ref().ok_or_else(needed)?;
            accounts.authenticate(&Credentials::new(Some(token), None)).await?;
        }
    }
    Ok(next.run(request).await)
}

/// Whether the request was sent to an address of this machine by that address, or by the one name that is always local.
fn is_local(headers: &HeaderMap) -> bool {
    let host =
        headers.get(header::HOST).and_then(|host| host.to_str().ok()).and_then(|host| host.parse::<axum::http::uri::Authority>().ok());
    host.is_some_and(|host| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// Compares in a time that does not depend on where the texts differ.
fn are_equal(a: &str, b: &str) -> bool {
    let differences = a.bytes().zip(b.bytes()).fold(0, |differences, (a, b)| std::hint::black_box(differences | (a ^ b)));
    a.len() == b.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_equal_only_if_every_byte_is() {
        assert!(are_equal("secret", "secret"));
        for other in ["", "secre", "secrets", "Secret", "secreT"] {
            assert!(!are_equal("secret", other));
        }
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc").as_deref(), Some("abc"));
        assert_eq!(read("Basic abc"), None);
        assert_eq!(read("Bearer "), None);
    }
}

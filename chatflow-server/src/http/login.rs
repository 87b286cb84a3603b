//! `POST /api/v1/login`, `/logout` and `/ticket`: accounts that the store keeps.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use chatflow_core::auth::AccountAuthenticator;
use chatflow_core::protocol::code;
use serde::Serialize;
use serde_json::Value;

use super::{App, Problem, access, publish};
use crate::listener::Visitor;

/// What a login gives.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoggedIn {
    token: String,
    user_id: String,
    username: String,
    expires_at: String,
}

/// What opens one connection.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ticket {
    ticket: String,
    expires_at: String,
}

/// Begins a session.
pub(super) async fn login(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LoggedIn>, Problem> {
    let accounts = accounts(&app)?;
    let body = publish::read(body, app.config.limits.body, app.config.limits.handshake).await?;
    let (name, password) = fields(&body)?;
    let client = app.config.limits.trusted_proxies.client(visitor.address.ip(), &headers);
    let attempt = app.attempts.begin(client, &name).map_err(|wait| {
        let detail = "too many attempts to log in from this address, or under this name";
        Problem::later(StatusCode::TOO_MANY_REQUESTS, code::RATE_LIMITED, detail, wait)
    })?;
    let issued = accounts.login(&name, &password).await?;
    app.attempts.succeeded(&attempt);
    let expires_at = issued.expires.to_string();
    Ok(Json(LoggedIn { token: issued.token, user_id: issued.user.to_string(), username: issued.name.to_string(), expires_at }))
}

/// Ends the session of the bearer token.
pub(super) async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let accounts = accounts(&app)?;
    accounts.logout(token(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives whoever shows a bearer token a ticket.
pub(super) async fn ticket(State(app): State<App>, headers: HeaderMap) -> Result<Json<Ticket>, Problem> {
    let issued = accounts(&app)?.ticket(token(&headers)?).await?;
    let expires_at = issued.expires.to_string();
    Ok(Json(Ticket { ticket: issued.token, expires_at }))
}

fn accounts(app: &App) -> Result<&AccountAuthenticator, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "not_found", "this server keeps no accounts");
    app.accounts.as_deref().ok_or_else(none)
}

fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    access::bearer(headers).ok_or_else(|| Problem::unauthenticated("a token is needed: Authorization: Bearer"))
}

/// Name and password. What was sent is in no error: it may be a password.
fn fields(body: &[u8]) -> Result<(String, String), Problem> {
    let not_json = || Problem::many(code::BAD_JSON, vec!["body: must be one JSON object".into()]);
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else { return Err(not_json()) };
    let mut errors = Vec::new();
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => text,
        _ => {
            errors.push(format!("{name}: must be a text"));
            String::new()
        }
    };
    let (name, password) = (text("username"), text("password"));
    if errors.is_empty() { Ok((name, password)) } else { Err(Problem::invalid(errors)) }
}

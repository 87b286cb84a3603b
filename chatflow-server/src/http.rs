//! The HTTP API: routes, and what they share.

mod access;
mod analytics;
mod dead_letters;
mod health;
mod history;
mod login;
mod metrics;
mod nodes;
pub(crate) mod openapi;
pub(crate) mod origin;
mod pages;
mod problem;
mod publish;
mod query;
mod rooms;
mod turns;
mod users;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{any, get, post};
use chatflow_core::auth::AccountAuthenticator;
use chatflow_core::cache::CachedStore;
use chatflow_core::protocol::code;
use chatflow_core::{Analytics, Engine, RoomId};

use crate::attempts::Attempts;
use crate::backup::Backups;
use crate::cluster::Cluster;
use crate::config::{Config, Role};
use crate::handshake;

pub(crate) use access::bearer;
pub(crate) use problem::Problem;
use turns::Turns;

/// What every handler needs.
#[derive(Clone)]
pub(crate) struct App {
    /// The rooms.
    pub(crate) engine: Engine,
    /// The cache in front of the history, if there is one.
    pub(crate) cache: Option<Arc<CachedStore>>,
    /// This node among the others.
    pub(crate) cluster: Arc<Cluster>,
    /// Who may log in, where a store keeps accounts.
    pub(crate) accounts: Option<Arc<AccountAuthenticator>>,
    /// How often they may try.
    pub(crate) attempts: Arc<Attempts>,
    /// Copies of the history, where they are made.
    pub(crate) backups: Option<Arc<Backups>>,
    /// What was set.
    pub(crate) config: Arc<Config>,
    /// When the server started.
    pub(crate) started: Instant,
    /// Whether an acknowledged message survives this process, as known at the start.
    pub(crate) durable: bool,
}

impl App {
    /// The room called `name`.
    ///
    /// # Errors
    /// There is none.
    fn room(&self, name: &str) -> Result<RoomId, Problem> {
        let room = self.engine.allows_room(name);
        room.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, code::BAD_ROOM, "there is no room of this name"))
    }

    /// The history, to be asked about users and numbers.
    ///
    /// # Errors
    /// There is none, or it can't be.
    fn analytics(&self) -> Result<&dyn Analytics, Problem> {
        let none =
            || Problem::new(StatusCode::NOT_FOUND, "no_analytics", "this server's store answers no questions about users and numbers");
        self.engine.analytics().ok_or_else(none)
    }
}

/// An extractor whose refusal is a [`Problem`] like every other error.
#[derive(Debug)]
pub(crate) struct Checked<E>(pub(crate) E);

impl<S: Sync, E: FromRequestParts<S, Rejection: Display>> FromRequestParts<S> for Checked<E> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        E::from_request_parts(parts, state).await.map(Self).map_err(|rejection| Problem::bad_request(rejection.to_string()))
    }
}

/// All routes.
pub(crate) fn router(app: App) -> Router {
    let api = match app.config.node.is(Role::Api) {
        true => Router::new()
            .route("/api/v1/users/{user}/messages", get(users::messages))
            .route("/api/v1/users/{user}/rooms", get(users::rooms))
            .route("/api/v1/analytics/active-users", get(analytics::active_users))
            .route("/api/v1/analytics/top-users", get(analytics::top_users))
            .route("/api/v1/analytics/top-rooms", get(analytics::top_rooms))
            .route("/api/v1/analytics/message-rate", get(analytics::message_rate))
            .route("/api/v1/analytics/participation", get(analytics::participation))
            .route_layer(from_fn_with_state(Turns::new(app.config.store.readers), turns::in_turn))
            .route("/api/v1/rooms", get(rooms::rooms))
            .route("/api/v1/rooms/{room}/messages", get(history::messages).post(publish::publish))
            .route("/api/v1/rooms/{room}/members", get(rooms::members))
            .route_layer(from_fn_with_state(app.clone(), access::member))
            .route("/api/v1/login", post(login::login))
            .route("/api/v1/logout", post(login::logout))
            .route("/api/v1/ticket", post(login::ticket)),
        false => Router::new().route("/api/v1/{*path}", any(nodes::elsewhere)),
    };
    Router::new()
        .route("/", get(pages::index))
        .route("/app.js", get(pages::script))
        .route("/connection.js", get(pages::connection))
        .route("/conversation.js", get(pages::conversation))
        .route("/style.css", get(pages::style))
        .route("/icon.svg", get(pages::icon))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/queue/all", get(rooms::queues))
        .route("/queue/{room}", get(rooms::queue))
        .route("/chat", get(handshake::chat))
        .route("/chat/", get(handshake::chat))
        .route("/chat/{*room}", get(handshake::chat))
        .route("/openapi.json", get(openapi::document))
        .route("/api/v1/nodes", get(nodes::nodes))
        .route("/api/v1/assign", get(nodes::best))
        // Every node has some, whatever its roles.
        .route("/api/v1/dead-letters", get(dead_letters::list).delete(dead_letters::discard))
        .route("/api/v1/dead-letters/replay", post(dead_letters::replay))
        .merge(api)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
        })
        .layer(map_response(harden))
        .with_state(app)
}

/// Headers that every answer carries, but for one that becomes a WebSocket.
async fn harden(mut response: Response) -> Response {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // What the API says is true when it is said. Pages set their own.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

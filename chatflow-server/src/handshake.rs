//! `GET /chat`: from an HTTP request to a WebSocket that the engine serves. RFC 6455, section 4.

use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chatflow_core::protocol::{Dialect, SUBPROTOCOL, code};
use chatflow_core::{Ack, ConnectRequest, Credentials, Deliver};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::admission::Seat;
use crate::config::Role;
use crate::http::{App, Checked, Problem, origin};
use crate::listener::Visitor;
use crate::replay::Replay;

/// What a subprotocol that carries a token begins with: browsers can't send an `Authorization` header.
const BEARER: &str = "bearer.";

/// The query of a connection, as texts: what is wrong with one is told in words.
#[derive(Default, Deserialize)]
pub(crate) struct Wishes {
    after: Option<String>,
    history: Option<String>,
    ack: Option<String>,
    deliver: Option<String>,
    ticket: Option<String>,
}

/// `GET /chat/{room}` and `GET /chat`.
pub(crate) async fn chat(State(app): State<App>, wishes: Result<Checked<Query<Wishes>>, Problem>, mut request: Request) -> Response {
    let wishes = wishes.map(|Checked(Query(wishes))| wishes);
    let answer = match wishes {
        Ok(wishes) => upgrade(&app, wishes, &mut request).await,
        Err(problem) => Err(problem),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn upgrade(app: &App, wishes: Wishes, request: &mut Request) -> Result<Response, Problem> {
    let key = websocket_key(request)?;
    if !app.config.node.is(Role::Gateway) {
        let detail = "this node serves no WebSockets: its node.roles are without gateway";
        return Err(Problem::unavailable(code::UNAVAILABLE, detail, Duration::from_secs(1)));
    }
    if !origin::is_allowed(request.headers(), &app.config.server) {
        return Err(Problem::new(StatusCode::FORBIDDEN, code::FORBIDDEN, "pages of this origin may not connect; see server.origins"));
    }
    let ticket = wishes.ticket.clone();
    let mut connect = connect_request(wishes)?;
    let offered = subprotocols(request.headers());
    connect.dialect = if offered.contains(&SUBPROTOCOL) { Dialect::V1 } else { Dialect::Plain };
    let visitor = request.extensions().get::<Visitor>().cloned().ok_or_else(Problem::internal)?;
    let in_list = offered.iter().find_map(|name| name.strip_prefix(BEARER)).map(str::to_owned);
    let token = crate::http::bearer(request.headers()).map(str::to_owned).or(in_list);
    let (proxies, peer) = (&app.config.limits.trusted_proxies, visitor.address.ip());
    let client = proxies.client(peer, request.headers());
    connect.credentials = Credentials::new(token, Some(client)).with_ticket(ticket);
    connect.room = room(request.uri().path());

    if app.engine.is_draining() {
        return Err(Problem::unavailable(code::DRAINING, "this server is shutting down", Duration::from_secs(1)));
    }
    let full = |why| Problem::unavailable(code::OVERLOADED, why, Duration::from_secs(5));
    let mut seat = visitor.guest.sit(proxies.trust(peer).then_some(client)).map_err(full)?;
    // Whoever shows nothing is nobody's user.
    if app.config.limits.connections_per_user > 0 && (connect.credentials.token.is_some() || connect.credentials.ticket.is_some()) {
        let found = app.engine.authenticate(&connect.credentials).await;
        if let Some(user) = found.user() {
            seat.count_for(user).map_err(full)?;
        }
        connect.authentication = Some(found);
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(Problem::internal)?;
    let v1 = connect.dialect == Dialect::V1;
    tokio::spawn(serve(app.clone(), upgrade, Box::new(connect), seat));

    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = derive_accept_key(key.as_bytes());
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).map_err(|_| Problem::internal())?);
    if v1 {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

/// Waits until the answer is sent, then hands the stream to the engine until the connection ends.
async fn serve(app: App, upgrade: OnUpgrade, connect: Box<ConnectRequest>, seat: Seat) {
    // Boxed, because a connection lasts for days and this for a moment.
    let Some((stream, early)) = Box::pin(taken_over(app.config.limits.handshake, upgrade)).await else { return };
    let (reader, writer) = stream.into_split();
    if early.is_empty() {
        // Dropped now: it is larger than all else that the connection needs.
        drop(early);
        app.engine.connect_halves(reader, writer, *connect).await;
    } else {
        // A client that sends before it is answered is rare; its larger future must not burden the others.
        Box::pin(app.engine.connect_halves(Replay::new(early, reader), writer, *connect)).await;
    }
    drop(seat);
}

/// The stream, and what the client sent on it before it was answered.
async fn taken_over(patience: Duration, upgrade: OnUpgrade) -> Option<(TcpStream, Bytes)> {
    let upgraded = match tokio::time::timeout(patience, upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => {
            tracing::debug!(%error, "an upgrade failed");
            return None;
        }
        Err(_) => {
            tracing::debug!("an upgrade took too long");
            return None;
        }
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Some((parts.io.into_inner(), parts.read_buf)),
        Err(_) => {
            tracing::error!("the stream of an upgrade is of another type");
            None
        }
    }
}

/// Checks that the request is a WebSocket handshake, and gives its key.
fn websocket_key(request: &Request) -> Result<String, Problem> {
    let headers = request.headers();
    let says = |name: HeaderName, word: &str| tokens(headers, name).any(|token| token.eq_ignore_ascii_case(word));
    let wrong = |detail: &'static str| Err(Problem::bad_request(detail));
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return wrong("a WebSocket begins with a GET request of HTTP/1.1");
    }
    if !says(header::UPGRADE, "websocket") || !says(header::CONNECTION, "upgrade") {
        let problem = Problem::new(StatusCode::UPGRADE_REQUIRED, code::INVALID, "this is a WebSocket: connect with ws:// or wss://");
        return Err(problem.with_header(header::UPGRADE, HeaderValue::from_static("websocket")));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let problem = Problem::new(StatusCode::UPGRADE_REQUIRED, code::INVALID, "Sec-WebSocket-Version must be 13");
        return Err(problem.with_header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0") {
        return wrong("a WebSocket handshake has no body");
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    match (keys.next().and_then(|key| key.to_str().ok()), keys.next()) {
        (Some(key), None) if is_key(key) => Ok(key.to_owned()),
        _ => wrong("Sec-WebSocket-Key must be 16 bytes in base64"),
    }
}

/// 16 bytes in base64 are 22 characters and two of padding.
fn is_key(key: &str) -> bool {
    key.strip_suffix("==")
        .is_some_and(|digits| digits.len() == 22 && digits.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')))
}

fn connect_request(wishes: Wishes) -> Result<ConnectRequest, Problem> {
    let mut errors = Vec::new();
    let mut connect = ConnectRequest::default();
    connect.after = wishes.after;
    if let Some(history) = wishes.history {
        connect.history = history.parse().ok();
        if connect.history.is_none() {
            errors.push("history: must be a whole number of messages".to_owned());
        }
    }
    match wishes.ack.as_deref() {
        None | Some("accepted") => connect.ack = Ack::Accepted,
        Some("persisted") => connect.ack = Ack::Persisted,
        Some(_) => errors.push("ack: must be accepted or persisted".to_owned()),
    }
    match wishes.deliver.as_deref() {
        None | Some("all") => connect.deliver = Deliver::All,
        Some("others") => connect.deliver = Deliver::Others,
        Some("none") => connect.deliver = Deliver::None,
        Some(_) => errors.push("deliver: must be all, others or none".to_owned()),
    }
    if errors.is_empty() { Ok(connect) } else { Err(Problem::invalid(errors)) }
}

/// The room that a path names, whatever it is: the engine tells the client when it is none.
fn room(path: &str) -> Option<String> {
    let name = path.strip_prefix("/chat/")?;
    Some(percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned())
}

fn subprotocols(headers: &HeaderMap) -> Vec<&str> {
    tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).collect()
}

/// The comma-separated words of all headers of that name.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sixteen_bytes_in_base64() {
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in
            ["", "==", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZ===", "dGhlIHNhbXBsZSBub25jZQ==x", "dGhlIHNhbXBsZSBub25j ZQ=="]
        {
            assert!(!is_key(bad), "{bad}");
        }
    }

    #[test]
    fn a_path_names_a_room_in_any_spelling() {
        assert_eq!(room("/chat"), None);
        for (path, name) in
            [("/chat/7", "7"), ("/chat/%37", "7"), ("/chat/", ""), ("/chat/a/b", "a/b"), ("/chat/%ff", "\u{fffd}"), ("/chat/%", "%")]
        {
            assert_eq!(room(path).as_deref(), Some(name));
        }
    }
}

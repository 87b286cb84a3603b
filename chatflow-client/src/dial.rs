//! From an address to a connection that speaks `chatflow.v1` and was welcomed.

use std::time::Duration;

use chatflow_core::protocol::{Event, SUBPROTOCOL, WelcomeLimits};
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderMap, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};

use crate::builder::Settings;
use crate::frame::{self, Received};
use crate::socket::{Lost, Socket};
use crate::{ConnectFailure, Endpoint, Transport};

/// The largest frame that is taken from a server: a message as large as its default limit allows, many times over.
const LARGEST_FRAME: usize = 4 << 20;
/// The most of a refusal's body that is shown, characters.
const LONGEST_DETAIL: usize = 200;

/// What a server says first.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) session: String,
    pub(crate) durable: bool,
    pub(crate) limits: WelcomeLimits,
}

/// Connects, within the connect time-out.
pub(crate) async fn dial(endpoint: &Endpoint, settings: &Settings) -> Result<(Socket, Greeting), ConnectFailure> {
    let limit = settings.connect_timeout;
    timeout(limit, Box::pin(greet(endpoint, settings))).await.unwrap_or(Err(ConnectFailure::TimedOut(limit)))
}

async fn greet(endpoint: &Endpoint, settings: &Settings) -> Result<(Socket, Greeting), ConnectFailure> {
    let mut socket = upgrade(endpoint, settings).await?;
    loop {
        let text = socket.next(true).await.map_err(|Lost { code, reason }| match code {
            Some(code) => ConnectFailure::Closed { code, reason },
            None => ConnectFailure::Network(reason),
        })?;
        match frame::read(&text) {
            Ok(Received::Event(Event::Welcome { session, durable, limits, .. })) => {
                return Ok((socket, Greeting { session, durable, limits }));
            }
            Ok(Received::Error(error)) => return Err(ConnectFailure::Protocol(error.errors.join("; "))),
            Ok(_) => {}
            Err(error) => return Err(ConnectFailure::Protocol(format!("the server sent no JSON ({error})"))),
        }
    }
}

async fn upgrade(endpoint: &Endpoint, settings: &Settings) -> Result<Socket, ConnectFailure> {
    let request = request(endpoint, settings)?;
    let transport = Transport::connect(endpoint).await?;
    // Its own default is a buffer of 128 KiB for each connection, allocated at once.
    let config =
        WebSocketConfig::default().read_buffer_size(16 << 10).max_message_size(Some(LARGEST_FRAME)).max_frame_size(Some(LARGEST_FRAME));
    match client_async_with_config(request, transport, Some(config)).await {
        Ok((stream, _)) => Ok(Socket::new(stream, settings.idle_timeout)),
        Err(error) => Err(failure(error)),
    }
}

fn request(endpoint: &Endpoint, settings: &Settings) -> Result<Request<()>, ConnectFailure> {
    let url = endpoint.websocket_url(&settings.path);
    let mut request = url.into_client_request().map_err(|e| ConnectFailure::Protocol(e.to_string()))?;
    let headers = request.headers_mut();
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    if let Some(authorization) = &settings.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}

fn failure(error: tungstenite::Error) -> ConnectFailure {
    match error {
        tungstenite::Error::Http(response) => refusal(&response),
        tungstenite::Error::Io(error) => ConnectFailure::of_io(&error),
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => ConnectFailure::NoSubprotocol,
        other => ConnectFailure::Protocol(other.to_string()),
    }
}

fn refusal(response: &Response<Option<Vec<u8>>>) -> ConnectFailure {
    let body = response.body().as_deref().unwrap_or_default();
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let told = ["detail", "title", "code"].iter().find_map(|name| problem.as_ref()?.get(name)?.as_str().map(str::to_owned));
    let detail = told.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let detail = detail.chars().filter(|c| !c.is_control()).take(LONGEST_DETAIL).collect();
    ConnectFailure::Status { status: response.status().as_u16(), detail, retry_after: retry_after(response.headers()) }
}

/// Seconds only: a date would need the server's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

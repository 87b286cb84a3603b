//! A chat room inside an axum application, in less than 60 lines.
//!
//! `cargo run --example chat -- 127.0.0.1:8080`, then from as many terminals as there are people
//! `cargo run -p chatflow-client -- chat ws://127.0.0.1:8080 --room lobby --username ada`. Ctrl-C ends it.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chatflow_core::protocol::{Dialect, SUBPROTOCOL};
use chatflow_core::{ConnectRequest, Engine};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().build().await?;
    let rooms = Router::new().route("/chat", get(chat)).route("/chat/{room}", get(chat)).with_state(engine.clone());
    let app = rooms.route("/", get("the rest of the application"));

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    engine.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Upgrades the request and hands the connection to the engine. Without a room, the client joins as many as it likes.
async fn chat(State(engine): State<Engine>, room: Option<Path<String>>, mut request: Request) -> Response {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = text(header::SEC_WEBSOCKET_KEY);
    if key.is_empty() || !text(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return (StatusCode::UPGRADE_REQUIRED, "connect with ws://").into_response();
    }
    let mut connect = ConnectRequest::default();
    connect.room = room.map(|Path(room)| room);
    let mut headers = vec![(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))];
    headers.extend([(header::CONNECTION, "Upgrade".into()), (header::UPGRADE, "websocket".into())]);
    if text(header::SEC_WEBSOCKET_PROTOCOL).split(',').any(|name| name.trim() == SUBPROTOCOL) {
        connect.dialect = Dialect::V1;
        headers.push((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL.into()));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgrade.await {
            engine.connect(TokioIo::new(stream), connect).await;
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, axum::response::AppendHeaders(headers)).into_response()
}

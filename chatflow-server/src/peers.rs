//! Asking other nodes, under the URLs that the directory has of them.

use std::time::Duration;

use axum::http::uri::Scheme;
use axum::http::{Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use chatflow_core::NodeInfo;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The largest answer that is read, bytes.
const LARGEST_ANSWER: usize = 64 << 20;

/// Asks `node`, with the admin token that nodes share; what it answers, within `patience`.
///
/// # Cancel safety
/// When dropped, the node may or may not have done what it was asked for.
///
/// # Errors
/// Why there is no answer, for a person.
pub(crate) async fn ask(
    node: &NodeInfo,
    token: Option<&str>,
    method: Method,
    path: &str,
    patience: Duration,
) -> Result<(StatusCode, Value), String> {
    let token = token.ok_or("admin.token is not set: nodes ask each other with it")?;
    let url: Uri = node.url.parse().map_err(|_| "it does not say where it is")?;
    let authority = url.authority().ok_or("it does not say where it is")?;
    if url.scheme() != Some(&Scheme::HTTP) {
        return Err("nodes ask each other over http:// only".into());
    }
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority.as_str())
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let exchange = exchange(host, authority.port_u16().unwrap_or(80), request);
    timeout(patience, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())))
}

async fn exchange(host: &str, port: u16, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Value), String> {
    let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await.map_err(|error| error.to_string())?;
        Ok((status, serde_json::from_slice(&body.to_bytes()).unwrap_or_default()))
    };
    // The connection's own part ends with the answer; what goes wrong on it, the answer tells.
    let driver = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = driver => never,
    }
}

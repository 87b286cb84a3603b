//! One HTTP request to a server.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::{ConnectError, ConnectFailure, Endpoint, Transport};

/// The largest body that is read, bytes.
const LARGEST_BODY: usize = 4 << 20;

/// A server's answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Null` when the body is no JSON.
    pub body: Value,
}

impl Answer {
    /// The body, if the status is one of success.
    ///
    /// # Errors
    /// What the server's problem says, for a person; untrusted text.
    pub fn success(self) -> Result<Value, String> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let told = ["detail", "title", "code", "status"].iter().find_map(|name| self.body.get(name)?.as_str());
        let errors = self.body.get("errors").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let errors: Vec<_> = errors.collect();
        let mut text = format!("HTTP {}", self.status);
        // A list of what is wrong says more than that there is one.
        if !errors.is_empty() {
            text += &format!(": {}", errors.join("; "));
        } else if let Some(told) = told {
            text += &format!(": {told}");
        }
        Err(text)
    }
}

/// Gets `path` of a server, on a connection of its own. Has no time-out of its own; reads at most 4 MiB.
///
/// # Cancel safety
/// Dropping the future drops the connection.
///
/// # Errors
/// The server can't be reached, or gives no HTTP answer.
pub async fn get(endpoint: &Endpoint, path: &str, token: Option<&str>) -> Result<Answer, ConnectError> {
    send(endpoint, Method::GET, path, token, None).await
}

/// Posts `body`, or nothing, to `path`, otherwise like [`get`].
///
/// # Cancel safety
/// Dropping the future drops the connection; whether the server did what was asked is unknown then, as after an error.
///
/// # Errors
/// As of [`get`].
pub async fn post(endpoint: &Endpoint, path: &str, token: Option<&str>, body: Option<&Value>) -> Result<Answer, ConnectError> {
    send(endpoint, Method::POST, path, token, body).await
}

/// Deletes `path`, otherwise like [`post`].
///
/// # Errors
/// As of [`get`].
pub async fn delete(endpoint: &Endpoint, path: &str, token: Option<&str>) -> Result<Answer, ConnectError> {
    send(endpoint, Method::DELETE, path, token, None).await
}

async fn send(endpoint: &Endpoint, method: Method, path: &str, token: Option<&str>, body: Option<&Value>) -> Result<Answer, ConnectError> {
    let failed = |failure: ConnectFailure| ConnectError { url: endpoint.http_url(path), failure };
    let broken = |problem: &dyn std::fmt::Display| failed(ConnectFailure::Network(problem.to_string()));
    let transport = Transport::connect(endpoint).await.map_err(failed)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(transport)).await.map_err(|e| broken(&e))?;
    let mut request = Request::builder().method(method).uri(endpoint.path(path));
    request = request.header(HOST, endpoint.authority()).header(ACCEPT, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let request = request.body(Full::new(body)).map_err(|e| broken(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LARGEST_BODY).collect().await.map_err(|e| broken(&e))?.to_bytes();
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    };
    // The connection's own part of it ends with the response; what goes wrong on it, the response tells.
    let driver = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = exchange => answer,
        never = driver => never,
    }
}

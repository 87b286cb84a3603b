//! One HTTP request to a server.

use bytes::Bytes;
use chatflow_client::{Endpoint, Transport};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// The largest body that is read, bytes.
const LARGEST_BODY: usize = 4 << 20;

/// A server's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Null` when the body is no JSON.
    pub(super) body: Value,
}

impl Answer {
    /// The answer, if its status is one of success; otherwise what its problem says.
    pub(super) fn success(self) -> Result<Value, String> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let told = ["detail", "title", "code", "status"].iter().find_map(|name| self.body.get(name)?.as_str());
        Err(format!("HTTP {}{}", self.status, told.map(|t| format!(": {t}")).unwrap_or_default()))
    }
}

/// Gets `path`. A connection of its own for each request: a check wants to know that connecting works.
pub(super) async fn get(endpoint: &Endpoint, path: &str, token: Option<&str>) -> Result<Answer, String> {
    let url = endpoint.http_url(path);
    let failed = |problem: &dyn std::fmt::Display| format!("{url}: {problem}");
    let transport = Transport::connect(endpoint).await.map_err(|e| failed(&e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(transport)).await.map_err(|e| failed(&e))?;
    // It ends with the response; what goes wrong on it, the response tells.
    let driver = tokio::spawn(connection);
    let mut request = Request::get(endpoint.path(path)).header(HOST, endpoint.authority()).header(ACCEPT, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| failed(&e))?;
    let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), LARGEST_BODY).collect().await.map_err(|e| failed(&e))?.to_bytes();
    driver.abort();
    Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

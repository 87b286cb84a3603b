//! The plainest possible HTTP client: one request, one connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// What follows the head.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// Asks for `path`.
///
/// # Errors
/// Nobody listens, the answer is none, or it takes longer than 30 s.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    request(address, "GET", path, "").await
}

/// Sends JSON to `path`.
///
/// # Errors
/// As for [`get`].
pub async fn post(address: SocketAddr, path: &str, body: &Value) -> io::Result<Response> {
    request(address, "POST", path, &body.to_string()).await
}

async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Response> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(PATIENCE, exchange).await??;
    let answer = String::from_utf8(answer).map_err(io::Error::other)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    let body = if chunked { dechunked(body).ok_or(io::ErrorKind::InvalidData)? } else { body.to_owned() };
    Ok(Response { status, body })
}

/// A body without the lengths of its pieces.
fn dechunked(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body += after.get(..length)?;
        rest = after.get(length..)?.strip_prefix("\r\n")?;
    }
}

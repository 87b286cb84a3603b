//! A member that speaks the plain dialect, as the older clients do: message frames and nothing else.

use chatflow_client::{Endpoint, MessageId, Transport};
use futures::StreamExt;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

#[derive(Debug)]
pub(super) struct PlainMember(WebSocketStream<Transport>);

impl PlainMember {
    pub(super) async fn connect(endpoint: &Endpoint, room: &str, token: Option<&str>) -> Result<Self, String> {
        let url = endpoint.websocket_url(&format!("/chat/{room}"));
        let failed = |problem: &dyn std::fmt::Display| format!("{url}: {problem}");
        let mut request = url.as_str().into_client_request().map_err(|e| failed(&e))?;
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "the token can't be sent in a header".to_owned())?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let transport = Transport::connect(endpoint).await.map_err(|e| failed(&e))?;
        match client_async(request, transport).await {
            Ok((stream, _)) => Ok(Self(stream)),
            Err(Error::Http(response)) => Err(failed(&format_args!("HTTP {} instead of an upgrade", response.status().as_u16()))),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Waits for the broadcast of `id`; its position.
    pub(super) async fn sees(&mut self, id: MessageId) -> Result<String, String> {
        let id = id.to_string();
        loop {
            let frame = match self.0.next().await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(Some(close)))) => return Err(super::steps::closed(close.code.into(), &close.reason)),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the connection ended".to_owned()),
            };
            let frame: Value = serde_json::from_str(&frame).map_err(|e| format!("a frame that is no JSON: {e}"))?;
            if frame.get("event").is_some() {
                return Err("an event frame, which the plain dialect does not have".to_owned());
            }
            if frame["messageId"] == id && frame.get("status").is_none() {
                return Ok(frame["position"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
}

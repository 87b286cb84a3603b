//! What some examples share: an engine behind a WebSocket listener, so that each can show its own point. `chat` shows how the same
//! is done inside a web framework.

use chatflow_core::protocol::{Dialect, SUBPROTOCOL};
use chatflow_core::{ConnectRequest, Engine};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// Serves `engine` on a free port of this machine for as long as the program runs, and says where.
pub(crate) async fn start(engine: &Engine) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", listener.local_addr()?);
    let engine = engine.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(engine.clone(), stream));
        }
    });
    Ok(url)
}

/// Speaks the `chatflow.v1` dialect, which is what the client library asks for.
async fn serve(engine: Engine, stream: TcpStream) {
    #[allow(clippy::result_large_err, reason = "the type is the handshake's")]
    let accept = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        Ok(response)
    };
    if let Ok(socket) = accept_hdr_async(stream, accept).await {
        let mut request = ConnectRequest::default();
        request.dialect = Dialect::V1;
        engine.connect(socket.into_inner(), request).await;
    }
}

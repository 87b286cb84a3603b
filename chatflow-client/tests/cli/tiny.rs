//! A whole server in little: one room's log in memory, both dialects, and the HTTP paths that `check` asks. Its faults are
//! chosen by the test.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::broadcast;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    NotReady,
    /// Only room 7 exists.
    Restricted,
    /// The same id twice is two messages.
    Doubles,
    NoStore,
    /// What was acknowledged is not in the history.
    Forgets,
    /// Messages are refused for good.
    Refuses,
}

pub(crate) struct TinyServer {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    fault: Fault,
    log: Mutex<Vec<Value>>,
    members: broadcast::Sender<Value>,
    /// Cuts all connections.
    cut: broadcast::Sender<()>,
}

impl TinyServer {
    pub(crate) async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let state = State { fault, log: Mutex::default(), members: broadcast::channel(1_024).0, cut: broadcast::channel(1).0 };
        let state = Arc::new(state);
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                tokio::spawn(async move {
                    let mut cut = state.cut.subscribe();
                    tokio::select! {
                        () = state.serve(stream) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Self { url, state }
    }

    /// Somebody else says something.
    pub(crate) fn say(&self, name: &str, text: &str) {
        self.state.publish(json!({
            "messageId": uuid::Uuid::now_v7().to_string(), "roomId": "7", "userId": "9", "username": name, "message": text,
            "messageType": "TEXT", "timestamp": "2026-11-20T11:02:10Z",
        }));
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.state.log.lock().iter().map(|m| m["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Cuts every connection without a close frame.
    pub(crate) fn cut(&self) {
        self.state.cut.send(()).unwrap();
    }

    pub(crate) fn members(&self) -> usize {
        self.state.members.receiver_count()
    }

    /// The binary with this server's address after the subcommand.
    pub(crate) fn client(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatflow-client"));
        command.arg(subcommand).arg(&self.url).args(arguments).env_remove("CHATFLOW_TOKEN").kill_on_drop(true);
        command
    }
}

impl State {
    async fn serve(&self, mut stream: TcpStream) {
        let mut head = [0; 2048];
        let length = stream.peek(&mut head).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..length]).to_string();
        if head.to_lowercase().contains("upgrade: websocket") {
            return self.converse(stream).await;
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (status, body) = self.get(path.split('?').next().unwrap());
        let body = body.to_string();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    }

    fn get(&self, path: &str) -> (u16, Value) {
        match (path, self.fault) {
            ("/health", _) => (200, json!({"status": "healthy", "node": "n1", "durable": true})),
            ("/api/v1/nodes", Fault::None) => {
                (200, json!({"nodes": [{"node": "n1", "url": "http://h:1", "connections": 3, "self": true}]}))
            }
            ("/ready", Fault::NotReady) => {
                (503, json!({"ready": false, "components": [{"name": "store", "healthy": false, "detail": "locked"}]}))
            }
            ("/ready", _) => (200, json!({"ready": true, "components": [{"name": "broker", "healthy": true, "detail": ""}]})),
            (_, Fault::NoStore) => (404, json!({"title": "there is no store", "code": "no_store"})),
            (_, Fault::Forgets) => (200, json!({"messages": [], "next": null})),
            _ => (200, json!({"messages": *self.log.lock(), "next": null})),
        }
    }

    fn publish(&self, mut message: Value) -> Value {
        let mut log = self.log.lock();
        let repeat = log.iter().find(|m| m["messageId"] == message["messageId"] && self.fault != Fault::Doubles);
        if let Some(first) = repeat {
            return first.clone();
        }
        message["position"] = format!("1:{}", log.len() + 1).into();
        message["serverTimestamp"] = "2026-11-20T11:02:10.123Z".into();
        message.as_object_mut().unwrap().remove("ref");
        log.push(message.clone());
        let _ = self.members.send(message.clone());
        message
    }

    async fn converse(&self, stream: TcpStream) {
        let mut v1 = false;
        #[allow(clippy::result_large_err)]
        let check = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            v1 = request.headers().contains_key("sec-websocket-protocol");
            if v1 {
                response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chatflow.v1"));
            }
            Ok(response)
        };
        let Ok(mut socket) = accept_hdr_async(stream, check).await else { return };
        let mut news = (!v1).then(|| self.members.subscribe());
        let limits = json!({"frame": 65_536, "publishRate": 0, "rooms": 8, "inFlight": 1_024});
        let welcome = json!({"event": "welcome", "session": "s", "recovered": true, "durable": true, "limits": limits});
        if v1 && socket.send(Message::text(welcome.to_string())).await.is_err() {
            return;
        }
        loop {
            let mut frames = Vec::new();
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let frame: Value = serde_json::from_str(&text).unwrap();
                        if frame["op"] == "join" {
                            if self.fault == Fault::Restricted && frame["roomId"] != "7" {
                                frames.push(refusal(&frame, "bad_room", "roomId: must be one of 7"));
                            } else {
                                news = Some(self.members.subscribe());
                                frames.extend(self.enter(&frame, &welcome));
                            }
                        } else if self.fault == Fault::Refuses {
                            frames.push(refusal(&frame, "invalid", "username: must be nicer"));
                        } else {
                            let kept = self.publish(frame.clone());
                            frames.push(json!({
                                "status": "SUCCESS", "messageId": frame["messageId"], "roomId": frame["roomId"], "ref": frame["ref"],
                                "position": kept["position"], "serverTimestamp": kept["serverTimestamp"],
                            }));
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
                Some(message) = heard(&mut news) => frames.push(message),
            }
            for frame in frames {
                if socket.send(Message::text(frame.to_string())).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The welcome into the room and the messages that were asked for.
    fn enter(&self, join: &Value, welcome: &Value) -> Vec<Value> {
        let log = self.log.lock();
        let after = join["after"].as_str().map(|p| p[2..].parse::<usize>().unwrap());
        let history = join["history"].as_u64().unwrap_or(0) as usize;
        let from = after.unwrap_or(log.len().saturating_sub(history));
        let mut frame = welcome.clone();
        frame["roomId"] = join["roomId"].clone();
        frame["ref"] = join["ref"].clone();
        frame["position"] = format!("1:{from}").into();
        std::iter::once(frame).chain(log[from..].iter().cloned()).collect()
    }
}

fn refusal(about: &Value, code: &str, problem: &str) -> Value {
    json!({
        "status": "error", "code": code, "errors": [problem], "ref": about["ref"], "messageId": about["messageId"],
        "retryable": false, "timestamp": "2026-11-20T11:02:10.123Z",
    })
}

async fn heard(news: &mut Option<broadcast::Receiver<Value>>) -> Option<Value> {
    match news {
        Some(news) => news.recv().await.ok(),
        None => std::future::pending().await,
    }
}

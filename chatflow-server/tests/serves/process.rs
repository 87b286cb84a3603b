//! A server in a process of its own, and the plainest possible HTTP client.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, HandshakeError, Message, WebSocket};

const PATIENCE: Duration = Duration::from_secs(20);

/// The program, in `folder`, without the environment of whoever runs the tests.
pub(crate) fn program(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatflow-server"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHATFLOW_")) {
        command.env_remove(name);
    }
    command.current_dir(folder.path());
    command
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    program(&tempfile::tempdir().unwrap()).args(args).output().unwrap()
}

/// A running server. Ended when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) folder: TempDir,
    child: Child,
}

impl Server {
    /// A server on a free port with these arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), args)
    }

    /// The same in a folder that may hold the history of another.
    pub(crate) fn start_in(folder: TempDir, args: &[&str]) -> Self {
        let log = File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let mut command = program(&folder);
        let mut child = command.args(["--listen", "127.0.0.1:0"]).args(args).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let find = |before: &str| {
            let rest = line.split_once(before)?.1;
            rest.split([' ', ',']).next()?.parse().ok()
        };
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        let address = find("listening on ").unwrap_or_else(|| panic!("the server said {line:?} and logged {}", log()));
        Self { address, admin: find("admin calls on "), folder, child }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        request(self.address, &format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address))
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end of the process.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually("the server ends", || self.child.try_wait().unwrap())
    }

    /// Its folder, once it has ended.
    pub(crate) fn into_folder(mut self) -> TempDir {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// A WebSocket at `path`; `v1` in the dialect `chatflow.v1`.
    pub(crate) fn connect(&self, path: &str, v1: bool) -> Socket {
        self.connect_with(path, if v1 { &[("Sec-WebSocket-Protocol", "chatflow.v1")] } else { &[] })
    }

    /// The same with headers.
    #[track_caller]
    pub(crate) fn connect_with(&self, path: &str, headers: &[(&'static str, &str)]) -> Socket {
        self.try_connect(path, headers).unwrap()
    }

    /// The same; `Err` is the answer when the server says no.
    pub(crate) fn try_connect(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Response> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                let (head, body) = answer.into_parts();
                let text = |value: &tungstenite::http::HeaderValue| value.to_str().unwrap().to_owned();
                let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
                Err(Response { status: head.status.as_u16(), headers, body: String::from_utf8(body.unwrap_or_default()).unwrap() })
            }
            Err(error) => panic!("no handshake: {error}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One WebSocket connection.
pub(crate) struct Socket(WebSocket<TcpStream>);

impl Socket {
    pub(crate) fn send(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).unwrap();
    }

    /// The next frame that `wanted` wants.
    pub(crate) fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if wanted(&frame) {
                        return frame;
                    }
                }
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// Asks to be closed, with 1000.
    pub(crate) fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.0.close(Some(frame)).unwrap();
    }

    /// The code that the server closes with.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(close) = self.0.read().unwrap() {
                // Sends the close frame back, which the server waits for.
                let _ = self.0.flush();
                return close.unwrap().code.into();
            }
        }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Asserts that it is a problem of that status, and gives its code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!((self.status, self.header("content-type")), (status, "application/problem+json"), "{}", self.body);
        let json = self.json();
        assert_eq!(json["status"], status);
        json["code"].as_str().unwrap().to_owned()
    }
}

/// Sends `text` as it is and reads the answer to the end of the connection, or of the head of a 101.
pub(crate) fn request(address: SocketAddr, text: &str) -> Response {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(text.as_bytes());
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..count]);
        if answer.starts_with(b"HTTP/1.1 101") && answer.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    // Frames may follow a 101.
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {text:?}: {answer:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Response { status, headers, body: body.to_owned() }
}

/// Asks until there is something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! A real browser, driven over the DevTools protocol.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{eventually, eventually_async};

const PATIENCE: Duration = Duration::from_secs(30);

/// Quiet, alone, and without anything that asks the network.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
];

/// A running browser without a window. Ended when dropped.
#[derive(Debug)]
pub struct Browser {
    connection: Arc<Connection>,
    child: Child,
    _profile: TempDir,
}

/// One tab of it.
#[derive(Debug)]
pub struct Tab {
    connection: Arc<Connection>,
    session: String,
}

#[derive(Debug)]
struct Connection {
    socket: Mutex<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    calls: AtomicU64,
}

/// Chromium among the programs, under one of its names, if it is there.
pub fn chromium() -> Option<PathBuf> {
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let named = ["chromium", "chromium-browser", "google-chrome"].into_iter();
    named.flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

impl Browser {
    /// Starts `program` with a profile of its own.
    ///
    /// # Panics
    /// It does not start within 30 s.
    pub async fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(ARGUMENTS).arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let told = profile.path().join("DevToolsActivePort");
        let (port, path) = eventually("the browser listens", PATIENCE, || {
            let told = std::fs::read_to_string(&told).ok()?;
            let (port, path) = told.trim().split_once('\n')?;
            Some((port.to_owned(), path.to_owned()))
        })
        .await;
        let url = format!("ws://127.0.0.1:{port}{path}");
        // A screenshot is one message.
        let config = WebSocketConfig::default().max_message_size(Some(64 << 20)).max_frame_size(Some(64 << 20));
        let (socket, _) = tokio_tungstenite::connect_async_with_config(url, Some(config), false).await.unwrap();
        let connection = Arc::new(Connection { socket: Mutex::new(socket), calls: AtomicU64::new(0) });
        Self { connection, child, _profile: profile }
    }

    /// Opens a page in a tab of its own, with storage of its own: another person's browser.
    pub async fn open(&self, url: &str) -> Tab {
        let context = self.connection.call(None, "Target.createBrowserContext", json!({})).await;
        let target = json!({"url": "about:blank", "browserContextId": context["browserContextId"]});
        let target = self.connection.call(None, "Target.createTarget", target).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.connection.call(None, "Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned();
        let tab = Tab { connection: Arc::clone(&self.connection), session };
        tab.call("Page.navigate", json!({"url": url})).await;
        tab.until("the page is loaded", "document.readyState === 'complete' && location.protocol === 'http:'").await;
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tab {
    /// What an expression is, in the page.
    ///
    /// # Panics
    /// It throws.
    pub async fn eval(&self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", parameters).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// It never is, within 30 s.
    pub async fn until(&self, what: &str, expression: &str) {
        eventually_async(what, PATIENCE, || async { (self.eval(expression).await == true).then_some(()) }).await;
    }

    /// Types into the element that a selector finds, in place of what is there.
    pub async fn write(&self, selector: &str, text: &str) {
        self.eval(&format!("document.querySelector({selector:?}).focus(), document.querySelector({selector:?}).select()")).await;
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Presses Enter.
    pub async fn enter(&self) {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
            self.call("Input.dispatchKeyEvent", key).await;
        }
    }

    /// Gives the page's window a size, that of a phone when it is narrow.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Lets the page believe that its reader likes dark colours.
    pub async fn darken(&self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        self.call("Emulation.setEmulatedMedia", json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]})).await;
    }

    /// Waits until what was changed last is drawn.
    pub async fn drawn(&self) {
        self.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))").await;
    }

    /// Keeps a picture of what is to be seen.
    pub async fn screenshot(&self, file: &Path) {
        self.drawn().await;
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"})).await;
        let png = data_encoding::BASE64.decode(picture["data"].as_str().unwrap().as_bytes()).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, png).unwrap();
    }

    async fn call(&self, method: &str, parameters: Value) -> Value {
        self.connection.call(Some(&self.session), method, parameters).await
    }
}

impl Connection {
    /// Calls a method and waits for its answer. Events are passed over: nobody asked for any.
    async fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let mut socket = self.socket.lock().await;
        let id = self.calls.fetch_add(1, Relaxed);
        let mut call = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            call["sessionId"] = session.into();
        }
        socket.send(Message::text(call.to_string())).await.unwrap();
        let answer = async {
            loop {
                let Message::Text(text) = socket.next().await.expect("the browser lives").unwrap() else { continue };
                let mut answer: Value = serde_json::from_str(&text).unwrap();
                if answer["id"] == id {
                    assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                    return answer["result"].take();
                }
            }
        };
        timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("the browser does not answer {method}"))
    }
}

//! `monitor` on a terminal and in a pipe, in front of a server that says what the test wants.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::tiny::PATIENCE;

/// What a server answers, by path; 404 for the rest. If it has figures, 70,000 messages come in a second.
type Answers = Arc<Mutex<BTreeMap<&'static str, (u16, Value)>>>;

async fn serve(answers: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let begun = Instant::now();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&answers), begun));
        }
    });
    url
}

async fn answer(mut stream: TcpStream, answers: Answers, begun: Instant) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let (status, body) = {
        let mut answers = answers.lock();
        let path = head.split(' ').nth(1).unwrap();
        if path == "/metrics"
            && let Some((_, figures)) = answers.get_mut(path)
            && figures.get("uptimeSeconds").is_some()
        {
            let uptime = begun.elapsed().as_millis() as u64;
            figures["uptimeSeconds"] = json!(uptime as f64 / 1e3);
            figures["messagesAccepted"] = json!(uptime * 70);
        }
        answers.get(path).cloned().unwrap_or((404, json!({"detail": "nothing\u{1b}[2J here"})))
    };
    let body = body.to_string();
    let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
}

/// All that a hostile server can put into its answers.
fn hostile() -> Answers {
    let evil = |name: &str| format!("{name}\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r\n");
    let queue = json!({"roomId": evil("room"), "approximateMessages": 3, "approximateNotVisible": 1, "brokerDepth": 9});
    let total = json!({"approximateMessages": 3, "approximateNotVisible": 1});
    let node = json!({"node": evil("other"), "url": evil("u"), "roles": [evil("r")], "connections": 1, "rate": 2, "version": evil("v")});
    let part = json!({"name": evil("store"), "healthy": false, "detail": evil("away")});
    Arc::new(Mutex::new(BTreeMap::from([
        ("/metrics", (200, json!({"node": evil("node"), "version": evil("1"), "uptimeSeconds": 7.0, "messagesAccepted": 0}))),
        ("/ready", (503, json!({"status": "unavailable", "components": [part]}))),
        ("/queue/all", (200, json!({"queues": [queue], "total": total}))),
        ("/api/v1/nodes", (200, json!({"nodes": [node]}))),
    ])))
}

/// Exit code, standard output and standard error.
async fn monitor(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatflow-client"));
    command.arg("monitor").args(arguments).env_remove("CHATFLOW_TOKEN").kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The program on a terminal of 100 × 30, and what it writes there.
struct Terminal {
    child: Child,
    keys: File,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let (input, output) = (pair.slave.try_clone().unwrap(), pair.slave);
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatflow-client"));
        command.arg("monitor").args(arguments).env_remove("CHATFLOW_TOKEN").env("TERM", "xterm-256color");
        let child = command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).kill_on_drop(true).spawn().unwrap();
        let (mut screen, written) = (File::from(pair.master), Arc::new(Mutex::new(Vec::new())));
        let (keys, kept) = (screen.try_clone().unwrap(), Arc::clone(&written));
        // Ends with the terminal's other side.
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(n @ 1..) = screen.read(&mut bytes) {
                kept.lock().extend_from_slice(&bytes[..n]);
            }
        });
        Self { child, keys, written }
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock()).into_owned()
    }

    async fn shows(&self, text: &str) {
        let shown = async {
            while !self.written().contains(text) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, shown).await.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.written()));
    }

    /// The exit code, and whether the terminal was given back.
    async fn ended(&mut self) -> (Option<i32>, bool) {
        let code = timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code();
        let given_back = async {
            while !self.written().contains("\u{1b}[?1049l") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        (code, timeout(PATIENCE, given_back).await.is_ok())
    }
}

#[tokio::test]
async fn the_whole_terminal_is_taken_and_given_back_however_it_ends() {
    let url = serve(hostile()).await;
    for (end, code) in [(&b"q"[..], 0), (b"\x1b", 0), (b"\x03", 130)] {
        let mut terminal = Terminal::start(&[&url, "--every", "100ms"]);
        terminal.shows("not ready").await;
        assert!(terminal.written().contains("\u{1b}[?1049h"), "{:?}", terminal.written());
        terminal.keys.write_all(end).unwrap();
        assert_eq!(terminal.ended().await, (Some(code), true), "{end:?}");
    }
    let mut terminal = Terminal::start(&[&url, "--every", "100ms", "--count", "2"]);
    assert_eq!(terminal.ended().await, (Some(0), true), "it ends by itself");
    for (signal, code) in [(nix::libc::SIGTERM, 143), (nix::libc::SIGINT, 130)] {
        let mut terminal = Terminal::start(&[&url, "--every", "100ms"]);
        terminal.shows("not ready").await;
        let killed = Command::new("kill").args([format!("-{signal}"), terminal.child.id().unwrap().to_string()]).status().await.unwrap();
        assert!(killed.success());
        assert_eq!(terminal.ended().await, (Some(code), true), "{signal}");
    }
}

#[tokio::test]
async fn nothing_that_a_server_says_reaches_the_terminal_raw() {
    let url = serve(hostile()).await;
    let mut terminal = Terminal::start(&[&url, "--every", "100ms", "--count", "3"]);
    assert_eq!(terminal.ended().await, (Some(0), true));
    let written = terminal.written();
    assert!(written.contains(r"\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}"), "{written:?}");
    assert!(["\u{1b}]", "\u{7}", "\u{9b}", "\u{202e}"].iter().all(|evil| !written.contains(evil)), "{written:?}");
    for arguments in [&["--count", "2", "--every", "100ms"][..], &["--count", "2", "--every", "100ms", "--json"]] {
        let (code, out, told) = monitor(&[&[url.as_str()], arguments].concat()).await;
        assert_eq!((code, out.lines().count(), told.as_str()), (0, 2, ""), "{out}");
        assert!(!out.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{out:?}");
        assert!(out.contains("not ready") && out.contains("away"), "{out}");
    }
}

#[tokio::test]
async fn what_a_server_does_not_tell_is_missing_and_no_more() {
    let answers: Answers =
        Arc::new(Mutex::new(BTreeMap::from([("/metrics", (200, json!({"uptimeSeconds": 7.0, "messagesAccepted": 0})))])));
    let url = serve(Arc::clone(&answers)).await;
    let (code, out, _) = monitor(&[&url, "--count", "1", "--every", "100ms"]).await;
    assert_eq!(code, 0);
    assert!(out.contains(r" s (/ready: HTTP 404: nothing\u{1b}[2J here)  in 70,000/s  out -/s  saved -/s  waiting -  lag -"), "{out}");
    answers.lock().insert("/metrics", (200, json!("hello")));
    let (code, out, _) = monitor(&[&url, "--count", "1", "--every", "100ms"]).await;
    assert_eq!(code, 0);
    assert!(out.ends_with(" s (its answer has no figures: is it a ChatFlow server?)\n"), "{out}");
    answers.lock().insert("/metrics", (403, json!({"detail": "who are you"})));
    assert!(monitor(&[&url, "--count", "1", "--every", "100ms"]).await.1.ends_with(" s (HTTP 403: who are you)\n"));
    // More than is read of an answer.
    let flood = json!("x".repeat(5 << 20));
    answers.lock().insert("/metrics", (200, flood));
    let (_, out, _) = monitor(&[&url, "--count", "1", "--every", "100ms"]).await;
    assert!(out.contains(" s (length limit exceeded)"), "{out}");
}

#[tokio::test]
async fn what_the_command_line_gets_wrong_is_usage() {
    for arguments in
        [&[][..], &["ftp://x"], &["ws://a", "--every", "1ms"], &["ws://a", "--every", "2h"], &["ws://a", "--count", "0"], &["ws://a,,"]]
    {
        let (code, out, told) = monitor(arguments).await;
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {told}");
    }
}

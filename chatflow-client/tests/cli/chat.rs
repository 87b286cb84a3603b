//! `chat` in a pipe and at a terminal.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::tiny::{Fault, PATIENCE, TinyServer};

const ADA: [&str; 4] = ["--room", "7", "--username", "ada"];

/// Runs `chat` in a pipe with this input; exit code, output, errors.
async fn piped(server: &TinyServer, input: &str) -> (i32, String, String) {
    let mut command = server.client("chat", &ADA);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends with its input").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn lines_in_are_said_in_order_and_lines_come_out() {
    let server = TinyServer::start(Fault::None).await;
    server.say("bob", "before \x1b[2J\u{202e}");
    let input: Vec<String> = (0..500).map(|n| format!("line {n}")).collect();
    let (code, out, errors) = piped(&server, &format!("{}\n\n", input.join("\n"))).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(server.said()[1..], input);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], r"2026-11-20T11:02:10.123Z bob: before \u{1b}[2J\u{202e}");
    assert_eq!(lines[500], "2026-11-20T11:02:10.123Z ada: line 499", "its own last line is seen before it ends");
}

#[tokio::test]
async fn what_is_refused_is_told_and_is_exit_code_1() {
    let server = TinyServer::start(Fault::Refuses).await;
    let (code, out, errors) = piped(&server, "hi\n").await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("✗ not said: the server refused (invalid): username: must be nicer"), "{errors}");
}

#[tokio::test]
async fn who_can_not_connect_is_told_what_to_do() {
    let mut gone = TinyServer::start(Fault::None).await;
    gone.url = "ws://127.0.0.1:1".into();
    let (code, _, errors) = piped(&gone, "").await;
    assert_eq!(code, 1);
    assert_eq!(
        errors,
        "error: ws://127.0.0.1:1: connection refused: nobody listens there; is a server running? start one with \
         `chatflow-server`, or check host and port\n"
    );
    let restricted = TinyServer::start(Fault::Restricted).await;
    let output = restricted.client("chat", &["--room", "8", "--username", "ada"]).stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("roomId: must be one of 7; choose another room"), "{output:?}");
    let output = restricted.client("chat", &["--room", "no room", "--username", "ada"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// `chat` at a terminal that the program `script` plays.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    seen: String,
}

impl Terminal {
    async fn open(server: &TinyServer) -> Option<Self> {
        let command = server.client("chat", &ADA);
        let command = command.as_std();
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(|w| w.to_str().unwrap()).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &words.join(" "), "/dev/null"]);
        script.env("TERM", "xterm-256color").env_remove("NO_COLOR").kill_on_drop(true);
        let child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else {
            assert!(std::env::var_os("CI").is_none(), "`script` (bsdutils) is needed");
            eprintln!("skipped: no `script` here");
            return None;
        };
        let (keys, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, keys, screen, seen: String::new() })
    }

    async fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.unwrap();
        self.keys.flush().await.unwrap();
    }

    /// Reads until `text` is on the screen; forgets everything up to there.
    async fn shows(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(text) {
            let read = timeout(PATIENCE, self.screen.read(&mut bytes)).await;
            match read {
                Ok(Ok(length)) if length > 0 => self.seen.push_str(&String::from_utf8_lossy(&bytes[..length])),
                _ => panic!("{text:?} is not in {:?}", self.seen),
            }
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    async fn ends_with(mut self, code: i32) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(code), "{}", self.seen);
    }
}

#[tokio::test]
async fn a_person_chats_and_the_line_being_typed_stays_intact() {
    let server = TinyServer::start(Fault::None).await;
    server.say("bob", "welcome\x07");
    let Some(mut terminal) = Terminal::open(&server).await else { return };
    terminal.shows("bob").await;
    terminal.shows(r"welcome\u{7}").await;
    terminal.shows("7 ada> ").await;

    terminal.press("hel").await;
    terminal.shows("hel").await;
    server.say("bob", "in between");
    terminal.shows("in between").await;
    // The prompt and what was typed so far stand below the line that came.
    terminal.shows("7 ada> hel").await;
    terminal.press("lo\r").await;
    terminal.shows("hello").await;
    while server.said().last().unwrap() != "hello" {
        tokio::task::yield_now().await;
    }

    terminal.press("/dance\r").await;
    terminal.shows("no such command").await;
    terminal.press("/who\r").await;
    terminal.shows("does not tell").await;
    terminal.press("/join 8\r").await;
    terminal.shows("8 ada> ").await;
    terminal.press("/leave\r").await;
    terminal.shows("7 ada> ").await;
    terminal.press("/quit\r").await;
    terminal.ends_with(0).await;
}

#[tokio::test]
async fn a_person_sees_the_connection_lost_and_back_and_misses_nothing() {
    let server = TinyServer::start(Fault::None).await;
    let Some(mut terminal) = Terminal::open(&server).await else { return };
    terminal.shows("7 ada> ").await;
    server.cut();
    while server.members() > 0 {
        tokio::task::yield_now().await;
    }
    server.say("bob", "while away");
    terminal.shows("disconnected (the connection was cut").await;
    terminal.shows("reconnecting").await;
    terminal.shows("connected again").await;
    terminal.shows("while away").await;
    terminal.press("\x03").await;
    terminal.ends_with(130).await;
}

//! `nodes` asks whoever answers.

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::tiny::{Fault, PATIENCE, TinyServer};

/// Exit code, standard output and standard error.
async fn nodes(urls: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatflow-client"));
    command.args(["nodes", urls]).args(arguments).env_remove("CHATFLOW_TOKEN").kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_first_server_that_answers_is_asked() {
    let server = TinyServer::start(Fault::None).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = format!("ws://{free},ws://{},{}", silent.local_addr().unwrap(), server.url);
    let (code, table, told) = nodes(&urls, &["--timeout", "200ms"]).await;
    assert_eq!(code, 0, "{told}");
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("NODE  URL") && lines[1].starts_with("n1    http://h:1") && lines[1].ends_with("up, asked"), "{table}");
    assert!(told.contains("nobody listens there") && told.contains("no answer within 0.2 s"), "{told}");

    let (code, json, _) = nodes(&server.url, &["--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["nodes"][0]["node"].as_str()), (0, Some("n1")));
}

#[tokio::test]
async fn without_an_answer_it_fails_and_says_why() {
    let server = TinyServer::start(Fault::NoStore).await;
    let (code, table, told) = nodes(&server.url, &[]).await;
    assert_eq!((code, table.as_str()), (1, ""));
    assert!(told.contains("HTTP 404"), "{told}");
    assert_eq!(nodes("ftp://x", &[]).await.0, 2);
}

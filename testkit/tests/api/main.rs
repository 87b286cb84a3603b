//! The server against its own description of its API: a tester makes up requests that fit it and such that do not, and looks whether
//! the answers are those that are described.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use chatflow_testkit::{Options, Server, http, packages, skip};
use serde_json::json;

const ADMIN: &str = "the-token-of-an-administrator";
const PASSWORD: &str = "correct-horse-battery";

fn tester() -> Option<PathBuf> {
    let folder = packages("schemathesis");
    let program = folder.join("bin/schemathesis");
    // `scripts/test` writes it last.
    let is_there = folder.join("complete").is_file() && program.is_file();
    if !is_there {
        skip(&format!("there is no Schemathesis in {} (scripts/test installs it)", folder.display()));
    }
    is_there.then_some(program)
}

/// Lets the tester loose with a token, or without one.
async fn answers_as_described(program: &Path, server: &Server, token: &str, args: &[&str]) {
    let mut command = Command::new(program);
    command.args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/schemathesis.toml")]);
    command.args(["run", &format!("http://{}/openapi.json", server.address), "--no-color", "--continue-on-failure"]);
    if !token.is_empty() {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let folder = tempfile::tempdir().unwrap();
    command.args(args).current_dir(folder.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(server.get("/health").await.status, 200);
}

fn options() -> Options {
    Options::new().set("admin.token", ADMIN).set("auth.login_rate", 0)
}

#[tokio::test]
async fn to_an_administrator() {
    let Some(program) = tester() else { return };
    let server = Server::start(options());
    answers_as_described(&program, &server, ADMIN, &["--exclude-path-regex", "/api/v1/(logout|ticket)"]).await;
}

#[tokio::test]
async fn to_somebody_who_is_logged_in() {
    let Some(program) = tester() else { return };
    let server = Server::start(options().set("auth.required", true));
    server.run(&["user", "add", "ada"], &format!("{PASSWORD}\n"));
    let answer = http::post(server.address, "/api/v1/login", &json!({"username": "ada", "password": PASSWORD})).await.unwrap();
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let logout = "/api/v1/logout";
    answers_as_described(&program, &server, &token, &["--exclude-path", logout]).await;
    answers_as_described(&program, &server, &token, &["--include-path", logout]).await;
}

#[tokio::test]
async fn to_nobody() {
    let Some(program) = tester() else { return };
    let server = Server::start(options());
    answers_as_described(&program, &server, "", &[]).await;
}

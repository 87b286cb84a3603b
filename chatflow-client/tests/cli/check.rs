//! `check` finds what is wrong, and names it.

use serde_json::Value;
use tokio::time::timeout;

use crate::tiny::{Fault, PATIENCE, TinyServer};

/// Exit code, and each step with whether it passed and what it said.
async fn check(fault: Fault, arguments: &[&str]) -> (i32, Vec<(String, bool, String)>) {
    let server = TinyServer::start(fault).await;
    let mut command = server.client("check", &["--json", "--timeout", "400ms"]);
    let output = timeout(PATIENCE, command.args(arguments).output()).await.unwrap().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let code = output.status.code().unwrap();
    assert_eq!(report["ok"], code == 0);
    let steps = report["steps"].as_array().unwrap().iter();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    (code, steps.map(|s| (text(&s["name"]), s["ok"].as_bool().unwrap(), text(&s["detail"]))).collect())
}

/// The one step that failed, and what it said.
fn failure(steps: &[(String, bool, String)]) -> (&str, &str) {
    let failed: Vec<_> = steps.iter().filter(|(_, ok, _)| !ok).collect();
    assert_eq!(failed.len(), 1, "{steps:?}");
    (&failed[0].0, &failed[0].2)
}

#[tokio::test]
async fn a_sound_server_passes_every_step() {
    let (code, steps) = check(Fault::None, &[]).await;
    assert_eq!(code, 0, "{steps:?}");
    let names: Vec<_> = steps.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["health", "ready", "plain", "v1", "publish", "seen", "seen plain", "again", "history"]);
    assert_eq!(steps[8].2, "read back at 1:1");
}

#[tokio::test]
async fn every_fault_fails_its_step() {
    for (fault, step, told) in [
        (Fault::NotReady, "ready", "not ready: store DOWN (locked)"),
        (Fault::Restricted, "v1", "name one with --room"),
        (Fault::Doubles, "again", "one id has several positions: 1:1, 1:1, 1:1, 1:2"),
        (Fault::Forgets, "history", "nothing within 0.4 s"),
        (Fault::Refuses, "publish", "username: must be nicer"),
    ] {
        let (code, steps) = check(fault, &[]).await;
        let (name, detail) = match fault {
            // Two copies are in the history too, and it says so.
            Fault::Doubles => ("again", steps[7].2.as_str()),
            _ => failure(&steps),
        };
        assert_eq!((code, name), (1, step), "{fault:?}");
        assert!(detail.contains(told), "{fault:?}: {detail}");
    }
}

#[tokio::test]
async fn rooms_that_are_allowed_and_a_missing_store_are_fine() {
    assert_eq!(check(Fault::Restricted, &["--room", "7"]).await.0, 0);
    let (code, steps) = check(Fault::NoStore, &[]).await;
    assert_eq!((code, steps[8].2.as_str()), (0, "no history (HTTP 404: there is no store)"));
}

#[tokio::test]
async fn a_person_reads_one_line_a_step() {
    let server = TinyServer::start(Fault::None).await;
    let output = timeout(PATIENCE, server.client("check", &["--room", "7"]).output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], format!("{}, room 7", server.url));
    assert!(lines[1].starts_with("✓ health") && lines[1].contains(" ms  healthy, node n1"), "{text}");
    assert_eq!(lines.len(), 10, "{text}");
    assert!(!text.contains('\x1b'), "no colours in a pipe");
}

#[tokio::test]
async fn bad_arguments_are_usage() {
    let server = TinyServer::start(Fault::None).await;
    for arguments in [&["--timeout", "soon"][..], &["--nonsense"], &["--timeout", "-1s"]] {
        let output = server.client("check", arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

//! `store.retention`: what is too old goes, and the server says so to whoever asks for it.

use serde_json::{Value, json};

use crate::process::{Server, eventually, program, run};

fn says(text: &str) -> Value {
    json!({"userId": 7, "username": "ada", "message": text, "timestamp": "2026-11-20T12:00:00Z", "messageType": "TEXT"})
}

/// The same archive, whose messages before the `young`th were said three years ago.
fn aged(archive: &str, young: usize) -> String {
    let mut count = 0;
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if line["type"] == "message" {
            count += 1;
            if count < young {
                line["at"] = json!(1_700_000_000_000_u64);
            }
        }
        format!("{line}\n")
    };
    archive.lines().map(line).collect()
}

#[test]
fn what_is_too_old_goes_and_who_asks_for_it_is_told() {
    let mut server = Server::start(&[]);
    let mut socket = server.connect("/chat/7?ack=persisted", false);
    for n in 1..=10 {
        socket.send(&says(&n.to_string()));
        assert_eq!(socket.next(|frame| frame.get("status").is_some())["status"], "SUCCESS");
    }
    let all = server.get("/api/v1/rooms/7/messages").json()["messages"].as_array().unwrap().clone();
    let position = |index: usize| all[index]["position"].as_str().unwrap();
    server.signal("TERM");
    server.ended();
    let folder = server.into_folder();
    let done = |args: &[&str]| {
        let output = program(&folder).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    done(&["export", "--out", "all.jsonl"]);
    let archive = std::fs::read_to_string(folder.path().join("all.jsonl")).unwrap();
    std::fs::write(folder.path().join("aged.jsonl"), aged(&archive, 8)).unwrap();
    done(&["import", "aged.jsonl", "--store", "sqlite:aged.db"]);

    let server = Server::start_in(folder, &["--store", "sqlite:aged.db", "--set", "store.retention=30d"]);
    eventually("what is old is gone", || server.get("/metrics").body.contains("\nchatflow_messages_removed_total 7\n").then_some(()));
    let page = server.get("/api/v1/rooms/7/messages").json();
    assert_eq!((&page["messages"], &page["previous"]), (&json!(all[7..]), &Value::Null));
    let page = server.get("/api/v1/rooms/7/messages?limit=2").json();
    let oldest = server.get(&format!("/api/v1/rooms/7/messages?limit=2&before={}", page["previous"].as_str().unwrap())).json();
    assert_eq!((&oldest["messages"], &oldest["previous"]), (&json!(all[7..8]), &Value::Null));
    // Figures are of what was ever said, a user's messages those that are there.
    let top = server.get("/api/v1/analytics/top-rooms").json();
    assert_eq!(top["rooms"], json!([{"roomId": "7", "messages": 10}]));
    assert_eq!(server.get("/api/v1/users/7/rooms").json()["rooms"][0]["roomId"], "7");
    assert_eq!(server.get("/api/v1/users/7/messages").json()["messages"], json!(all[7..]));

    let welcome =
        |index: usize| server.connect(&format!("/chat/7?after={}", position(index)), true).next(|frame| frame["event"] == "welcome");
    assert_eq!((&welcome(5)["recovered"], &welcome(5)["reason"]), (&json!(false), &json!("not_kept")));
    assert_eq!(server.connect(&format!("/chat/7?after={}", position(0)), false).close_code(), 3010);
    let mut socket = server.connect(&format!("/chat/7?after={}", position(6)), true);
    assert_eq!(socket.next(|frame| frame["event"] == "welcome")["recovered"], true);
    for message in &all[7..] {
        assert_eq!(socket.next(|frame| frame.get("messageId").is_some())["messageId"], message["messageId"]);
    }
    assert!(server.get("/metrics").body.contains("\nchatflow_store_removal_failures_total 0\n"));
}

#[test]
fn messages_are_kept_as_long_as_repeats_are_told() {
    let refused = run(&["check-config", "--set", "store.retention=1m"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(2) && said.contains("store.retention = \"1m\"") && said.contains("engine.dedup_window"),
        "{said}"
    );
    assert_eq!(run(&["check-config", "--set", "store.retention=30d"]).status.code(), Some(0));
}

//! Positions that a client made up, or kept from another life of the server.

use serde_json::{Value, json};

use crate::health::unharmed;
use crate::process::Server;
use crate::wire::{Wire, said};

/// A server with three messages in room 7 and one in room 8: it, and the position of the second in room 7.
fn with_a_history(args: &[&str]) -> (Server, String) {
    let server = Server::start(args);
    let mut wire = Wire::open(&server, "7");
    let position = ["one", "two", "three"].map(|text| {
        wire.json(&said(text));
        wire.next_json(|frame| frame["message"] == text)["position"].as_str().unwrap().to_owned()
    });
    let mut other = Wire::open(&server, "8");
    other.json(&said("elsewhere"));
    other.answer();
    let [_, second, _] = position;
    (server, second)
}

fn epoch_and_offset(position: &str) -> (u64, u128) {
    let (epoch, offset) = position.split_once(':').unwrap();
    (epoch.parse().unwrap(), offset.parse().unwrap())
}

/// Resumes after `position` in both dialects, and asserts that it is told why that can't be.
#[track_caller]
fn is_told(server: &Server, position: &str, reason: &str) {
    let path = format!("7?after={position}");
    assert_eq!(Wire::open(server, &path).end(), (3010, reason.to_owned()), "{position}");
    let mut wire = Wire::open_v1(server, &path);
    let welcome = wire.next_json(|_| true);
    assert_eq!(
        (&welcome["event"], &welcome["recovered"], &welcome["reason"]),
        (&json!("welcome"), &json!(false), &json!(reason)),
        "{position}"
    );
    // The connection goes on with the present.
    wire.json(&said("here"));
    assert_eq!(wire.next_json(|frame| frame.get("position").is_some() && frame.get("status").is_none())["message"], "here");
}

#[test]
fn a_position_that_is_none_is_told() {
    let (server, _) = with_a_history(&[]);
    for garbage in
        ["", "x", "1", ":", "1:", ":2", "-1:2", "1:-2", "1:2:3", "1:2x", "%2B1:2", "1.5:2", "1:1e9", "0x1:2", "null", "%00", "'--"]
    {
        is_told(&server, garbage, "bad_position");
    }
    is_told(&server, "18446744073709551616:1", "bad_position");
    is_told(&server, "1:340282366920938463463374607431768211456", "bad_position");
    is_told(&server, &"9".repeat(5_000), "bad_position");
    unharmed(&server);
}

#[test]
fn a_position_in_the_future_is_told() {
    let (server, position) = with_a_history(&[]);
    let (epoch, _) = epoch_and_offset(&position);
    is_told(&server, &format!("{epoch}:1000000"), "unknown_position");
    is_told(&server, &format!("{epoch}:340282366920938463463374607431768211455"), "unknown_position");
    unharmed(&server);
}

#[test]
fn a_foreign_epoch_is_told() {
    let (server, position) = with_a_history(&[]);
    let (epoch, offset) = epoch_and_offset(&position);
    for foreign in [epoch + 1, epoch + 1_000, u64::MAX] {
        is_told(&server, &format!("{foreign}:{offset}"), "unknown_position");
        is_told(&server, &format!("{foreign}:0"), "unknown_position");
    }
    unharmed(&server);
}

#[test]
fn what_a_history_does_not_keep_is_told() {
    let (server, position) = with_a_history(&["--store", "none", "--set", "engine.recent_messages=0"]);
    let (epoch, _) = epoch_and_offset(&position);
    assert!(epoch > 0);
    for gone in [format!("{epoch}:0"), "0:0".to_owned(), format!("{}:7", epoch - 1)] {
        is_told(&server, &gone, "not_kept");
    }
}

#[test]
fn an_older_epoch_that_the_history_never_had_is_told() {
    let (server, position) = with_a_history(&[]);
    let (epoch, _) = epoch_and_offset(&position);
    for gone in ["0:0".to_owned(), "0:77".to_owned(), format!("{}:{}", epoch - 1, u128::MAX)] {
        is_told(&server, &gone, "not_kept");
    }
    unharmed(&server);
}

#[test]
fn before_the_first_message_is_the_beginning_of_the_history() {
    let (server, position) = with_a_history(&[]);
    let (epoch, _) = epoch_and_offset(&position);
    let mut wire = Wire::open_v1(&server, &format!("7?after={epoch}:0"));
    assert_eq!(wire.next_json(|_| true)["recovered"], true);
    let said: Vec<_> = (0..3).map(|_| wire.next_json(|frame| frame.get("message").is_some())["message"].clone()).collect();
    assert_eq!(said, ["one", "two", "three"]);
}

fn messages(page: &Value) -> Vec<&str> {
    page["messages"].as_array().unwrap().iter().map(|message| message["message"].as_str().unwrap()).collect()
}

#[test]
fn a_cursor_that_was_tampered_with_is_invalid_or_only_another_place_in_the_same_room() {
    let (server, position) = with_a_history(&[]);
    let first = server.get("/api/v1/rooms/7/messages?after=0:0&limit=1").json();
    let next = first["next"].as_str().unwrap().to_owned();
    for tampered in
        [format!("{next}x"), format!("x{next}"), format!("{next}:1"), next.replace(':', ""), next.replace(':', "%00"), format!("-{next}")]
    {
        for parameter in ["after", "before"] {
            let answer = server.get(&format!("/api/v1/rooms/7/messages?{parameter}={tampered}"));
            assert_eq!(answer.problem(400), "invalid");
            assert!(answer.json()["errors"][0].as_str().unwrap().starts_with(parameter), "{}", answer.body);
        }
    }
    let (epoch, offset) = epoch_and_offset(&position);
    let page = |room: &str, query: &str| server.get(&format!("/api/v1/rooms/{room}/messages?{query}")).json();
    assert_eq!(messages(&page("7", &format!("after={}:{offset}", epoch + 1))), [""; 0]);
    assert_eq!(messages(&page("7", &format!("after={epoch}:{}", u128::MAX))), [""; 0]);
    assert_eq!(messages(&page("7", &format!("after={}:{}", u64::MAX, u128::MAX))), [""; 0]);
    assert_eq!(messages(&page("7", &format!("before={}:{}", u64::MAX, u128::MAX))), ["one", "two", "three"]);
    // A position of one room shows nothing of it in another.
    assert_eq!(messages(&page("8", &format!("before={epoch}:{offset}&after=0:0"))), [""; 0]);
    assert_eq!(messages(&page("8", "after=0:0")), ["elsewhere"]);
    unharmed(&server);
}

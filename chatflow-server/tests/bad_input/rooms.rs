//! Names that are no rooms, and rooms that are somebody else's.

use serde_json::json;

use crate::health::unharmed;
use crate::process::Server;
use crate::wire::{Wire, said};

/// Names with a meaning to a broker, a file system, a shell, a log or a database.
const BAD: [&str; 22] = [
    "*",
    "#",
    ">",
    "a.*",
    "a.#",
    "a.>",
    "..",
    "../7",
    "a/b",
    "a\\b",
    "a\r\nDEL 7",
    "a\nb",
    "a\0b",
    "a:b",
    "{7}",
    "7'--",
    "7;",
    "$SYS",
    "a b",
    "é",
    "\u{202e}7",
    "%2A",
];

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn a_bad_name_in_the_path_is_closed_with_1003() {
    let server = Server::start(&[]);
    let long = "x".repeat(65);
    let mut paths: Vec<_> = BAD.iter().map(|name| encoded(name)).collect();
    paths.extend(["*", "..", "../7", "a/b", "a:b", "%ff", "%", "%2", "7%00", "", "a+b", &long].map(str::to_owned));
    for path in paths {
        for wire in [&mut Wire::open(&server, &path), &mut Wire::open_v1(&server, &path)] {
            assert_eq!(wire.end(), (1003, "there is no such room".to_owned()), "{path}");
        }
    }
    unharmed(&server);
}

#[test]
fn a_bad_name_in_a_frame_is_a_bad_room() {
    let server = Server::start(&[]);
    let (mut plain, mut v1) = (Wire::open(&server, "7?deliver=none"), Wire::open_v1(&server, "7?deliver=none"));
    let long = "x".repeat(65);
    for name in BAD.into_iter().chain(["", &long]) {
        let mut message = said("hello");
        message["roomId"] = json!(name);
        message["ref"] = json!("r1");
        for wire in [&mut plain, &mut v1] {
            wire.json(&message);
            let error = wire.answer();
            assert_eq!((&error["code"], &error["ref"]), (&json!("bad_room"), &json!("r1")), "{name:?}: {error}");
        }
        v1.json(&json!({"op": "join", "roomId": name, "ref": "r2"}));
        let error = v1.answer();
        assert_eq!((&error["code"], &error["ref"]), (&json!("bad_room"), &json!("r2")), "{name:?}: {error}");
        for wire in [&mut plain, &mut v1] {
            wire.json(&said("fine"));
            assert_eq!(wire.answer()["status"], "SUCCESS");
        }
    }
    unharmed(&server);
}

#[test]
fn a_bad_name_in_the_http_api_is_a_bad_room() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    for name in BAD.map(encoded) {
        for path in [format!("/queue/{name}"), format!("/api/v1/rooms/{name}/messages"), format!("/api/v1/rooms/{name}/members")] {
            assert_eq!(server.get(&path).problem(400), "bad_room", "{path}");
        }
    }
    unharmed(&server);
}

#[test]
fn a_message_for_a_foreign_room_is_refused_there_and_heard_nowhere() {
    let server = Server::start(&[]);
    let mut stranger = Wire::open(&server, "8");
    let mut foreign = said("not for you");
    foreign["roomId"] = json!("8");
    for mut wire in [Wire::open(&server, "7?deliver=none"), Wire::open_v1(&server, "7?deliver=none")] {
        wire.json(&foreign);
        assert_eq!(wire.answer()["code"], "wrong_room");
        let mut own = said("for us");
        own["roomId"] = json!("7");
        wire.json(&own);
        assert_eq!(wire.answer()["status"], "SUCCESS");
    }
    stranger.json(&said("only mine"));
    assert_eq!(stranger.next_json(|frame| frame.get("status").is_none())["message"], "only mine");
    let kept = server.get("/api/v1/rooms/8/messages").json();
    assert_eq!(kept["messages"].as_array().unwrap().len(), 1);
    unharmed(&server);
}

#[test]
fn a_connection_without_a_room_needs_one_for_each_message_and_the_dialect_for_that() {
    let server = Server::start(&[]);
    assert_eq!(Wire::open(&server, "").end().0, 1003);
    let mut wire = Wire::open_v1(&server, "7?deliver=none");
    wire.json(&json!({"op": "leave", "roomId": "7"}));
    wire.next_json(|frame| frame["event"] == "left");
    wire.json(&said("where am I?"));
    assert_eq!(wire.answer()["code"], "wrong_room");
    unharmed(&server);
}

#[test]
fn a_connection_has_only_so_many_rooms() {
    let server = Server::start(&["--set", "engine.rooms=3"]);
    let mut wire = Wire::open_v1(&server, "1");
    for room in ["2", "3", "4", "3"] {
        wire.json(&json!({"op": "join", "roomId": room, "ref": room}));
    }
    assert_eq!(wire.answer()["code"], "overloaded");
    wire.next_json(|frame| frame["event"] == "welcome" && frame["ref"] == "3");
    unharmed(&server);
}

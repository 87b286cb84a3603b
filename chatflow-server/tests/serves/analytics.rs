//! Questions about users and numbers, over a history in memory.

use serde_json::{Value, json};

use crate::process::{Server, request};

/// What was said: user, room and how often. The total is 14.
const SAID: [(u32, &str, u32); 6] = [(1, "a", 5), (1, "b", 1), (2, "a", 2), (2, "b", 2), (2, "c", 2), (30, "c", 2)];

fn publish(server: &Server, user: u32, room: &str, text: &str) {
    let message =
        json!({"userId": user, "username": "someone", "message": text, "timestamp": "2026-11-20T11:02:10Z", "messageType": "TEXT"});
    let (admin, body) = (server.admin.unwrap(), message.to_string());
    let head = format!("POST /api/v1/rooms/{room}/messages?ack=persisted HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {}\r\n", body.len());
    let answer = request(admin, &format!("{head}Connection: close\r\n\r\n{body}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn server() -> Server {
    let server = Server::start(&["--store", "memory:", "--admin-listen", "127.0.0.1:0"]);
    for (user, room, count) in SAID {
        (0..count).for_each(|n| publish(&server, user, room, &format!("{user} {room} {n}")));
    }
    server
}

/// The answer without the time when it was counted: that was just now.
fn counted(mut answer: Value) -> Value {
    let at = answer.as_object_mut().unwrap().remove("countedAt").unwrap();
    let at: jiff::Timestamp = at.as_str().unwrap().parse().unwrap();
    assert!(at.duration_since(jiff::Timestamp::now()).abs().as_secs() < 60, "{at}");
    answer
}

#[test]
fn numbers_are_counts_of_what_was_said() {
    let server = server();
    let get = |path: &str| {
        let answer = server.get(&format!("/api/v1/analytics/{path}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        counted(answer.json())
    };
    let all = |answer: Value| {
        let mut all = json!({"start": null, "end": null, "asOf": null});
        all.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        all
    };
    assert_eq!(get("active-users"), all(json!({"users": 3})));
    let users = [("1", 6), ("2", 6), ("30", 2)].map(|(user, messages)| json!({"userId": user, "messages": messages}));
    assert_eq!(get("top-users"), all(json!({"users": users})));
    assert_eq!(get("top-users?limit=1"), all(json!({"users": users[..1]})));
    let rooms = [("a", 7), ("c", 4), ("b", 3)].map(|(room, messages)| json!({"roomId": room, "messages": messages}));
    assert_eq!(get("top-rooms?limit=2"), all(json!({"rooms": rooms[..2]})));
    let participation = get("participation?limit=1");
    let expected = json!({
        "users": 3, "rooms": 3, "pairs": 6, "usersPerRoom": 2.0, "roomsPerUser": 2.0,
        "fullestRooms": [{"roomId": "a", "users": 2}], "busiestUsers": [{"userId": "2", "rooms": 3}],
    });
    assert_eq!(participation, all(expected));
    for step in ["second", "minute", "hour", "day"] {
        let rate = get(&format!("message-rate?step={step}"));
        let steps = rate["steps"].as_array().unwrap();
        assert_eq!((&rate["step"], steps.iter().map(|step| step["messages"].as_u64().unwrap()).sum::<u64>()), (&json!(step), 14));
        assert!(steps.iter().all(|step| step["at"].as_str().unwrap().ends_with(".000Z")), "{rate}");
    }
    assert_eq!(get("message-rate")["step"], "minute");
}

#[test]
fn a_range_is_of_whole_minutes_and_the_answer_says_which() {
    let server = server();
    let get = |query: &str| counted(server.get(&format!("/api/v1/analytics/active-users?{query}")).json());
    let past = get("start=2025-11-20T11:02:10.5Z&end=2025-11-20T12:02:10%2B01:00");
    assert_eq!(past, json!({"users": 0, "start": "2025-11-20T11:02:00.000Z", "end": "2025-11-20T11:03:00.000Z", "asOf": null}));
    assert_eq!(get("start=2025-11-20T11:02:10Z"), json!({"users": 3, "start": "2025-11-20T11:02:00.000Z", "end": null, "asOf": null}));
    assert_eq!(get("end=2025-11-20T11:02:00Z")["end"], "2025-11-20T11:02:00.000Z");
    assert_eq!(get("start=-009999-01-02T01:59:59Z&end=9999-12-30T22:00:00.9Z")["users"], 3, "as far as a time can be written");
    let nothing = server.get("/api/v1/analytics/participation?end=2025-11-20T11:02:00Z").json();
    assert_eq!((&nothing["usersPerRoom"], &nothing["roomsPerUser"]), (&json!(0.0), &json!(0.0)));
}

#[test]
fn a_users_messages_come_as_they_were_broadcast_and_pages_lead_to_each_other() {
    let server = server();
    let texts = |page: &Value| -> Vec<String> {
        page["messages"].as_array().unwrap().iter().map(|message| message["message"].as_str().unwrap().to_owned()).collect()
    };
    let walk = |first: &str, cursor: &str, parameter: &str| {
        let (mut pages, mut path) = (Vec::new(), format!("/api/v1/users/2/messages?limit=4{first}"));
        loop {
            let page = server.get(&path).json();
            pages.push(texts(&page));
            let Some(at) = page[cursor].as_str() else { return pages };
            path = format!("/api/v1/users/2/messages?limit=4&{parameter}={at}");
        }
    };
    let forward = walk("&after=0.00000000-0000-0000-0000-000000000000", "next", "after");
    assert_eq!(forward.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);
    let backward = walk("", "previous", "before");
    assert_eq!(backward.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(forward.concat(), backward.into_iter().rev().collect::<Vec<_>>().concat());
    assert_eq!(forward.concat(), ["2 a 0", "2 a 1", "2 b 0", "2 b 1", "2 c 0", "2 c 1"]);

    let last = server.get("/api/v1/users/2/messages?limit=1").json();
    let in_room = server.get("/api/v1/rooms/c/messages?limit=4").json();
    assert_eq!((&last["messages"][0], &last["messages"][0]["roomId"]), (&in_room["messages"][1], &json!("c")));
    assert_eq!(texts(&server.get("/api/v1/users/2/messages?end=2025-01-01T00:00:00Z").json()), [""; 0]);
    assert_eq!(texts(&server.get("/api/v1/users/2/messages?start=2025-01-01T00:00:00Z").json()).len(), 6);
}

#[test]
fn a_users_rooms_come_by_name_with_the_last_activity() {
    let server = server();
    let page = |query: &str| server.get(&format!("/api/v1/users/2/rooms?{query}")).json();
    let all = page("");
    let rooms: Vec<_> = all["rooms"].as_array().unwrap().iter().map(|room| &room["roomId"]).collect();
    assert_eq!(rooms, ["a", "b", "c"]);
    assert_eq!((&all["userId"], &all["next"], &all["asOf"]), (&json!("2"), &json!(null), &json!(null)));
    assert!(all["rooms"][0]["lastActivity"].as_str().unwrap().ends_with('Z'));
    let first = page("limit=2");
    assert_eq!((first["rooms"].as_array().unwrap().len(), &first["next"]), (2, &json!("b")));
    let second = page("limit=2&after=b");
    assert_eq!((&second["rooms"], &second["next"]), (&json!([all["rooms"][2]]), &json!(null)));
    assert_eq!(page("limit=3")["next"], json!(null), "a full page that is the last");
}

#[test]
fn a_users_id_is_any_text() {
    let server = server();
    for (written, id) in [
        ("", ""),
        ("a%2Fb", "a/b"),
        ("%25", "%"),
        ("%2525", "%25"),
        ("%00", "\0"),
        ("a%00b", "a\0b"),
        ("%C3%A9%E2%98%83%F0%9F%98%80", "é☃😀"),
        ("%22'", "\"'"),
        ("'%20OR%20'1'='1", "' OR '1'='1"),
        ("..", ".."),
        ("%20", " "),
        ("+", "+"),
        ("%0D%0A", "\r\n"),
        ("%3F%23", "?#"),
        (&"x".repeat(8_000), &"x".repeat(8_000)),
    ] {
        let rooms = server.get(&format!("/api/v1/users/{written}/rooms"));
        assert_eq!((rooms.status, &rooms.json()["userId"], &rooms.json()["rooms"]), (200, &json!(id), &json!([])), "{written}");
        let messages = server.get(&format!("/api/v1/users/{written}/messages"));
        assert_eq!(messages.json(), json!({"messages": [], "next": null, "previous": null}), "{written}");
    }
    for (written, status) in [("a/b", 404), ("%ff", 400), ("%ed%a0%80", 400)] {
        assert_eq!(server.get(&format!("/api/v1/users/{written}/rooms")).status, status, "{written}");
    }
}

const QUESTIONS: [&str; 7] = [
    "users/1/messages",
    "users/1/rooms",
    "analytics/active-users",
    "analytics/top-users",
    "analytics/top-rooms",
    "analytics/message-rate",
    "analytics/participation",
];

#[test]
fn everything_that_is_wrong_with_a_question_is_told_at_once() {
    let server = Server::start(&["--store", "memory:"]);
    let wrong = |path: &str| -> Vec<String> {
        let answer = server.get(&format!("/api/v1/{path}"));
        assert_eq!(answer.problem(400), "invalid", "{path}");
        let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error.as_str().unwrap().split(':').next().unwrap().to_owned()).collect()
    };
    assert_eq!(wrong("users/1/messages?after=1:2&before=x&start=1&end=now&limit=1e9"), ["after", "before", "start", "end", "limit"]);
    assert_eq!(wrong("users/1/rooms?after=a%20b&limit=0"), ["after", "limit"]);
    assert_eq!(wrong("analytics/active-users?start=1&end=2026-13-01T00:00:00Z"), ["start", "end"]);
    for question in ["top-users", "top-rooms", "participation"] {
        assert_eq!(wrong(&format!("analytics/{question}?start=x&end=&limit=1001")), ["start", "end", "limit"]);
    }
    assert_eq!(wrong("analytics/message-rate?start=x&end=x&limit=-1&step=week"), ["start", "end", "limit", "step"]);
    for step in ["", "MINUTE", "minutes", "1", "%00"] {
        assert_eq!(wrong(&format!("analytics/message-rate?step={step}")), ["step"]);
    }
    for question in QUESTIONS {
        assert_eq!(wrong(&format!("{question}?limit=1&limit=1")), [""; 0], "{question}: twice");
        assert_eq!(server.get(&format!("/api/v1/{question}?colour=red")).status, 200, "{question}: what it does not know");
        let host = server.address;
        let posted =
            request(host, &format!("POST /api/v1/{question} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
        assert_eq!(posted.problem(405), "method_not_allowed", "{question}");
    }
}

#[test]
fn a_node_without_a_history_or_without_the_role_says_so() {
    let (no_store, no_role) = (Server::start(&["--store", "none"]), Server::start(&["--set", "node.roles=gateway,history"]));
    for question in QUESTIONS {
        assert_eq!(no_store.get(&format!("/api/v1/{question}")).problem(404), "no_analytics", "{question}");
        assert_eq!(no_role.get(&format!("/api/v1/{question}")).problem(503), "unavailable", "{question}");
    }
}

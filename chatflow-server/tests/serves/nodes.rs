//! Several nodes that find each other in Redis.

use std::time::Instant;

use serde_json::{Value, json};

use crate::process::{Server, eventually, run};
use crate::redis::{Redis, free};

/// A node of that name, without a history, with the directory at `url`.
fn node(name: &str, url: &str) -> Server {
    Server::start(&["--store", "none", "--node-id", name, "--directory", url])
}

fn nodes(server: &Server) -> Vec<Value> {
    server.get("/api/v1/nodes").json()["nodes"].as_array().unwrap().clone()
}

fn names(server: &Server) -> Vec<String> {
    nodes(server).iter().map(|node| node["node"].as_str().unwrap().to_owned()).collect()
}

fn until_names(server: &Server, expected: &[&str]) {
    eventually(&format!("{expected:?} live"), || (names(server) == expected).then_some(()));
}

#[test]
fn every_node_knows_every_other_and_where_a_client_is_best() {
    let redis = Redis::start(&[]);
    let (a, b) = (node("a", &redis.url()), node("b", &redis.url()));
    for server in [&a, &b] {
        until_names(server, &["a", "b"]);
        let assigned = server.get("/api/v1/assign").json();
        let (name, address) = if assigned["node"] == "a" { ("a", a.address) } else { ("b", b.address) };
        let expected = json!({"node": name, "url": format!("http://{address}"), "ws": format!("ws://{address}")});
        assert_eq!(assigned, expected);
        eventually("the gauge", || server.get("/metrics").body.contains("\nchatflow_nodes 2\n").then_some(()));
    }
    let of_b = nodes(&b);
    assert_eq!((&of_b[0]["self"], &of_b[1]["self"]), (&json!(false), &json!(true)));
    assert_eq!(of_b[0]["roles"], json!(["gateway", "history", "api"]));
    assert_eq!(of_b[0]["url"], format!("http://{}", a.address));

    let _members: Vec<_> = (0..40).map(|_| a.connect("/chat/7", true)).collect();
    eventually("b knows what a has", || (nodes(&b)[0]["connections"] == 40).then_some(()));
    for server in [&a, &b] {
        assert_eq!(server.get("/api/v1/assign").json()["node"], "b");
    }
}

#[test]
fn a_killed_node_is_gone_after_its_lease_and_one_that_ends_at_once() {
    let redis = Redis::start(&[]);
    let (a, b, mut c) = (node("a", &redis.url()), node("b", &redis.url()), node("c", &redis.url()));
    until_names(&a, &["a", "b", "c"]);
    c.signal("TERM");
    assert_eq!(c.ended().code(), Some(0), "{}", c.log());
    let begun = Instant::now();
    until_names(&a, &["a", "b"]);
    assert!(begun.elapsed().as_secs() < 6, "{:?}", begun.elapsed());
    let begun = Instant::now();
    b.signal("KILL");
    until_names(&a, &["a"]);
    assert!((6..16).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(a.get("/api/v1/assign").json()["node"], "a");
}

#[test]
fn clients_of_a_node_that_ends_are_told_of_the_others() {
    let redis = Redis::start(&[]);
    let (a, b) = (node("a", &redis.url()), node("b", &redis.url()));
    until_names(&a, &["a", "b"]);
    let mut member = a.connect("/chat/7", true);
    member.next(|frame| frame["event"] == "welcome");
    a.signal("TERM");
    let hint = member.next(|frame| frame["event"] == "reconnect");
    assert_eq!(hint["alternates"], json!([format!("ws://{}", b.address)]));
    assert_eq!(member.close_code(), 1012);
}

#[test]
fn a_directory_that_goes_and_comes_back_stops_nobody() {
    let redis = Redis::start(&[]);
    let (a, b) = (node("a", &redis.url()), node("b", &redis.url()));
    until_names(&a, &["a", "b"]);
    let address = redis.address();
    drop(redis);
    assert_eq!((names(&a).len(), a.get("/ready").status), (2, 200), "the last that was known");
    eventually("it is logged", || a.log().contains("this node can't be announced").then_some(()));
    let _redis = Redis::at(address, &[]);
    eventually("it is logged", || a.log().contains("this node is announced again").then_some(()));
    until_names(&a, &["a", "b"]);
    assert!(!b.log().contains("panicked"));
}

#[test]
fn without_a_directory_there_is_this_node() {
    let server = Server::start(&["--store", "none", "--node-id", "a", "--public-url", "https://chat.example/"]);
    let alone = nodes(&server);
    assert_eq!(alone.len(), 1);
    assert_eq!((&alone[0]["self"], &alone[0]["url"]), (&json!(true), &json!("https://chat.example")));
    let assigned = server.get("/api/v1/assign").json();
    assert_eq!(assigned, json!({"node": "a", "url": "https://chat.example", "ws": "wss://chat.example"}));
    assert_eq!(server.get("/metrics").body.lines().find(|line| line.starts_with("chatflow_nodes ")), Some("chatflow_nodes 1"));
}

#[test]
fn a_directory_that_lets_nobody_in_is_one_line_without_the_password() {
    let redis = Redis::start(&["--requirepass", "s3cret"]);
    let wrong = format!("redis://:hunter2@{}", redis.address());
    let absent = format!("redis://:hunter2@{}", free());
    let nonsense = "redis://:hunter2@".to_owned();
    for (url, expected) in
        [(wrong, "user and password of the directory's URL are not right"), (absent, "refused"), (nonsense, "is not understood")]
    {
        let output = run(&["--listen", "127.0.0.1:0", "--store", "none", "--directory", &url]);
        let said = String::from_utf8(output.stderr).unwrap();
        let line = said.lines().last().unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(line.starts_with("chatflow-server: ") && line.contains(expected) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_second_node_of_a_name_is_refused() {
    let redis = Redis::start(&[]);
    let _first = node("a", &redis.url());
    let output = run(&["--listen", "127.0.0.1:0", "--store", "none", "--node-id", "a", "--directory", &redis.url()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("two nodes are called \"a\""), "{said}");
}

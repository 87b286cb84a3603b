//! The API's description and the server say the same, both ways.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::process::{Response, Server, request, run};
use crate::schema::{faults, resolve};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn document() -> Value {
    let printed = run(&["openapi"]);
    assert!(printed.status.success());
    serde_json::from_slice(&printed.stdout).unwrap()
}

/// Method and path of everything that is described.
fn described(document: &Value) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS.into_iter().filter(|method| item.get(method).is_some()) {
            all.insert((method.to_owned(), path.clone()));
        }
    }
    all
}

/// Method and path of every route, as they stand in the code, but for pages and sockets.
fn routed() -> BTreeSet<(String, String)> {
    let code = include_str!("../../src/http.rs");
    let mut all = BTreeSet::new();
    for route in code.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap();
        let handlers = route.split_once("\",").unwrap().1;
        // Up to the parenthesis that closes the route.
        let mut depth = 1;
        let end = handlers.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let handlers = &handlers[..end.unwrap()];
        if ["pages::", "handshake::", "nodes::elsewhere"].iter().any(|other| handlers.contains(other)) {
            continue;
        }
        let methods: Vec<_> = METHODS.into_iter().filter(|method| handlers.contains(&format!("{method}("))).collect();
        assert!(!methods.is_empty(), "{route}");
        all.extend(methods.into_iter().map(|method| (method.to_owned(), path.to_owned())));
    }
    all
}

fn ask(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let (host, method, length) = (server.admin.unwrap(), method.to_uppercase(), body.len());
    request(
        host,
        &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"),
    )
}

/// Asserts that an answer to an operation is one of those that are described.
#[track_caller]
fn conforms(document: &Value, method: &str, path: &str, answer: &Response) {
    let about = format!("{method} {path}: {} {}", answer.status, answer.body);
    let responses = &document["paths"][path][method]["responses"];
    let response =
        resolve(document, responses.get(answer.status.to_string()).unwrap_or_else(|| panic!("the status is not described: {about}")));
    let kind = answer.header("content-type").split(';').next().unwrap();
    let schema = &response["content"][kind]["schema"];
    assert!(!schema.is_null(), "{kind} is not described: {about}");
    let value = if kind.ends_with("json") { answer.json() } else { answer.body.clone().into() };
    assert_eq!(faults(document, schema, &value), [""; 0], "{about}");
}

#[test]
fn everything_that_is_routed_is_described_and_the_reverse() {
    let document = document();
    assert_eq!(routed(), described(&document));
    assert!(described(&document).len() >= 19);
    let version = (&document["openapi"], &document["info"]["version"]);
    assert_eq!(version, (&json!("3.1.0"), &json!(env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_server_gives_the_document_that_it_prints() {
    let given = Server::start(&["--store", "none"]).get("/openapi.json");
    assert_eq!((given.status, given.header("content-type")), (200, "application/json"));
    assert_eq!(given.json(), document());
}

#[test]
fn the_document_hangs_together() {
    let document = document();
    let mut names = BTreeSet::new();
    for (method, path) in described(&document) {
        let (item, operation) = (&document["paths"][&path], &document["paths"][&path][&method]);
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{path}: a name that is taken");
        assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{method} {path}");
        let lists = [&item["parameters"], &operation["parameters"]].map(|list| list.as_array().cloned().unwrap_or_default());
        let parameters: Vec<_> = lists.concat().iter().map(|one| resolve(&document, one).clone()).collect();
        let in_path = parameters.iter().filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap().to_owned());
        let placeholders = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(str::to_owned);
        assert_eq!(in_path.collect::<BTreeSet<_>>(), placeholders.collect(), "{path}");
        assert!(operation["security"].is_array() || method == "get", "{method} {path}: who may?");
    }
    // Every reference leads somewhere, and every part is used.
    let text = document.to_string();
    let references: BTreeSet<_> = text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    for kind in ["parameters", "responses", "schemas"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(references.contains(&format!("/components/{kind}/{name}")), "nothing uses {kind}/{name}");
        }
    }
    references.iter().for_each(|path| assert!(document.pointer(path).is_some(), "{path} refers to nothing"));
}

#[test]
fn real_answers_are_as_described() {
    let server = Server::start(&["--store", "memory:", "--admin-listen", "127.0.0.1:0"]);
    let document = document();
    let message =
        json!({"userId": 7, "username": "ada", "message": "hello", "timestamp": "2026-11-20T11:02:10Z", "messageType": "TEXT", "ref": 1});
    let publish = "/api/v1/rooms/{room}/messages";
    for body in [message.to_string(), message.to_string(), "{".into(), " ".repeat(70_000)] {
        conforms(&document, "post", publish, &ask(&server, "post", "/api/v1/rooms/a/messages?ack=persisted", "", &body));
    }
    conforms(&document, "post", publish, &ask(&server, "post", "/api/v1/rooms/a/messages", "Origin: http://evil.example\r\n", "{}"));
    for body in [r#"{"username":"ada","password":"correct horse"}"#.into(), "{}".into(), "{".into(), " ".repeat(70_000)] {
        conforms(&document, "post", "/api/v1/login", &ask(&server, "post", "/api/v1/login", "", &body));
    }
    for path in ["/api/v1/logout", "/api/v1/ticket"] {
        conforms(&document, "post", path, &ask(&server, "post", path, "", ""));
    }
    let _member = server.connect("/chat/a", true).next(|frame| frame["event"] == "welcome");
    for (method, path) in described(&document).into_iter().filter(|(method, _)| method == "get") {
        let place = path.replace("{room}", "a").replace("{user}", "7");
        let answer = ask(&server, &method, &place, "", "");
        assert_eq!(answer.status, 200, "{place}");
        conforms(&document, &method, &path, &answer);
        // Whatever can be wrong with it.
        for query in ["limit=0", "limit=1", "limit=1&limit=1", "start=x", "step=second", "step=week", "after=%00"] {
            conforms(&document, &method, &path, &ask(&server, &method, &format!("{place}?{query}"), "", ""));
        }
        if path.contains('{') {
            let place = path.replace("{room}", "%ff").replace("{user}", "%ff");
            let answer = ask(&server, &method, &place, "", "");
            assert_eq!(answer.status, 400, "{place}");
            conforms(&document, &method, &path, &answer);
        }
    }
    let figures = ask(&server, "get", "/metrics", "Accept: application/json\r\n", "");
    assert_eq!(figures.header("content-type"), "application/json");
    conforms(&document, "get", "/metrics", &figures);
}

#[test]
fn refusals_are_as_described() {
    let document = document();
    let no_store = Server::start(&["--store", "none", "--admin-listen", "127.0.0.1:0"]);
    let no_role = Server::start(&["--admin-listen", "127.0.0.1:0", "--set", "node.roles=history"]);
    for (method, path) in described(&document).into_iter().filter(|(method, _)| method == "get") {
        let place = path.replace("{room}", "a").replace("{user}", "7");
        for server in [&no_store, &no_role] {
            conforms(&document, &method, &path, &ask(server, &method, &place, "", ""));
        }
    }
}

#[test]
fn what_is_not_as_described_is_noticed() {
    let document = document();
    let schema = &document["components"]["schemas"]["Rooms"];
    let room = |field: &str, value: Value| {
        let mut room = json!({"roomId": "a", "members": 1, "lastActivity": null});
        room[field] = value;
        faults(&document, schema, &json!({"rooms": [room], "next": null}))
    };
    assert_eq!(room("roomId", json!("a")), [""; 0]);
    for (field, value) in [("members", json!(-1)), ("members", json!("1")), ("lastActivity", json!("now")), ("colour", json!("red"))] {
        assert_eq!(room(field, value).len(), 1, "{field}");
    }
    assert_eq!(faults(&document, schema, &json!({"rooms": []})).len(), 1, "something is missing");
}

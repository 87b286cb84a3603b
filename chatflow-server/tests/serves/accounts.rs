//! Accounts: made on the command line, used to log in, to connect and to speak.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Response, Server, eventually, program, request};

const PASSWORD: &str = "correct horse";

/// Runs `user` with `input` on the history in `folder`.
fn user(folder: &TempDir, args: &[&str], input: &str) -> Output {
    let mut command = program(folder);
    command.arg("user").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line that it fails with.
#[track_caller]
fn failed(output: &Output, code: i32) -> String {
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), line.lines().count()), (Some(code), 1), "{line}");
    assert!(!line.contains(PASSWORD), "{line}");
    line
}

fn post(server: &Server, path: &str, token: Option<&str>, body: &str) -> Response {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{token}", server.address);
    request(server.address, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn login(server: &Server, name: &str, password: &str) -> Response {
    post(server, "/api/v1/login", None, &json!({"username": name, "password": password}).to_string())
}

#[track_caller]
fn token(server: &Server, name: &str) -> String {
    let answer = login(server, name, PASSWORD);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

fn get(server: &Server, path: &str, token: &str) -> Response {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", server.address);
    request(server.address, &format!("{head}Authorization: Bearer {token}\r\n\r\n"))
}

fn says(user: &Value, name: &str, text: &str) -> Value {
    json!({"userId": user, "username": name, "message": text, "timestamp": "2026-11-20T12:00:00Z", "messageType": "TEXT"})
}

fn is_answer(frame: &Value) -> bool {
    frame.get("status").is_some()
}

/// A folder in which Ada, 42, has an account.
fn with_ada() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(done(&user(&folder, &["add", "Ada", "--id", "42"], PASSWORD)), "Ada is made, with the userId 42\n");
    folder
}

#[test]
fn accounts_are_made_changed_listed_and_removed() {
    let folder = with_ada();
    std::fs::write(folder.path().join("password"), format!("{PASSWORD}\r\nanother line")).unwrap();
    done(&user(&folder, &["add", "grace", "--password-file", "password"], ""));
    let listed = done(&user(&folder, &["list"], ""));
    let lines: Vec<_> = listed.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[..2], ["NAME USERID", "Ada 42"]);
    let id: u64 = lines[2].strip_prefix("grace ").unwrap().parse().unwrap();
    assert!((1..=100_000).contains(&id) && id != 42);
    done(&user(&folder, &["passwd", "ADA"], "another horse\n"));
    done(&user(&folder, &["remove", "Grace"], ""));

    let server = Server::start_in(folder, &[]);
    assert_eq!(login(&server, "Ada", PASSWORD).problem(401), "unauthenticated");
    assert_eq!(login(&server, "ada", "another horse").status, 200);
    assert_eq!(login(&server, "grace", PASSWORD).problem(401), "unauthenticated");
    assert!(!server.log().contains("horse"));
}

#[test]
fn what_cant_be_done_with_an_account_is_told_in_one_line() {
    let folder = with_ada();
    for (args, input, code, expected) in [
        (&["add", "ada"][..], PASSWORD, 1, "there is an account called ada already"),
        (&["add", "eve", "--id", "42"], PASSWORD, 1, "the userId 42 is another account's"),
        (&["add", "eve", "--id", "0"], PASSWORD, 2, "a whole number from 1 to 100000"),
        (&["add", "eve", "--id", "007"], PASSWORD, 2, "a whole number from 1 to 100000"),
        (&["add", "eve"], "7 chars\n", 2, "8 characters at least"),
        (&["add", "eve"], "", 2, "8 characters at least"),
        (&["add", "eve"], &"x".repeat(1 << 20), 2, "1,024 bytes at most"),
        (&["add", "eve", "--password-file", "gone"], "", 2, "No such file"),
        (&["add", "e"], PASSWORD, 2, "3 to 20 of A-Z a-z 0-9"),
        (&["add", "eve;DROP"], PASSWORD, 2, "3 to 20 of A-Z a-z 0-9"),
        (&["passwd", "eve"], PASSWORD, 1, "there is no account called \"eve\""),
        (&["remove", "eve"], "", 1, "there is no account called \"eve\""),
        (&["list", "--store", "memory:"], "", 2, "no accounts that outlive a process"),
        (&["list", "--store", "none"], "", 2, "no accounts that outlive a process"),
    ] {
        let line = failed(&user(&folder, args, input), code);
        assert!(line.contains(expected), "{args:?}: {line}");
    }
}

#[test]
fn accounts_are_worked_on_beside_a_running_server() {
    let server = Server::start(&["--set", "auth.notice=0s"]);
    let mut socket = server.connect("/chat/7?ack=persisted", false);
    let mut say = |n: usize| {
        socket.send(&says(&json!(7), "eve", &format!("line {n}")));
        assert_eq!(socket.next(is_answer)["status"], "SUCCESS");
    };
    say(0);
    done(&user(&server.folder, &["add", "Ada", "--id", "42"], PASSWORD));
    say(1);
    let token = token(&server, "ada");
    assert_eq!(post(&server, "/api/v1/ticket", Some(&token), "").status, 200);
    done(&user(&server.folder, &["passwd", "ada"], "another horse"));
    say(2);
    assert_eq!(post(&server, "/api/v1/ticket", Some(&token), "").problem(401), "unauthenticated");
    assert_eq!(login(&server, "ada", "another horse").status, 200);
    done(&user(&server.folder, &["remove", "ada"], ""));
    assert_eq!(login(&server, "ada", "another horse").problem(401), "unauthenticated");
    assert_eq!(done(&user(&server.folder, &["list"], "")).lines().count(), 1);
    assert_eq!(server.get("/api/v1/rooms/7/messages").json()["messages"].as_array().unwrap().len(), 3);
    assert_eq!(server.get("/ready").status, 200);
}

#[test]
fn who_is_logged_in_speaks_in_their_own_name_only() {
    let server = Server::start_in(with_ada(), &[]);
    let answer = login(&server, "ada", PASSWORD).json();
    assert_eq!((&answer["userId"], &answer["username"]), (&json!("42"), &json!("Ada")));
    assert!(answer["expiresAt"].as_str().unwrap().ends_with('Z'));
    let token = answer["token"].as_str().unwrap();
    let ticket = || post(&server, "/api/v1/ticket", Some(token), "").json()["ticket"].as_str().unwrap().to_owned();
    let header = format!("Bearer {token}");
    let protocols = format!("chatflow.v1, bearer.{token}");
    let mut ways = [
        server.connect_with("/chat/7", &[("Authorization", &header)]),
        server.connect_with("/chat/7", &[("Sec-WebSocket-Protocol", &protocols)]),
        server.connect(&format!("/chat/7?ticket={}", ticket()), false),
    ];
    for socket in &mut ways {
        socket.send(&says(&json!(42), "Ada", "in my own name"));
        assert_eq!(socket.next(is_answer)["status"], "SUCCESS");
        for spoofed in [says(&json!(43), "Ada", "x"), says(&json!(42), "ada", "x"), says(&json!("42"), "eve", "x")] {
            socket.send(&spoofed);
            assert_eq!(socket.next(is_answer)["code"], "forbidden");
        }
    }
    // Whoever shows nothing is anonymous still.
    let mut anonymous = server.connect("/chat/7", false);
    anonymous.send(&says(&json!(7), "eve", "hello"));
    assert_eq!(anonymous.next(is_answer)["status"], "SUCCESS");

    let once = ticket();
    server.connect(&format!("/chat/7?ticket={once}"), true).next(|frame| frame["event"] == "welcome");
    for path in [format!("/chat/7?ticket={once}"), format!("/chat/7?ticket={token}"), "/chat/7?ticket=".into()] {
        assert_eq!(server.connect(&path, true).close_code(), 3500);
    }
    for bad in ["nonsense", &token[1..], &once] {
        assert_eq!(server.connect_with("/chat/7", &[("Authorization", &format!("Bearer {bad}"))]).close_code(), 3500);
    }
    let log = server.log();
    assert!(!log.contains(token) && !log.contains(&once) && !log.contains(PASSWORD), "{log}");
}

#[test]
fn a_session_ends_with_its_logout_and_with_its_time() {
    let server = Server::start_in(with_ada(), &["--set", "auth.notice=0s"]);
    let (first, second) = (token(&server, "Ada"), token(&server, "Ada"));
    let out = post(&server, "/api/v1/logout", Some(&first), "");
    assert_eq!((out.status, out.body.as_str()), (204, ""));
    let connect = |token: &str| {
        server.connect_with("/chat/7", &[("Authorization", &format!("Bearer {token}")), ("Sec-WebSocket-Protocol", "chatflow.v1")])
    };
    assert_eq!(connect(&first).close_code(), 3500);
    assert_eq!(post(&server, "/api/v1/logout", Some(&first), "").problem(401), "unauthenticated");
    assert_eq!(post(&server, "/api/v1/ticket", Some(&first), "").problem(401), "unauthenticated");
    assert_eq!(post(&server, "/api/v1/logout", None, "").problem(401), "unauthenticated");
    connect(&second).next(|frame| frame["event"] == "welcome");

    // The secret is the store's: tokens outlive the server.
    let folder = server.into_folder();
    let server = Server::start_in(folder, &[]);
    let connect = |token: &str| {
        server.connect_with("/chat/7", &[("Authorization", &format!("Bearer {token}")), ("Sec-WebSocket-Protocol", "chatflow.v1")])
    };
    connect(&second).next(|frame| frame["event"] == "welcome");
    assert_eq!(connect(&first).close_code(), 3500);
}

#[test]
fn a_user_has_so_many_connections_and_nobody_else_notices() {
    let folder = with_ada();
    done(&user(&folder, &["add", "grace", "--id", "43"], PASSWORD));
    let server = Server::start_in(folder, &[]);
    let (ada, grace) = (token(&server, "Ada"), token(&server, "grace"));
    let (ada_header, grace_header) = (format!("Bearer {ada}"), format!("Bearer {grace}"));
    let protocols = format!("chatflow.v1, bearer.{ada}");
    let ticket = || post(&server, "/api/v1/ticket", Some(&ada), "").json()["ticket"].as_str().unwrap().to_owned();
    // In other rooms, by other tokens of the same session: all are hers.
    let connect = |n: usize| match n % 3 {
        0 => server.connect_with(&format!("/chat/{n}"), &[("Authorization", &ada_header)]),
        1 => server.connect_with("/chat", &[("Sec-WebSocket-Protocol", &protocols)]),
        _ => server.connect(&format!("/chat/7?ticket={}", ticket()), false),
    };
    let mut sockets: Vec<_> = (0..20).map(connect).collect();
    let once = ticket();
    for (path, headers) in [
        ("/chat/7".to_owned(), &[("Authorization", ada_header.as_str())][..]),
        ("/chat".to_owned(), &[("Sec-WebSocket-Protocol", protocols.as_str())]),
        (format!("/chat/7?ticket={once}"), &[]),
    ] {
        let refused = server.try_connect(&path, headers).err().expect("one too many");
        assert_eq!((refused.problem(503).as_str(), refused.header("retry-after")), ("overloaded", "5"), "{refused:?}");
        assert!(refused.json()["detail"] == "too many connections of this user" && refused.json()["retryable"] == true);
    }
    let mut others = [server.connect_with("/chat/7", &[("Authorization", &grace_header)]), server.connect("/chat/7", false)];
    for (socket, (id, name)) in others.iter_mut().zip([(43, "grace"), (42, "Ada")]) {
        socket.send(&says(&json!(id), name, "hello"));
        assert_eq!(socket.next(is_answer)["status"], "SUCCESS");
    }
    assert_eq!(server.connect("/chat/7?ticket=nonsense", false).close_code(), 3500);

    // However a connection ends, its place is free: cut off, closed by the client, closed by the server.
    let one_more = || server.try_connect("/chat/7", &[("Authorization", &ada_header)]);
    let (mut closing, mut failing) = (sockets.remove(0), sockets.remove(0));
    drop(sockets.remove(0));
    closing.close();
    for _ in 0..10 {
        failing.send(&json!({"op": "nonsense"}));
    }
    assert_eq!((closing.close_code(), failing.close_code()), (1000, 1008));
    for n in 17..20 {
        sockets.push(eventually("a place is free", || one_more().ok()));
        assert_eq!(sockets.len(), n + 1);
    }
    assert_eq!(one_more().err().expect("one too many").status, 503);
    drop(sockets);
    eventually("all are free", || server.get("/metrics").body.contains("\nchatflow_connections 2\n").then_some(()));
    let _sockets: Vec<_> = (0..20).map(connect).collect();
    assert_eq!(one_more().err().expect("one too many").status, 503);

    let folder = server.into_folder();
    let server = Server::start_in(folder, &["--set", "limits.connections_per_user=0"]);
    let _many: Vec<_> = (0..30).map(|_| server.connect_with("/chat/7", &[("Authorization", &ada_header)])).collect();
}

#[test]
fn where_a_token_is_required_nothing_is_told_without_one() {
    let server = Server::start_in(with_ada(), &["--set", "auth.required=true", "--set", "admin.token=0123456789abcdef"]);
    assert_eq!(server.connect("/chat/7", false).close_code(), 3500);
    let token = token(&server, "Ada");
    for path in
        ["/api/v1/rooms", "/api/v1/rooms/7/messages", "/api/v1/rooms/7/members", "/api/v1/users/42/rooms", "/api/v1/analytics/top-users"]
    {
        let refused = server.get(path);
        assert_eq!((refused.problem(401).as_str(), refused.header("www-authenticate")), ("unauthenticated", "Bearer"), "{path}");
        assert_eq!(get(&server, path, "nonsense").problem(401), "unauthenticated");
        assert_eq!(get(&server, path, &token).status, 200, "{path}");
        assert_eq!(get(&server, path, "0123456789abcdef").status, 200, "{path}");
    }
    assert_eq!(server.get("/api/v1/nodes").status, 200);
    let message = says(&json!(1), "shop", "hello").to_string();
    assert_eq!(post(&server, "/api/v1/rooms/7/messages", Some(&token), &message).problem(401), "unauthenticated");
    assert_eq!(post(&server, "/api/v1/rooms/7/messages", Some("0123456789abcdef"), &message).status, 200);
}

#[test]
fn what_is_no_login_is_refused_and_quotes_nothing() {
    let server = Server::start_in(with_ada(), &["--set", "auth.login_rate=0"]);
    let refused = |body: &str, status: u16, code: &str| {
        let answer = post(&server, "/api/v1/login", None, body);
        assert_eq!(answer.problem(status), code, "{body}");
        assert!(!answer.body.contains("hunter2"), "{}", answer.body);
    };
    for body in ["", "hunter2", "[\"hunter2\"]", "{\"username\":\"Ada\",\"password\":\"hunter2\"", "\"hunter2\"", "null"] {
        refused(body, 400, "bad_json");
    }
    for body in ["{}", r#"{"username":"hunter2"}"#, r#"{"username":["hunter2"],"password":1}"#, r#"{"username":null,"password":"hunter2"}"#]
    {
        refused(body, 400, "invalid");
    }
    let huge = "x".repeat(60_000);
    for (name, password) in [
        ("Ada", huge.as_str()),
        (huge.as_str(), "hunter2 hunter2"),
        ("Ada\0", PASSWORD),
        ("Ada", "correct\0horse"),
        ("' OR 1=1 --", "x"),
        ("", ""),
    ] {
        refused(&json!({"username": name, "password": password}).to_string(), 401, "unauthenticated");
    }
    refused(&"x".repeat(70_000), 413, "too_big");
    assert_eq!(server.get("/api/v1/login").problem(405), "method_not_allowed");
    assert_eq!(login(&server, "Ada", PASSWORD).status, 200);
    let without = Server::start(&["--store", "none"]);
    assert_eq!(login(&without, "Ada", PASSWORD).problem(404), "not_found");
}

#[test]
fn passwords_are_not_guessed_at_will() {
    let server = Server::start_in(with_ada(), &["--set", "auth.login_rate=3"]);
    for _ in 0..5 {
        token(&server, "Ada");
    }
    for _ in 0..3 {
        assert_eq!(login(&server, "ada", "wrong guess").problem(401), "unauthenticated");
    }
    let limited = login(&server, "Ada", PASSWORD);
    assert_eq!(limited.problem(429), "rate_limited");
    let wait: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=20).contains(&wait) && limited.json()["retryable"] == true, "{limited:?}");
}

#[test]
fn accounts_that_are_required_need_a_store_that_keeps_them() {
    for store in ["memory:", "none"] {
        let output = program(&tempfile::tempdir().unwrap())
            .args(["--listen", "127.0.0.1:0", "--store", store, "--set", "auth.required=true"])
            .output()
            .unwrap();
        let line = failed(&output, 2);
        assert!(line.contains("auth.required = true") && line.contains(store), "{line}");
    }
}

/// What `export` wrote, without its first line, which has the time.
fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn a_history_is_exported_imported_and_the_same() {
    let server = Server::start(&[]);
    let mut sockets: Vec<_> = (0..5).map(|room| server.connect(&format!("/chat/{room}?ack=persisted"), false)).collect();
    for n in 0..50 {
        let socket = &mut sockets[n % 5];
        socket.send(&says(&json!(7), "ada", &format!("line {n}: \"漢\" \\ \u{2028}")));
        assert_eq!(socket.next(is_answer)["status"], "SUCCESS");
    }
    let busy = program(&server.folder).args(["export"]).output().unwrap();
    assert!(failed(&busy, 2).contains("stop the server"));
    server.signal("TERM");
    let mut server = server;
    server.ended();
    let folder = server.into_folder();
    let run = |args: &[&str]| program(&folder).args(args).output().unwrap();
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let exported = run(&["export", "--out", "all.jsonl"]);
    assert_eq!((exported.status.code(), said(&exported).as_str()), (Some(0), "50 messages were exported"));
    let imported = run(&["import", "all.jsonl", "--store", "sqlite:copy.db"]);
    assert_eq!((imported.status.code(), said(&imported).as_str()), (Some(0), "50 messages were imported, 0 were there already"));
    let again = run(&["import", "all.jsonl", "--store", "sqlite:copy.db"]);
    assert_eq!((again.status.code(), said(&again).as_str()), (Some(0), "0 messages were imported, 50 were there already"));
    let copy = run(&["export", "--store", "sqlite:copy.db"]);
    std::fs::write(folder.path().join("copy.jsonl"), &copy.stdout).unwrap();
    let all = lines(&folder.path().join("all.jsonl"));
    assert_eq!(lines(&folder.path().join("copy.jsonl")), all);
    assert_eq!(all.iter().filter(|line| line.contains("\"type\":\"message\"")).count(), 50);
    assert!(!folder.path().join("all.jsonl.unfinished").exists());

    let room = run(&["export", "--room", "3"]);
    assert_eq!(String::from_utf8_lossy(&room.stdout).lines().count(), 1 + 10);
    for (args, code, expected) in [
        (&["export", "--room", "a b"][..], 2, "--room \"a b\""),
        (&["export", "--store", "memory:"], 2, "no history that outlives"),
        (&["export", "--out", "no/such/folder"], 1, "No such file"),
        (&["import", "gone.jsonl"], 2, "No such file"),
        (&["import", "all.jsonl", "--store", "sqlite:new.db", "--set", "broker.logs=4"], 1, "over 16 logs, this one is over 4"),
        (&["import", "log"], 1, "line 1 is not of an archive"),
    ] {
        let line = failed(&run(args), code);
        assert!(line.contains(expected), "{args:?}: {line}");
    }
    // Cut in the middle of a line, as a full disk does: what is whole is taken, and the rest is told.
    let text = std::fs::read_to_string(folder.path().join("all.jsonl")).unwrap();
    std::fs::write(folder.path().join("cut.jsonl"), &text[..text.len() / 2]).unwrap();
    let line = failed(&run(&["import", "cut.jsonl", "--store", "sqlite:part.db"]), 1);
    assert!(line.contains("is not of an archive") && line.contains("messages before it were imported"), "{line}");
    assert_eq!(run(&["import", "all.jsonl", "--store", "sqlite:part.db"]).status.code(), Some(0));
    let part = run(&["export", "--store", "sqlite:part.db", "--out", "part.jsonl"]);
    assert_eq!((part.status.code(), lines(&folder.path().join("part.jsonl"))), (Some(0), all));
}

#[test]
fn the_history_is_copied_every_now_and_then_and_old_copies_go() {
    let server = Server::start(&["--set", "backup.every=300ms", "--set", "backup.dir=copies", "--set", "backup.keep=2"]);
    let mut socket = server.connect("/chat/7?ack=persisted", false);
    socket.send(&says(&json!(7), "ada", "keep this"));
    socket.next(is_answer);
    let folder = server.folder.path().join("copies");
    let copies = || -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name.ends_with(".jsonl")).collect();
        names.sort();
        names
    };
    let first = eventually("the first copy", || copies().into_iter().next());
    eventually("it is gone", || (!copies().contains(&first)).then_some(()));
    let newest = eventually("a copy", || copies().pop());
    let text = eventually("a whole copy", || std::fs::read_to_string(folder.join(copies().pop().unwrap_or(newest.clone()))).ok());
    assert!(text.contains("keep this") && text.starts_with("{\"type\":\"archive\""), "{text}");
    assert!(copies().len() <= 3);
    let backup =
        server.get("/ready").json()["components"].as_array().unwrap().iter().find(|part| part["name"] == "backup").cloned().unwrap();
    assert!(backup["healthy"] == true && backup["detail"].as_str().unwrap().starts_with("the last was made at"), "{backup}");

    let off = Server::start(&[]);
    assert!(!off.get("/ready").body.contains("backup"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let cant = Server::start(&["--set", "backup.every=1s", "--set", &format!("backup.dir={}", file.path().display())]);
    let ready =
        eventually("it is told", || Some(cant.get("/ready")).filter(|ready| ready.body.contains("\"name\":\"backup\",\"healthy\":false")));
    assert_eq!(ready.status, 200, "clients are served all the same");
}

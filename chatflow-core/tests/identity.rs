//! Who is who: what a session may say and do once an authenticator knows its user.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod support;

use async_trait::async_trait;
use chatflow_core::protocol::{Dialect, close};
use chatflow_core::{Action, Authenticator, Authorizer, ConnectRequest, Credentials, Engine, Error, ErrorKind, Identity, Result, RoomId};
use serde_json::{Value, json};
use support::{Client, text};

/// Knows one user by token: 7, called ada; and one without a name: 8.
#[derive(Debug)]
struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity> {
        match credentials.token.as_deref() {
            Some("ada's") => {
                let mut ada = Identity::user("7");
                ada.name = Some("ada".into());
                Ok(ada)
            }
            Some("eight's") => Ok(Identity::user("8")),
            Some("outage") => Err(Error::new(ErrorKind::Unavailable, "tokens", "the directory is away")),
            Some("never") => std::future::pending().await,
            _ => Err(Error::new(ErrorKind::Unauthenticated, "tokens", "nobody's token")),
        }
    }
}

/// Nobody joins `private`, and nobody publishes in `announcements`.
#[derive(Debug)]
struct Rules;

impl Authorizer for Rules {
    fn allows(&self, _who: &Identity, action: Action, room: &RoomId) -> bool {
        room.as_str() != "private" && (action, room.as_str()) != (Action::Publish, "announcements")
    }
}

async fn engine() -> Engine {
    let mut settings = chatflow_core::Settings::default();
    settings.authentication = std::time::Duration::from_millis(50);
    Engine::builder().authenticator(Tokens).authorizer(Rules).settings(settings).build().await.unwrap()
}

fn request(token: Option<&str>, room: &str) -> ConnectRequest {
    let mut request = support::request(room);
    request.credentials = Credentials::new(token.map(str::to_owned), None);
    request
}

/// Says it, and asserts that it is refused as `field`'s fault.
async fn is_forbidden(client: &mut Client, message: Value, field: &str) {
    client.send(message).await;
    let error = client.answer().await;
    assert_eq!((&error["status"], &error["code"], &error["retryable"]), (&json!("error"), &json!("forbidden"), &json!(false)), "{error}");
    assert!(error["errors"][0].as_str().unwrap().starts_with(field), "{error}");
}

#[tokio::test]
async fn nobody_speaks_in_somebody_elses_name() {
    let engine = engine().await;
    let mut listener = Client::connect(&engine, request(Some("eight's"), "7")).await;
    let mut ada = Client::connect(&engine, request(Some("ada's"), "7")).await;
    let spoofed = |field: &str, value: Value| {
        let mut message = text("spoofed");
        message[field] = value;
        message
    };
    is_forbidden(&mut ada, spoofed("userId", json!("8")), "userId").await;
    is_forbidden(&mut ada, spoofed("userId", json!(8)), "userId").await;
    is_forbidden(&mut ada, spoofed("userId", json!("07")), "userId").await;
    is_forbidden(&mut ada, spoofed("userId", json!("")), "userId").await;
    is_forbidden(&mut ada, spoofed("username", json!("grace")), "username").await;
    is_forbidden(&mut ada, spoofed("username", json!("Ada")), "username").await;
    // A number and a text are the same user.
    let mut own = text("in my own name");
    own["userId"] = json!(7);
    ada.send(own).await;
    assert_eq!(ada.answer().await["status"], "SUCCESS");
    assert_eq!(listener.broadcast().await["message"], "in my own name", "nothing spoofed came before it");
}

#[tokio::test]
async fn a_user_whose_name_is_not_known_chooses_one() {
    let engine = engine().await;
    let mut eight = Client::connect(&engine, request(Some("eight's"), "7")).await;
    is_forbidden(&mut eight, text("as 7"), "userId").await;
    let mut message = text("as 8");
    message["userId"] = json!("8");
    message["username"] = json!("anything");
    eight.send(message).await;
    assert_eq!(eight.answer().await["status"], "SUCCESS");
}

#[tokio::test]
async fn ten_spoofs_in_a_row_end_the_connection() {
    let engine = engine().await;
    let mut client = Client::connect(&engine, request(Some("eight's"), "7")).await;
    for _ in 0..10 {
        client.send(text("as 7")).await;
    }
    assert_eq!(client.closed().await, close::POLICY);
}

#[tokio::test]
async fn who_can_not_be_known_is_told_whether_to_come_back() {
    let engine = engine().await;
    for (token, code) in [
        (None, close::BAD_TOKEN),
        (Some(""), close::BAD_TOKEN),
        (Some("ADA'S"), close::BAD_TOKEN),
        (Some("outage"), close::INTERNAL),
        (Some("never"), close::INTERNAL),
    ] {
        assert_eq!(Client::connect(&engine, request(token, "7")).await.closed().await, code, "{token:?}");
        assert_eq!(close::comes_back(code), code == close::INTERNAL);
    }
    support::eventually("they are gone", async || engine.stats().connections == 0).await;
    assert_eq!(engine.stats().registry.members, 0);
}

#[tokio::test]
async fn what_is_not_allowed_is_forbidden() {
    let engine = engine().await;
    assert_eq!(Client::connect(&engine, request(Some("ada's"), "private")).await.closed().await, close::FORBIDDEN);
    let mut reader = Client::connect(&engine, request(Some("ada's"), "announcements")).await;
    is_forbidden(&mut reader, text("hear me"), "roomId").await;
    let mut several = request(Some("ada's"), "7");
    several.dialect = Dialect::V1;
    let mut ada = Client::connect(&engine, several).await;
    is_forbidden(&mut ada, json!({"op": "join", "roomId": "private"}), "roomId").await;
    ada.send(text("the connection goes on")).await;
    assert_eq!(ada.answer().await["status"], "SUCCESS");
}

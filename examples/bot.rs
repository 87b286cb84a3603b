//! A bot on the client library: it enters a room and answers `!time` and `!echo TEXT`.
//!
//! `cargo run --example bot -- ws://127.0.0.1:8080 lobby` for a server that runs, until Ctrl-C. Without an address it serves a room
//! itself, says something in it and checks that the bot answers.

mod server;

use chatflow_client::{Chat, Client, Error, Events, Incoming};
use chatflow_core::Engine;

/// The bot's `userId`.
const BOT: &str = "99";

/// What the bot says to that, if anything. It never answers itself.
fn reply(chat: &Chat<'_>) -> Option<String> {
    if chat.user_id == BOT {
        return None;
    }
    match chat.text.trim().split_once(' ').unwrap_or((chat.text.trim(), "")) {
        ("!time", _) => Some(format!("it is {}", chat.server_timestamp)),
        ("!echo", "") => Some("usage: !echo TEXT".into()),
        ("!echo", text) => Some(format!("{} said: {text}", chat.username)),
        _ => None,
    }
}

async fn enter(url: &str, room: &str) -> Result<(Client, Events), Error> {
    Client::builder(url).user(BOT, "bot").room(room).connect().await
}

/// Answers until the client is closed. A server that restarts is no matter: the client comes back by itself, to where it was.
async fn run(client: Client, mut events: Events) {
    while let Some(event) = events.recv().await {
        let Incoming::Message(message) = event else { continue };
        let Some(text) = message.chat().ok().and_then(|chat| reply(&chat)) else { continue };
        let (client, room) = (client.clone(), message.room().clone());
        // Not awaited here: while events are not received, answers are not either.
        tokio::spawn(async move {
            if let Err(error) = client.publish(room.as_str(), text).await {
                eprintln!("not said: {error}");
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let Some(url) = args.next() else { return check().await };
    let room = args.next().unwrap_or("lobby".into());
    let (client, events) = enter(&url, &room).await?;
    println!("in {room}; say !time or !echo TEXT");
    tokio::select! {
        () = run(client.clone(), events) => {}
        stop = tokio::signal::ctrl_c() => stop?,
    }
    client.close().await;
    Ok(())
}

/// Serves a room, lets the bot in, and talks to it.
async fn check() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().build().await?;
    let url = server::start(&engine).await?;
    let (bot, heard) = enter(&url, "lobby").await?;
    let running = tokio::spawn(run(bot.clone(), heard));

    let (ada, mut events) = Client::builder(&url).user("1", "ada").room("lobby").connect().await?;
    for (said, expected) in [("!time", "it is 2"), ("nothing for a bot", ""), ("!echo hello", "ada said: hello"), ("!echo", "usage: ")] {
        ada.publish("lobby", said).await?;
        println!("ada: {said}");
        if expected.is_empty() {
            continue;
        }
        let answer = loop {
            if let Incoming::Message(message) = events.recv().await.ok_or("the connection ended")?
                && let chat = message.chat()?
                && chat.user_id == BOT
            {
                break chat.text.into_owned();
            }
        };
        println!("bot: {answer}");
        assert!(answer.starts_with(expected), "{answer:?} to {said:?}");
    }
    bot.close().await;
    running.await?;
    Ok(())
}

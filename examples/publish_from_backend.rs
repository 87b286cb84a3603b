//! A shop's back end that tells its customers what becomes of their orders, and keeps what it told.
//!
//! `cargo run --example publish_from_backend`: each order is a room; the back end publishes into it and is answered once the
//! message is committed to SQLite. It crashes before it has noted the answer, publishes the same message again, and the room has it once.
//! `POST /api/v1/rooms/{room}/messages?ack=persisted` of `chatflow-server` does the same for a back end in another process.

mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chatflow_client::{Client, Incoming};
use chatflow_core::store::{SqliteConfig, SqliteStore};
use chatflow_core::{Ack, Draft, Engine, MessageId, PageQuery, PublishError, Published, RoomId, Timestamp, kind};

type Failure = Box<dyn std::error::Error>;

/// A row of the back end's own outbox: what is to be told, under an id that was made once and for all.
struct Notice {
    id: MessageId,
    order: u32,
    text: &'static str,
}

impl Notice {
    fn new(order: u32, text: &'static str) -> Self {
        Self { id: MessageId::now_v7(), order, text }
    }

    fn room(&self) -> RoomId {
        RoomId::new(&format!("order-{}", self.order)).expect("a number makes a valid name")
    }
}

async fn open(history: &Path) -> Result<Engine, Failure> {
    let store = SqliteStore::open(SqliteConfig::new(history)).await?;
    Ok(Engine::builder().store(Arc::new(store)).build().await?)
}

/// Tells the customer, and returns once the history has it. Under the same id again, it is told once.
async fn tell(engine: &Engine, notice: &Notice) -> Result<Published, PublishError> {
    let draft = Draft {
        id: Some(notice.id),
        sender: "1".into(),
        name: "shop".into(),
        kind: kind::TEXT,
        text: notice.text.into(),
        timestamp: Timestamp::now().to_string().into(),
        ..Draft::default()
    };
    engine.publish(&notice.room(), draft, Ack::Persisted).await
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let history = dir.path().join("orders.db");
    let (packed, shipped) = (Notice::new(17, "your order is packed"), Notice::new(17, "your order is on its way"));

    let engine = open(&history).await?;
    let url = server::start(&engine).await?;
    let (_customer, mut events) = Client::builder(url).room("order-17").connect().await?;
    tell(&engine, &packed).await?;
    let first = tell(&engine, &shipped).await?;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Incoming::Message(message) = events.recv().await.ok_or("the connection ended")? {
            println!("the customer sees: {}", message.chat()?.text);
            seen.push(message.chat()?.text.into_owned());
        }
    }
    assert_eq!(seen, [packed.text, shipped.text]);
    engine.shutdown(Duration::from_secs(5)).await;

    // Back again, with an outbox in which the last notice is not marked as told.
    let engine = open(&history).await?;
    let again = tell(&engine, &shipped).await?;
    assert_eq!(again.position, first.position, "it was told before, and is where it was");
    let page = engine.history(&shipped.room(), &PageQuery::latest(10)).await?;
    let ids: Vec<_> = page.messages.iter().map(|stored| stored.message.id).collect();
    assert_eq!(ids, [packed.id, shipped.id], "each once");
    println!("the history has {} messages, after the second attempt too", ids.len());

    // Another text under an id that was used is a fault of the back end, and it hears so.
    let confused = Notice { text: "your order was cancelled", ..shipped };
    assert!(matches!(tell(&engine, &confused).await, Err(PublishError::IdConflict)));
    engine.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

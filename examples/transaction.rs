//! A shop whose order and whose announcement are one transaction: customers hear of an order if and only if it was placed.
//!
//! `cargo run --example transaction -- postgres://user:password@localhost/shop`: the shop has its orders in PostgreSQL and writes what is
//! to be said beside them. The order that is rolled back is never announced; the one that is committed is, though the program
//! that placed it is "killed" right after the commit, before anything was published.

use std::sync::Arc;
use std::time::Duration;

use chatflow_core::outbox::{Forwarder, ForwarderConfig, PostgresOutbox};
use chatflow_core::store::MemoryStore;
use chatflow_core::{Draft, Engine, MessageId, PageQuery, RoomId, Timestamp, kind};
use sqlx::PgPool;

type Failure = Box<dyn std::error::Error>;

/// Places an order and says so, both or neither.
async fn place(shop: &PgPool, engine: &Engine, number: i32, in_stock: bool) -> Result<Option<MessageId>, Failure> {
    let mut transaction = shop.begin().await?;
    sqlx::query("INSERT INTO orders (number) VALUES ($1)").bind(number).execute(&mut *transaction).await?;
    let announcement = Draft {
        sender: "1".into(),
        name: "shop".into(),
        kind: kind::TEXT,
        text: format!("order {number} is placed").into(),
        timestamp: Timestamp::now().to_string().into(),
        ..Draft::default()
    };
    // Checked as every message is, and given its id; not published yet.
    let id = PostgresOutbox::publish(&mut transaction, engine, &RoomId::new("orders")?, announcement).await?;
    if !in_stock {
        transaction.rollback().await?;
        return Ok(None);
    }
    transaction.commit().await?;
    Ok(Some(id))
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("say where the shop's database is: postgres://user:password@localhost/shop")?;
    let shop = PgPool::connect(&url).await?;
    // For the sake of the example; the outbox is made beside what the shop has.
    sqlx::raw_sql("DROP TABLE IF EXISTS orders; CREATE TABLE orders (number int PRIMARY KEY)").execute(&shop).await?;
    PostgresOutbox::migrate(&mut *shop.acquire().await?).await?;

    let engine = Engine::builder().build().await?;
    assert_eq!(place(&shop, &engine, 1, false).await?, None);
    let id = place(&shop, &engine, 2, true).await?;
    // Nobody forwards yet, so nothing is out when this process's engine goes.
    engine.shutdown(Duration::from_secs(5)).await;

    // The next start: whatever is committed goes out.
    let engine = Engine::builder().store(Arc::new(MemoryStore::new())).build().await?;
    let forwarder = Forwarder::start(&engine, Arc::new(PostgresOutbox::new(shop.clone())), ForwarderConfig::default())?;
    let room = RoomId::new("orders")?;
    let said = loop {
        let page = engine.history(&room, &PageQuery::latest(10)).await?;
        if !page.messages.is_empty() {
            break page.messages;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(said.iter().map(|stored| Some(stored.message.id)).collect::<Vec<_>>(), [id], "under the id that it was given");
    println!("the room has: {}", String::from_utf8_lossy(&engine.show(&said[0])));
    forwarder.close().await;
    engine.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

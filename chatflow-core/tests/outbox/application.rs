//! What the cases need of an application, and of an engine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chatflow_core::outbox::{Forwarder, ForwarderConfig, OutboxTable};
use chatflow_core::store::{MemoryDeadLetters, MemoryStore};
use chatflow_core::{Draft, Engine, EngineBuilder, MessageId, MessageStore, PageQuery, PublishError, RoomId, Settings, kind};

use crate::support::PATIENCE;

/// An application with a database of its own, in which the tables of the outbox are made.
#[async_trait]
pub(crate) trait Application: Send + Sync {
    /// Writes messages in one transaction, and commits it or rolls it back.
    async fn write(&self, engine: &Engine, drafts: &[(RoomId, Draft)], commit: bool) -> Vec<Result<MessageId, PublishError>>;

    /// The outbox's table, on connections of its own.
    async fn table(&self) -> Arc<dyn OutboxTable>;

    /// How many rows are in it.
    async fn waiting(&self) -> usize;

    /// Does something to the database.
    async fn run(&self, sql: &str);
}

pub(crate) fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

pub(crate) fn draft(text: impl Into<String>) -> Draft {
    let (sender, name, kind, timestamp) = ("1".into(), "shop".into(), kind::TEXT, "2026-11-20T11:02:10Z".into());
    Draft { sender, name, kind, timestamp, text: text.into().into(), ..Draft::default() }
}

/// One transaction's messages `texts`, in room `name`.
pub(crate) fn order(name: &str, texts: impl IntoIterator<Item = impl Into<String>>) -> Vec<(RoomId, Draft)> {
    texts.into_iter().map(|text| (room(name), draft(text))).collect()
}

pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// A node: an engine, its history, and its dead letters.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) letters: Arc<MemoryDeadLetters>,
}

impl Node {
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(change: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Self {
        Self::over(Arc::new(MemoryStore::new()), change).await
    }

    pub(crate) async fn over(store: Arc<dyn MessageStore>, change: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Self {
        let letters = Arc::new(MemoryDeadLetters::new());
        let mut settings = Settings::default();
        settings.publish_rate_anonymous = 0;
        let builder = Engine::builder().store(store).dead_letters(letters.clone()).settings(settings);
        Self { engine: change(builder).build().await.unwrap(), letters }
    }

    pub(crate) fn forward(&self, table: Arc<dyn OutboxTable>) -> Forwarder {
        Forwarder::start(&self.engine, table, config()).unwrap()
    }

    /// Writes and commits.
    pub(crate) async fn commit(&self, application: &dyn Application, drafts: &[(RoomId, Draft)]) -> Vec<MessageId> {
        let written = application.write(&self.engine, drafts, true).await;
        written.into_iter().map(Result::unwrap).collect()
    }

    /// What the history has of a room: ids and texts.
    pub(crate) async fn history(&self, name: &str) -> Vec<(MessageId, String)> {
        let page = self.engine.history(&room(name), &PageQuery::latest(1_000)).await.unwrap();
        let shown = page.messages.iter().map(|stored| {
            let shown: serde_json::Value = serde_json::from_slice(&self.engine.show(stored)).unwrap();
            (stored.message.id, shown["message"].as_str().unwrap().to_owned())
        });
        shown.collect()
    }

    pub(crate) async fn texts(&self, name: &str) -> Vec<String> {
        self.history(name).await.into_iter().map(|(_, text)| text).collect()
    }

    /// Waits until the history of a room is `expected`, and nothing more comes with it.
    pub(crate) async fn until(&self, name: &str, expected: &[String]) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let texts = self.texts(name).await;
            if texts == expected {
                return;
            }
            assert!(texts.len() <= expected.len() && tokio::time::Instant::now() < deadline, "{texts:?} instead of {expected:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Soon, so that cases that wait don't wait long.
pub(crate) fn config() -> ForwarderConfig {
    ForwarderConfig::default()
        .with_pauses(Duration::from_millis(5), Duration::from_millis(100))
        .with_lease(Duration::from_secs(1))
        .with_batch(50)
}

/// Waits until nothing is in the table.
pub(crate) async fn until_empty(application: &dyn Application) {
    crate::support::eventually("the outbox is empty", async || application.waiting().await == 0).await;
}

//! An application with SQLite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chatflow_core::outbox::{OutboxTable, SqliteOutbox};
use chatflow_core::{Draft, Engine, MessageId, PublishError, RoomId};
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::application::Application;

pub(crate) struct Shop {
    db: Mutex<Connection>,
    folder: tempfile::TempDir,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Connection::open(folder.path().join("shop.db")).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        for _ in 0..2 {
            SqliteOutbox::migrate(&db).unwrap();
        }
        Self { db: Mutex::new(db), folder }
    }
}

#[async_trait]
impl Application for Shop {
    async fn write(&self, engine: &Engine, drafts: &[(RoomId, Draft)], commit: bool) -> Vec<Result<MessageId, PublishError>> {
        let mut db = self.db.lock();
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        let written = drafts.iter().map(|(room, draft)| SqliteOutbox::publish(&tx, engine, room, draft.clone())).collect();
        if commit {
            tx.commit().unwrap()
        } else {
            tx.rollback().unwrap()
        }
        written
    }

    async fn table(&self) -> Arc<dyn OutboxTable> {
        Arc::new(SqliteOutbox::open(self.folder.path().join("shop.db")).await.unwrap())
    }

    async fn waiting(&self) -> usize {
        self.db.lock().query_row("SELECT count(*) FROM chatflow_outbox", [], |row| row.get::<_, i64>(0)).unwrap() as usize
    }

    async fn run(&self, sql: &str) {
        self.db.lock().execute_batch(sql).unwrap();
    }
}

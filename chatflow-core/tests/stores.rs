//! The stores that come with the library, held against the public suites.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use chatflow_core::conformance::{dead_letters, store};
use chatflow_core::store::{FileDeadLetters, MemoryDeadLetters, MemoryStore, SqliteConfig, SqliteStore};
use chatflow_core::{DeadLetters, ErrorKind, MessageStore};

async fn memory_store() -> store::Subject {
    store::Subject::new(Arc::new(MemoryStore::new()))
}

async fn sqlite_store() -> store::Subject {
    sqlite_subject(|config| config).await
}

async fn sqlite_rows() -> store::Subject {
    sqlite_subject(SqliteConfig::without_summaries).await
}

async fn sqlite_subject(set: impl Fn(SqliteConfig) -> SqliteConfig) -> store::Subject {
    let folder = tempfile::tempdir().unwrap();
    let config = set(SqliteConfig::new(folder.path().join("chatflow.db")));
    let open = async |config: SqliteConfig| Arc::new(SqliteStore::open(config).await.unwrap()) as Arc<dyn MessageStore>;
    store::Subject::new(open(config.clone()).await).reopening(move || open(config.clone())).keeping(folder)
}

async fn memory_letters() -> dead_letters::Subject {
    dead_letters::Subject::new(Arc::new(MemoryDeadLetters::new()))
}

async fn file_letters() -> dead_letters::Subject {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead-letters.jsonl");
    let open = async |path: PathBuf| Arc::new(FileDeadLetters::open(path).await.unwrap()) as Arc<dyn DeadLetters>;
    dead_letters::Subject::new(open(path.clone()).await).reopening(move || open(path.clone())).keeping(folder)
}

async fn sqlite_letters() -> dead_letters::Subject {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chatflow.db");
    // The file is free once the threads of the store before have ended.
    let open = async |path: PathBuf| loop {
        match SqliteStore::open(SqliteConfig::new(&path)).await {
            Ok(store) => return Arc::new(store) as Arc<dyn DeadLetters>,
            Err(error) if error.kind() == ErrorKind::Config => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    dead_letters::Subject::new(open(path.clone()).await).reopening(move || open(path.clone())).keeping(folder)
}

chatflow_core::store_suite!(memory, memory_store);
chatflow_core::store_suite!(sqlite, sqlite_store);
chatflow_core::accounts_suite!(memory_accounts, memory_store);
chatflow_core::accounts_suite!(sqlite_accounts, sqlite_store);
chatflow_core::analytics_suite!(memory_analytics, memory_store);
chatflow_core::analytics_suite!(sqlite_analytics_of_summaries, sqlite_store);
chatflow_core::analytics_suite!(sqlite_analytics_of_rows, sqlite_rows);
chatflow_core::dead_letters_suite!(memory_dead_letters, memory_letters);
chatflow_core::dead_letters_suite!(sqlite_dead_letters, sqlite_letters);
chatflow_core::dead_letters_suite!(file_dead_letters, file_letters);

//! Accounts in a file that a server may be using.

use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use parking_lot::Mutex;
use rusqlite::Connection;
use uuid::Uuid;

use super::accounts::{self, Change, Outcome};
use super::commit::Stop;
use super::{ORIGIN, failure, schema};
use crate::accounts::{Account, Accounts, Added};
use crate::store::exclusive::Exclusive;
use crate::{Error, ErrorKind, Result};

/// How long a call waits for what the server is writing.
const BUSY: Duration = Duration::from_secs(5);

/// The accounts in an SQLite file, for a moment: beside the process that uses the file, or in its place where none does.
///
/// That process has the history to itself all the same; of accounts it keeps nothing in mind that another could not change.
pub struct SqliteAccounts {
    /// Held for the length of a call, on a thread that may block.
    db: Arc<Mutex<Connection>>,
    /// Where no other process has the file.
    _lock: Option<Exclusive>,
}

impl SqliteAccounts {
    /// Opens the file; makes it and brings it up to date where no other process has it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the process that has it is of another version; otherwise as for [`SqliteStore`](super::SqliteStore).
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        blocking(move || {
            let lock = Exclusive::lock(&path, ORIGIN).ok();
            let db = if lock.is_some() { schema::prepare(&path, BUSY)? } else { schema::beside(&path, BUSY)? };
            Ok(Self { db: Arc::new(Mutex::new(db)), _lock: lock })
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> Result<T, Stop> + Send + 'static) -> Result<T> {
        let db = Arc::clone(&self.db);
        blocking(move || {
            work(&db.lock()).map_err(|stop| match stop {
                Stop::Refused(error) => error,
                Stop::Failed(error) => failure::error(&error),
            })
        })
        .await
    }

    async fn change(&self, change: Change) -> Result<Outcome> {
        self.run(move |db| accounts::change(db, &change)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(ErrorKind::Internal, ORIGIN, "a call panicked").with_source(error))?
}

impl Debug for SqliteAccounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteAccounts").finish_non_exhaustive()
    }
}

#[async_trait]
impl Accounts for SqliteAccounts {
    async fn add(&self, account: &Account) -> Result<Added> {
        self.change(Change::Add(account.clone())).await.map(Outcome::added)
    }

    async fn find(&self, name: &str) -> Result<Option<Account>> {
        let key = crate::accounts::key(name);
        self.run(move |db| Ok(accounts::find(db, &key)?)).await
    }

    async fn replace(&self, was: Uuid, now: &Account) -> Result<bool> {
        self.change(Change::Replace(was, now.clone())).await.map(Outcome::changed)
    }

    async fn remove(&self, name: &str) -> Result<bool> {
        self.change(Change::Remove(crate::accounts::key(name))).await.map(Outcome::changed)
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>> {
        let after = after.unwrap_or_default().to_owned();
        self.run(move |db| Ok(accounts::list(db, &after, limit)?)).await
    }

    async fn secret(&self) -> Result<ByteString> {
        self.run(|db| Ok(accounts::secret(db)?)).await
    }
}

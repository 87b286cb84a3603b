//! A store in memory that misbehaves on command, and counts who reads it.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use std::time::Duration;

use async_trait::async_trait;
use chatflow_core::accounts::{Accounts, Added};
use chatflow_core::broker::Durability;
use chatflow_core::store::{MemoryStore, Retention, RoomSummary, StoreStatus};
use chatflow_core::{
    Account, ByteString, Error, ErrorKind, Exception, Lease, Located, LogId, MessageId, MessageStore, NodeId, Page, PageQuery, Position,
    Result, RoomId, Stored, Timestamp,
};

/// A store that refuses some messages for ever, or everything for a while.
#[derive(Debug, Default)]
pub struct Faulty {
    pub store: Arc<MemoryStore>,
    pub away: AtomicBool,
    pub pages_fail: AtomicBool,
    /// Pages are read where nothing has arrived yet.
    pub lags: AtomicBool,
    /// Commits overtake one another, and every fifth fails.
    pub unruly: bool,
    pub commits: AtomicUsize,
    /// How long a commit takes.
    pub slow: Option<Duration>,
    pub committing: AtomicBool,
    /// The lease was renewed while a commit was under way.
    pub renewed_meanwhile: AtomicBool,
    /// Pages that are being read, and the most that ever were.
    pub reading: AtomicUsize,
    pub most_reading: AtomicUsize,
    pub pages: AtomicUsize,
    /// Behind which position the last page was asked for.
    pub last_after: parking_lot::Mutex<Option<Position>>,
    pub no_accounts: bool,
}

impl Faulty {
    fn is_poison(stored: &Stored) -> bool {
        String::from_utf8_lossy(&stored.message.body).contains("poison")
    }

    fn kept(&self) -> Result<&dyn Accounts> {
        let away = || Error::new(ErrorKind::Unavailable, "test", "the store is away");
        self.store.accounts().filter(|_| !self.away.load(SeqCst)).ok_or_else(away)
    }
}

#[async_trait]
impl Accounts for Faulty {
    async fn add(&self, account: &Account) -> Result<Added> {
        self.kept()?.add(account).await
    }

    async fn find(&self, name: &str) -> Result<Option<Account>> {
        self.kept()?.find(name).await
    }

    async fn replace(&self, was: uuid::Uuid, now: &Account) -> Result<bool> {
        self.kept()?.replace(was, now).await
    }

    async fn remove(&self, name: &str) -> Result<bool> {
        self.kept()?.remove(name).await
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>> {
        self.kept()?.list(after, limit).await
    }

    async fn secret(&self) -> Result<ByteString> {
        self.kept()?.secret().await
    }
}

#[async_trait]
impl Retention for Faulty {
    async fn remove(&self, lease: &Lease, room: &RoomId, before: Timestamp, limit: usize) -> Result<usize> {
        if self.away.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "test", "the store is away"));
        }
        Retention::remove(&*self.store, lease, room, before, limit).await
    }
}

#[async_trait]
impl MessageStore for Faulty {
    fn identity(&self) -> &str {
        self.store.identity()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }

    fn commits_under_way(&self) -> usize {
        4
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        (!self.no_accounts).then_some(self)
    }

    fn retention(&self) -> Option<&dyn Retention> {
        Some(self)
    }

    async fn last_epoch(&self) -> Result<u64> {
        self.store.last_epoch().await
    }

    async fn claim(&self, log: LogId, holder: &NodeId) -> Result<Lease> {
        self.store.claim(log, holder).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.renewed_meanwhile.fetch_or(self.committing.load(SeqCst), SeqCst);
        self.store.renew(lease).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.store.release(lease).await
    }

    async fn commit(&self, lease: &Lease, batch: &[Stored], through: Position) -> Result<Vec<(usize, Exception)>> {
        if self.away.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "test", "the store is away"));
        }
        if batch.iter().any(Self::is_poison) {
            return Err(Error::new(ErrorKind::Invalid, "test", "there is poison in it"));
        }
        if let Some(time) = self.slow {
            self.committing.store(true, SeqCst);
            tokio::time::sleep(time).await;
            let committed = self.store.commit(lease, batch, through).await;
            self.committing.store(false, SeqCst);
            return committed;
        }
        if self.unruly {
            let commit = self.commits.fetch_add(1, SeqCst);
            let (store, lease, batch) = (Arc::clone(&self.store), lease.clone(), batch.to_vec());
            // It goes on when nobody waits for it any more.
            let committed = tokio::spawn(async move {
                for _ in 0..commit * 7 % 5 {
                    tokio::task::yield_now().await;
                }
                if commit % 5 == 2 {
                    return Err(Error::new(ErrorKind::Unavailable, "test", "every fifth fails"));
                }
                store.commit(&lease, &batch, through).await
            });
            return committed.await.unwrap();
        }
        self.store.commit(lease, batch, through).await
    }

    async fn skip(&self, lease: &Lease, to: Position) -> Result<()> {
        self.store.skip(lease, to).await
    }

    async fn watermark(&self, log: LogId) -> Result<Position> {
        self.store.watermark(log).await
    }

    async fn locate(&self, ids: &[MessageId]) -> Result<Vec<Option<Located>>> {
        self.store.locate(ids).await
    }

    async fn page(&self, log: LogId, room: &RoomId, query: &PageQuery) -> Result<Page> {
        if self.pages_fail.load(SeqCst) {
            tokio::task::yield_now().await;
            return Err(Error::new(ErrorKind::Unavailable, "test", "pages can't be read"));
        }
        let reading = self.reading.fetch_add(1, SeqCst) + 1;
        self.most_reading.fetch_max(reading, SeqCst);
        self.pages.fetch_add(1, SeqCst);
        *self.last_after.lock() = query.after;
        // As long as others want to, so that they meet.
        tokio::task::yield_now().await;
        let page = if self.lags.load(SeqCst) { Ok(Page::default()) } else { self.store.page(log, room, query).await };
        self.reading.fetch_sub(1, SeqCst);
        page
    }

    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomSummary>> {
        self.store.rooms(after, limit).await
    }

    async fn status(&self) -> StoreStatus {
        self.store.status().await
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

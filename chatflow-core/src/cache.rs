//! A store with a cache in front of what is read most: the newest pages of rooms, older pages, and figures.

mod freshness;
mod logs;
mod pages;
mod question;
mod recent;
#[cfg(feature = "redis")]
mod redis;
mod second;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache;
use serde::Serialize;

#[cfg(feature = "redis")]
pub use self::redis::RedisCache;
pub use self::second::SecondLevel;

use self::freshness::Freshness;
use self::pages::{Oldest, PageKey};
use self::question::{Figure, Question};
use self::recent::Recent;
use crate::accounts::Accounts;
use crate::broker::Durability;
use crate::store::{
    Exception, Lease, Located, MessageStore, Page, PageQuery, Projections, Retention, RoomSummary, SharedStore, StoreStatus, Stored,
};
use crate::{Analytics, DeadLetters, Error, ErrorKind, LogId, MessageId, NodeId, Position, Result, RoomId};

/// What a page weighs besides its messages, and a message besides its body, bytes.
const PAGE_WEIGHT: usize = 256;
const MESSAGE_WEIGHT: usize = 256;

/// The most figures that are kept. Each is a page of names and numbers at the most.
const FIGURES: u64 = 4_096;

/// How a [`CachedStore`] is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheConfig {
    /// Bytes of pages that are kept in this process, about. Default 64 MiB.
    pub bytes: u64,
    /// How long a page is kept that nobody asks for. Default 60 s.
    pub idle: Duration,
    /// How old figures may be: they say when they were counted. 0 counts anew for everybody. Default 1 s.
    pub figures: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { bytes: 64 << 20, idle: Duration::from_secs(60), figures: Duration::from_secs(1) }
    }
}

impl CacheConfig {
    /// With about so many bytes of pages.
    #[must_use]
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// With pages that nobody asks for kept for so long.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// With figures of at most this age.
    #[must_use]
    pub fn with_figures(mut self, figures: Duration) -> Self {
        self.figures = figures;
        self
    }
}

/// How often what was asked for was there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Pages that were in this process, or were being read for somebody else.
    pub page_hits: u64,
    /// Pages that were in the second level.
    pub second_hits: u64,
    /// Pages that the store was asked for.
    pub page_misses: u64,
    /// Figures that had been counted, or were being counted for somebody else.
    pub figure_hits: u64,
    /// Figures that were counted.
    pub figure_misses: u64,
}

/// Rooms that lose their pages apart from others when messages are removed.
const ROOMS: usize = 256;

#[derive(Debug, Default)]
struct Counters {
    pages: AtomicU64,
    second_hits: AtomicU64,
    page_misses: AtomicU64,
    figures: AtomicU64,
    figure_misses: AtomicU64,
}

/// A [`MessageStore`] with a cache in front of another: pages in this process, then in a [`SecondLevel`] that nodes share, then the store;
/// and figures for a moment. Whatever many ask for at once is read once.
///
/// # Never stale
/// A page is kept with the watermark that its log had when it was read. Whoever asks for the newest page learns the log's watermark first,
/// by a look that began after they asked (one look for all who wait), and gets a page that holds everything up to there: what was
/// committed before, on whichever node, is in it. A commit drops nothing: the newest page of a room grows, when it is asked for again, by
/// what came since, out of the last commits through this process (512 rows and 1 MiB of each log) or out of the store. Pages
/// that end before the watermark can't change but by losing what is old ([`Retention`]), and need no look: what another process removed may be
/// shown for ten minutes more, and with a second level what any process removed, for twice that. Figures are as old as [`CacheConfig::figures`] allows, and say so.
///
/// Commits, leases and look-ups by id go to the store, as do pages between two positions, which nobody asks for twice.
pub struct CachedStore {
    store: Arc<dyn MessageStore>,
    second: Option<Arc<dyn SecondLevel>>,
    pages: Cache<PageKey, Arc<Page>, foldhash::fast::RandomState>,
    figures: Option<Cache<Question, Figure, foldhash::fast::RandomState>>,
    freshness: Freshness,
    recent: Recent,
    removals: [AtomicU32; ROOMS],
    counters: Counters,
}

impl CachedStore {
    /// `store` with a cache in this process.
    pub fn new(store: Arc<dyn MessageStore>, config: &CacheConfig) -> Self {
        let weight = |_: &PageKey, page: &Arc<Page>| {
            let messages = page.messages.iter().map(|stored| MESSAGE_WEIGHT + stored.message.body.len()).sum::<usize>();
            u32::try_from(PAGE_WEIGHT + messages).unwrap_or(u32::MAX)
        };
        let hasher = foldhash::fast::RandomState::default;
        let pages = Cache::builder()
            .max_capacity(config.bytes)
            .weigher(weight)
            .time_to_idle(config.idle)
            .expire_after(Oldest)
            .build_with_hasher(hasher());
        let figures = |age| Cache::builder().max_capacity(FIGURES).time_to_live(age).build_with_hasher(hasher());
        let figures = (!config.figures.is_zero()).then(|| figures(config.figures));
        Self {
            store,
            second: None,
            pages,
            figures,
            freshness: Freshness::default(),
            recent: Recent::default(),
            removals: [const { AtomicU32::new(0) }; ROOMS],
            counters: Counters::default(),
        }
    }

    /// With a second level behind this process.
    #[must_use]
    pub fn with_second_level(mut self, second: Arc<dyn SecondLevel>) -> Self {
        self.second = Some(second);
        self
    }

    /// How often it was of use.
    pub fn stats(&self) -> CacheStats {
        let Counters { pages, second_hits, page_misses, figures, figure_misses } = &self.counters;
        let [pages, second_hits, page_misses, figures, figure_misses] =
            [pages, second_hits, page_misses, figures, figure_misses].map(|counter| counter.load(Relaxed));
        CacheStats {
            page_hits: pages.saturating_sub(second_hits + page_misses),
            second_hits,
            page_misses,
            figure_hits: figures.saturating_sub(figure_misses),
            figure_misses,
        }
    }

    fn removing(&self) -> Result<&dyn Retention> {
        let none = || Error::new(ErrorKind::NotFound, "cache", "nothing can be removed from this store");
        self.store.retention().ok_or_else(none)
    }

    /// Counts what was removed from `room`.
    fn removals(&self, room: &RoomId) -> &AtomicU32 {
        &self.removals[usize::from(LogId::of(room.as_str(), ROOMS as u16).0)]
    }
}

/// The same error for one of several who waited.
fn again(error: &Error) -> Error {
    Error::new(error.kind(), "cache", error.to_string())
}

impl fmt::Debug for CachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStore").field("store", &self.store).field("second", &self.second).finish_non_exhaustive()
    }
}

#[async_trait]
impl Retention for CachedStore {
    async fn may_remove(&self) -> Result<()> {
        self.removing()?.may_remove().await
    }

    async fn remove(&self, lease: &Lease, room: &RoomId, before: crate::Timestamp, limit: usize) -> Result<usize> {
        let removed = self.removing()?.remove(lease, room, before, limit).await?;
        if removed > 0 {
            self.removals(room).fetch_add(1, Relaxed);
        }
        Ok(removed)
    }
}

#[async_trait]
impl MessageStore for CachedStore {
    fn identity(&self) -> &str {
        self.store.identity()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }

    fn commits_under_way(&self) -> usize {
        self.store.commits_under_way()
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        self.store.shared()
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        self.store.accounts()
    }

    fn analytics(&self) -> Option<&dyn Analytics> {
        self.store.analytics().map(|_| self as _)
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        self.store.dead_letters()
    }

    fn projections(&self) -> Option<&dyn Projections> {
        self.store.projections()
    }

    fn retention(&self) -> Option<&dyn Retention> {
        self.store.retention().map(|_| self as _)
    }

    async fn last_epoch(&self) -> Result<u64> {
        self.store.last_epoch().await
    }

    async fn claim(&self, log: LogId, holder: &NodeId) -> Result<Lease> {
        self.store.claim(log, holder).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.store.renew(lease).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.store.release(lease).await
    }

    async fn commit(&self, lease: &Lease, batch: &[Stored], through: Position) -> Result<Vec<(usize, Exception)>> {
        let exceptions = self.store.commit(lease, batch, through).await?;
        self.recent.committed(lease.log, lease.through, batch, through, &exceptions);
        Ok(exceptions)
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
        if query.after.is_some() && query.before.is_some() {
            return self.store.page(log, room, query).await;
        }
        let removals = self.removals(room).load(Relaxed);
        let key = |version| PageKey { log, room: room.clone(), query: query.clone(), version, removals };
        if query.before.is_some()
            && let Some(page) = self.pages.get(&key(None)).await
        {
            self.counters.pages.fetch_add(1, Relaxed);
            return Ok((*page).clone());
        }
        let watermark = self.freshness.watermark(&*self.store, log).await?;
        match query.before {
            Some(before) if before > watermark => self.store.page(log, room, query).await,
            Some(_) => self.keep(key(None)).await,
            None if *query == PageQuery::latest(query.limit) => self.newest(key(None), watermark).await,
            None => self.keep(key(Some(watermark))).await,
        }
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

//! Pages: which are kept, how they are found, and how the newest of a room grows.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use moka::Expiry;

use super::recent::behind;
use super::{CachedStore, again, second};
use crate::store::{LARGEST_PAGE, Page, PageQuery};
use crate::{Error, LogId, Position, Result, RoomId};

/// How long a page is kept, however often it is asked for, or grows: a history may remove what is old.
const OLDEST: Duration = Duration::from_secs(600);

/// Which page, as of when.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PageKey {
    pub(super) log: LogId,
    pub(super) room: RoomId,
    pub(super) query: PageQuery,
    /// The log's watermark; `None` for a page that ends before it, and for the newest, which grows.
    pub(super) version: Option<Position>,
    /// How often messages were removed through this store, from this room or one that counts with it. The second level does not know.
    pub(super) removals: u32,
}

impl PageKey {
    /// As a text that is the same on every node.
    fn text(&self) -> String {
        let Self { log, room, query: PageQuery { after, before, start, end, limit, newest }, version, removals: _ } = self;
        let position = |position: &Option<Position>| position.map_or(String::from("-"), |position| position.to_string());
        let time = |time: &Option<crate::Timestamp>| time.map_or(String::from("-"), |time| time.0.to_string());
        let (after, before, version) = (position(after), position(before), position(version));
        format!("{}/{room}/{after}/{before}/{}/{}/{limit}/{newest}/{version}", log.0, time(start), time(end))
    }
}

/// Ends what is kept by its first putting: a page is no younger for having grown.
pub(super) struct Oldest;

impl Expiry<PageKey, Arc<Page>> for Oldest {
    fn expire_after_create(&self, _: &PageKey, _: &Arc<Page>, _: Instant) -> Option<Duration> {
        Some(OLDEST)
    }
}

/// Why a page was read and is not kept.
enum NotKept {
    Failed(Error),
    /// A replica that has not come as far as the log.
    Behind(Page),
}

impl CachedStore {
    /// A page that is kept, or is now.
    pub(super) async fn keep(&self, key: PageKey) -> Result<Page> {
        self.counters.pages.fetch_add(1, Relaxed);
        let name = key.clone();
        told(self.pages.try_get_with(key, self.find(name)).await)
    }

    /// The newest page of a room, up to `watermark` or further.
    pub(super) async fn newest(&self, key: PageKey, watermark: Position) -> Result<Page> {
        self.counters.pages.fetch_add(1, Relaxed);
        if let Some(page) = self.pages.get(&key).await.filter(|page| page.through >= watermark) {
            return Ok((*page).clone());
        }
        // It is kept without a version, where the next one finds it. Under its version those who wait for it meet.
        let version = PageKey { version: Some(watermark), ..key.clone() };
        let page = self.pages.try_get_with_by_ref(&version, self.grow(key, watermark)).await;
        self.pages.invalidate(&version).await;
        told(page)
    }

    /// Brings the newest page of a room up to date, and keeps it.
    async fn grow(&self, key: PageKey, least: Position) -> Result<Arc<Page>, NotKept> {
        let mut kept = self.pages.get(&key).await;
        let mut shared = kept.is_none();
        if shared {
            // One that is further than its log is of a history that was put back.
            kept = self.find_second(&key).await.filter(|page| page.through <= least);
        }
        let page = match kept {
            Some(page) if page.through >= least => page,
            Some(page) => match self.recent.grown(key.log, &key.room, &page, least, bound(&key.query)) {
                Some(page) => Arc::new(page),
                None => {
                    shared = false;
                    self.read_on(&key, &page, least).await?
                }
            },
            None => {
                shared = false;
                self.read(&key, least).await?
            }
        };
        self.counters.second_hits.fetch_add(shared.into(), Relaxed);
        self.pages.insert(key, Arc::clone(&page)).await;
        Ok(page)
    }

    /// The newest page of a room: `page` and what the store has behind it.
    async fn read_on(&self, key: &PageKey, page: &Page, least: Position) -> Result<Arc<Page>, NotKept> {
        self.counters.page_misses.fetch_add(1, Relaxed);
        let query = PageQuery { after: Some(page.through), ..key.query.clone() };
        let newer = self.store.page(key.log, &key.room, &query).await.map_err(NotKept::Failed)?;
        if newer.more {
            // So much came that nothing of the old page is left.
            return self.put(key, newer, least).await;
        }
        let mut grown = behind(page, newer.messages, newer.through.max(page.through), bound(&key.query));
        grown.since = newer.since.max(page.since);
        if grown.through < least { Err(NotKept::Behind(grown)) } else { Ok(Arc::new(grown)) }
    }

    /// A page that is not in this process.
    async fn find(&self, key: PageKey) -> Result<Arc<Page>, NotKept> {
        if let Some(page) = self.find_second(&key).await {
            self.counters.second_hits.fetch_add(1, Relaxed);
            return Ok(page);
        }
        let reaches = key.version.or(key.query.before.and_then(Position::previous)).unwrap_or_default();
        self.read(&key, reaches).await
    }

    /// A page that is in the second level.
    async fn find_second(&self, key: &PageKey) -> Option<Arc<Page>> {
        let bytes = self.second.as_ref()?.get(&self.name(key)).await?;
        second::decode(&key.room, bytes).map(Arc::new)
    }

    /// A page as the store has it now, everything up to `least` in it.
    async fn read(&self, key: &PageKey, least: Position) -> Result<Arc<Page>, NotKept> {
        self.counters.page_misses.fetch_add(1, Relaxed);
        let page = self.store.page(key.log, &key.room, &key.query).await.map_err(NotKept::Failed)?;
        self.put(key, page, least).await
    }

    /// Puts a whole page that the store gave into the second level, unless it lacks something up to `least`.
    async fn put(&self, key: &PageKey, page: Page, least: Position) -> Result<Arc<Page>, NotKept> {
        if page.through < least {
            return Err(NotKept::Behind(page));
        }
        if let Some(second) = &self.second {
            second.put(&self.name(key), second::encode(&page)).await;
        }
        Ok(Arc::new(page))
    }

    /// What a page is called in the second level.
    fn name(&self, key: &PageKey) -> String {
        format!("{}/{}", self.store.identity(), key.text())
    }
}

/// How many messages a page holds at the most.
fn bound(query: &PageQuery) -> usize {
    query.limit.clamp(1, LARGEST_PAGE)
}

/// What was found, for one of several who waited.
fn told(found: Result<Arc<Page>, Arc<NotKept>>) -> Result<Page> {
    match found {
        Ok(page) => Ok((*page).clone()),
        Err(error) => match &*error {
            NotKept::Behind(page) => Ok(page.clone()),
            NotKept::Failed(error) => Err(again(error)),
        },
    }
}

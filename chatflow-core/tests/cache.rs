//! The cache in front of a store: the store's own suite, and what a cache must not do.

#![allow(clippy::unwrap_used)]

#[path = "support/faulty.rs"]
mod faulty;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chatflow_core::analytics::Minutes;
use chatflow_core::cache::{CacheConfig, CachedStore, RedisCache, SecondLevel};
use chatflow_core::conformance::store::{LOG, Subject, at, batch, room};
use chatflow_core::store::{DatabaseConfig, MemoryStore, PostgresStore, SqliteConfig, SqliteStore};
use chatflow_core::{Analytics, LogId, MessageStore, NodeId, PageQuery, Position};
use chatflow_testkit::{Postgres, Redis, Service, needs};
use faulty::Faulty;
use futures::future::join_all;
use proptest::prelude::*;

fn cached(store: Arc<dyn MessageStore>) -> CachedStore {
    CachedStore::new(store, &CacheConfig::default())
}

/// Whose figures are counted for everybody who asks: what the suites compare must not be a moment old.
fn exact(store: Arc<dyn MessageStore>) -> CachedStore {
    CachedStore::new(store, &CacheConfig::default().with_figures(Duration::ZERO))
}

async fn memory_() -> Subject {
    Subject::new(Arc::new(exact(Arc::new(MemoryStore::new()))))
}

async fn sqlite_() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let open = move || {
        let path = path.clone();
        async move { Arc::new(exact(Arc::new(SqliteStore::open(SqliteConfig::new(path)).await.unwrap()))) as Arc<dyn MessageStore> }
    };
    Subject::new(open().await).reopening(open).keeping(folder)
}

chatflow_core::analytics_suite!(analytics, memory_);
chatflow_core::store_suite!(memory, memory_);
chatflow_core::store_suite!(sqlite, sqlite_);

/// A second level in memory, which two nodes may share.
#[derive(Debug, Default)]
struct Shared(parking_lot::Mutex<HashMap<String, Bytes>>);

#[async_trait]
impl SecondLevel for Shared {
    async fn get(&self, name: &str) -> Option<Bytes> {
        self.0.lock().get(name).cloned()
    }

    async fn put(&self, name: &str, value: Bytes) {
        self.0.lock().insert(name.to_owned(), value);
    }
}

/// Two nodes with a cache each, one store and one second level: what either commits, the other shows at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_holds_what_was_committed_before_it_was_asked_for_on_whichever_node() {
    let store = Arc::new(MemoryStore::new());
    let second = Arc::new(Shared::default());
    let node = || Arc::new(cached(store.clone()).with_second_level(second.clone()));
    let (writer, reader) = (node(), node());
    let lease = writer.claim(LOG, &NodeId::from_static("a")).await.unwrap();
    let (committed, newest) = tokio::sync::watch::channel(0);
    let readers = [reader.clone(), reader.clone(), writer.clone()].map(|node| {
        let mut newest = newest.clone();
        tokio::spawn(async move {
            while newest.changed().await.is_ok() {
                let least = *newest.borrow();
                let page = node.page(LOG, &room("a"), &PageQuery::latest(5)).await.unwrap();
                let last = page.messages.last().unwrap().position;
                assert!(last >= at(least), "{last} is older than {least}");
                assert!(page.messages.is_sorted_by(|a, b| a.position < b.position));
            }
        })
    });
    for offset in 1..=500 {
        writer.commit(&lease, &batch("a", offset..=offset), at(offset)).await.unwrap();
        committed.send_replace(offset);
        if offset % 3 == 0 {
            let page = reader.page(LOG, &room("a"), &PageQuery::latest(5)).await.unwrap();
            assert_eq!(page.messages.last().unwrap().position, at(offset));
        }
    }
    drop(committed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(reader.stats().page_hits + reader.stats().second_hits > 0, "it is of use");
}

/// The same in a database, where one look is for all logs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_one_database_show_what_either_has_committed() {
    needs!(Postgres);
    let database = Service::start_new(Postgres::new()).await;
    let open = || async { cached(Arc::new(PostgresStore::open(DatabaseConfig::new(database.url())).await.unwrap())) };
    let (one, other) = (open().await, open().await);
    let logs = [LogId(1), LogId(2)];
    let (names, rooms, latest) = (["a", "b"], [room("a"), room("b")], PageQuery::latest(3));
    let nobody = one.page(LogId(7), &room("c"), &PageQuery::latest(1)).await.unwrap();
    assert_eq!((nobody.messages.len(), nobody.through), (0, Position::ZERO));
    let holder = NodeId::from_static("one");
    let leases = [one.claim(logs[0], &holder).await.unwrap(), one.claim(logs[1], &holder).await.unwrap()];
    for offset in 1..=30 {
        for n in [0, 1] {
            let follows = if offset == 1 { leases[n].clone() } else { leases[n].at(at(offset - 1)) };
            one.commit(&follows, &batch(names[n], offset..=offset), at(offset)).await.unwrap();
        }
        for node in [&one, &other] {
            let shown = join_all([0, 1].map(|n| node.page(logs[n], &rooms[n], &latest))).await;
            for page in shown.into_iter().map(Result::unwrap) {
                assert_eq!((page.through, page.messages.last().unwrap().position), (at(offset), at(offset)));
                assert_eq!(page.messages.len() as u64, offset.min(3));
            }
        }
    }
    let misses = (one.stats().page_misses, other.stats().page_misses);
    assert_eq!(misses, (3, 60), "the writer's grow by what it commits, the other's by what it reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_ask_for_at_once_is_read_once() {
    let store = Arc::new(Faulty::default());
    let cache = Arc::new(cached(store.clone()));
    let lease = cache.claim(LOG, &NodeId::from_static("a")).await.unwrap();
    cache.commit(&lease, &batch("a", 1..=300), at(300)).await.unwrap();
    for query in [PageQuery::latest(100), PageQuery::after(at(7), 50)] {
        let before = store.pages.load(SeqCst);
        let asked = (0..200).map(|_| {
            let (cache, query) = (cache.clone(), query.clone());
            tokio::spawn(async move { cache.page(LOG, &room("a"), &query).await.unwrap().messages.len() })
        });
        assert!(join_all(asked).await.into_iter().all(|length| length.unwrap() == query.limit));
        assert_eq!(store.pages.load(SeqCst), before + 1);
    }
    // Older pages can't change: a commit does not matter to them.
    let mut older = PageQuery::latest(10);
    older.before = Some(at(50));
    let first = cache.page(LOG, &room("a"), &older).await.unwrap();
    let read = store.pages.load(SeqCst);
    cache.commit(&lease.at(at(300)), &batch("a", 301..=301), at(301)).await.unwrap();
    assert_eq!(cache.page(LOG, &room("a"), &older).await.unwrap(), first);
    assert_eq!(store.pages.load(SeqCst), read);
    assert_eq!(cache.page(LOG, &room("a"), &PageQuery::latest(1)).await.unwrap().messages[0].position, at(301));
}

#[tokio::test]
async fn the_newest_page_grows_by_what_its_own_node_commits_without_being_read_again() {
    let store = Arc::new(Faulty::default());
    let cache = cached(store.clone());
    let lease = cache.claim(LOG, &NodeId::from_static("a")).await.unwrap();
    cache.commit(&lease, &batch("a", 1..=8), at(8)).await.unwrap();
    let newest = || async { cache.page(LOG, &room("a"), &PageQuery::latest(5)).await.unwrap() };
    let first = newest().await;
    for offset in 9..=600 {
        let rows = batch(if offset % 3 == 0 { "a" } else { "b" }, offset..=offset);
        cache.commit(&lease.at(at(offset - 1)), &rows, at(offset)).await.unwrap();
        let page = newest().await;
        assert_eq!(page.through, at(offset));
        assert_eq!(page, store.store.page(LOG, &room("a"), &PageQuery::latest(5)).await.unwrap());
    }
    assert!(first.more && store.pages.load(SeqCst) == 1, "read once");

    // What another node commits is read, and nothing that is there already.
    store.commit(&lease.at(at(600)), &batch("a", 601..=602), at(602)).await.unwrap();
    store.last_after.lock().take();
    assert_eq!(newest().await.messages.last().unwrap().position, at(602));
    assert_eq!((store.pages.load(SeqCst), *store.last_after.lock()), (2, Some(at(600))));
}

#[derive(Debug, Clone)]
enum Step {
    /// A node commits so many messages into each room in turn, through its cache; another node's lease ends.
    Commit { node: usize, rows: usize },
    /// A node is asked for the newest messages of a room.
    Ask { node: usize, room: usize, limit: usize },
    /// All but so many messages of a room are removed by a node.
    Remove { node: usize, room: usize, keep: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize, 0..9_usize).prop_map(|(node, rows)| Step::Commit { node, rows }),
        6 => (0..2_usize, 0..2_usize, 1..7_usize).prop_map(|(node, room, limit)| Step::Ask { node, room, limit }),
        1 => (0..2_usize, 0..2_usize, 1..4_usize).prop_map(|(node, room, keep)| Step::Remove { node, room, keep }),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Two nodes write one history in turn and remove from it; what either shows is what the store has.
    #[test]
    fn the_newest_pages_of_two_nodes_are_those_of_the_store(steps in steps(), shares in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (store, second) = (Arc::new(MemoryStore::new()), Arc::new(Shared::default()));
            let node = || if shares { cached(store.clone()).with_second_level(second.clone()) } else { cached(store.clone()) };
            let nodes = [node(), node()];
            let names = [room("a"), room("b")];
            let (mut through, mut lease, mut holder) = (0_u64, None, 0);
            let mut removed = [false; 2];
            for step in steps {
                match step {
                    Step::Commit { node, rows } => {
                        if lease.is_none() || holder != node {
                            holder = node;
                            lease = Some(nodes[node].claim(LOG, &NodeId::from(node.to_string())).await.unwrap());
                        }
                        let first = through + 1;
                        through += rows as u64;
                        let rows: Vec<_> = (first..=through).flat_map(|at| batch(["a", "b"][at as usize % 2], at..=at)).collect();
                        let held = lease.as_ref().unwrap().at(if first == 1 { Position::ZERO } else { at(first - 1) });
                        nodes[node].commit(&held, &rows, at(through)).await.unwrap();
                    }
                    Step::Ask { node, room, limit } => {
                        let query = PageQuery::latest(limit);
                        let mut shown = nodes[node].page(LOG, &names[room], &query).await.unwrap();
                        let is = store.page(LOG, &names[room], &query).await.unwrap();
                        if removed[1 - node] || removed[node] && shares {
                            // What other processes removed may be shown for a while, and what any has while they share what they read.
                            let oldest = is.messages.first().map(|stored| stored.position);
                            shown.messages.retain(|stored| Some(stored.position) >= oldest);
                            shown.more = is.more;
                            shown.since = is.since;
                        }
                        assert_eq!(shown, is);
                    }
                    Step::Remove { node, room, keep } => {
                        let rows = store.page(LOG, &names[room], &PageQuery::latest(keep)).await.unwrap();
                        if let (Some(lease), Some(first)) = (lease.as_ref().filter(|_| holder == node), rows.messages.first()) {
                            let held = lease.at(at(through));
                            let retention = nodes[node].retention().unwrap();
                            removed[node] |= retention.remove(&held, &names[room], first.message.at, 1_000).await.unwrap() > 0;
                        }
                    }
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_to_all_who_wait_and_kept_by_nobody() {
    let store = Arc::new(Faulty::default());
    let cache = Arc::new(cached(store.clone()));
    store.pages_fail.store(true, SeqCst);
    let (room, query) = (room("a"), PageQuery::latest(1));
    let asked = (0..20).map(|_| cache.page(LOG, &room, &query));
    for failed in join_all(asked).await {
        assert_eq!(failed.unwrap_err().kind(), chatflow_core::ErrorKind::Unavailable);
    }
    store.pages_fail.store(false, SeqCst);
    assert!(cache.page(LOG, &room, &query).await.is_ok());
}

#[tokio::test]
async fn a_page_of_a_replica_that_lags_is_not_kept() {
    let store = Arc::new(Faulty::default());
    let second = Arc::new(Shared::default());
    let cache = cached(store.clone()).with_second_level(second.clone());
    let lease = cache.claim(LOG, &NodeId::from_static("a")).await.unwrap();
    cache.commit(&lease, &batch("a", 1..=3), at(3)).await.unwrap();
    let mut older = PageQuery::latest(2);
    older.before = Some(at(3));
    for query in [PageQuery::latest(2), older] {
        store.lags.store(true, SeqCst);
        assert_eq!(cache.page(LOG, &room("a"), &query).await.unwrap().messages, []);
        store.lags.store(false, SeqCst);
        assert_eq!(cache.page(LOG, &room("a"), &query).await.unwrap().messages.len(), 2);
    }
    assert_eq!(second.0.lock().len(), 2);
}

#[tokio::test]
async fn figures_are_counted_once_for_a_while_and_say_when() {
    let store = Arc::new(MemoryStore::new());
    let config = |figures| CacheConfig::default().with_figures(figures);
    let (hour, none) = (Duration::from_secs(3_600), Duration::ZERO);
    let (kept, fresh) = (CachedStore::new(store.clone(), &config(hour)), CachedStore::new(store.clone(), &config(none)));
    let lease = store.claim(LOG, &NodeId::from_static("a")).await.unwrap();
    let mut first = None;
    for (offset, users) in [(1, 1), (2, 2), (3, 3)] {
        store.commit(&lease, &batch("a", offset..=offset), at(offset)).await.unwrap();
        assert_eq!(fresh.active_users(Minutes::default()).await.unwrap().value, users);
        let counted = kept.active_users(Minutes::default()).await.unwrap();
        assert_eq!(counted.value, 1, "as it was counted first");
        assert_eq!(*first.get_or_insert(counted.at), counted.at, "and it says so");
    }
    assert_eq!((kept.stats().figure_hits, kept.stats().figure_misses), (2, 1));
    let other = Minutes::covering(None, Some(chatflow_core::Timestamp(0)));
    assert_eq!(kept.active_users(other).await.unwrap().value, 0, "another question");
}

/// Redis holds what one node has read for the other, and is never in the way when it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_level_in_redis_is_of_use_and_is_missed_by_nobody() {
    let redis = Service::start_new(Redis::new()).await;
    let store = Arc::new(Faulty::default());
    let node = || {
        let second = RedisCache::new(&redis.url(), "test", Duration::from_secs(60)).unwrap();
        cached(store.clone()).with_second_level(Arc::new(second))
    };
    let (one, other) = (node(), node());
    let lease = one.claim(LOG, &NodeId::from_static("a")).await.unwrap();
    one.commit(&lease, &batch("a", 1..=30), at(30)).await.unwrap();
    let page = one.page(LOG, &room("a"), &PageQuery::latest(20)).await.unwrap();
    assert_eq!(other.page(LOG, &room("a"), &PageQuery::latest(20)).await.unwrap(), page);
    assert_eq!((other.stats().second_hits, store.pages.load(SeqCst)), (1, 1));

    drop(redis);
    let began = Instant::now();
    for offset in 31..=50 {
        one.commit(&lease.at(at(offset - 1)), &batch("a", offset..=offset), at(offset)).await.unwrap();
        let page = other.page(LOG, &room("a"), &PageQuery::latest(1)).await.unwrap();
        assert_eq!(page.messages[0].position, at(offset));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "it was left alone: {:?}", began.elapsed());
}

#[test]
fn a_cache_that_can_not_be_is_refused_without_its_password() {
    let error = RedisCache::new("redis://:s3cret@[", "p", Duration::from_secs(1)).unwrap_err();
    assert!(!error.to_string().contains("s3cret") && error.to_string().contains("redis://[user"), "{error}");
}

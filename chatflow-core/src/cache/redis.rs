//! A second level in Redis.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, IntoConnectionInfo};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::SecondLevel;
use crate::{Error, ErrorKind, Result};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long Redis is left alone after it failed.
const REST: Duration = Duration::from_secs(1);

/// The largest page that is worth its way, bytes.
const LARGEST: usize = 1 << 20;

/// Pages in a Redis, single, which may lose them at any time: set `maxmemory` and `maxmemory-policy allkeys-lru` there.
pub struct RedisCache {
    client: Client,
    prefix: String,
    keep: Duration,
    /// Made by whoever is first; it reconnects by itself.
    manager: OnceCell<ConnectionManager>,
    born: Instant,
    /// Milliseconds since it was `born` until which nothing is asked of it.
    rests_until: AtomicU64,
}

impl RedisCache {
    /// At `url` (`redis://…` or `rediss://…`), under keys that begin with `prefix`, each kept for `keep` (at least a second). Nothing
    /// is connected yet: a cache may be away at the start, too.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the URL is not understood. It does not hold the password.
    pub fn new(url: &str, prefix: &str, keep: Duration) -> Result<Self> {
        let wrong = || Error::new(ErrorKind::Config, "cache", "not understood: redis://[user:password@]host[:port][/db] or rediss://…");
        let info = url.into_connection_info().map_err(|_| wrong())?;
        // Where several TLS backends are linked rustls has no default, and redis does not ask for one by itself.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::open(info).map_err(|_| wrong())?;
        let (prefix, keep) = (prefix.to_owned(), keep.max(Duration::from_secs(1)));
        Ok(Self { client, prefix, keep, manager: OnceCell::new(), born: Instant::now(), rests_until: AtomicU64::new(0) })
    }

    fn now(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        if self.now() < self.rests_until.load(Relaxed) {
            return None;
        }
        let answer = async {
            let config = ConnectionManagerConfig::new().set_number_of_retries(0).set_connection_timeout(Some(PATIENCE));
            let manager = self.manager.get_or_try_init(|| self.client.get_connection_manager_with_config(config)).await?;
            command.query_async(&mut manager.clone()).await
        };
        let error = match timeout(PATIENCE, answer).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => error.category().to_owned(),
            Err(_) => format!("no answer within {} ms", PATIENCE.as_millis()),
        };
        if self.rests_until.swap(self.now() + REST.as_millis() as u64, Relaxed) <= self.now() {
            tracing::debug!(%error, "the cache in Redis is left alone for a second");
        }
        None
    }
}

#[async_trait]
impl SecondLevel for RedisCache {
    async fn get(&self, name: &str) -> Option<Bytes> {
        let mut command = redis::cmd("GET");
        command.arg(format!("{}:page:{name}", self.prefix));
        self.ask::<Option<Vec<u8>>>(&command).await.flatten().map(Bytes::from)
    }

    async fn put(&self, name: &str, value: Bytes) {
        if value.len() > LARGEST {
            return;
        }
        let mut command = redis::cmd("SET");
        command.arg(format!("{}:page:{name}", self.prefix)).arg(&value[..]).arg("EX").arg(self.keep.as_secs());
        let _ = self.ask::<()>(&command).await;
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

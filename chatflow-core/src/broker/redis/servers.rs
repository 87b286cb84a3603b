//! The servers of a broker: which one has a log, and one link to each that all logs share.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Value};
use tokio::time::Instant;

use super::address::{Address, Target};
use super::failure::Failure;
use super::link::Link;
use crate::{Backoff, ErrorKind};

/// Between attempts to reach a server that is away.
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// How long a server may take to say who has which slot.
const MAP: Duration = Duration::from_secs(2);

/// Beyond so many servers, those that are away are forgotten.
const MOST_LINES: usize = 64;

type Attempt<T> = Shared<BoxFuture<'static, Result<T, Failure>>>;

/// Links by address, made where there is none. Whoever comes while one is being made waits for the same attempt: while Redis is away,
/// one attempt after another is all that it sees of a node.
pub(super) struct Servers {
    target: Arc<Target>,
    timeout: Duration,
    /// Held for a handful of instructions, never across a wait.
    lines: Mutex<HashMap<Address, Line<Arc<Link>>>>,
    map: Mutex<Line<Arc<Map>>>,
}

/// Attempts at one thing.
struct Line<T: Clone> {
    attempt: Option<Attempt<T>>,
    failures: u32,
}

impl<T: Clone> Default for Line<T> {
    fn default() -> Self {
        Self { attempt: None, failures: 0 }
    }
}

impl<T: Clone> Line<T> {
    /// The attempt under way, or the last one's outcome while it is of use; else the next attempt, later the more have failed.
    fn attempt(&mut self, of_use: impl Fn(&T) -> bool, next: impl FnOnce(Duration) -> Attempt<T>) -> Attempt<T> {
        let delay = match self.attempt.as_ref().map(|attempt| (attempt.clone(), attempt.peek().cloned())) {
            Some((attempt, None)) => return attempt,
            Some((attempt, Some(Ok(outcome)))) if of_use(&outcome) => return attempt,
            Some(_) => {
                self.failures = self.failures.saturating_add(1);
                BACKOFF.delay(self.failures - 1)
            }
            None => Duration::ZERO,
        };
        let attempt = next(delay);
        self.attempt = Some(attempt.clone());
        attempt
    }
}

/// Which server has which slots of a cluster, as of a moment.
#[derive(Debug)]
struct Map {
    asked: Instant,
    ranges: Vec<(u16, u16, Address)>,
}

impl Map {
    fn owner(&self, slot: u16) -> Option<&Address> {
        self.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|(_, _, address)| address)
    }
}

impl Servers {
    pub(super) fn new(target: Target, timeout: Duration) -> Self {
        Self { target: Arc::new(target), timeout, lines: Mutex::default(), map: Mutex::default() }
    }

    /// Whether they are a cluster's.
    pub(super) fn cluster(&self) -> bool {
        self.target.cluster
    }

    /// The link to the server that has `slot`. What was known about who has it at the moment `stale` is not true any more.
    pub(super) async fn link(&self, slot: u16, stale: Option<Instant>) -> Result<Arc<Link>, Failure> {
        let address = if self.target.cluster { self.owner(slot, stale).await? } else { self.target.seeds[0].clone() };
        let key = address.clone();
        let attempt = self.lines.lock().entry(address.clone()).or_default().attempt(
            |link| !link.is_down(),
            |delay| {
                let (target, timeout) = (Arc::clone(&self.target), self.timeout);
                let connect = async move {
                    tokio::time::sleep(delay).await;
                    Link::connect(&target, &address, timeout).await.map(Arc::new)
                };
                connect.boxed().shared()
            },
        );
        let link = attempt.await?;
        if link.is_down() {
            return Err(link.down().await);
        }
        let mut lines = self.lines.lock();
        // Servers come and go; what is left of those that went is bounded.
        if lines.len() > MOST_LINES {
            lines.retain(|_, line| {
                line.attempt.as_ref().and_then(|attempt| attempt.peek()?.as_ref().ok()).is_some_and(|link| !link.is_down())
            });
        }
        if let Some(line) = lines.get_mut(&key) {
            line.failures = 0;
        }
        Ok(link)
    }

    async fn owner(&self, slot: u16, stale: Option<Instant>) -> Result<Address, Failure> {
        let attempt = self.map.lock().attempt(
            |map| stale.is_none_or(|moment| map.asked > moment),
            |delay| {
                let target = Arc::clone(&self.target);
                let mut ask: Vec<Address> = self.lines.lock().keys().cloned().collect();
                ask.extend(target.seeds.iter().filter(|seed| !ask.contains(seed)).cloned().collect::<Vec<_>>());
                let look = async move {
                    tokio::time::sleep(delay).await;
                    let mut failure = Failure::new(ErrorKind::Unavailable, "no server of the cluster is known");
                    for address in ask {
                        match map(&target, &address).await {
                            Ok(map) => return Ok(Arc::new(map)),
                            Err(next) => failure = next,
                        }
                    }
                    Err(failure)
                };
                look.boxed().shared()
            },
        );
        let nobody = || Failure::new(ErrorKind::Unavailable, format!("no server of the cluster has slot {slot} just now"));
        let map = attempt.await?;
        self.map.lock().failures = 0;
        map.owner(slot).cloned().ok_or_else(nobody)
    }

    /// The links that are up.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        let lines = self.lines.lock();
        let links = lines.values().filter_map(|line| line.attempt.as_ref()?.peek()?.as_ref().ok().cloned());
        links.filter(|link| !link.is_down()).collect()
    }
}

impl Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("seeds", &self.target.seeds).field("cluster", &self.target.cluster).finish_non_exhaustive()
    }
}

/// Asks the server at `address` who has which slot.
async fn map(target: &Target, address: &Address) -> Result<Map, Failure> {
    let asked = Instant::now();
    let failed = |error| Failure::of(address, &error);
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(MAP)).set_response_timeout(Some(MAP));
    let client = target.client(address).map_err(failed)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;
    let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async::<Vec<Vec<Value>>>(&mut connection).await;
    let slots = slots.map_err(|error| match error.detail().unwrap_or_default().contains("cluster support disabled") {
        true => {
            let text = format!("Redis at {address} is not part of a cluster: its URL begins with redis:// or rediss://");
            Failure::new(ErrorKind::Config, text)
        }
        false => failed(error),
    })?;
    // First slot, last slot, then the servers, the one that takes writes first: host, port and more.
    let range = |range: Vec<Value>| {
        let mut fields = range.into_iter();
        let first = redis::from_redis_value::<u16>(fields.next()?).ok()?;
        let last = redis::from_redis_value::<u16>(fields.next()?).ok()?;
        let mut server = redis::from_redis_value::<Vec<Value>>(fields.next()?).ok()?.into_iter();
        let host = redis::from_redis_value::<Option<String>>(server.next()?).ok()?;
        let port = redis::from_redis_value::<u16>(server.next()?).ok()?;
        // It may not know under which name it is known.
        let host = host.filter(|host| !matches!(host.as_str(), "" | "?")).unwrap_or_else(|| address.host.clone());
        Some((first, last, Address { host, port }))
    };
    Ok(Map { asked, ranges: slots.into_iter().filter_map(range).collect() })
}

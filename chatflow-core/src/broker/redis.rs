//! The broker on Redis 7 or later, one server or a cluster: logs that any number of nodes share.
//!
//! A log is a stream of batches, `<prefix>:{<log>}:log`. The id of a batch is the epoch and offset of its last entry, so ids order as
//! positions do. One script appends a batch and tells the channel `<prefix>:{<log>}:live`, in one step; offsets have no holes, so a
//! reader sees what a channel lost, and reads it from the stream. `<prefix>:{<log>}:head` says where the log ends and what is
//! trimmed, `<prefix>:{<log>}:histories` how far each history is.

mod address;
mod appender;
mod attach;
mod backlog;
mod batch;
mod config;
mod failure;
mod feed;
mod head;
mod keeper;
mod keys;
mod link;
mod log;
mod script;
mod server;
mod servers;
mod tail;

use std::fmt::{self, Debug};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use self::address::Target;
use self::attach::Known;
pub use self::config::RedisBrokerConfig;
use self::keeper::{Bounds, keep};
use self::keys::Keys;
use self::log::Log;
use self::server::Server;
use self::servers::Servers;
use self::tail::Tail;
use super::{Broker, Durability, Entry, Event, From, LogId, Opening, Profile, Reader, Receipt, Refused, Status};
use crate::{Error, ErrorKind, Result};

/// A [`Broker`] on Redis 7 or later, one server or a cluster, for any number of nodes.
///
/// How durable it is is Redis' own configuration, which `open` reads: without an append-only file it is
/// [volatile](Durability::Volatile). With one and `appendfsync always`, an accepted entry survives that Redis is killed. With
/// `everysec`, up to 2 s of entries are lost with the machine, and with Redis alone while its disk is slow: it answers before it writes
/// then. [`status`](Broker::status) says which it is. Replication is asynchronous: a failover may lose what was
/// accepted last. In each of these cases the log goes on in a new epoch, and whoever has seen what was lost is told.
#[derive(Debug)]
pub struct RedisBroker {
    config: RedisBrokerConfig,
    servers: Arc<Servers>,
    database: i64,
    /// Before it was opened.
    unopened: Profile,
    opened: OnceLock<Opened>,
}

struct Opened {
    profile: Profile,
    durability: String,
    logs: Vec<Arc<Log>>,
    /// One keeper for each log; they end with the broker.
    keepers: Mutex<JoinSet<()>>,
}

/// The least that may wait in a log, in bytes: an entry of the largest size.
const LEAST_BYTES: usize = 2 << 20;
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);

impl RedisBroker {
    /// A broker that will connect when it is opened.
    ///
    /// # Errors
    /// The URL is not understood ([`ErrorKind::Config`]).
    pub fn new(mut config: RedisBrokerConfig) -> Result<Self> {
        config.logs = config.logs.max(1);
        config.bytes = config.bytes.max(LEAST_BYTES);
        config.timeout = config.timeout.max(LEAST_TIMEOUT);
        let target = Target::parse(&config)?;
        let (database, mut unopened) = (target.database(), Profile::new("redis", config.logs).shared());
        unopened.retains = config.retain as u64;
        let servers = Arc::new(Servers::new(target, config.timeout));
        Ok(Self { config, servers, database, unopened, opened: OnceLock::new() })
    }

    fn opened(&self) -> Result<&Opened> {
        self.opened.get().ok_or_else(|| Error::new(ErrorKind::Unavailable, "redis", "the broker was not opened yet"))
    }

    fn log(&self, log: LogId) -> Result<&Arc<Log>> {
        let missing = || Error::new(ErrorKind::NotFound, "redis", format!("there is no log {log}"));
        self.opened()?.logs.get(usize::from(log.0)).ok_or_else(missing)
    }

    /// A log that is in an earlier epoch than the history knows of it is not the one that the history has.
    fn logs(&self, known: &Known, opening: &Opening) -> Vec<Arc<Log>> {
        let ids = (0..self.config.logs).map(LogId);
        let keys = |log| Keys::new(&self.config.prefix, log, self.database);
        ids.map(|id| Arc::new(Log::new(id, keys(id), Known { least: opening.floor_of(id), ..known.clone() }, &self.config))).collect()
    }

    /// What has to be known of all logs before one of them is touched.
    async fn look(&self, opening: &Opening) -> Result<Known> {
        let mut known = Known { least: 0, next: 0, logs: self.config.logs, history: opening.history.clone() };
        let mut latest = opening.floor;
        for log in self.logs(&known, opening) {
            let link = self.servers.link(log.keys.slot, None).await?;
            latest = latest.max(attach::look(&link, &log).await?.head.map_or(0, |head| head.epoch));
            attach::probe(&link, &log, self.servers.cluster()).await?;
        }
        known.next = attach::now().max(latest.saturating_add(1));
        Ok(known)
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "redis", "the broker was closed")
}

#[async_trait]
impl Broker for RedisBroker {
    fn profile(&self) -> &Profile {
        self.opened.get().map_or(&self.unopened, |opened| &opened.profile)
    }

    async fn open(&self, opening: &Opening) -> Result<()> {
        let known = self.look(opening).await?;
        let logs = self.logs(&known, opening);
        let bounds =
            Bounds { most: (self.config.entries, self.config.bytes), history_ttl: self.config.history_ttl, timeout: self.config.timeout };
        let mut keepers = JoinSet::new();
        for log in &logs {
            let attached = attach::attach(&self.servers, log, None).await?;
            log.outbox.open();
            keepers.spawn(keep(Arc::clone(log), Arc::clone(&self.servers), bounds, attached));
        }
        let servers = self.servers.links().into_iter().map(|link| link.server.clone());
        let (durability, detail) =
            Server::weakest(servers).map_or((Durability::Volatile, String::new()), |server| (server.durability, server.detail));
        let mut profile = self.unopened.clone();
        profile.durability = durability;
        let opened = Opened { profile, durability: detail, logs, keepers: Mutex::new(keepers) };
        self.opened.set(opened).map_err(|_| Error::new(ErrorKind::Internal, "redis", "the broker was opened before"))
    }

    fn submit(&self, entry: Entry, receipt: Receipt) -> Result<(), Refused> {
        let log = match self.log(entry.log) {
            Ok(log) => log,
            Err(error) => return Err(Refused { error, receipt }),
        };
        let largest = self.profile().largest_entry;
        if entry.bytes.len() > largest {
            let error = Error::new(ErrorKind::Invalid, "redis", format!("an entry has at most {largest} bytes"));
            return Err(Refused { error, receipt });
        }
        if log.outbox.is_closed() {
            return Err(Refused { error: closed(), receipt });
        }
        let size = entry.bytes.len() + batch::FRAME;
        if let Err(failure) = log.backlog.reserve(log.id, size) {
            return Err(Refused { error: failure.into(), receipt });
        }
        log.outbox.push(entry, receipt).inspect_err(|_| log.backlog.release(1, size))
    }

    async fn read(&self, log: LogId, _reader: Reader, from: From) -> Result<BoxStream<'static, Result<Event>>> {
        let log = Arc::clone(self.log(log)?);
        let deadline = Instant::now() + self.config.timeout;
        let (at, first) = loop {
            if log.outbox.is_closed() {
                return Err(closed());
            }
            let mut news = std::pin::pin!(log.feed.news());
            news.as_mut().enable();
            match (tail::head(&log).await?.attach(from), from) {
                (Ok(attached), _) => break attached,
                (Err(_), From::After(place)) => log.doubt(place),
                (Err(_), _) => {}
            }
            // An epoch begins, and the feed hears of it.
            if timeout_at(deadline, news).await.is_err() {
                return Err(Error::new(ErrorKind::Unavailable, "redis", format!("log {} did not begin a new epoch in time", log.id)));
            }
        };
        let tail = Tail::new(log, at, first);
        let events = stream::unfold(tail, |mut tail| async move { tail.next().await.map(|event| (Ok(event), tail)) });
        Ok(events.boxed())
    }

    async fn settle(&self, log: LogId, through: crate::Position) -> Result<()> {
        let log = self.log(log)?;
        if !log.settled(through) {
            log.settles.notify_one();
            return Ok(());
        }
        let away = || Error::new(ErrorKind::Unavailable, "redis", format!("log {} is away just now", log.id));
        let link = log.link().ok_or_else(away)?;
        Ok(log.settle(&link).await?)
    }

    async fn status(&self) -> Status {
        let Ok(opened) = self.opened() else { return Status::new(false, "not opened yet", Vec::new()) };
        let depth = |log: &Arc<Log>| {
            log.backlog.heard(log.feed.known());
            log.backlog.depth()
        };
        let healthy = opened.logs.iter().all(|log| log.outbox.is_open());
        let trouble = opened.logs.iter().find_map(|log| log.trouble());
        Status::new(healthy, trouble.unwrap_or_else(|| opened.durability.clone()), opened.logs.iter().map(depth).collect())
    }

    async fn close(&self) -> Result<()> {
        let Ok(opened) = self.opened() else { return Ok(()) };
        opened.logs.iter().for_each(|log| log.outbox.close());
        let mut keepers = std::mem::take(&mut *opened.keepers.lock());
        let ended = timeout(self.config.timeout, async { while keepers.join_next().await.is_some() {} }).await;
        keepers.abort_all();
        for log in &opened.logs {
            log.away(&failure::Failure::new(ErrorKind::Closed, "the broker was closed"));
            log.feed.close();
        }
        ended.map_err(|_| Error::new(ErrorKind::Timeout, "redis", "Redis did not take everything in time"))
    }
}

impl Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("profile", &self.profile).finish_non_exhaustive()
    }
}

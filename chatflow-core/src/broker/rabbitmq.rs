//! The broker on RabbitMQ: a log is a stream queue, and every node reads it whole.
//!
//! # How it works
//! Log `n` in its epoch `e` is the stream queue `<prefix>.<n>.<e>`. Messages are published to it through the default exchange, pipelined,
//! with confirms; what gathers while two entries are on their way becomes one. Every node reads every log once, and all its readers share
//! what was read. A position is the epoch, the offset in the stream, and the place in the entry there. A receipt is accepted when the entry has come back: RabbitMQ shows readers what a majority of the stream's replicas
//! has, which is also when it confirms, and what came back has a place that everybody sees.
//!
//! Which epoch a log is in stands in the queue `<prefix>.epochs`, which every node reads from its beginning. A record turns a log from
//! one epoch to the next; of two that turn the same one, the first counts. Before a log is turned its old queue gets an entry that
//! ends it: what RabbitMQ takes after that counts for nobody, and the node that published it is told so, because it reads the end
//! first. How far each history has settled and each node has seen stands in `<prefix>.progress`.
//!
//! # What is noticed
//! A node that comes back to a log puts a fence into it, and reads the entry again that it read last: if the fence does not come to
//! stand behind that entry, if another stands in its place, or if any other node has seen more than there was in front of the fence,
//! the log was lost, cut or wound back, and goes on in a new epoch. No publisher is let in before that.
//!
//! # What is not
//! - RabbitMQ writes to the page cache: a confirm survives the death of its process, and of a node where the stream has replicas on
//!   others; not a power cut of the only node.
//! - If RabbitMQ was wound back while *no* node was running, what this is noticed by is the history's cursor, when its writer begins
//!   to read. A message that was published in the moments between does not get into that history. And if by then so many were
//!   published that the log is as long as the history knew it, it is not noticed at all.
//! - If RabbitMQ was wound back by less than a second, and only a node that has not reconnected yet has seen what was lost, another
//!   node may publish into the old epoch until the first is back and begins a new one.

mod attach;
mod backlog;
mod board;
mod chain;
mod config;
mod envelope;
mod epochs;
mod fault;
mod link;
mod log;
mod past;
mod place;
mod progress;
mod publisher;
mod reader;
mod resume;
mod session;
mod supervisor;
mod tail;
mod window;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

pub use config::RabbitMqConfig;

use self::board::{Board, Report};
use self::config::{LARGEST_ENTRY, RETAINED_ENTRIES};
use self::fault::error;
use self::log::Log;
use self::session::Session;
use super::{Broker, Entry, Event, From, LogId, Opening, Profile, Reader, Receipt, Refused, Status};
use crate::{ErrorKind, MessageId, NodeId, Position, Result, Timestamp};

/// The connection of the moment, if there is one.
type Links = watch::Receiver<Option<Arc<Session>>>;

/// Before trying again what failed for the moment.
const RETRY: Duration = Duration::from_millis(100);
/// How long closing waits for what was submitted.
const FLUSH: Duration = Duration::from_secs(5);
/// How long opening may take in all.
const OPEN: Duration = Duration::from_secs(30);
const BLOCKED: &str = "RabbitMQ has blocked publishers: memory or disk alarm";

/// A [`Broker`] on RabbitMQ 3.9 or later, for any number of nodes.
///
/// Durable as RabbitMQ's streams are: see the [module](self).
#[derive(Debug)]
pub struct RabbitMqBroker {
    profile: Profile,
    shared: Arc<Shared>,
}

/// What outlives a connection.
#[derive(Debug)]
struct Shared {
    config: Arc<RabbitMqConfig>,
    uri: lapin::uri::AMQPUri,
    logs: Arc<[Arc<Log>]>,
    board: Arc<Board>,
    opening: Mutex<Opening>,
    /// Up to where this node has settled.
    own: Arc<Mutex<Vec<Position>>>,
    settles: Arc<Notify>,
    links: watch::Sender<Option<Arc<Session>>>,
    /// What is wrong, as long as something is.
    trouble: Mutex<String>,
    closing: watch::Sender<bool>,
}

impl Shared {
    fn node(&self) -> NodeId {
        self.opening.lock().node.clone()
    }

    fn history(&self) -> Option<String> {
        self.opening.lock().history.clone()
    }

    fn floor_of(&self, log: u16) -> u64 {
        self.opening.lock().floor_of(LogId(log))
    }

    /// This node's history has `log` up to `through`.
    fn settle(&self, log: &Log, through: Position) {
        let settled = {
            let mut own = self.own.lock();
            let index = usize::from(log.id.0);
            own[index] = own[index].max(through);
            own.clone()
        };
        let (node, history) = (self.node().to_string(), self.history());
        self.board.hear(&Report { node, history, at: Timestamp::now(), settled, seen: Vec::new() });
        if let Some(settled) = self.board.settled(log.id.0) {
            log.settle(settled);
        }
        self.settles.notify_one();
    }
}

impl RabbitMqBroker {
    /// A broker that is to be [opened](Broker::open).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the settings are out of range or contradict each other.
    pub fn new(config: RabbitMqConfig) -> Result<Self> {
        let uri = config.check()?;
        // This object's own, in every entry that it puts into a log.
        let life = MessageId::new_v4().as_u64_pair().0;
        let log = |log| Arc::new(Log::new(LogId(log), life, (config.entries, config.bytes)));
        let logs: Arc<[_]> = (0..config.logs).map(log).collect();
        let mut profile = Profile::new("rabbitmq", config.logs).durable().shared();
        (profile.largest_entry, profile.retains) = (LARGEST_ENTRY, RETAINED_ENTRIES);
        let shared = Shared {
            uri,
            board: Arc::new(Board::new(config.history_ttl)),
            opening: Mutex::new(Opening::new("")),
            own: Arc::new(Mutex::new(vec![Position::ZERO; logs.len()])),
            settles: Arc::new(Notify::new()),
            links: watch::Sender::new(None),
            trouble: Mutex::new("not opened yet".into()),
            closing: watch::Sender::new(false),
            config: Arc::new(config),
            logs,
        };
        Ok(Self { profile, shared: Arc::new(shared) })
    }

    fn log(&self, log: LogId) -> Result<&Arc<Log>> {
        self.shared.logs.get(usize::from(log.0)).ok_or_else(|| error(ErrorKind::NotFound, format!("there is no log {log}")))
    }
}

impl Drop for RabbitMqBroker {
    fn drop(&mut self) {
        self.shared.closing.send_replace(true);
    }
}

#[async_trait]
impl Broker for RabbitMqBroker {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn open(&self, opening: &Opening) -> Result<()> {
        *self.shared.opening.lock() = opening.clone();
        let (tell, failed) = oneshot::channel();
        tokio::spawn(supervisor::supervise(Arc::clone(&self.shared), tell));
        let ready = async {
            for log in self.shared.logs.iter() {
                // The log lives as long as we do.
                drop(log.ready.subscribe().wait_for(|ready| *ready).await);
            }
        };
        tokio::select! {
            () = ready => Ok(()),
            Ok(error) = failed => Err(error),
            () = tokio::time::sleep(OPEN) => {
                self.shared.closing.send_replace(true);
                Err(error(ErrorKind::Timeout, format!("RabbitMQ did not give back what was published to it within {OPEN:?}")))
            }
        }
    }

    fn submit(&self, entry: Entry, receipt: Receipt) -> Result<(), Refused> {
        let log = match self.log(entry.log) {
            Ok(log) => log,
            Err(error) => return Err(Refused { error, receipt }),
        };
        if entry.bytes.len() > LARGEST_ENTRY {
            let error = error(ErrorKind::Invalid, format!("an entry has at most {LARGEST_ENTRY} bytes"));
            return Err(Refused { error, receipt });
        }
        log.submit(entry, receipt)
    }

    async fn read(&self, log: LogId, reader: Reader, from: From) -> Result<BoxStream<'static, Result<Event>>> {
        let log = self.log(log)?;
        if log.has_ended() {
            return Err(error(ErrorKind::Closed, "the broker was closed"));
        }
        if !*log.ready.borrow() {
            return Err(error(ErrorKind::Unavailable, "the broker is not open yet"));
        }
        if let (Reader::History, From::After(cursor)) = (reader, from) {
            self.shared.settle(log, cursor);
        }
        let (at, events) = attach::attach(Arc::clone(log), self.shared.links.subscribe(), from).await?;
        if let (Reader::History, From::Oldest) = (reader, from) {
            self.shared.settle(log, at);
        }
        Ok(events)
    }

    async fn settle(&self, log: LogId, through: Position) -> Result<()> {
        self.shared.settle(self.log(log)?, through);
        Ok(())
    }

    async fn status(&self) -> Status {
        let healthy = self.shared.logs.iter().all(|log| log.outbox.is_open());
        let detail = if healthy {
            "confirmed once a majority of a stream's replicas has it, without fsync: outlives RabbitMQ's process, not a power cut of its only node".into()
        } else {
            let trouble = self.shared.trouble.lock().clone();
            if trouble.is_empty() { "publishers are not let in just now".into() } else { trouble }
        };
        Status::new(healthy, detail, self.shared.logs.iter().map(|log| log.depth()).collect())
    }

    async fn close(&self) -> Result<()> {
        let logs = &self.shared.logs;
        logs.iter().for_each(|log| log.outbox.close());
        let flushed = async {
            for log in logs.iter() {
                log.flushed().await;
            }
        };
        let flushed = tokio::time::timeout(FLUSH, flushed).await;
        for log in logs.iter() {
            log.away("the broker was closed");
            log.end();
        }
        self.shared.closing.send_replace(true);
        flushed.map_err(|_| error(ErrorKind::Timeout, format!("what was submitted did not reach RabbitMQ within {FLUSH:?}")))
    }
}

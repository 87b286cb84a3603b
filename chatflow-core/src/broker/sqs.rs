//! The broker on Amazon SNS and SQS: FIFO topics that give the order, FIFO queues that carry it to every node and history.

mod backlog;
mod client;
mod config;
mod epoch;
mod janitor;
mod keeper;
mod names;
mod publisher;
mod reader;
mod receiver;
mod topology;
mod window;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use aws_types::SdkConfig;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::client::Clients;
pub use self::client::http_client;
pub use self::config::SqsBrokerConfig;
use self::keeper::Trouble;
use self::names::Names;
use self::publisher::Counted;
use self::topology::Attachment;
use self::window::Log;
use super::outbox::Outbox;
use super::{Broker, Entry, Event, From, LogId, Opening, Profile, Reader, Receipt, Refused, Status};
use crate::{Error, ErrorKind, MessageId, Position, Result};

/// How long closing waits for what was submitted, and for it to come back.
const CLOSING: Duration = Duration::from_secs(8);

/// A [`Broker`] on Amazon SNS and SQS.
///
/// A log is an SNS FIFO topic with one message group; SNS numbers what is published there, and the number is the entry's place: every
/// queue gets the messages with the same numbers in the same order. Each node has a queue that all topics feed, each history a queue
/// for each log. Several entries travel in one message when they come faster than SNS answers.
///
/// What it needs is made by `open`, under the configured prefix; a node that closes removes its queue, and what a dead one left behind
/// is removed by the others. When topics are deleted, the logs go on in a new epoch; entries that a history has not settled are still
/// in its queues.
///
/// # Rights
/// `CreateTopic`, `DeleteTopic`, `TagResource`, `ListTagsForResource`, `Subscribe`, `Unsubscribe`, `ListSubscriptionsByTopic` and
/// `Publish` of SNS, `CreateQueue`, `DeleteQueue`, `TagQueue`, `ListQueueTags`, `ListQueues`, `GetQueueUrl`, `GetQueueAttributes`,
/// `ReceiveMessage`, `DeleteMessage` and `ChangeMessageVisibility` of SQS, for topics and queues whose names begin with the prefix.
///
/// # Limits
/// - It can't rewind: a node reads from where it attached. A history that reads from further back than the node's memory reaches is
///   given what its queue gives: ten messages at a time, the next ones when these are settled.
/// - A node that joins can't read what was there before, so it asks its history for what it did not see; without one it does not know
///   a repeat of that.
/// - SQS keeps what a history has not settled for 14 days.
/// - SNS allows 100 queues to a FIFO topic: nodes and histories together. It allows 1,000 FIFO topics to an account, one for each log.
/// - Where another node writes the history, what waits for it is known by the count that SQS gives every few seconds.
pub struct SqsBroker {
    profile: Profile,
    shared: Arc<Shared>,
    troubles: Mutex<Option<mpsc::Receiver<Trouble>>>,
    pumps: Mutex<Vec<JoinHandle<()>>>,
}

/// What the broker's tasks share.
struct Shared {
    config: SqsBrokerConfig,
    clients: Clients,
    life: u128,
    nonce: AtomicU64,
    lives: AtomicU64,
    logs: Vec<Arc<Log>>,
    outboxes: Vec<Outbox>,
    attachment: watch::Sender<Option<Arc<Attachment>>>,
    opening: Mutex<Opening>,
    /// The latest epoch that this node or its history has seen.
    epoch: AtomicU64,
    /// How many messages the node's queue has given.
    received: AtomicU64,
    /// Calls a receiver to help.
    help: Notify,
    /// How long messages that were received are hidden, in seconds.
    hidden: AtomicU64,
    troubles: mpsc::Sender<Trouble>,
    /// Why it is not healthy, while it is not.
    trouble: Mutex<Option<String>>,
    ended: watch::Sender<bool>,
}

impl SqsBroker {
    /// A broker that is set up so, with the credentials of `sdk`; its region is not looked at, and its HTTP client is replaced by
    /// [ours](http_client) when it has none. Nothing is called before [`open`](Broker::open).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a value is out of range.
    pub fn new(config: SqsBrokerConfig, sdk: &SdkConfig) -> Result<Self> {
        config.check()?;
        let clients = Clients::new(&config, sdk);
        let (troubles, noticed) = mpsc::channel(16);
        let shared = Shared {
            clients,
            life: MessageId::new_v4().as_u128(),
            nonce: AtomicU64::new(1),
            lives: AtomicU64::new(0),
            logs: (0..config.logs).map(|log| Arc::new(Log::new(LogId(log), &config))).collect(),
            outboxes: (0..config.logs).map(|_| Outbox::new(config.entries, config.bytes)).collect(),
            attachment: watch::Sender::new(None),
            opening: Mutex::new(Opening::new("")),
            epoch: AtomicU64::new(0),
            received: AtomicU64::new(0),
            help: Notify::new(),
            hidden: AtomicU64::new(receiver::SHORTEST),
            troubles,
            trouble: Mutex::new(Some("not opened yet".into())),
            ended: watch::Sender::new(false),
            config,
        };
        let mut profile = Profile::new("sqs", shared.config.logs).durable().shared();
        (profile.largest_entry, profile.rewinds) = (wire::LARGEST_ENTRY, false);
        Ok(Self { profile, shared: Arc::new(shared), troubles: Mutex::new(Some(noticed)), pumps: Mutex::default() })
    }

    fn log(&self, log: LogId) -> Result<&Arc<Log>> {
        let missing = || Error::new(ErrorKind::NotFound, "sqs", format!("there is no log {log}"));
        self.shared.logs.get(usize::from(log.0)).ok_or_else(missing)
    }
}

impl fmt::Debug for SqsBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsBroker").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Shared {
    fn attachment(&self) -> Option<Arc<Attachment>> {
        self.attachment.borrow().clone()
    }

    fn install(&self, attachment: Attachment) {
        self.attachment.send_replace(Some(Arc::new(attachment)));
    }

    fn is_current(&self, attachment: &Arc<Attachment>) -> bool {
        self.attachment.borrow().as_ref().is_some_and(|current| current.node_url == attachment.node_url)
    }

    fn names(&self) -> Option<Names> {
        self.attachment.borrow().as_ref().map(|attached| attached.names.clone())
    }

    fn node(&self) -> String {
        self.opening.lock().node.to_string()
    }

    fn history(&self) -> Option<String> {
        self.opening.lock().history.clone()
    }

    /// Tells the node's queues apart: each has a name of its own.
    fn next_life(&self) -> String {
        format!("{:012x}{:02x}", self.life >> 80, self.lives.fetch_add(1, Relaxed))
    }

    fn known_epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    fn knows_epoch(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Relaxed);
    }

    /// Has the keeper look after it. When it has enough to look after, it will find this, too.
    fn trouble(&self, trouble: Trouble) {
        let _ = self.troubles.try_send(trouble);
    }

    fn away(&self, why: &str) {
        *self.trouble.lock() = Some(why.to_owned());
        for outbox in &self.outboxes {
            outbox.away(why);
        }
    }

    fn back(&self) {
        *self.trouble.lock() = None;
        self.outboxes.iter().for_each(Outbox::open);
    }

    fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    async fn ended(&self) {
        // The sender is ours, so this only ends when it is told.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "sqs", "the broker was closed")
}

#[async_trait]
impl Broker for SqsBroker {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn open(&self, opening: &Opening) -> Result<()> {
        let shared = &self.shared;
        let Some(mut troubles) = self.troubles.lock().take() else { return Ok(()) };
        *shared.opening.lock() = opening.clone();
        // All logs are in one epoch.
        shared.knows_epoch((0..shared.config.logs).map(|log| opening.floor_of(LogId(log))).max().unwrap_or_default());
        let receivers: Vec<_> = (0..shared.config.receivers).map(|i| tokio::spawn(receiver::receive(Arc::clone(shared), i > 0))).collect();
        if let Err(fault) = topology::attach(shared).await {
            receivers.iter().for_each(JoinHandle::abort);
            *self.troubles.lock() = Some(troubles);
            let text = format!("SNS and SQS in {} can't be used", shared.clients.place);
            return Err(Error::new(fault.error.kind(), "sqs", text).with_source(fault.error));
        }
        // A queue that was made just now may be said not to exist for a second.
        while troubles.try_recv().is_ok() {}
        shared.back();
        tokio::spawn(keeper::keep(Arc::clone(shared), troubles));
        for log in &shared.logs {
            self.pumps.lock().push(tokio::spawn(publisher::pump(Arc::clone(shared), Arc::clone(log))));
            tokio::spawn(backlog::empty(Arc::clone(shared), Arc::clone(log)));
        }
        Ok(())
    }

    fn submit(&self, entry: Entry, receipt: Receipt) -> Result<(), Refused> {
        let log = match self.log(entry.log) {
            Ok(log) => Arc::clone(log),
            Err(error) => return Err(Refused { error, receipt }),
        };
        let bytes = entry.bytes.len();
        if bytes > self.profile.largest_entry {
            let error = Error::new(ErrorKind::Invalid, "sqs", format!("an entry has at most {} bytes", self.profile.largest_entry));
            return Err(Refused { error, receipt });
        }
        if self.shared.is_ended() {
            return Err(Refused { error: closed(), receipt });
        }
        if let Err(held) = log.admit(bytes) {
            let error =
                Error::new(ErrorKind::Full, "sqs", format!("log {} holds {held} messages that are not in the history yet", entry.log));
            return Err(Refused { error, receipt });
        }
        let outbox = &self.shared.outboxes[usize::from(entry.log.0)];
        outbox.push(entry, Receipt::new(Box::new(Counted { log, bytes, receipt })))
    }

    async fn read(&self, log: LogId, reader: Reader, from: From) -> Result<BoxStream<'static, Result<Event>>> {
        let log = Arc::clone(self.log(log)?);
        if log.state.lock().closed {
            return Err(closed());
        }
        Ok(reader::read(log, reader, from))
    }

    async fn settle(&self, log: LogId, through: Position) -> Result<()> {
        self.log(log)?.settle(through);
        Ok(())
    }

    async fn status(&self) -> Status {
        let trouble = self.shared.trouble.lock().clone();
        let ended = self.shared.is_ended();
        let detail = match &trouble {
            _ if ended => "closed".into(),
            Some(why) => why.clone(),
            None => "durable: SNS and SQS keep entries in several availability zones; what a history has not settled, for 14 days".into(),
        };
        Status::new(trouble.is_none() && !ended, detail, self.shared.logs.iter().map(|log| log.depth()).collect())
    }

    async fn close(&self) -> Result<()> {
        let shared = &self.shared;
        shared.outboxes.iter().for_each(Outbox::close);
        let pumps = std::mem::take(&mut *self.pumps.lock());
        let emptied = async {
            for pump in pumps {
                let _ = pump.await;
            }
            for log in &shared.logs {
                log.whole().await;
            }
        };
        let emptied = timeout(CLOSING, emptied).await;
        shared.ended.send_replace(true);
        shared.logs.iter().for_each(|log| log.close());
        if let Some(attached) = shared.attachment()
            && let Err(fault) = janitor::remove(shared, attached.subscriptions.clone(), &attached.node_url).await
        {
            tracing::info!(error = %fault.error, "the node's queue was not removed; other nodes will");
        }
        emptied.map_err(|_| Error::new(ErrorKind::Timeout, "sqs", "some of what was submitted may not have reached SNS"))
    }
}

impl Drop for SqsBroker {
    fn drop(&mut self) {
        self.shared.ended.send_replace(true);
        self.shared.outboxes.iter().for_each(Outbox::close);
        self.shared.logs.iter().for_each(|log| log.close());
    }
}

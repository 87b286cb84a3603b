//! The parts of a running engine, as its sessions see them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::types::Ack;
use crate::answers::{Answers, Pending, Reply};
use crate::auth::{Authenticator, Authorizer};
use crate::broker::{Broker, Durability, Entry};
use crate::letters::Letters;
use crate::pipeline::Progress;
use crate::presence::Presence;
use crate::rate::UserBuckets;
use crate::registry::{Outlet, Pressure, RoomRegistry};
use crate::relay::Show;
use crate::stats::Counters;
use crate::store::MessageStore;
use crate::{
    Codec, Delivery, Draft, Error, ErrorKind, Hooks, Message, MessageId, MessageValidator, NodeId, Result, RoomId, Settings, Timestamp,
};

pub(crate) type RoomRule = Box<dyn Fn(RoomId) -> Option<RoomId> + Send + Sync>;

/// Connections are kept in so many parts, so that coming and going does not queue at one lock.
const SHARDS: usize = 32;

/// Everything that a session needs. Held by sessions and by the engine, not by its own tasks.
pub(crate) struct Inner {
    pub(crate) node: NodeId,
    pub(crate) settings: Settings,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Option<Arc<dyn MessageStore>>,
    pub(crate) letters: Arc<Letters>,
    pub(crate) registry: Arc<dyn RoomRegistry>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) writers: Vec<Arc<Progress>>,
    pub(crate) show: Show,
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) validator: Box<dyn MessageValidator>,
    pub(crate) authenticator: Box<dyn Authenticator>,
    pub(crate) authorizer: Box<dyn Authorizer>,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) catch_ups: Semaphore,
    pub(crate) user_rates: UserBuckets,
    pub(crate) rooms: RoomRule,
    pub(crate) connections: Connections,
    pub(crate) draining: AtomicBool,
    pub(crate) clock: AtomicU32,
}

impl Inner {
    /// Seconds since the engine was started, as its ticker counts them.
    pub(crate) fn ticks(&self) -> u32 {
        self.clock.load(Relaxed)
    }

    /// Whether an acknowledged message survives this process.
    pub(crate) fn is_durable(&self) -> bool {
        let stored = self.store.as_ref().map(|store| store.durability());
        stored == Some(Durability::Durable) || self.broker.profile().durability == Durability::Durable
    }

    pub(crate) fn allows_room(&self, name: &str) -> Option<RoomId> {
        (self.rooms)(RoomId::new(name).ok()?)
    }

    /// The message that `draft` becomes.
    pub(crate) fn message(&self, draft: &Draft, room: RoomId, at: Timestamp, session: u64, origin: ByteString) -> Message {
        Message {
            id: draft.id.unwrap_or_else(MessageId::now_v7),
            room,
            sender: draft.sender.clone(),
            kind: draft.kind.clone(),
            body: self.codec.body(draft),
            digest: self.codec.digest(draft),
            at,
            node: self.node.clone(),
            session,
            origin,
        }
    }

    /// Gives a message to the broker; `taken` is called before anybody can be answered. What the broker says of it, a refusal too, is
    /// told to `reply`.
    ///
    /// # Errors
    /// The engine is draining; `reply` is not told.
    pub(crate) fn give(&self, message: Message, draft: &Draft, ack: Ack, reply: Reply, taken: impl FnOnce()) -> Result<()> {
        if self.draining.load(Relaxed) {
            return Err(Error::new(ErrorKind::Draining, "engine", "the server is shutting down"));
        }
        let log = self.broker.profile().log_of(&message.room);
        let echo = match self.settings.delivery {
            Delivery::AnswerOnly => {
                let mut echo = BytesMut::new();
                self.codec.echo(&message, &mut echo);
                echo.freeze()
            }
            Delivery::Broadcast => Bytes::new(),
        };
        let entry = Entry::new(log, &message);
        let pending = Pending {
            answers: Arc::clone(&self.answers),
            log,
            id: message.id,
            digest: message.digest,
            room: message.room,
            at: message.at,
            client_timestamp: draft.timestamp.clone(),
            reference: draft.reference.clone(),
            ack,
            echo,
            reply,
        };
        taken();
        let receipt = self.answers.receipt(pending);
        // The log alone would say so once it is full, and senders would not be answered until then.
        if self.registry.pressure() >= Pressure::High {
            let text = "this node holds as much as it may that members or the history do not have yet";
            receipt.failed(Error::new(ErrorKind::Full, "engine", text));
            return Ok(());
        }
        match self.broker.submit(entry, receipt) {
            Ok(()) => self.counters.accepted.add(1),
            // The answer's one way to the sender is its receipt.
            Err(refused) => refused.receipt.failed(refused.error),
        }
        Ok(())
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("node", &self.node).field("broker", &self.broker).field("store", &self.store).finish_non_exhaustive()
    }
}

/// The connections of a node.
#[derive(Debug)]
pub(crate) struct Connections {
    shards: Vec<Mutex<HashMap<u64, Arc<Outlet>>>>,
    next: AtomicU64,
    /// Where they may go when the node shuts down.
    alternates: Mutex<Vec<String>>,
}

impl Connections {
    pub(crate) fn new() -> Self {
        // A session's number is given once: not by the next life of the node, and by no other node.
        let first = MessageId::new_v4().as_u64_pair().0 >> 1;
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), next: AtomicU64::new(first), alternates: Mutex::default() }
    }

    pub(crate) fn next_session(&self) -> u64 {
        self.next.fetch_add(1, SeqCst)
    }

    pub(crate) fn set_alternates(&self, urls: Vec<String>) {
        *self.alternates.lock() = urls;
    }

    pub(crate) fn alternates(&self) -> Vec<String> {
        self.alternates.lock().clone()
    }

    fn shard(&self, session: u64) -> &Mutex<HashMap<u64, Arc<Outlet>>> {
        &self.shards[session as usize % SHARDS]
    }

    pub(crate) fn insert(&self, outlet: Arc<Outlet>) {
        self.shard(outlet.session()).lock().insert(outlet.session(), outlet);
    }

    pub(crate) fn remove(&self, session: u64) {
        self.shard(session).lock().remove(&session);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Outlet>> {
        self.shards.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Once a second: pings who is silent, cuts who stays so and who does not finish closing.
    pub(crate) fn tick(&self, now: u32, settings: &Settings) {
        let seconds = |duration: std::time::Duration| duration.as_secs_f64().ceil() as u32;
        let (ping, silent, write) = (seconds(settings.ping), seconds(settings.ping + settings.pong), seconds(settings.write));
        for shard in &self.shards {
            for outlet in shard.lock().values() {
                outlet.tick(now, ping, silent, write, settings.in_flight);
            }
        }
    }
}

//! Putting an engine together.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::inner::{Connections, Inner, RoomRule};
use super::{Engine, Tasks};
use crate::answers::Answers;
use crate::auth::{AllowAll, Anonymous, Authenticator, Authorizer};
use crate::broker::memory::InMemoryBroker;
use crate::broker::{Broker, Durability, LogId, Opening};
use crate::dedup::Dedup;
use crate::letters::Letters;
use crate::pipeline::{Marks, Pipeline, Progress, Removal, Removing, look};
use crate::presence::Presence;
use crate::projection::keep;
use crate::rate::UserBuckets;
use crate::registry::{LocalRegistry, RoomRegistry};
use crate::relay::{Gate, Reach, Relay, Show, State};
use crate::start::Starts;
use crate::stats::Counters;
use crate::store::{DeadLetters, MemoryDeadLetters, MessageStore};
use crate::{
    ChatCodec, ChatValidator, Codec, Error, ErrorKind, Hooks, Live, MessageId, MessageValidator, NoHooks, NodeId, Position, Result, RoomId,
    Settings,
};

/// News of the history that may wait for a relay.
const NEWS: usize = 64;

/// Builds an [`Engine`]. Every part has a default; the defaults make a volatile engine in memory.
pub struct EngineBuilder {
    broker: Option<Arc<dyn Broker>>,
    registry: Option<Arc<dyn RoomRegistry>>,
    store: Option<Arc<dyn MessageStore>>,
    writes_history: bool,
    retention: Option<Duration>,
    dead_letters: Option<Arc<dyn DeadLetters>>,
    validator: Box<dyn MessageValidator>,
    codec: Arc<dyn Codec>,
    authenticator: Box<dyn Authenticator>,
    authorizer: Box<dyn Authorizer>,
    hooks: Option<Arc<dyn Hooks>>,
    settings: Settings,
    node: Option<NodeId>,
    rooms: RoomRule,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            broker: None,
            registry: None,
            store: None,
            writes_history: true,
            retention: None,
            dead_letters: None,
            validator: Box::new(ChatValidator::default()),
            codec: Arc::new(ChatCodec),
            authenticator: Box::new(Anonymous),
            authorizer: Box::new(AllowAll),
            hooks: None,
            settings: Settings::default(),
            node: None,
            rooms: Box::new(Some),
        }
    }
}

impl EngineBuilder {
    /// The broker; an [`InMemoryBroker`] unless another is given.
    #[must_use]
    pub fn broker(mut self, broker: Arc<dyn Broker>) -> Self {
        self.broker = Some(broker);
        self
    }

    /// The registry; a [`LocalRegistry`] unless another is given. It must be made for as many logs as the broker has.
    #[must_use]
    pub fn registry(mut self, registry: Arc<dyn RoomRegistry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// The history; none unless one is given.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn MessageStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Whether this node takes its turn in writing, where nodes share both the broker and the store; true unless it is set. One that does
    /// not answers for what the others write, and reads it.
    #[must_use]
    pub fn writes_history(mut self, writes: bool) -> Self {
        self.writes_history = writes;
        self
    }

    /// Messages older than this are removed from the history by the node that writes their log, within a twentieth of that time and an
    /// hour; but for the newest of each room. Never unless it is set.
    #[must_use]
    pub fn retention(mut self, keep: Duration) -> Self {
        self.retention = Some(keep);
        self
    }

    /// Where messages go that the history can't take; memory unless something is given.
    #[must_use]
    pub fn dead_letters(mut self, letters: Arc<dyn DeadLetters>) -> Self {
        self.dead_letters = Some(letters);
        self
    }

    /// The validator; a [`ChatValidator`] with default limits unless another is given.
    #[must_use]
    pub fn validator(mut self, validator: impl MessageValidator) -> Self {
        self.validator = Box::new(validator);
        self
    }

    /// What messages look like; [`ChatCodec`] unless another is given.
    #[must_use]
    pub fn codec(mut self, codec: impl Codec) -> Self {
        self.codec = Arc::new(codec);
        self
    }

    /// Who is there; everybody is [`Anonymous`] unless one is given.
    #[must_use]
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Box::new(authenticator);
        self
    }

    /// What they may do; everything unless one is given.
    #[must_use]
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Box::new(authorizer);
        self
    }

    /// What the application wants to be told.
    #[must_use]
    pub fn hooks(mut self, hooks: impl Hooks) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// Bounds and time-outs.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// This node's name; a random one unless given.
    #[must_use]
    pub fn node(mut self, node: impl Into<NodeId>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Which rooms there are, beyond the rule for names: `rule` answers with the room that a name means, or `None`. All unless
    /// given.
    #[must_use]
    pub fn rooms(mut self, rule: impl Fn(RoomId) -> Option<RoomId> + Send + Sync + 'static) -> Self {
        self.rooms = Box::new(rule);
        self
    }

    /// Opens broker and store, claims the logs and starts. Has to be called in a tokio runtime.
    ///
    /// # Errors
    /// A backend can't be reached, is in use by somebody else, or is set up in a way that breaks the guarantees.
    pub async fn build(self) -> Result<Engine> {
        let settings = self.settings;
        if settings.in_flight == 0 || settings.batch_rows == 0 || settings.frame < 256 || settings.catch_ups == 0 {
            return Err(Error::new(
                ErrorKind::Config,
                "engine",
                "in_flight, batch_rows and catch_ups must be at least 1, frame at least 256",
            ));
        }
        let broker = self.broker.unwrap_or_else(|| Arc::new(InMemoryBroker::default()));
        let store = self.store;
        let node = self.node.unwrap_or_else(|| format!("node-{}", &MessageId::new_v4().simple().to_string()[..8]).into());
        let opening = match &store {
            Some(store) => {
                let logs = (0..broker.profile().logs).map(LogId);
                let floors = futures::future::try_join_all(logs.map(|log| store.watermark(log))).await?;
                let opening = Opening::new(node.clone()).with_history(store.identity(), store.last_epoch().await?);
                opening.with_floors(floors.iter().map(|watermark| watermark.epoch).collect())
            }
            None => Opening::new(node.clone()),
        };
        if let Some(keep) = self.retention {
            check_retention(keep, &settings, store.as_deref()).await?;
        }
        broker.open(&opening).await?;
        let logs = broker.profile().logs;
        let counters = Arc::new(Counters::default());
        let profile = broker.profile();
        let answers = Answers::new(logs, profile.durability, store.is_some(), Arc::clone(&counters));
        let dedup = || Dedup::of(&settings, profile);
        let local = || Arc::new(LocalRegistry::new(logs, &settings, store.is_none())) as Arc<dyn RoomRegistry>;
        let registry = self.registry.unwrap_or_else(local);
        let presence = Arc::new(Presence::new(node.clone(), Arc::clone(&broker), Arc::clone(&registry), settings.presence_members));
        let show = Show { codec: Arc::clone(&self.codec), node: node.clone() };
        let mut tasks = Tasks::default();
        let writers: Vec<_> = store.iter().flat_map(|_| (0..logs).map(|_| Progress::new())).collect();
        let dead_letters = self.dead_letters.unwrap_or_else(|| Arc::new(MemoryDeadLetters::default()));
        let (starts, mut news_of) = (Starts::default(), Vec::new());
        let marks = Arc::new(watch::Sender::new(Marks::default()));
        let gated = settings.live == Live::Committed && profile.durability == Durability::Volatile;
        for log in (0..logs).map(LogId) {
            let (news, heard) = mpsc::channel(NEWS);
            let (reach, reached) = watch::channel(Reach::default());
            let gate = match &store {
                Some(_) if gated => Gate::Committed(heard),
                Some(_) => Gate::Accepted(dedup(), Some(heard)),
                None => Gate::Accepted(dedup(), None),
            };
            let relay = Relay {
                log,
                broker: Arc::clone(&broker),
                registry: Arc::clone(&registry),
                answers: Arc::clone(&answers),
                counters: Arc::clone(&counters),
                show: show.clone(),
                hooks: self.hooks.clone(),
                presence: Arc::clone(&presence),
                delivery: settings.delivery,
                gate,
                history: store.clone(),
                reach,
                past: if profile.shared { dedup().reach() as u64 } else { 0 },
                state: State::new(starts.another()),
            };
            tasks.relays.push(tokio::spawn(relay.run()));
            news_of.push((news, reached));
        }
        // Before the writers: what they say of an entry is of use to a relay that stands in the log.
        starts.done().await?;
        let reaches = news_of.iter().map(|(_, reach)| reach.clone()).collect();
        for (log, (news, reach)) in (0..logs).map(LogId).zip(news_of) {
            let Some(store) = &store else { break };
            let pipeline = Pipeline {
                log,
                node: node.clone(),
                broker: Arc::clone(&broker),
                store: Arc::clone(store),
                dead_letters: Arc::clone(&dead_letters),
                counters: Arc::clone(&counters),
                progress: Arc::clone(&writers[usize::from(log.0)]),
                news,
                writes: self.writes_history,
                marks: Arc::clone(&marks),
                reach,
                answers: Arc::clone(&answers),
                told: Position::ZERO,
                batch_rows: settings.batch_rows,
                batch_bytes: settings.batch_bytes,
            };
            let (claimed, is_claimed) = oneshot::channel();
            tasks.writers.push(tokio::spawn(pipeline.run(claimed)));
            let ended = || Error::new(ErrorKind::Internal, "engine", "a writer ended while starting");
            is_claimed.await.map_err(|_| ended())??;
        }
        if let Some(store) = store.as_ref().filter(|store| store.shared().is_some()) {
            tasks.marks = Some(tokio::spawn(look(Arc::clone(store), reaches, marks)));
        }
        let letters = Arc::new(Letters::new(dead_letters, store.clone()));
        if store.as_ref().is_some_and(|store| store.dead_letters().is_some()) {
            tasks.mover = Some(tokio::spawn(Arc::clone(&letters).keep_moving()));
        }
        if let Some(store) = store.as_ref().filter(|store| self.writes_history && store.projections().is_some()) {
            let (stop, stopped) = oneshot::channel();
            tasks.projection = Some((stop, tokio::spawn(keep(Arc::clone(store), node.clone(), stopped))));
        }
        if let (Some(store), Some(keep)) = (&store, self.retention) {
            let (store, writers, counters) = (Arc::clone(store), writers.clone(), Arc::clone(&counters));
            tasks.removal = Some(Removal::start(Removing { store, writers, counters, keep }));
        }
        let catch_ups = Semaphore::new(settings.catch_ups);
        let inner = Arc::new(Inner {
            node,
            settings,
            broker,
            store,
            letters,
            registry,
            presence,
            answers,
            writers,
            show,
            codec: self.codec,
            validator: self.validator,
            authenticator: self.authenticator,
            authorizer: self.authorizer,
            hooks: self.hooks.unwrap_or_else(|| Arc::new(NoHooks)),
            counters,
            catch_ups,
            user_rates: UserBuckets::default(),
            rooms: self.rooms,
            connections: Connections::new(),
            draining: AtomicBool::new(false),
            clock: AtomicU32::new(0),
        });
        tasks.ticker = Some(start_ticker(Arc::downgrade(&inner)));
        Ok(Engine { inner, tasks: Arc::new(Mutex::new(tasks)) })
    }
}

/// Whether messages may be removed once they are so old.
async fn check_retention(keep: Duration, settings: &Settings, store: Option<&dyn MessageStore>) -> Result<()> {
    let config = |text: String| Err(Error::new(ErrorKind::Config, "engine", text));
    if keep < settings.dedup_window {
        return config(format!(
            "retention is {keep:?}: a repeat is told within dedup_window, {:?}, so messages are kept for that at least",
            settings.dedup_window
        ));
    }
    match store.map(MessageStore::retention) {
        None => Ok(()),
        Some(Some(retention)) => retention.may_remove().await,
        Some(None) => config("retention is set, and nothing can be removed from this store".into()),
    }
}

/// Four times a second: presence; once a second: silent and closing connections.
fn start_ticker(engine: Weak<Inner>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(250));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        for quarter in 0u64.. {
            every.tick().await;
            let Some(engine) = engine.upgrade() else { return };
            engine.presence.tick();
            engine.registry.tick();
            if quarter % 4 == 3 {
                let now = engine.clock.fetch_add(1, Relaxed) + 1;
                engine.connections.tick(now, &engine.settings);
            }
        }
    })
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder").field("broker", &self.broker).field("store", &self.store).finish_non_exhaustive()
    }
}

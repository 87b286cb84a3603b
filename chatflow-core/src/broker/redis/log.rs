//! One log of a broker: what waits for it, what is heard of it, and how far it is settled.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attach::Known;
use super::backlog::Backlog;
use super::batch;
use super::config::RedisBrokerConfig;
use super::failure::Failure;
use super::feed::Feed;
use super::head::Head;
use super::keys::Keys;
use super::link::Link;
use super::script::{PAGE, SETTLE};
use crate::broker::outbox::Outbox;
use crate::{ErrorKind, LogId, Position};

/// Unless a log fills up, it is settled no more often than this.
const SETTLE_EVERY: Duration = Duration::from_millis(100);

/// One log, shared by its keeper, its readers and whoever submits.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) id: LogId,
    pub(super) keys: Keys,
    pub(super) outbox: Outbox,
    pub(super) backlog: Backlog,
    pub(super) feed: Arc<Feed>,
    pub(super) known: Known,
    /// Told when the log has to be attached again though its link is up.
    pub(super) doubt: Notify,
    /// Told when there is something to settle.
    pub(super) settles: Notify,
    trouble: Mutex<Option<String>>,
    /// The last link through which it was attached, if it was.
    link: Mutex<Option<Arc<Link>>>,
    settling: Mutex<Settling>,
    retain: usize,
    history_ttl: Duration,
}

#[derive(Debug, Default)]
struct Settling {
    /// What Redis was not told yet.
    wanted: Option<Position>,
    last: Option<Instant>,
}

/// What a page of a log holds: the log's state, then batches by id, each with its fields.
pub(super) type Page = (Head, Vec<(String, Vec<Vec<u8>>)>);

/// A log in which nobody has begun an epoch in this life of the server.
pub(super) fn unattached() -> Failure {
    Failure::new(ErrorKind::Unavailable, "Redis was restarted, failed over or wiped, and the log goes on in a new epoch")
}

impl Log {
    pub(super) fn new(id: LogId, keys: Keys, known: Known, config: &RedisBrokerConfig) -> Self {
        Self {
            id,
            keys,
            outbox: Outbox::new(config.entries, config.bytes),
            backlog: Backlog::new(config.entries, config.bytes),
            feed: Arc::default(),
            known,
            doubt: Notify::new(),
            settles: Notify::new(),
            trouble: Mutex::default(),
            link: Mutex::default(),
            settling: Mutex::default(),
            retain: config.retain,
            history_ttl: config.history_ttl,
        }
    }

    /// The link through which it is attached, if that is up.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.lock().clone().filter(|link| !link.is_down())
    }

    pub(super) fn attached(&self, link: &Arc<Link>) {
        *self.link.lock() = Some(Arc::clone(link));
        *self.trouble.lock() = None;
    }

    /// The backend is away: what waits fails, and publishers are refused until the outbox is opened again.
    pub(super) fn away(&self, why: &Failure) {
        *self.trouble.lock() = Some(why.text.clone());
        let (entries, bytes) = self.outbox.away(&why.text);
        self.backlog.release(entries, bytes + entries * batch::FRAME);
    }

    /// What keeps it from being published in.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Some batches after `at`, and the state of the log in the same moment.
    pub(super) async fn page(&self, link: &Link, at: Position, batches: usize) -> Result<Page, Failure> {
        let mut command = PAGE.on(&[&self.keys.head, &self.keys.log]);
        command.arg(format!("{}-{}", at.epoch, at.offset)).arg(batches);
        let answer = link.read::<(u8, Vec<Option<String>>, Vec<(String, Vec<Vec<u8>>)>)>(&PAGE, &command).await?;
        let (code, state, batches) = answer;
        let head = Head::parse(&state).filter(|_| code == 0);
        if head.is_none() {
            self.doubt.notify_one();
        }
        head.map(|head| (head, batches)).ok_or_else(unattached)
    }

    /// Somebody has been at `place`, where the log is said never to have been: an epoch begins after it.
    pub(super) fn doubt(&self, place: Position) {
        self.feed.know(place);
        self.doubt.notify_one();
    }

    /// The history holds everything through `through`. Whether Redis should be told at once; the keeper does it soon otherwise.
    pub(super) fn settled(&self, through: Position) -> bool {
        let urgent = self.backlog.settled(through);
        let mut settling = self.settling.lock();
        settling.wanted = settling.wanted.max(Some(through));
        urgent || settling.last.is_none_or(|last| last.elapsed() >= SETTLE_EVERY)
    }

    /// When Redis should be told, if there is something to tell.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        let settling = self.settling.lock();
        settling.wanted.and_then(|_| settling.last.map_or(Some(Instant::now()), |last| Some(last + SETTLE_EVERY)))
    }

    /// Tells Redis how far the history is, and that its nodes are alive.
    pub(super) async fn settle(&self, link: &Link) -> Result<(), Failure> {
        let wanted = {
            let mut settling = self.settling.lock();
            settling.last = Some(Instant::now());
            settling.wanted.take()
        };
        let told = self.tell_settled(link, wanted).await;
        if told.is_err() {
            let mut settling = self.settling.lock();
            settling.wanted = settling.wanted.max(wanted);
        }
        let (head, _) = told?;
        self.backlog.learn(&head);
        Ok(())
    }

    /// The log's state afterwards, and how many entries of all times this node's history holds.
    pub(super) async fn tell_settled(&self, link: &Link, through: Option<Position>) -> Result<(Head, u64), Failure> {
        let mut command = SETTLE.on(&[&self.keys.head, &self.keys.log, &self.keys.histories]);
        command.arg(self.known.history.as_deref().unwrap_or_default());
        match through {
            Some(through) => command.arg(through.epoch).arg(u64::try_from(through.offset).unwrap_or(u64::MAX)),
            None => command.arg("").arg(""),
        };
        let ttl = u64::try_from(self.history_ttl.as_millis()).unwrap_or(u64::MAX);
        command.arg(self.retain).arg(ttl);
        let (code, state, own) = link.write::<(u8, Vec<Option<String>>, u64)>(&SETTLE, &command).await?;
        let head = Head::parse(&state).filter(|_| code == 0);
        head.map(|head| (head, own)).ok_or_else(unattached)
    }
}

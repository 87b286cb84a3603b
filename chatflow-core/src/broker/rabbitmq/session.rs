//! One connection's life: from the handshake until it is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::board::Board;
use super::config::RabbitMqConfig;
use super::epochs::Epochs;
use super::link::Link;
use super::log::Log;
use super::{Shared, past, progress, tail};
use crate::{Error, NodeId, Position, Result};

/// How long a handshake may take when a node starts.
const FIRST: Duration = Duration::from_secs(5);
/// How long one may take later: what was begun in a silent network ends in vain, and another is due soon after it is heard again.
const AGAIN: Duration = Duration::from_secs(2);

/// What the tasks of one connection share.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) link: Arc<Link>,
    pub(super) epochs: Epochs,
    pub(super) config: Arc<RabbitMqConfig>,
    pub(super) logs: Arc<[Arc<Log>]>,
    pub(super) board: Arc<Board>,
    pub(super) node: NodeId,
    pub(super) history: Option<String>,
    pub(super) settles: Arc<Notify>,
    /// Held by whoever reads a log's past.
    pub(super) looking: Semaphore,
    own: Arc<parking_lot::Mutex<Vec<Position>>>,
}

impl Session {
    /// What this node has settled, log by log.
    pub(super) fn settled(&self) -> Vec<Position> {
        self.own.lock().clone()
    }

    /// Applies to every log what is known of all histories.
    pub(super) fn settle_all(&self) {
        for log in self.logs.iter() {
            if let Some(settled) = self.board.settled(log.id.0) {
                log.settle(settled);
            }
        }
    }
}

/// Connects, brings every log into its epoch, and keeps them going until the connection is lost.
pub(super) async fn run(shared: &Arc<Shared>, links: &watch::Sender<Option<Arc<Session>>>) -> Error {
    match connect(shared, links).await {
        Ok(never) => never,
        Err(error) => error,
    }
}

async fn connect(shared: &Arc<Shared>, links: &watch::Sender<Option<Arc<Session>>>) -> Result<Error> {
    let name = format!("chatflow {} {}", shared.config.prefix, shared.node());
    let was_up = shared.logs.iter().all(|log| *log.ready.borrow());
    let link = Arc::new(Link::connect(&shared.uri, &name, if was_up { AGAIN } else { FIRST }).await?);
    let (epochs, mut feed) = Epochs::open(Arc::clone(&link), Arc::clone(&shared.config)).await?;
    let seen = |log: u16| shared.logs.get(usize::from(log)).map_or(0, |log| log.place().0);
    let least = |log: u16| seen(log).max(shared.floor_of(log));
    tokio::select! {
        error = epochs.follow(&mut feed) => return Err(error),
        error = link.broken() => return Err(error),
        hello = epochs.hello(least) => hello?,
    }
    let session = Arc::new(Session {
        link,
        epochs,
        config: Arc::clone(&shared.config),
        logs: Arc::clone(&shared.logs),
        board: Arc::clone(&shared.board),
        node: shared.node(),
        history: shared.history(),
        settles: Arc::clone(&shared.settles),
        looking: Semaphore::new(past::LOOKING),
        own: Arc::clone(&shared.own),
    });
    let heard = progress::open(&session).await?;
    links.send_replace(Some(Arc::clone(&session)));
    // The first to end ends all of them: dropping the set does.
    let mut tasks = JoinSet::new();
    let lent = Arc::clone(&session);
    tasks.spawn(async move { lent.epochs.follow(&mut feed).await });
    let lent = Arc::clone(&session);
    tasks.spawn(async move { lent.link.broken().await });
    let lent = Arc::clone(&session);
    tasks.spawn(async move { progress::hear(&lent, heard).await });
    let lent = Arc::clone(&session);
    tasks.spawn(async move { progress::tell(&lent).await });
    for log in shared.logs.iter() {
        let (lent, log) = (Arc::clone(&session), Arc::clone(log));
        tasks.spawn(async move { tail::keep(&lent, &log).await });
    }
    let ended = tasks.join_next().await;
    tasks.shutdown().await;
    Ok(match ended {
        Some(Ok(error)) => error,
        other => super::fault::error(crate::ErrorKind::Internal, format!("a task of the connection ended: {other:?}")),
    })
}

//! Keeps a log attached, whatever becomes of Redis.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::appender::{Stop, append};
use super::attach::attach;
use super::failure::Failure;
use super::head::Head;
use super::link::Link;
use super::log::Log;
use super::servers::{BACKOFF, Servers};

/// How often a log's tail is looked at, so that a channel that has gone silent is found out.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often Redis hears of a history that settles nothing, unless histories are forgotten sooner.
const HEARD_EVERY: Duration = Duration::from_secs(30);

/// The bounds that a keeper passes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most entries and bytes that may wait in a log.
    pub(super) most: (usize, usize),
    pub(super) history_ttl: Duration,
    pub(super) timeout: Duration,
}

/// Runs from the first attachment until the outbox is closed and empty; attaches again whenever that is needed. A link that is down
/// is gone for good, and until there is another one, publishers are refused at once.
pub(super) async fn keep(log: Arc<Log>, servers: Arc<Servers>, bounds: Bounds, mut at: (Arc<Link>, Head)) {
    loop {
        let (link, head) = at;
        log.outbox.open();
        let stop = tokio::select! {
            stop = append(&log, &link, head.epoch, servers.cluster(), bounds.most) => stop,
            failure = link.down() => Stop::Again(failure),
            failure = tend(&log, &link, bounds) => Stop::Again(failure),
            () = log.doubt.notified() => Stop::Again(super::log::unattached()),
        };
        let failure = match stop {
            Stop::Closed => {
                finish(&log, &link).await;
                return;
            }
            Stop::Again(failure) => failure,
        };
        at = match again(&log, &servers, &link, failure, bounds.timeout).await {
            Some(attached) => attached,
            None => return log.feed.close(),
        };
    }
}

/// Attaches again; `None` if the broker was closed meanwhile.
async fn again(log: &Log, servers: &Servers, link: &Link, failure: Failure, patience: Duration) -> Option<(Arc<Link>, Head)> {
    let mut stale = Some(Instant::now());
    // Where the server is there and the log only begins anew, what waits need not fail.
    if !link.is_down()
        && let Ok(Ok(attached)) = timeout(patience.min(LOOK_EVERY), attach(servers, log, stale)).await
    {
        return Some(attached);
    }
    tracing::warn!(log = log.id.0, %failure, "the log is away; publishers are refused until it is back");
    let mut reason = failure;
    for attempt in 0.. {
        log.away(&reason);
        match attach(servers, log, stale).await {
            Ok(attached) => {
                tracing::info!(log = log.id.0, attempts = attempt + 1, "the log is back");
                return Some(attached);
            }
            Err(failure) => reason = failure,
        }
        if log.outbox.is_closed() {
            log.away(&reason);
            return None;
        }
        stale = Some(Instant::now());
        sleep(BACKOFF.delay(attempt)).await;
    }
    None
}

/// Looks whether the channel is still heard, and tells Redis what is settled, until one of them fails.
async fn tend(log: &Log, link: &Link, bounds: Bounds) -> Failure {
    let heard_every = HEARD_EVERY.min(bounds.history_ttl / 4);
    let (mut look, mut heard) = (Instant::now() + LOOK_EVERY, Instant::now() + heard_every);
    loop {
        let settle = log.settles_at().unwrap_or(heard).min(heard);
        tokio::select! {
            () = sleep_until(look) => {
                // On the connection that listens: what was said before has been heard when the answer comes.
                match log.page(link, log.feed.known(), 0).await {
                    Ok((head, _)) => {
                        log.backlog.learn(&head);
                        log.feed.know(head.tail());
                    }
                    Err(failure) => return failure,
                }
                look = Instant::now() + LOOK_EVERY;
            }
            () = sleep_until(settle) => {
                if let Err(failure) = log.settle(link).await {
                    return failure;
                }
                heard = Instant::now() + heard_every;
            }
            () = log.settles.notified() => {}
        }
    }
}

/// Everything is published: what is settled is told, and readers learn how far they go.
async fn finish(log: &Log, link: &Link) {
    if log.settles_at().is_some()
        && let Err(failure) = log.settle(link).await
    {
        tracing::debug!(log = log.id.0, %failure, "what was settled last was not told; the history reads it again");
    }
    if let Ok((head, _)) = log.page(link, log.feed.known(), 0).await {
        log.feed.know(head.tail());
    }
    log.feed.close();
}

//! Follows the end of one log: reads it once for all readers of the node, publishes what waits, and begins a new epoch when it is not
//! the log any more that it was.

use std::time::Duration;

use lapin::types::ShortString;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::envelope::{Envelope, Kind, Mark};
use super::epochs::queue_of;
use super::fault::{Fault, error};
use super::link::{Feed, Start};
use super::log::Log;
use super::place::{before, place_of};
use super::publisher::{UNCONFIRMED, hear, publish};
use super::resume::{Found, Resume};
use super::session::Session;
use super::window::{BATCH_BYTES, BATCH_ENTRIES};
use crate::{Error, ErrorKind, Result};

/// How long nothing may come before it is looked whether something should have.
const IDLE: Duration = Duration::from_secs(2);
/// How long an entry of ours may be under way, with nothing else coming, before the connection is given up.
const STALL: Duration = Duration::from_secs(5);

/// Why an epoch is read no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// It was ended, in order.
    Ended,
    /// There is no such queue.
    Missing,
    /// RabbitMQ has lost or changed some of it.
    Cut,
    /// RabbitMQ has lost some of it that others have seen: what this node has read of it still holds.
    Short,
}

/// Keeps a log going, from epoch to epoch, until the connection is lost.
pub(super) async fn keep(session: &Session, log: &Log) -> Error {
    loop {
        if let Err(error) = step(session, log).await {
            return error;
        }
    }
}

/// Follows one epoch to its end and goes to the next.
async fn step(session: &Session, log: &Log) -> Result<()> {
    let chain = session.epochs.chain();
    let (epoch, _) = log.place();
    let (current, known) = {
        let chain = chain.borrow();
        (chain.current(log.id.0), chain.has(log.id.0, epoch))
    };
    if epoch == 0 {
        log.turn(current);
        return Ok(());
    }
    // The queue of epochs itself was lost when ours is not in it: whatever is left of its logs is nobody's.
    let over = if known { follow(session, log, epoch, epoch == current).await? } else { Over::Missing };
    log.away("the log goes on in a new epoch");
    if over != Over::Ended {
        tracing::warn!(log = log.id.0, epoch, ?over, "RabbitMQ has lost entries of a log");
    }
    session.epochs.turn(log.id.0, epoch, epoch).await?;
    if over == Over::Short {
        // It is read to its end first: others read it, too.
        return Ok(());
    }
    let next = chain.borrow().after(log.id.0, epoch);
    let next = next.ok_or_else(|| error(ErrorKind::Internal, format!("log {} has no epoch after {epoch}", log.id)))?;
    log.turn(next);
    Ok(())
}

/// Reads an epoch from where the log stands to its end; publishes to it if it is the current one.
async fn follow(session: &Session, log: &Log, epoch: u64, current: bool) -> Result<Over> {
    let queue = queue_of(&session.config, log.id.0, epoch);
    // Everything that we put there from now on has a greater number.
    let fresh = log.mark();
    let known = log.place().1;
    match known {
        Some((at, _)) => {
            // An epoch that is over was ended before it was left; but where RabbitMQ was wound back, the end may be missing.
            let sign = if current { Kind::Fence } else { Kind::End };
            match session.link.probe(&queue, sign, fresh).await {
                Ok(end) if place_of(epoch, end) <= at => return Ok(Over::Cut),
                Ok(_) => {}
                Err(Fault::Missing) => return Ok(Over::Missing),
                Err(fault) => return Err(fault.into_error("reading a log")),
            }
        }
        // Nobody here has read anything of it.
        None if !current => return Ok(Over::Ended),
        None => {}
    }
    let resume = Resume::new(known, fresh);
    let start = resume.offset().map_or(Start::Next, Start::At);
    let feed = match session.link.consume(&queue, start).await {
        Err(Fault::Missing) => return Ok(Over::Missing),
        feed => feed.map_err(|fault| fault.into_error("reading a log"))?,
    };
    let reading = read(session, log, epoch, feed, resume);
    if !current {
        return reading.await;
    }
    let channel = session.link.publisher().await?;
    let (tell, told) = mpsc::channel(UNCONFIRMED);
    let name = ShortString::from(queue.as_str());
    tokio::select! {
        over = reading => over,
        over = admit(session, log, epoch) => over,
        error = publish(log, &channel, &name, tell) => Err(error),
        error = hear(log, told) => Err(error),
    }
}

/// Lets publishers in once an entry has gone through the log and the log was found to be whole; keeps them out while RabbitMQ does.
async fn admit(session: &Session, log: &Log, epoch: u64) -> Result<Over> {
    let gone = || error(ErrorKind::Unavailable, "the connection was lost");
    let mut blocked = session.link.blocked();
    // Others may have seen more of it than we have before RabbitMQ lost its end. What they see from now on may stand behind our entry.
    let seen = session.board.seen(log.id.0, epoch);
    loop {
        blocked.wait_for(|blocked| !blocked).await.map_err(|_| gone())?;
        let place = tokio::select! {
            place = log.fence() => place.ok_or_else(gone)?,
            _ = blocked.wait_for(|blocked| *blocked) => continue,
        };
        if seen > place.offset {
            return Ok(Over::Short);
        }
        log.outbox.open();
        log.ready.send_replace(true);
        blocked.wait_for(|blocked| *blocked).await.map_err(|_| gone())?;
        log.away(super::BLOCKED);
    }
}

/// Reads until the epoch is over.
async fn read(session: &Session, log: &Log, epoch: u64, mut feed: Feed, mut resume: Resume) -> Result<Over> {
    let failed = |fault: Fault| fault.into_error("reading a log");
    let blocked = session.link.blocked();
    let mut new = log.place().1.is_none();
    loop {
        let batch = match timeout(IDLE, feed.next(BATCH_ENTRIES, BATCH_BYTES)).await {
            Ok(Ok(batch)) => batch,
            // The queue may only have moved: whoever follows it again finds out.
            Ok(Err(Fault::Missing)) => return again(session, epoch, log).await,
            Ok(Err(fault)) => return Err(failed(fault)),
            Err(_) if !*blocked.borrow() && log.stalled(STALL) => {
                return Err(error(ErrorKind::Timeout, format!("a message of log {} did not come back within {STALL:?}", log.id)));
            }
            Err(_) => {
                feed.acknowledge(true).await.map_err(failed)?;
                continue;
            }
        };
        let mut fresh = Vec::with_capacity(batch.len());
        let mut over = None;
        for fed in batch {
            let position = place_of(epoch, fed.offset);
            let foreign = || Envelope { kind: Kind::Fence, mark: Mark { life: 0, number: 0 }, body: bytes::Bytes::new() };
            let envelope = Envelope::open(fed.data).unwrap_or_else(foreign);
            match resume.found(position, envelope.kind, envelope.mark) {
                Found::Known => continue,
                Found::Cut => over = Some(Over::Cut),
                Found::AfterHole => log.begin(before(position)),
                Found::Next if new => log.begin(before(position)),
                Found::Next => {}
            }
            new = false;
            if envelope.kind == Kind::End {
                over = over.or(Some(Over::Ended));
            }
            if over.is_some() {
                break;
            }
            fresh.push((position, envelope));
        }
        log.read(fresh);
        if let Some(over) = over {
            return Ok(over);
        }
        feed.acknowledge(false).await.map_err(failed)?;
    }
}

/// What it means that RabbitMQ has ended a reader: the queue was deleted, or only moved.
async fn again(session: &Session, epoch: u64, log: &Log) -> Result<Over> {
    match session.link.consume(&queue_of(&session.config, log.id.0, epoch), Start::Next).await {
        Err(Fault::Missing) => Ok(Over::Missing),
        Err(fault) => Err(fault.into_error("reading a log")),
        Ok(_) => Err(error(ErrorKind::Unavailable, format!("RabbitMQ has moved the queue of log {}", log.id))),
    }
}

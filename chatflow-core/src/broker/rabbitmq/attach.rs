//! Where a reader begins.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::time::{sleep, timeout};

use super::envelope::{Envelope, Kind};
use super::epochs::queue_of;
use super::fault::{Fault, error};
use super::link::Start;
use super::log::Log;
use super::place::{before, nth, offset_of, place_of};
use super::reader::Reading;
use super::session::Session;
use super::window::{BATCH_BYTES, BATCH_ENTRIES};
use super::{Links, RETRY};
use crate::broker::{Event, From};
use crate::{ErrorKind, Position, Result};

/// How long it may take to find out where a reader begins.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many entries are read first to find the last messages; then eight times as many, and so on.
const FIRST_LOOK: u64 = 64;
/// So many last messages are counted; of more, at least as many are given.
const COUNTED: u64 = 65_536;

/// A reader of `log` that begins at `from`, and the place where it begins.
pub(super) async fn attach(log: Arc<Log>, links: Links, from: From) -> Result<(Position, BoxStream<'static, Result<Event>>)> {
    let late = |_| error(ErrorKind::Timeout, format!("where to read log {} from was not found within {PATIENCE:?}", log.id));
    timeout(PATIENCE, begin(Arc::clone(&log), links, from)).await.map_err(late)?
}

async fn begin(log: Arc<Log>, links: Links, from: From) -> Result<(Position, BoxStream<'static, Result<Event>>)> {
    let away = || error(ErrorKind::Unavailable, "RabbitMQ is away");
    log.arrived().await;
    let session = links.borrow().clone();
    let at = match from {
        From::Present => log.tail(),
        From::Last(n) => match log.before_last(usize::try_from(n).unwrap_or(usize::MAX)) {
            (Some(at), ..) => at,
            (None, _, tail) => last(&*session.ok_or_else(away)?, &log, tail, n).await?,
        },
        From::Oldest => oldest(&*session.ok_or_else(away)?, &log).await?,
        From::After(last) => {
            // Another node may have read further than this one has by now.
            if last > log.tail() {
                log.fence().await.ok_or_else(away)?;
            }
            let tail = log.tail();
            if last > tail {
                return lost(session.ok_or_else(away)?, log, links, last, tail).await;
            }
            last
        }
    };
    let (_, from, _) = log.before_last(0);
    let mut reading = Reading::new(log, links, at);
    if at >= from {
        reading = reading.telling([Event::Attached(at)]);
    } else {
        reading.attach().await;
    }
    Ok((at, reading.stream()))
}

/// The log does not have what the reader has seen of it: it goes on in a new epoch, in which no place is given twice.
async fn lost(
    session: Arc<Session>,
    log: Arc<Log>,
    links: Links,
    last: Position,
    tail: Position,
) -> Result<(Position, BoxStream<'static, Result<Event>>)> {
    tracing::warn!(log = log.id.0, %last, %tail, "RabbitMQ has lost entries of a log that were read before");
    session.epochs.turn(log.id.0, tail.epoch, last.epoch).await?;
    let epoch = loop {
        let news = log.news();
        let epoch = log.tail().epoch;
        if epoch > last.epoch {
            break epoch;
        }
        news.await;
    };
    let at = Position::new(epoch, 0);
    let reading = Reading::new(log, links, at).telling([Event::Lost { last, epoch }, Event::Attached(at)]);
    Ok((at, reading.stream()))
}

/// The place before the oldest entry that there is.
async fn oldest(session: &Session, log: &Log) -> Result<Position> {
    loop {
        let epochs = session.epochs.chain().borrow().epochs(log.id.0).to_vec();
        let (_, from, tail) = log.before_last(0);
        for epoch in epochs.into_iter().filter(|epoch| *epoch <= tail.epoch) {
            let start = Position::new(epoch, 0);
            if from <= start {
                return Ok(start);
            }
            match session.link.consume(&queue_of(&session.config, log.id.0, epoch), Start::At(0)).await {
                Ok(mut feed) => match feed.next(1, 1).await {
                    // An epoch that has nothing but its end is as good as none.
                    Ok(first) if epoch == tail.epoch || first.first().is_some_and(|fed| !is_end(&fed.data)) => {
                        return Ok(first.first().map_or(start, |fed| before(place_of(epoch, fed.offset))));
                    }
                    Ok(_) | Err(Fault::Missing) => {}
                    Err(Fault::Other(error)) => return Err(error),
                },
                Err(Fault::Missing) => {}
                Err(Fault::Other(error)) => return Err(error),
            }
        }
        // The current one was deleted just now: the next comes soon.
        sleep(RETRY).await;
    }
}

fn is_end(data: &[u8]) -> bool {
    Envelope::open(data.to_vec()).is_some_and(|envelope| envelope.kind == Kind::End)
}

/// The place before the last `n` messages of the tail's epoch.
async fn last(session: &Session, log: &Log, tail: Position, n: u64) -> Result<Position> {
    let end = offset_of(tail);
    let mut entries = if n > COUNTED { n } else { FIRST_LOOK };
    loop {
        let start = end.saturating_sub(entries);
        let places = messages(session, log, tail, start, n.min(COUNTED)).await?;
        // An entry has a message at least, or is one of a few signs.
        let enough = places.len() as u64 >= n.min(COUNTED) || start == 0 || places.is_empty() && entries > COUNTED;
        match places.front() {
            Some(first) if enough && n <= COUNTED => return Ok(*first),
            Some(_) if enough => return Ok(before(place_of(tail.epoch, start))),
            None if enough => return Ok(tail),
            _ => entries = entries.saturating_mul(8),
        }
    }
}

/// The places before the last messages from `start` up to the tail, at most `most`.
async fn messages(session: &Session, log: &Log, tail: Position, start: u64, most: u64) -> Result<VecDeque<Position>> {
    let queue = queue_of(&session.config, log.id.0, tail.epoch);
    let failed = |fault: Fault| fault.into_error("reading a log");
    let mut feed = session.link.consume(&queue, Start::At(start)).await.map_err(failed)?;
    let mut places = VecDeque::new();
    loop {
        for fed in feed.next(BATCH_ENTRIES, BATCH_BYTES).await.map_err(failed)? {
            let first = place_of(tail.epoch, fed.offset);
            let count = Envelope::open(fed.data).map_or(0, |envelope| envelope.messages().count());
            places.extend((0..count).map(|index| nth(first, index)).filter(|place| *place <= tail).map(before));
            places.drain(..places.len().saturating_sub(most as usize));
            if nth(first, count.saturating_sub(1)) >= tail {
                return Ok(places);
            }
        }
        feed.acknowledge(false).await.map_err(failed)?;
    }
}

//! Where a reader begins.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::time::{sleep, timeout};

use super::envelope::{Envelope, Kind};
use super::epochs::queue_of;
use super::fault::{Fault, error};
use super::link::{PREFETCH, Start};
use super::log::Log;
use super::place::{before, nth, number_of, place_of};
use super::reader::Reading;
use super::session::Session;
use super::window::{BATCH_BYTES, BATCH_ENTRIES};
use super::{Links, RETRY};
use crate::broker::{Event, From};
use crate::{Error, ErrorKind, Position, Result};

/// How long it may take to find out where a reader begins, where that takes no longer the more there is in the log.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing may come of what has to be counted for that.
const SILENCE: Duration = Duration::from_secs(30);
/// How many entries are read first to find the last messages, and how many at most before that is thought over.
const LOOK: Range<u64> = 64..65_536;
/// How many logs are looked through at once: more would only come to their ends later, and all at the same time.
pub(super) const LOOKING: usize = 2;

/// A reader of `log` that begins at `from`, and the place where it begins.
pub(super) async fn attach(log: Arc<Log>, links: Links, from: From) -> Result<(Position, BoxStream<'static, Result<Event>>)> {
    let from = match from {
        From::Last(n) => From::After(last(&log, links.clone(), n).await?),
        from => from,
    };
    let late = |_| error(ErrorKind::Timeout, format!("where to read log {} from was not found within {PATIENCE:?}", log.id));
    timeout(PATIENCE, begin(Arc::clone(&log), links, from)).await.map_err(late)?
}

fn away() -> Error {
    error(ErrorKind::Unavailable, "RabbitMQ is away")
}

async fn begin(log: Arc<Log>, links: Links, from: From) -> Result<(Position, BoxStream<'static, Result<Event>>)> {
    log.arrived().await;
    let session = links.borrow().clone();
    let at = match from {
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
        From::Present | From::Last(_) => log.tail(),
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
            match session.link.consume_some(&queue_of(&session.config, log.id.0, epoch), Start::At(0), 1).await {
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

/// The place before the last `n` messages of the epoch that is read, or before all that there still are. An entry may hold one or
/// hundreds, so they are counted, from the end: a stretch of entries as long as the last one lets expect to be enough, and so on.
async fn last(log: &Log, mut links: Links, n: u64) -> Result<Position> {
    log.arrived().await;
    let (at, _, tail) = log.before_last(usize::try_from(n).unwrap_or(usize::MAX));
    if let Some(at) = at {
        return Ok(at);
    }
    let session = links.borrow_and_update().clone().ok_or_else(away)?;
    tokio::select! {
        place = counted(&session, log, tail, n) => place,
        // Of a connection that was given up nothing has to come.
        _ = links.changed() => Err(away()),
    }
}

async fn counted(session: &Session, log: &Log, tail: Position, n: u64) -> Result<Position> {
    // Nobody closes it.
    let _turn = session.looking.acquire().await;
    let (mut missing, mut place) = (n, tail);
    let (mut end, mut look) = (u64::try_from(number_of(tail)).unwrap_or(u64::MAX), LOOK.start);
    while end > 0 {
        let start = end.saturating_sub(look);
        let mut found = 0;
        for (first, count) in count(session, log, tail.epoch, start..end).await?.into_iter().rev() {
            if count >= missing {
                return Ok(before(nth(first, (count - missing) as usize)));
            }
            (missing, found, place) = (missing - count, found + count, before(first));
        }
        // Where nothing is left, nothing older is.
        if found == 0 && look >= LOOK.end {
            break;
        }
        let expected = (missing as f64 * look as f64 / found.max(1) as f64 * 1.25) as u64;
        (end, look) = (start, expected.clamp(LOOK.start, (look * 8).min(LOOK.end)));
    }
    Ok(place)
}

/// The entries with these offsets that there are: where each begins, and how many messages are in it.
async fn count(session: &Session, log: &Log, epoch: u64, offsets: Range<u64>) -> Result<Vec<(Position, u64)>> {
    let failed = |fault: Fault| fault.into_error("reading a log");
    let queue = queue_of(&session.config, log.id.0, epoch);
    let ahead = u16::try_from(offsets.end - offsets.start).unwrap_or(PREFETCH).min(PREFETCH);
    let mut feed = session.link.consume_some(&queue, Start::At(offsets.start), ahead).await.map_err(failed)?;
    let mut counts = Vec::new();
    loop {
        let late = |_| error(ErrorKind::Timeout, format!("nothing came of log {} within {SILENCE:?}", log.id));
        let batch = timeout(SILENCE, feed.next(BATCH_ENTRIES, BATCH_BYTES)).await.map_err(late)?.map_err(failed)?;
        let last = batch.last().map_or(0, |fed| fed.offset);
        counts.extend(batch.into_iter().filter(|fed| offsets.contains(&fed.offset)).map(|fed| {
            let count = Envelope::open(fed.data).map_or(0, |envelope| envelope.messages().count());
            (place_of(epoch, fed.offset), count as u64)
        }));
        if last + 1 >= offsets.end {
            return Ok(counts);
        }
        feed.acknowledge(false).await.map_err(failed)?;
    }
}

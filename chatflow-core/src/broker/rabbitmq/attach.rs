//! Where a reader begins.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::time::{sleep, timeout};

use super::envelope::{Envelope, Kind};
use super::epochs::queue_of;
use super::fault::{Fault, error};
use super::link::Start;
use super::log::Log;
use super::past::{self, Past};
use super::place::{before, place_of};
use super::reader::Reading;
use super::session::Session;
use super::window::BATCH_ENTRIES;
use super::{Links, RETRY};
use crate::broker::{Event, From};
use crate::{Error, ErrorKind, Position, Result};

/// How long it may take to find out where a reader begins, where that takes no longer the more there is in the log.
const PATIENCE: Duration = Duration::from_secs(10);

/// A reader of `log` that begins at `from`, and the place where it begins.
pub(super) async fn attach(log: Arc<Log>, links: Links, from: From) -> Result<(Position, BoxStream<'static, Result<Event>>)> {
    let from = match from {
        From::Last(n) => {
            let Past { at, end, messages } = past::last(&log, links.clone(), n).await?;
            if let Some(messages) = messages {
                let told = messages.chunks(BATCH_ENTRIES).map(|batch| Event::Batch(batch.to_vec()));
                let reading = Reading::new(log, links, end).telling([Event::Attached(at)]).telling(told);
                return Ok((at, reading.stream()));
            }
            From::After(at)
        }
        from => from,
    };
    let late = |_| error(ErrorKind::Timeout, format!("where to read log {} from was not found within {PATIENCE:?}", log.id));
    timeout(PATIENCE, begin(Arc::clone(&log), links, from)).await.map_err(late)?
}

pub(super) fn away() -> Error {
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

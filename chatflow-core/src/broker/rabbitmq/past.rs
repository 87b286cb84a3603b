//! The last messages of a log, which are read from its end.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use tokio::time::timeout;

use super::Links;
use super::attach::away;
use super::envelope::Envelope;
use super::epochs::queue_of;
use super::fault::{Fault, error};
use super::link::{PREFETCH, Start};
use super::log::Log;
use super::place::{before, nth, number_of, place_of};
use super::session::Session;
use super::window::{BATCH_BYTES, BATCH_ENTRIES};
use crate::broker::Delivered;
use crate::{ErrorKind, Position, Result};

/// How long nothing may come of what is read.
const SILENCE: Duration = Duration::from_secs(30);
/// How many entries are read first, and how many at most before that is thought over.
const LOOK: Range<u64> = 64..65_536;
/// How much of a log is held, bytes. Of more only the beginning is found, and then it is read again.
const HELD: usize = 4 << 20;
/// How many logs are read so at once: one after the other, each answer would be waited for; all together, the first would come to its
/// end no sooner than the last.
pub(super) const LOOKING: usize = 8;

/// What was read.
#[derive(Debug)]
pub(super) struct Past {
    /// The place before the first message.
    pub(super) at: Position,
    /// Where the log ended when reading began.
    pub(super) end: Position,
    /// What is in between; `None` when it was not read, or is more than is held.
    pub(super) messages: Option<Vec<Delivered>>,
}

/// An entry in which there are messages.
#[derive(Debug)]
struct Found {
    first: Position,
    count: u64,
    envelope: Option<Envelope>,
}

/// How much is held.
#[derive(Debug, Default)]
struct Held {
    bytes: usize,
}

impl Held {
    fn keep(&mut self, envelope: Envelope) -> Option<Envelope> {
        self.bytes += envelope.body.len();
        (!self.is_over()).then_some(envelope)
    }

    fn is_over(&self) -> bool {
        self.bytes > HELD
    }
}

/// The last `n` messages of the epoch that is read, or all that there still are. An entry may hold one or hundreds, so they are counted,
/// from the end: a stretch of entries as long as the last one lets expect to be enough, and so on.
pub(super) async fn last(log: &Log, mut links: Links, n: u64) -> Result<Past> {
    log.arrived().await;
    let (at, _, end) = log.before_last(usize::try_from(n).unwrap_or(usize::MAX));
    if let Some(at) = at {
        return Ok(Past { at, end, messages: None });
    }
    let session = links.borrow_and_update().clone().ok_or_else(away)?;
    tokio::select! {
        past = read(&session, log, end, n) => past,
        // Of a connection that was given up nothing has to come.
        _ = links.changed() => Err(away()),
    }
}

async fn read(session: &Session, log: &Log, end: Position, n: u64) -> Result<Past> {
    // Nobody closes it.
    let _turn = session.looking.acquire().await;
    let (mut at, mut missing, mut held, mut entries) = (end, n, Held::default(), VecDeque::new());
    let (mut until, mut look) = (u64::try_from(number_of(end)).unwrap_or(u64::MAX), LOOK.start);
    while missing > 0 && until > 0 {
        let start = until.saturating_sub(look);
        let mut found = 0;
        for entry in stretch(session, log, end.epoch, start..until, &mut held).await?.into_iter().rev() {
            let wanted = entry.count.min(missing);
            at = before(nth(entry.first, (entry.count - wanted) as usize));
            (missing, found) = (missing - wanted, found + wanted);
            entries.push_front(entry);
            if missing == 0 {
                break;
            }
        }
        // Where nothing is left, nothing older is.
        if found == 0 && look >= LOOK.end {
            break;
        }
        let expected = (missing as f64 * look as f64 / found.max(1) as f64 * 1.25) as u64;
        (until, look) = (start, expected.clamp(LOOK.start, (look * 8).min(LOOK.end)));
    }
    let messages =
        (!held.is_over()).then(|| entries.into_iter().flat_map(Found::messages).filter(|message| message.position > at).collect());
    Ok(Past { at, end, messages })
}

impl Found {
    fn messages(self) -> impl Iterator<Item = Delivered> {
        let messages = self.envelope.into_iter().flat_map(Envelope::messages).enumerate();
        messages.map(move |(index, bytes)| Delivered { position: nth(self.first, index), bytes })
    }
}

/// The entries with these offsets that there are and have messages.
async fn stretch(session: &Session, log: &Log, epoch: u64, offsets: Range<u64>, held: &mut Held) -> Result<Vec<Found>> {
    let failed = |fault: Fault| fault.into_error("reading a log");
    let queue = queue_of(&session.config, log.id.0, epoch);
    let ahead = u16::try_from(offsets.end - offsets.start).unwrap_or(PREFETCH).min(PREFETCH);
    let mut feed = session.link.consume_some(&queue, Start::At(offsets.start), ahead).await.map_err(failed)?;
    let mut entries = Vec::new();
    loop {
        let late = |_| error(ErrorKind::Timeout, format!("nothing came of log {} within {SILENCE:?}", log.id));
        let batch = timeout(SILENCE, feed.next(BATCH_ENTRIES, BATCH_BYTES)).await.map_err(late)?.map_err(failed)?;
        let last = batch.last().map_or(0, |fed| fed.offset);
        for fed in batch.into_iter().filter(|fed| offsets.contains(&fed.offset)) {
            let Some(envelope) = Envelope::open(fed.data) else { continue };
            let count = envelope.clone().messages().count() as u64;
            if count > 0 {
                entries.push(Found { first: place_of(epoch, fed.offset), count, envelope: held.keep(envelope) });
            }
        }
        if last + 1 >= offsets.end {
            return Ok(entries);
        }
        feed.acknowledge(false).await.map_err(failed)?;
    }
}

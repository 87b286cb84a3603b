//! From an outbox to a topic: one message at a time for each log, so that its order is that of the publishers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::client::{Cause, Fault, once, timeouts};
use super::keeper::Trouble;
use super::window::Log;
use super::wire::{self, MOST_BYTES, MOST_ENTRIES, Origin};
use crate::broker::{Completion, Receipt};
use crate::{Backoff, Error, ErrorKind, LogId, Position};

/// How long one attempt may take, and how long a message is tried. Within five minutes SNS knows a message again by its dedup id.
const ATTEMPT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(6);
/// How often a service that can't be reached is tried before the entries are given back.
const TRIES: u32 = 3;
/// How many messages of one log may be on their way back to this node before entries are collected for longer, and for how long at
/// the most: where SNS falls behind, larger messages are what helps.
const UNDER_WAY: usize = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// An entry's receipt, and the room that the entry takes until it comes back.
pub(super) struct Counted {
    pub(super) log: Arc<Log>,
    pub(super) bytes: usize,
    pub(super) receipt: Receipt,
}

impl Completion for Counted {
    fn accepted(self: Box<Self>, position: Option<Position>) {
        self.log.accepted(position.unwrap_or_default(), self.bytes);
        self.receipt.accepted(position);
    }

    fn failed(self: Box<Self>, error: Error) {
        self.log.refused(self.bytes);
        self.receipt.failed(error);
    }
}

/// Publishes what the outbox of `log` gets until it is closed and empty.
pub(super) async fn pump(shared: Arc<Shared>, log: Arc<Log>) {
    let mut under_way = VecDeque::new();
    loop {
        if under_way.len() == UNDER_WAY
            && let Some(first) = under_way.pop_front()
        {
            let _ = timeout(PAUSE, log.reaches(first)).await;
        }
        let Some(place) = publish_next(&shared, &log).await else { return };
        under_way.extend(place);
    }
}

/// Publishes the next batch; the place of its last entry, if SNS took it. `None` once the outbox is closed and empty.
async fn publish_next(shared: &Shared, log: &Arc<Log>) -> Option<Option<Position>> {
    let batch = shared.outboxes[usize::from(log.id.0)].take(MOST_ENTRIES, MOST_BYTES).await?;
    let (entries, receipts): (Vec<_>, Vec<_>) = batch.into_iter().map(|(entry, receipt)| (entry.bytes, receipt)).unzip();
    let published = publish(shared, log, &entries).await;
    log.published.store(true, Relaxed);
    match published {
        Ok(place) => {
            let mut last = None;
            for (index, receipt) in receipts.into_iter().enumerate() {
                last = place.and_then(|(epoch, sequence)| wire::place(epoch, sequence, index));
                receipt.accepted(last);
            }
            Some(last)
        }
        Err(fault) => {
            // Before the receipts: who hears of it and publishes again is refused at once.
            match fault.cause {
                Cause::Gone => shared.trouble(Trouble::Gone),
                Cause::Away | Cause::Refused => shared.trouble(Trouble::Away(fault.error.to_string())),
                Cause::Throttled | Cause::Different => {}
            }
            let text = fault.error.to_string();
            for receipt in receipts {
                receipt.failed(Error::new(ErrorKind::Unavailable, "sqs", text.clone()));
            }
            Some(None)
        }
    }
}

/// Publishes one message, and says where it stands if that is known.
///
/// Its dedup id is its own: the same entry again is another message, which the fold of repeats drops. Only the attempts at one message
/// share an id, so that one whose outcome is unknown can be made again; what SNS says of a repeat's place is nowhere written, so
/// then only the message tells where it stands, when it comes back.
async fn publish(shared: &Shared, log: &Log, entries: &[Bytes]) -> Result<Option<(u64, u128)>, Fault> {
    let Some(attached) = shared.attachment() else { return Err(Fault::odd("not attached yet")) };
    let origin = shared.origin();
    let text = wire::encode(origin, entries.iter());
    log.publishes(origin);
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let (began, mut unknown) = (Instant::now(), false);
    for attempt in 0.. {
        let fault = match shared.publish(&attached.topics[usize::from(log.id.0)], log.id, origin, &text).await {
            Ok(sequence) if !unknown => return Ok(Some((attached.epoch, sequence))),
            Ok(_) => return Ok(log.came_back()),
            Err(fault) => fault,
        };
        unknown |= fault.is(Cause::Away);
        if unknown && let Some(place) = log.came_back() {
            return Ok(Some(place));
        }
        let lasts = fault.is(Cause::Throttled) || (fault.is(Cause::Away) && attempt + 1 < TRIES);
        if !lasts || began.elapsed() > PATIENCE {
            return Err(fault);
        }
        sleep(backoff.delay(attempt)).await;
    }
    Err(Fault::odd("not published"))
}

impl Shared {
    /// The next message's origin.
    pub(super) fn origin(&self) -> Origin {
        Origin { life: self.life, nonce: self.nonce.fetch_add(1, Relaxed) }
    }

    /// Publishes a fence to the topic of `log`, whoever may wait for it.
    pub(super) async fn fence(&self, log: LogId) -> Result<Origin, Fault> {
        let attached = self.attachment().ok_or_else(|| Fault::odd("not attached yet"))?;
        let origin = self.origin();
        self.publish(&attached.topics[usize::from(log.0)], log, origin, &wire::encode(origin, std::iter::empty())).await?;
        Ok(origin)
    }

    /// One attempt; the message's sequence number.
    pub(super) async fn publish(&self, topic: &str, log: LogId, origin: Origin, text: &str) -> Result<u128, Fault> {
        let call = self.clients.sns.publish().topic_arn(topic).message_group_id(log.to_string()).message(text);
        let call = call.message_deduplication_id(format!("{:032x}-{}", origin.life, origin.nonce)).customize();
        let config = aws_sdk_sns::config::Config::builder().timeout_config(timeouts(ATTEMPT));
        let answer = once("publishing", call.config_override(config).send()).await?;
        let sequence = answer.sequence_number.and_then(|number| number.parse().ok());
        sequence.ok_or_else(|| Fault::odd("SNS gave no sequence number: the topic is no FIFO topic, or the emulator knows none"))
    }
}

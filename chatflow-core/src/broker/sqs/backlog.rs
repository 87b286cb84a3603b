//! The queue of a history: what it has not settled, whichever node writes it. Read where a node's memory does not reach, and emptied
//! behind what is settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message};
use tokio::time::{Instant, sleep, timeout_at};

use super::Shared;
use super::client::{Cause, Fault, once};
use super::keeper::Trouble;
use super::window::{Body, Item, Log, places};
use super::wire::{self, Load};
use crate::{Backoff, Position};

/// How long a received message is ours, and how long we count on it.
const HIDDEN: Duration = Duration::from_secs(5);
const HELD: Duration = Duration::from_millis(3_500);
/// How often the end of a queue that gives nothing is asked for.
const FENCE_EVERY: Duration = Duration::from_secs(5);

/// What this node knows of a log's queue for its history.
#[derive(Debug)]
pub(super) struct Backlog {
    /// The queue has everything after this place that is not settled.
    pub(super) from: Position,
    /// How many read it, on this node.
    pub(super) readers: usize,
    /// Somebody waits for what the queue has.
    pub(super) wanted: bool,
    /// How many messages the queue holds, as SQS says; asked for only where another node writes.
    pub(super) queued: u64,
    /// Read from the queue and not settled: a few messages at a time.
    items: VecDeque<Item>,
    tail: Position,
    settled: Position,
    deleted: Position,
}

impl Backlog {
    pub(super) fn new(from: Position) -> Self {
        let (items, tail, settled, deleted) = (VecDeque::new(), Position::ZERO, Position::ZERO, Position::ZERO);
        Self { from, readers: 0, wanted: false, queued: 0, items, tail, settled, deleted }
    }

    /// The queue was made anew: it has what follows `from`.
    pub(super) fn begins(&mut self, from: Position) {
        self.from = from;
        self.items.clear();
        self.tail = Position::ZERO;
    }

    pub(super) fn after(&self, at: Position) -> impl Iterator<Item = &Item> {
        let from = self.items.partition_point(|item| item.position <= at);
        self.items.range(from..)
    }

    pub(super) fn settled(&mut self, through: Position) {
        self.settled = through;
        let settled = self.items.partition_point(|item| item.position <= through);
        self.items.drain(..settled);
    }

    /// Takes in what the queue gave; what it gave before is passed over.
    pub(super) fn offer(&mut self, item: Item) {
        if item.position <= self.tail.max(self.settled) {
            return;
        }
        self.tail = item.position;
        if matches!(item.body, Body::Mark) && matches!(self.items.back(), Some(Item { body: Body::Mark, .. })) {
            self.items.pop_back();
        }
        self.items.push_back(item);
    }
}

/// A message that this node has received and not deleted.
struct Held {
    receipt: String,
    /// Its last entry; a fence has none.
    last: Option<Position>,
}

enum Chore {
    Nothing,
    Read,
    Delete,
    End,
}

/// Reads and empties the history's queue for one log, for as long as anybody reads that log for the history.
pub(super) async fn empty(shared: Arc<Shared>, log: Arc<Log>) {
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let (mut idle, mut failures, mut fenced) = (0, 0, None::<Instant>);
    loop {
        let reading = match chore(&log) {
            Chore::End => return,
            Chore::Nothing => {
                log.chores.notified().await;
                continue;
            }
            Chore::Read => true,
            Chore::Delete => false,
        };
        let Some(url) = shared.attachment().and_then(|attached| attached.histories.get(usize::from(log.id.0)).cloned()) else {
            sleep(backoff.delay(4)).await;
            continue;
        };
        match receive(&shared, &url).await {
            Ok(messages) if messages.is_empty() => {
                (idle, failures) = (idle + 1, 0);
                if !reading && idle >= 3 {
                    // What was settled was deleted before, or comes with what is settled next.
                    idle = 0;
                    deleted(&log, Position::MAX);
                } else if reading && fenced.is_none_or(|at| at.elapsed() > FENCE_EVERY) {
                    // A fence that comes through the queue says that nothing stood before it.
                    fenced = Some(Instant::now());
                    if let Err(fault) = shared.fence(log.id).await {
                        tracing::debug!(log = log.id.0, error = %fault.error, "no fence; trying again");
                    }
                }
            }
            Ok(messages) => {
                (idle, failures) = (0, 0);
                let until = Instant::now() + HELD;
                let held = take(&shared, &log, messages);
                log.news.notify_waiters();
                while log.is_written() && held.iter().any(|held| !log.has_settled(held.last)) {
                    if timeout_at(until, log.chores.notified()).await.is_err() {
                        break;
                    }
                }
                let last = held.iter().filter_map(|held| held.last).max();
                let (done, rest): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| log.has_settled(held.last));
                let whole = rest.is_empty();
                match delete(&shared, &url, done.into_iter().map(|held| held.receipt)).await {
                    Ok(()) if whole => deleted(&log, last.unwrap_or_default()),
                    Ok(()) => {}
                    Err(fault) => tracing::debug!(log = log.id.0, error = %fault.error, "not deleted; it will be, later"),
                }
                if Instant::now() < until {
                    give_back(&shared, &url, rest).await;
                }
            }
            Err(fault) => {
                if log.state.lock().closed {
                    return;
                }
                failures += 1;
                match fault.cause {
                    Cause::Gone => shared.trouble(Trouble::Gone),
                    // One broken connection says nothing.
                    _ if failures > 1 => shared.trouble(Trouble::Away(fault.error.to_string())),
                    _ => {}
                }
                sleep(backoff.delay(failures)).await;
            }
        }
    }
}

fn chore(log: &Log) -> Chore {
    let state = log.state.lock();
    match &state.backlog {
        Some(backlog) if backlog.wanted && backlog.readers > 0 => Chore::Read,
        Some(backlog) if (backlog.readers > 0 || state.closed) && backlog.settled > backlog.deleted => Chore::Delete,
        Some(backlog) if backlog.readers > 0 => Chore::Nothing,
        _ if state.closed => Chore::End,
        _ => Chore::Nothing,
    }
}

/// Everything settled up to `through` is not in the queue any more.
fn deleted(log: &Log, through: Position) {
    if let Some(backlog) = &mut log.state.lock().backlog {
        backlog.deleted = backlog.deleted.max(through.min(backlog.settled));
    }
}

impl Log {
    /// Whether this node writes the log into the history.
    fn is_written(&self) -> bool {
        self.state.lock().backlog.as_ref().is_some_and(|backlog| backlog.readers > 0)
    }

    fn has_settled(&self, last: Option<Position>) -> bool {
        last.is_none_or(|last| last <= self.state.lock().settled)
    }
}

/// Gives messages to the readers.
fn take(shared: &Shared, log: &Log, messages: Vec<Message>) -> Vec<Held> {
    let mut held = Vec::with_capacity(messages.len());
    let mut state = log.state.lock();
    let Some(backlog) = &mut state.backlog else { return held };
    for message in messages {
        let (receipt, body) = (message.receipt_handle.unwrap_or_default(), message.body.unwrap_or_default());
        let incoming = wire::decode(&body).and_then(|incoming| Some((shared.names()?.parse_topic(&incoming.topic)?.1, incoming)));
        let Some((epoch, incoming)) = incoming else {
            tracing::error!(log = log.id.0, "a message that is none of this installation's was in the history's queue");
            held.push(Held { receipt, last: None });
            continue;
        };
        let last = match &incoming.load {
            Load::Fence => {
                let position = wire::place(epoch, incoming.sequence, 0);
                position.into_iter().for_each(|position| backlog.offer(Item { position, body: Body::Mark }));
                None
            }
            Load::Entries(entries) => {
                let entries = places(epoch, incoming.sequence, entries);
                entries.map(|(position, bytes)| (position, Item { position, body: Body::Entry(bytes.clone()) })).fold(
                    None,
                    |_, (position, item)| {
                        backlog.offer(item);
                        Some(position)
                    },
                )
            }
        };
        held.push(Held { receipt, last });
    }
    held
}

async fn receive(shared: &Shared, url: &str) -> Result<Vec<Message>, Fault> {
    let call = shared.clients.sqs.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(1);
    let answer = once("reading the history's queue", call.visibility_timeout(HIDDEN.as_secs() as i32).send()).await?;
    Ok(answer.messages.unwrap_or_default())
}

/// Deletes received messages, at most ten.
pub(super) async fn delete(shared: &Shared, url: &str, receipts: impl Iterator<Item = String>) -> Result<(), Fault> {
    let entry = |(i, receipt): (usize, String)| DeleteMessageBatchRequestEntry::builder().id(i.to_string()).receipt_handle(receipt).build();
    let entries: Vec<_> = receipts.enumerate().filter_map(|entry_of| entry(entry_of).ok()).collect();
    if entries.is_empty() {
        return Ok(());
    }
    let answer =
        once("deleting from a queue", shared.clients.sqs.delete_message_batch().queue_url(url).set_entries(Some(entries)).send()).await?;
    if answer.failed.is_empty() { Ok(()) } else { Err(Fault::odd("some messages were not deleted")) }
}

/// Lets others have what this node did not need. Nobody waits for it: the messages come back by themselves.
async fn give_back(shared: &Shared, url: &str, held: Vec<Held>) {
    let entry = |(i, held): (usize, Held)| {
        ChangeMessageVisibilityBatchRequestEntry::builder().id(i.to_string()).receipt_handle(held.receipt).visibility_timeout(0).build()
    };
    let entries: Vec<_> = held.into_iter().enumerate().filter_map(|held| entry(held).ok()).collect();
    if !entries.is_empty() {
        let call = shared.clients.sqs.change_message_visibility_batch().queue_url(url).set_entries(Some(entries));
        let _ = once("giving messages back", call.send()).await;
    }
}

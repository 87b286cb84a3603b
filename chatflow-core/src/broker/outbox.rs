//! What waits to be given to a backend.

use std::collections::VecDeque;
use std::pin::pin;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Entry, Receipt, Refused};
use crate::{Error, ErrorKind};

/// Entries of one log that wait to be given to its backend: bounded, in the order of `push`, refused at once while the backend is
/// away. One task takes them, in batches that are as large as the queue has grown meanwhile, and does not wait when it is short.
#[derive(Debug)]
#[allow(dead_code, reason = "only the brokers behind features use it")]
pub(crate) struct Outbox {
    state: Mutex<State>,
    news: Notify,
    most_entries: usize,
    most_bytes: usize,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<(Entry, Receipt)>,
    bytes: usize,
    gate: Gate,
}

#[derive(Debug)]
enum Gate {
    Open,
    /// The backend is away, and why.
    Away(String),
    Closed,
}

impl Gate {
    fn check(&self) -> Result<(), Error> {
        match self {
            Self::Open => Ok(()),
            Self::Away(why) => Err(Error::new(ErrorKind::Unavailable, "broker", why.clone())),
            Self::Closed => Err(Error::new(ErrorKind::Closed, "broker", "the broker was closed")),
        }
    }
}

#[allow(dead_code, reason = "only the brokers behind features use it")]
impl Outbox {
    /// An empty one, whose backend is away until it [opens](Self::open).
    pub(crate) fn new(most_entries: usize, most_bytes: usize) -> Self {
        let state = State { queue: VecDeque::new(), bytes: 0, gate: Gate::Away("not connected yet".into()) };
        Self { state: Mutex::new(state), news: Notify::new(), most_entries, most_bytes }
    }

    /// Puts an entry at the end.
    pub(crate) fn push(&self, entry: Entry, receipt: Receipt) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if let Err(error) = state.gate.check() {
            return Err(Refused { error, receipt });
        }
        if state.queue.len() >= self.most_entries || state.bytes + entry.bytes.len() > self.most_bytes {
            let error =
                Error::new(ErrorKind::Full, "broker", format!("log {}: {} messages wait for the broker", entry.log, state.queue.len()));
            return Err(Refused { error, receipt });
        }
        state.bytes += entry.bytes.len();
        state.queue.push_back((entry, receipt));
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// The next entries, at least one, at most so many and (beyond the first) of so many bytes; `None` once it is closed and empty.
    /// One task calls it.
    ///
    /// # Cancel safety
    /// Nothing is taken by a call that is dropped.
    pub(crate) async fn take(&self, most: usize, bytes: usize) -> Option<Vec<(Entry, Receipt)>> {
        loop {
            let mut news = pin!(self.news.notified());
            news.as_mut().enable();
            {
                let mut state = self.state.lock();
                let batch = state.take(most, bytes);
                if !batch.is_empty() {
                    return Some(batch);
                }
                if matches!(state.gate, Gate::Closed) {
                    return None;
                }
            }
            news.await;
        }
    }

    /// The backend is there.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock();
        if matches!(state.gate, Gate::Away(_)) {
            state.gate = Gate::Open;
        }
    }

    /// The backend is away: what waits fails, and what comes is refused, until it opens again. How many entries and bytes failed.
    pub(crate) fn away(&self, why: &str) -> (usize, usize) {
        let (waiting, bytes) = {
            let mut state = self.state.lock();
            if !matches!(state.gate, Gate::Closed) {
                state.gate = Gate::Away(why.to_owned());
            }
            (std::mem::take(&mut state.queue), std::mem::take(&mut state.bytes))
        };
        let failed = (waiting.len(), bytes);
        // Told without the lock: a receipt may publish again.
        for (_, receipt) in waiting {
            receipt.failed(Error::new(ErrorKind::Unavailable, "broker", why.to_owned()));
        }
        failed
    }

    /// Takes nothing more; what waits can still be taken.
    pub(crate) fn close(&self) {
        self.state.lock().gate = Gate::Closed;
        self.news.notify_one();
    }

    /// Whether entries are taken.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state.lock().gate, Gate::Open)
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state.lock().gate, Gate::Closed)
    }

    /// How many entries wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().queue.len()
    }
}

#[allow(dead_code, reason = "only the brokers behind features use it")]
impl State {
    fn take(&mut self, most: usize, bytes: usize) -> Vec<(Entry, Receipt)> {
        let mut taken = 0;
        let fits = |(entry, _): &&(Entry, Receipt)| {
            taken += entry.bytes.len();
            taken <= bytes || taken == entry.bytes.len()
        };
        let count = self.queue.iter().take(most).take_while(fits).count();
        let batch: Vec<_> = self.queue.drain(..count).collect();
        self.bytes -= batch.iter().map(|(entry, _)| entry.bytes.len()).sum::<usize>();
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogId, Message, MessageId, RoomId, Timestamp, kind};

    fn entry(body: usize) -> Entry {
        let message = Message {
            id: MessageId::now_v7(),
            room: RoomId::new("room").unwrap(),
            sender: "1".into(),
            kind: kind::TEXT,
            body: vec![b'x'; body].into(),
            digest: 0,
            at: Timestamp(0),
            node: "n".into(),
            session: 0,
            origin: "".into(),
        };
        Entry::new(LogId(0), &message)
    }

    fn push(outbox: &Outbox, body: usize) -> Result<(), ErrorKind> {
        outbox.push(entry(body), Receipt::ignored()).map_err(|refused| refused.error.kind())
    }

    #[tokio::test]
    async fn batches_keep_the_order_and_their_bounds() {
        let outbox = Outbox::new(10, 10_000);
        outbox.open();
        let sizes = [10, 20, 3_000, 30];
        sizes.iter().for_each(|size| push(&outbox, *size).unwrap());
        let one = entry(0).bytes.len();
        let batch = |batch: Vec<(Entry, Receipt)>| batch.iter().map(|(entry, _)| entry.bytes.len() - one).collect::<Vec<_>>();
        assert_eq!(batch(outbox.take(10, 1_000).await.unwrap()), [10, 20], "the large one does not fit");
        assert_eq!(batch(outbox.take(10, 1_000).await.unwrap()), [3_000], "the first one always does");
        push(&outbox, 40).unwrap();
        assert_eq!(batch(outbox.take(1, 1_000).await.unwrap()), [30]);
        outbox.close();
        assert_eq!(batch(outbox.take(1, 1_000).await.unwrap()), [40]);
        assert!(outbox.take(1, 1_000).await.is_none());
    }

    #[test]
    fn it_is_bounded_and_refuses_while_the_backend_is_away() {
        let outbox = Outbox::new(2, 10_000);
        assert_eq!(push(&outbox, 1), Err(ErrorKind::Unavailable));
        outbox.open();
        push(&outbox, 1).unwrap();
        push(&outbox, 1).unwrap();
        assert_eq!(push(&outbox, 1), Err(ErrorKind::Full));
        outbox.away("gone");
        assert_eq!((outbox.len(), push(&outbox, 1)), (0, Err(ErrorKind::Unavailable)));
        outbox.open();
        push(&outbox, 1).unwrap();
        assert_eq!(push(&outbox, 20_000), Err(ErrorKind::Full), "by bytes, too");
        outbox.close();
        assert_eq!(push(&outbox, 1), Err(ErrorKind::Closed));
        outbox.open();
        assert!(!outbox.is_open(), "closed is for good");
    }
}

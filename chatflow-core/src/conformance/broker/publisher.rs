//! Who publishes in the cases: one entry and its fate, or two nodes that keep publishing while something happens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{LOG, PATIENCE, in_time};
use crate::broker::{Broker, Completion, Entry, Receipt};
use crate::{Error, ErrorKind, Message, MessageId, Position, Result, RoomId, Timestamp, kind};

pub(super) fn message(text: &str) -> Message {
    Message {
        id: MessageId::now_v7(),
        room: RoomId::new("room").expect("a valid name"),
        sender: "1".into(),
        kind: kind::TEXT,
        body: text.to_owned().into(),
        digest: 1,
        at: Timestamp::now(),
        node: "n".into(),
        session: 0,
        origin: "".into(),
    }
}

pub(super) fn entry(text: &str) -> Entry {
    Entry::new(LOG, &message(text))
}

struct Told(oneshot::Sender<Result<Option<Position>>>);

impl Completion for Told {
    fn accepted(self: Box<Self>, position: Option<Position>) {
        let _ = self.0.send(Ok(position));
    }

    fn failed(self: Box<Self>, error: Error) {
        let _ = self.0.send(Err(error));
    }
}

/// Submits, and waits for the fate: refused by the call and failed by the receipt are the same to a sender.
pub(super) async fn offer(broker: &Arc<dyn Broker>, text: &str) -> Result<Option<Position>> {
    let (tell, told) = oneshot::channel();
    broker.submit(entry(text), Receipt::new(Box::new(Told(tell)))).map_err(|refused| refused.error)?;
    in_time("a receipt is told", told).await.expect("told")
}

/// Publishes to a healthy broker. A log that was full a moment ago may take a moment to learn that it was settled.
pub(super) async fn publish(broker: &Arc<dyn Broker>, text: &str) -> Option<Position> {
    let begin = Instant::now();
    loop {
        match offer(broker, text).await {
            Ok(position) => return position,
            Err(error) if error.kind() == ErrorKind::Full && begin.elapsed() < PATIENCE => sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{text:?} is not accepted: {error}"),
        }
    }
}

/// Publishes to a broker that is recovering, each time another text since a failure does not tell whether the entry is in the log;
/// which one was accepted.
pub(super) async fn publish_until_accepted(broker: &Arc<dyn Broker>, name: &str) -> String {
    let begin = Instant::now();
    for i in 0.. {
        let text = format!("{name} {i}");
        match offer(broker, &text).await {
            Ok(_) => return text,
            Err(error) if error.is_transient() && begin.elapsed() < PATIENCE => sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{text:?} is not accepted: {error}"),
        }
    }
    unreachable!()
}

/// How many entries of one publisher wait for their receipts, at most.
const WINDOW: u32 = 16;

/// What became of one publisher's entries. Its texts are its name and a number that grows.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// How many were made.
    pub(super) made: u64,
    pub(super) accepted: Vec<(String, Option<Position>)>,
    failures: Vec<Error>,
}

struct Counted {
    text: String,
    sent: Arc<watch::Sender<Sent>>,
    /// Goes back when the receipt is told.
    _window: OwnedSemaphorePermit,
}

impl Completion for Counted {
    fn accepted(self: Box<Self>, position: Option<Position>) {
        let Self { text, sent, _window } = *self;
        sent.send_modify(|sent| sent.accepted.push((text, position)));
    }

    fn failed(self: Box<Self>, error: Error) {
        self.sent.send_modify(|sent| sent.failures.push(error));
    }
}

struct Publisher {
    sent: watch::Receiver<Sent>,
    window: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Publisher {
    fn start(broker: Arc<dyn Broker>, name: &'static str) -> Self {
        let (sent, made) = (Arc::new(watch::Sender::new(Sent::default())), Arc::new(Semaphore::new(WINDOW as usize)));
        let (receiver, window) = (sent.subscribe(), Arc::clone(&made));
        let task = tokio::spawn(async move {
            for i in 0.. {
                let Ok(permit) = Arc::clone(&made).acquire_owned().await else { return };
                sent.send_modify(|sent| sent.made = i + 1);
                let text = format!("{name} {i}");
                let told = Counted { text: text.clone(), sent: Arc::clone(&sent), _window: permit };
                let refused = broker.submit(entry(&text), Receipt::new(Box::new(told))).is_err();
                // A few at once, then a breath: the traffic is there to be looked at, not to be a load.
                if refused || i % 4 == 3 {
                    sleep(Duration::from_millis(2)).await;
                }
            }
        });
        Self { sent: receiver, window, task }
    }
}

/// Two nodes that publish at once, until they are told to stop.
pub(super) struct Traffic([Publisher; 2]);

impl Traffic {
    pub(super) fn start([one, other]: &[Arc<dyn Broker>; 2]) -> Self {
        Self([Publisher::start(Arc::clone(one), "a"), Publisher::start(Arc::clone(other), "b")])
    }

    /// Waits until so many more of each were accepted.
    pub(super) async fn more(&mut self, n: usize) {
        for publisher in &mut self.0 {
            let goal = publisher.sent.borrow().accepted.len() + n;
            let reached = publisher.sent.wait_for(|sent| sent.accepted.len() >= goal);
            in_time("entries are accepted", reached).await.expect("it publishes");
        }
    }

    /// How many entries each has made by now.
    pub(super) fn made(&self) -> [u64; 2] {
        self.0.each_ref().map(|publisher| publisher.sent.borrow().made)
    }

    /// Stops, and waits until each receipt was told.
    pub(super) async fn stop(mut self) -> [Sent; 2] {
        let mut all = Vec::new();
        for publisher in &mut self.0 {
            publisher.task.abort();
            let told = publisher.window.acquire_many(WINDOW);
            in_time("each receipt is told", told).await.expect("it is never closed").forget();
            let sent = publisher.sent.borrow();
            if let Some(error) = sent.failures.iter().find(|error| !error.is_transient()) {
                panic!("refused for good: {error}");
            }
            all.push(Sent { made: sent.made, accepted: sent.accepted.clone(), failures: Vec::new() });
        }
        all.try_into().expect("two of them")
    }
}

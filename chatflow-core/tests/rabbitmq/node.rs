//! A node that publishes and reads, as far as a test of a broker needs one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use chatflow_core::broker::rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use chatflow_core::broker::{Broker, Completion, Delivered, Entry, Event, From, Opening, Reader, Receipt};
use chatflow_core::{Error, LogId, Message, MessageId, Position, Result, RoomId, Timestamp, kind};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// Long enough for a busy machine; nothing waits this long unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const LOG: LogId = LogId(0);

pub(crate) type Events = BoxStream<'static, Result<Event>>;

/// Two logs, under a prefix that nobody else has.
pub(crate) fn config(url: &str) -> RabbitMqConfig {
    static PREFIXES: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("case{}", PREFIXES.fetch_add(1, Relaxed));
    RabbitMqConfig::new(url).with_prefix(prefix).with_logs(2)
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

/// An opened broker.
pub(crate) async fn node(name: &str, history: Option<&str>, config: RabbitMqConfig) -> Arc<dyn Broker> {
    let broker = RabbitMqBroker::new(config).unwrap();
    let mut opening = Opening::new(name.to_owned());
    if let Some(history) = history {
        opening = opening.with_history(history, 0);
    }
    broker.open(&opening).await.unwrap();
    Arc::new(broker)
}

fn entry(text: &str) -> Entry {
    let message = Message {
        id: MessageId::now_v7(),
        room: RoomId::new("room").unwrap(),
        sender: "1".into(),
        kind: kind::TEXT,
        body: text.to_owned().into(),
        digest: 1,
        at: Timestamp::now(),
        node: "n".into(),
        session: 0,
        origin: "".into(),
    };
    Entry::new(LOG, &message)
}

/// Submits; the answer comes later.
pub(crate) fn submit(broker: &Arc<dyn Broker>, text: &str) -> Result<oneshot::Receiver<Result<Option<Position>>>> {
    let (tell, told) = oneshot::channel();
    broker.submit(entry(text), Receipt::new(Box::new(Told(tell)))).map_err(|refused| refused.error)?;
    Ok(told)
}

/// Submits until it is accepted.
pub(crate) async fn publish(broker: &Arc<dyn Broker>, text: &str) -> Position {
    let accepted = async {
        loop {
            if let Ok(told) = submit(broker, text)
                && let Ok(position) = told.await.unwrap()
            {
                return position.expect("this broker knows it");
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, accepted).await.expect("accepted in time")
}

/// Waits until `condition` holds; gives how long that took.
async fn wait_for(what: &str, condition: impl AsyncFn() -> bool) -> Duration {
    let begun = Instant::now();
    let held = async {
        while !condition().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, held).await.expect(what);
    begun.elapsed()
}

/// Until it says that it is healthy; gives how long that took.
pub(crate) async fn healthy(broker: &Arc<dyn Broker>) -> Duration {
    wait_for("healthy", async || broker.status().await.healthy).await
}

/// Until a publisher is refused at once.
pub(crate) async fn refused(broker: &Arc<dyn Broker>) -> Error {
    wait_for("refused", async || submit(broker, "too early").is_err()).await;
    submit(broker, "too early").expect_err("it is away")
}

/// Publishes `<name>0`, `<name>1`, … until it is told to stop; gives what was accepted.
pub(crate) fn chatter(broker: &Arc<dyn Broker>, name: &'static str) -> (oneshot::Sender<()>, tokio::task::JoinHandle<Vec<String>>) {
    let (stop, mut stopped) = oneshot::channel();
    let broker = Arc::clone(broker);
    let (tell, mut answers) = mpsc::channel(100);
    tokio::spawn(async move {
        for i in 0.. {
            let text = format!("{name}{i}");
            match submit(&broker, &text) {
                Ok(told) => {
                    if tell.send((text, told)).await.is_err() {
                        return;
                    }
                }
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
            if stopped.try_recv().is_ok() {
                return;
            }
        }
    });
    let accepted = tokio::spawn(async move {
        let mut accepted = Vec::new();
        while let Some((text, told)) = answers.recv().await {
            if told.await.unwrap().is_ok() {
                accepted.push(text);
            }
        }
        accepted
    });
    (stop, accepted)
}

pub(crate) async fn attach(broker: &Arc<dyn Broker>, reader: Reader, from: From) -> Events {
    timeout(PATIENCE, broker.read(LOG, reader, from)).await.expect("in time").unwrap()
}

pub(crate) async fn next(events: &mut Events) -> Event {
    timeout(PATIENCE, events.next()).await.expect("an event in time").expect("an event").unwrap()
}

/// What a reader was told until `last` came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) entries: Vec<Delivered>,
    pub(crate) lost: Vec<(Position, u64)>,
    pub(crate) attached: Vec<Position>,
}

impl Seen {
    pub(crate) fn extend(&mut self, more: Self) {
        self.entries.extend(more.entries);
        self.lost.extend(more.lost);
        self.attached.extend(more.attached);
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        let body = |entry: &Delivered| String::from_utf8(Message::decode(entry.bytes.clone()).unwrap().body.to_vec()).unwrap();
        self.entries.iter().map(body).collect()
    }
}

pub(crate) async fn until(events: &mut Events, last: &str) -> Seen {
    let mut seen = Seen::default();
    loop {
        let event = next(events).await;
        let fresh = matches!(event, Event::Batch(_));
        take(&mut seen, event);
        if fresh && seen.texts().iter().any(|text| text == last) {
            return seen;
        }
    }
}

pub(crate) fn take(seen: &mut Seen, event: Event) {
    match event {
        Event::Batch(batch) => seen.entries.extend(batch),
        Event::Lost { last, epoch } => seen.lost.push((last, epoch)),
        Event::Attached(position) => seen.attached.push(position),
        other => panic!("{other:?}"),
    }
}

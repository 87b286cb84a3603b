//! ChatFlow's backend.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chatflow_core::broker::rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use chatflow_core::broker::redis::{RedisBroker, RedisBrokerConfig};
use chatflow_core::broker::{Broker, Completion, Entry, Event, From, LogId, Opening, Reader, Receipt};
use chatflow_core::{Error, Message, MessageId, Position, RoomId, Timestamp, kind};
use futures::StreamExt;

use crate::{Args, Kind, Place, Window};

impl Completion for Place {
    fn accepted(self: Box<Self>, _position: Option<Position>) {
        self.confirm();
    }

    fn failed(self: Box<Self>, error: Error) {
        panic!("not accepted: {error}");
    }
}

pub(crate) async fn rate(url: &str, args: &Args, round: usize, span: Duration) -> f64 {
    let prefix = format!("round{round}");
    let broker: Arc<dyn Broker> = match args.broker {
        Kind::Redis => Arc::new(RedisBroker::new(RedisBrokerConfig::new(url).with_prefix(prefix).with_logs(args.logs)).unwrap()),
        Kind::RabbitMq => Arc::new(RabbitMqBroker::new(RabbitMqConfig::new(url).with_prefix(prefix).with_logs(args.logs)).unwrap()),
    };
    broker.open(&Opening::new("bench")).await.unwrap();
    let readers: Vec<_> = (0..args.logs).map(|log| tokio::spawn(read(Arc::clone(&broker), LogId(log)))).collect();
    let (text, window) = (Bytes::from("x".repeat(args.size)), Window::new(args.window));
    let rate = window.rate(span, async |n, place| {
        let log = LogId((n % u64::from(args.logs)) as u16);
        let entry = Entry::new(log, &message(text.clone()));
        broker.submit(entry, Receipt::new(Box::new(place))).unwrap();
    });
    let rate = rate.await;
    broker.close().await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    rate
}

/// Reads a log to its end, and settles what it has read.
async fn read(broker: Arc<dyn Broker>, log: LogId) {
    let mut events = broker.read(log, Reader::Node, From::Present).await.unwrap();
    while let Some(event) = events.next().await {
        let Event::Batch(batch) = event.unwrap() else { continue };
        let Some(last) = batch.last() else { continue };
        // Told again with the next batch if it fails.
        drop(broker.settle(log, last.position).await);
    }
}

fn message(body: Bytes) -> Message {
    Message {
        id: MessageId::now_v7(),
        room: RoomId::new("bench").unwrap(),
        sender: "1".into(),
        kind: kind::TEXT,
        body,
        digest: 0,
        at: Timestamp(0),
        node: "n".into(),
        session: 0,
        origin: "".into(),
    }
}

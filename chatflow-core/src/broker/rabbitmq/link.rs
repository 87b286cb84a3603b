//! The connections to RabbitMQ: one to publish messages, one to read, and one for the calls between, so that an alarm that stops
//! publishers does not stop readers, and no call waits behind a thousand messages.

use std::time::Duration;

use futures::future::try_join;
use futures::stream::select_all;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, Event};
use tokio::sync::watch;
use tokio::time::timeout;

use super::config::{RabbitMqConfig, place};
use super::envelope::{Envelope, Kind, Mark};
use super::fault::{Fault, error, explain};
use super::window::{BATCH_BYTES, BATCH_ENTRIES};
use crate::{ErrorKind, Result};

/// How long an answer to a call may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Entries on their way to a consumer that it has not taken, of 64 KiB each unless a message is larger.
pub(super) const PREFETCH: u16 = 1_000;

/// Where reading a stream queue begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At this offset, or at the first that there still is.
    At(u64),
    /// With the next entry.
    Next,
    /// With entries of the last so many seconds.
    Since(Duration),
}

/// The largest frame, if the address says no other: the client library holds buffers for 32 of them, both ways, for each connection.
/// A larger entry takes several.
const LARGEST_FRAME: u32 = 32 << 10;

/// All connections, for as long as all are there.
pub(super) struct Link {
    publishing: Connection,
    reading: Connection,
    calling: Connection,
    blocked: watch::Sender<bool>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("blocked", &*self.blocked.borrow()).finish_non_exhaustive()
    }
}

impl Link {
    /// Makes all connections; the handshake of each may take so long.
    pub(super) async fn connect(uri: &AMQPUri, name: &str, patience: Duration) -> Result<Self> {
        let connect = |what: &str| {
            let properties = ConnectionProperties::default().with_connection_name(format!("{name} {what}").into());
            let mut uri = uri.clone();
            uri.query.frame_max.get_or_insert(LARGEST_FRAME);
            async move {
                let what = format!("connecting to {}", place(&uri));
                let late = |_| error(ErrorKind::Unavailable, format!("{what}: no answer within {patience:?}"));
                let connection = timeout(patience, Connection::connect_uri(uri, properties)).await.map_err(late)?;
                connection.map_err(|cause| explain(&what, cause))
            }
        };
        let calling = connect("calls").await?;
        let publishing = connect("publishes").await?;
        let reading = connect("reads").await?;
        Ok(Self { publishing, reading, calling, blocked: watch::Sender::new(false) })
    }

    /// Whether RabbitMQ takes nothing from publishers just now.
    pub(super) fn blocked(&self) -> watch::Receiver<bool> {
        self.blocked.subscribe()
    }

    /// Follows what RabbitMQ says of the connections, until one of them is gone.
    pub(super) async fn broken(&self) -> crate::Error {
        let connections = [&self.publishing, &self.reading, &self.calling];
        let mut blocked = connections.map(|connection| connection.status().blocked());
        let events = connections.iter().enumerate().map(|(i, connection)| connection.events_listener().map(move |event| (i, event)));
        let mut events = select_all(events.map(StreamExt::boxed));
        // What happened before anybody listened.
        self.blocked.send_replace(blocked.contains(&true));
        if !connections.iter().all(|connection| connection.status().connected()) {
            return error(ErrorKind::Unavailable, "the connection was lost");
        }
        while let Some((i, event)) = events.next().await {
            match event {
                Event::ConnectionBlocked(why) => {
                    tracing::warn!(why, "RabbitMQ has blocked publishers");
                    blocked[i] = true;
                }
                Event::ConnectionUnblocked => blocked[i] = false,
                Event::Error(cause) if !connections[i].status().connected() => return explain("the connection was lost", cause),
                _ => {}
            }
            self.blocked.send_if_modified(|any| std::mem::replace(any, blocked.contains(&true)) != *any);
        }
        error(ErrorKind::Unavailable, "the connection is closed")
    }

    /// A channel whose publishes are confirmed.
    pub(super) async fn publisher(&self) -> Result<Channel> {
        confirming(&self.publishing).await.map_err(|fault| fault.into_error("opening a channel"))
    }

    /// Makes a stream queue unless it is there.
    pub(super) async fn declare(&self, queue: &str, arguments: FieldTable) -> Result<()> {
        let what = format!("making the queue {queue}");
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        answer(&what, async {
            let channel = self.calling.create_channel().await?;
            channel.queue_declare(queue.into(), options, arguments).await.map(drop)
        })
        .await
        .map_err(|fault| fault.into_error(&what))
    }

    /// Deletes a queue if it is there.
    pub(super) async fn delete(&self, queue: &str) -> Result<()> {
        let what = format!("deleting the queue {queue}");
        let deleted = answer(&what, async {
            let channel = self.calling.create_channel().await?;
            channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.map(drop)
        });
        match deleted.await {
            Ok(()) | Err(Fault::Missing) => Ok(()),
            Err(Fault::Other(error)) => Err(error),
        }
    }

    /// Puts one entry into `queue` and waits until RabbitMQ has it, or has no such queue.
    pub(super) async fn put(&self, queue: &str, entry: &[u8]) -> Result<()> {
        let put = async {
            let channel = confirming(&self.calling).await?;
            let options = BasicPublishOptions::default();
            let put = async { channel.basic_publish("".into(), queue.into(), options, entry, BasicProperties::default()).await?.await };
            answer("publishing", put).await
        };
        match put.await {
            Ok(Confirmation::Nack(_)) => Err(error(ErrorKind::Unavailable, "RabbitMQ could not keep what was put into a queue")),
            Ok(_) => Ok(()),
            Err(fault) => Err(fault.into_error("publishing")),
        }
    }

    /// Ends a log's epoch for everybody: what comes after this entry does not count.
    pub(super) async fn end(&self, queue: &str, mark: Mark) -> Result<()> {
        self.put(queue, &Envelope::sign(Kind::End, mark)).await
    }

    /// Puts a sign into a log and reads it back: its offset is where the log ends. RabbitMQ gives whoever asks for a place beyond the
    /// end nothing before the log is that long, so nobody who has read more than there is would find out by reading on.
    pub(super) async fn probe(&self, queue: &str, sign: Kind, mark: Mark) -> Result<u64, Fault> {
        let mut feed = self.consume(queue, Start::Next).await?;
        self.put(queue, &Envelope::sign(sign, mark)).await.map_err(Fault::Other)?;
        let came = async {
            loop {
                let mut fed = feed.next(BATCH_ENTRIES, BATCH_BYTES).await?.into_iter();
                let of_ours = |data| Envelope::open(data).is_some_and(|envelope| envelope.mark == mark);
                if let Some(offset) = fed.find_map(|fed| of_ours(fed.data).then_some(fed.offset)) {
                    return Ok(offset);
                }
                feed.acknowledge(true).await?;
            }
        };
        let late = |_| Err(Fault::Other(error(ErrorKind::Timeout, format!("the queue {queue} does not give back what was put into it"))));
        timeout(PATIENCE, came).await.unwrap_or_else(late)
    }

    /// Reads a stream queue.
    pub(super) async fn consume(&self, queue: &str, start: Start) -> Result<Feed, Fault> {
        self.consume_some(queue, start, PREFETCH).await
    }

    /// Reads so many entries of a stream queue, and what follows them if they are not enough after all.
    pub(super) async fn consume_some(&self, queue: &str, start: Start, ahead: u16) -> Result<Feed, Fault> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), start.argument());
        let what = format!("reading the queue {queue}");
        let (channel, consumer) = answer(&what, async {
            let channel = self.reading.create_channel().await?;
            // One behind the other, but not one after the other's answer: a busy server takes its time for each.
            let ahead = channel.basic_qos(ahead, BasicQosOptions::default());
            let consumer = channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), arguments);
            let ((), consumer) = try_join(ahead, consumer).await?;
            Ok((channel, consumer))
        })
        .await?;
        // More is sent for long before all are read, unless no more is wanted.
        let due = if ahead < PREFETCH { ahead } else { PREFETCH / 4 };
        Ok(Feed { channel, consumer, unacknowledged: 0, due, last: 0, ended: None })
    }
}

impl Start {
    fn argument(self) -> AMQPValue {
        match self {
            Self::At(offset) => AMQPValue::LongLongInt(offset as i64),
            Self::Next => AMQPValue::LongString("next".into()),
            Self::Since(past) => {
                let now = u64::try_from(crate::Timestamp::now().0).unwrap_or_default() / 1_000;
                AMQPValue::Timestamp(now.saturating_sub(past.as_secs()))
            }
        }
    }
}

/// A channel that confirms.
async fn confirming(connection: &Connection) -> Result<Channel, Fault> {
    answer("opening a channel", async {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    })
    .await
}

/// What RabbitMQ answers, within a time.
async fn answer<T>(what: &str, call: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
    match timeout(PATIENCE, call).await {
        Ok(result) => result.map_err(|cause| Fault::of(what, cause)),
        Err(_) => Err(Fault::Other(error(ErrorKind::Timeout, format!("{what}: no answer within {PATIENCE:?}")))),
    }
}

/// The arguments that make a log's queue.
pub(super) fn log_arguments(config: &RabbitMqConfig) -> FieldTable {
    let mut arguments = stream_arguments(config.segment_bytes);
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(config.retained_bytes as i64));
    if let Some(age) = config.max_age {
        arguments.insert("x-max-age".into(), AMQPValue::LongString(format!("{}s", age.as_secs().max(1)).into()));
    }
    arguments
}

/// The arguments that make a stream queue that keeps everything.
pub(super) fn stream_arguments(segment: u64) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    arguments.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(segment as i64));
    arguments
}

/// Entries of a stream queue as they come, each with its offset.
#[derive(Debug)]
pub(super) struct Feed {
    channel: Channel,
    consumer: Consumer,
    /// Deliveries that RabbitMQ was not told of; it sends so many at most.
    unacknowledged: u16,
    /// After how many it is told.
    due: u16,
    last: u64,
    /// Why nothing more comes.
    ended: Option<Fault>,
}

fn offset_of(delivery: &Delivery) -> Option<u64> {
    let headers = delivery.properties.headers().as_ref()?;
    u64::try_from(headers.inner().get("x-stream-offset")?.as_long_long_int()?).ok()
}

/// An entry and its offset.
#[derive(Debug)]
pub(super) struct Fed {
    pub(super) offset: u64,
    pub(super) data: Vec<u8>,
}

impl Feed {
    /// The next entries, as many as are there, at least one, up to bounds. [`Fault::Missing`] when RabbitMQ has ended it: the queue
    /// was deleted, or its node is gone and another has it.
    ///
    /// # Cancel safety
    /// Nothing is taken by a call that is dropped.
    pub(super) async fn next(&mut self, most: usize, bytes: usize) -> Result<Vec<Fed>, Fault> {
        let (mut batch, mut size) = (Vec::new(), 0);
        if self.ended.is_none() {
            // Only the first is awaited; then what is there already is taken.
            let mut next = Some(self.consumer.next().await);
            while let Some(delivery) = next.take() {
                match delivery {
                    Some(Ok(delivery)) => {
                        self.unacknowledged += 1;
                        self.last = delivery.delivery_tag;
                        let Some(offset) = offset_of(&delivery) else {
                            self.ended =
                                Some(Fault::Other(error(ErrorKind::Config, "an entry came without its offset: not a stream queue")));
                            break;
                        };
                        size += delivery.data.len();
                        batch.push(Fed { offset, data: delivery.data });
                    }
                    Some(Err(cause)) => self.ended = Some(Fault::of("reading", cause)),
                    None => self.ended = Some(Fault::Missing),
                }
                if self.ended.is_none() && batch.len() < most && size < bytes {
                    next = self.consumer.next().now_or_never();
                }
            }
        }
        if batch.is_empty() { Err(self.ended.take().unwrap_or(Fault::Missing)) } else { Ok(batch) }
    }

    /// Lets RabbitMQ send more; with `all`, tells it of every delivery so far, else only when it may soon stop sending.
    pub(super) async fn acknowledge(&mut self, all: bool) -> Result<(), Fault> {
        if self.unacknowledged >= self.due || (all && self.unacknowledged > 0) {
            self.unacknowledged = 0;
            let told = self.channel.basic_ack(self.last, BasicAckOptions { multiple: true });
            answer("reading", told).await?;
        }
        Ok(())
    }
}

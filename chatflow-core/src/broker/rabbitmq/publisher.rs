//! From the outbox of a log into its queue: gathered into entries, pipelined, in order, confirmed.

use futures::poll;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::sync::mpsc;

use super::fault::{Fault, error};
use super::log::Log;
use crate::{Error, ErrorKind};

/// The most messages and bytes in one entry; a larger message has one for itself.
const ENTRY_MESSAGES: usize = 512;
const ENTRY_BYTES: usize = 64 << 10;
/// Entries whose confirms may be awaited.
pub(super) const UNCONFIRMED: usize = 64;

/// Entries that were published, with their numbers.
pub(super) type Published = Vec<(u64, PublisherConfirm)>;

/// Publishes what waits, until the connection or the channel is lost. An entry holds what has gathered while those before it were on
/// their way: one message when it is quiet, many when it is not, because RabbitMQ's work is for each entry and each of its readers.
pub(super) async fn publish(log: &Log, channel: &Channel, queue: &ShortString, confirms: mpsc::Sender<Published>) -> Error {
    let mut closed = false;
    loop {
        let room = log.has_room().await;
        let batch = tokio::select! {
            biased;
            () = log.fence_wanted() => Vec::new(),
            batch = log.outbox.take(ENTRY_MESSAGES, ENTRY_BYTES), if room && !closed => batch.unwrap_or_else(|| {
                closed = true;
                Vec::new()
            }),
        };
        let entries = log.enlist(batch);
        if entries.is_empty() {
            continue;
        }
        let published = match send(channel, queue, &entries).await {
            Ok(published) => published,
            Err(cause) => return Fault::of("publishing", cause).into_error("publishing"),
        };
        if confirms.send(published).await.is_err() {
            return error(ErrorKind::Unavailable, "nobody waits for confirms any more");
        }
    }
}

/// Hands all of them to the connection before it waits for the first to be written.
async fn send(channel: &Channel, queue: &ShortString, entries: &[(u64, Vec<u8>)]) -> lapin::Result<Published> {
    let mut published = Vec::with_capacity(entries.len());
    let mut writing = Vec::with_capacity(entries.len());
    for (number, entry) in entries {
        // Not mandatory: a queue that is gone ends its reader, too, and without being read back nothing is accepted.
        let options = BasicPublishOptions::default();
        let mut write = Box::pin(channel.basic_publish(ShortString::default(), queue.clone(), options, entry, BasicProperties::default()));
        // The first poll puts it into the connection's queue: this is what keeps the order.
        match poll!(&mut write) {
            std::task::Poll::Ready(confirm) => published.push((*number, confirm?)),
            std::task::Poll::Pending => writing.push((*number, write)),
        }
    }
    for (number, write) in writing {
        published.push((number, write.await?));
    }
    Ok(published)
}

/// Hears what RabbitMQ says of them, until the connection or the channel is lost. What it took is accepted when it is read back
/// (RabbitMQ shows readers what it would confirm, no sooner); what it did not take fails here.
pub(super) async fn hear(log: &Log, mut published: mpsc::Receiver<Published>) -> Error {
    while let Some(batch) = published.recv().await {
        for (number, confirm) in batch {
            match confirm.await {
                Ok(Confirmation::Nack(_)) => log.refuse(number, "RabbitMQ could not keep the message"),
                Ok(_) => {}
                Err(cause) => return Fault::of("publishing", cause).into_error("publishing"),
            }
        }
    }
    error(ErrorKind::Unavailable, "nothing is published any more")
}

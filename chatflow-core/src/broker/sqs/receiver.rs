//! From a node's queue into its memory.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::Message;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::client::{Cause, Fault, once, timeouts};
use super::keeper::Trouble;
use super::topology::Attachment;
use super::{Shared, backlog, wire};
use crate::Backoff;

/// How long a request waits for something to come, the most that SQS allows.
const WAIT: Duration = Duration::from_secs(20);
/// How long a received message is hidden. It is deleted once it is in memory, in milliseconds.
const HIDDEN: Duration = Duration::from_secs(30);

/// Receives until the broker is closed. Several of these may run: a group of which a message was received is nobody else's until that
/// message is deleted, so each log's order is kept.
pub(super) async fn receive(shared: Arc<Shared>) {
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut attachments = shared.attachment.subscribe();
    let (mut failures, mut deleting) = (0, None::<JoinHandle<()>>);
    loop {
        let attached = attachments.borrow_and_update().clone();
        let Some(attached) = attached else {
            tokio::select! {
                changed = attachments.changed() => if changed.is_err() { return },
                () = shared.ended() => return,
            }
            continue;
        };
        // Ending in the middle of a request is fine: the queue is deleted then, or its messages become visible again.
        let received = tokio::select! {
            received = one(&shared, &attached) => received,
            () = shared.ended() => return,
        };
        match received {
            Ok(messages) => {
                failures = 0;
                let receipts: Vec<_> = messages.iter().filter_map(|message| message.receipt_handle.clone()).collect();
                messages.iter().for_each(|message| take(&shared, &attached, message));
                // Deleting goes on while the next request waits, which then gets what was behind these.
                if let Some(deleting) = deleting.take() {
                    let _ = deleting.await;
                }
                if !receipts.is_empty() {
                    let (shared, attached) = (Arc::clone(&shared), Arc::clone(&attached));
                    deleting = Some(tokio::spawn(async move {
                        if let Err(fault) = backlog::delete(&shared, &attached.node_url, receipts.into_iter()).await {
                            tracing::debug!(error = %fault.error, "not deleted; the messages come again and are passed over");
                        }
                    }));
                }
            }
            Err(fault) => {
                failures += 1;
                match fault.cause {
                    Cause::Gone if shared.is_current(&attached) => shared.trouble(Trouble::Gone),
                    // One broken connection says nothing.
                    Cause::Away | Cause::Refused if failures > 1 => shared.trouble(Trouble::Away(fault.error.to_string())),
                    _ => {}
                }
                tokio::select! {
                    () = sleep(backoff.delay(failures)) => {}
                    changed = attachments.changed() => if changed.is_err() { return },
                    () = shared.ended() => return,
                }
            }
        }
    }
}

async fn one(shared: &Shared, attached: &Attachment) -> Result<Vec<Message>, Fault> {
    let call = shared.clients.sqs.receive_message().queue_url(&attached.node_url).max_number_of_messages(10);
    let call = call.wait_time_seconds(WAIT.as_secs() as i32).visibility_timeout(HIDDEN.as_secs() as i32).customize();
    let config = aws_sdk_sqs::config::Config::builder().timeout_config(timeouts(WAIT + Duration::from_secs(5)));
    let answer = once("reading the node's queue", call.config_override(config).send()).await?;
    Ok(answer.messages.unwrap_or_default())
}

fn take(shared: &Shared, attached: &Attachment, message: &Message) {
    let incoming = message.body.as_deref().and_then(wire::decode);
    let at = incoming.as_ref().and_then(|incoming| attached.names.parse_topic(&incoming.topic));
    let (Some(incoming), Some((log, epoch))) = (incoming, at) else {
        return tracing::error!("a message that is none of this installation's was in the node's queue");
    };
    if epoch > attached.epoch {
        // Whoever made the new topics subscribed this queue, too.
        shared.trouble(Trouble::Gone);
    }
    if let Some(log) = shared.logs.get(usize::from(log.0)) {
        log.arrives(epoch, &incoming);
    }
}

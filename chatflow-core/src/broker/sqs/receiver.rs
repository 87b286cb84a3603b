//! From a node's queue into its memory.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use aws_sdk_sqs::types::Message;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::client::{Cause, Fault, once, timeouts};
use super::keeper::Trouble;
use super::topology::Attachment;
use super::{Shared, backlog, wire};
use crate::{Backoff, MessageId};

/// How long a request waits for something to come, the most that SQS allows. Helpers don't wait.
const WAIT: Duration = Duration::from_secs(20);
/// How long a received message is hidden, in seconds. It is deleted once it is in memory, in milliseconds. A request whose connection
/// was cut can still be given messages, which then hold up their logs for so long: so it is short, and longer only where deleting is
/// slow.
pub(super) const SHORTEST: u64 = 2;
const LONGEST: u64 = 30;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// The most messages that a request is given.
const MOST: usize = 10;

/// Receives until the broker is closed. One of these always waits for messages, the others help it while there are many: a group of
/// which a message was received is nobody else's until that message is deleted, so each log's order is kept.
pub(super) async fn receive(shared: Arc<Shared>, helps: bool) {
    let mut attachments = shared.attachment.subscribe();
    let (mut failures, mut deleting) = (0, None::<JoinHandle<()>>);
    let mut attempt = String::new();
    let (wait, mut wanted) = if helps { (Duration::ZERO, false) } else { (WAIT, true) };
    loop {
        while !wanted {
            tokio::select! {
                () = shared.help.notified() => wanted = true,
                () = shared.ended() => return,
            }
        }
        let attached = attachments.borrow_and_update().clone();
        let Some(attached) = attached else {
            tokio::select! {
                changed = attachments.changed() => if changed.is_err() { return },
                () = shared.ended() => return,
            }
            continue;
        };
        let hidden = shared.hidden.load(Relaxed);
        // After a request that failed, the next one is given what that one would have been.
        if failures == 0 {
            attempt = MessageId::new_v4().simple().to_string();
        }
        // Ending in the middle of a request is fine: the queue is deleted then, or its messages become visible again.
        let received = tokio::select! {
            received = one(&shared, &attached, wait, hidden, &attempt) => received,
            () = shared.ended() => return,
        };
        match received {
            Ok(messages) => {
                failures = 0;
                shared.received.fetch_add(messages.len() as u64, Relaxed);
                let began = Instant::now();
                if messages.len() == MOST {
                    shared.help.notify_one();
                }
                wanted = !helps || !messages.is_empty();
                let receipts: Vec<_> = messages.iter().filter_map(|message| message.receipt_handle.clone()).collect();
                if messages.iter().filter(|message| take(&shared, &attached, message)).count() > 0 {
                    let longer = |hidden: u64| Some((2 * hidden).min(LONGEST));
                    let _ = shared.hidden.fetch_update(Relaxed, Relaxed, longer);
                }
                // Deleting goes on while the next request waits, which then gets what was behind these.
                if let Some(deleting) = deleting.take() {
                    let _ = deleting.await;
                }
                if !receipts.is_empty() {
                    let (shared, attached) = (Arc::clone(&shared), Arc::clone(&attached));
                    deleting = Some(tokio::spawn(async move {
                        delete(&shared, &attached, receipts, began, hidden).await;
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
                    () = sleep(BACKOFF.delay(failures)) => {}
                    changed = attachments.changed() => if changed.is_err() { return },
                    () = shared.ended() => return,
                }
            }
        }
    }
}

/// Deletes what was received at `began` and is hidden for so many seconds, while it is ours. What is left comes again.
async fn delete(shared: &Shared, attached: &Attachment, receipts: Vec<String>, began: Instant, hidden: u64) {
    let mut attempt = 0;
    while began.elapsed() * 2 < Duration::from_secs(hidden) {
        match backlog::delete(shared, &attached.node_url, receipts.iter().cloned()).await {
            Ok(()) => {
                let quick = |hidden: u64| began.elapsed() * 4 < Duration::from_secs(hidden);
                let shorter = |hidden: u64| quick(hidden).then_some((hidden / 2).max(SHORTEST));
                let _ = shared.hidden.fetch_update(Relaxed, Relaxed, shorter);
                return;
            }
            // Until they are deleted or visible again, nobody is given what is behind them.
            Err(fault) if fault.is(Cause::Away) => sleep(BACKOFF.delay(attempt)).await,
            Err(_) => return,
        }
        attempt += 1;
    }
}

async fn one(shared: &Shared, attached: &Attachment, wait: Duration, hidden: u64, attempt: &str) -> Result<Vec<Message>, Fault> {
    let call = shared
        .clients
        .sqs
        .receive_message()
        .queue_url(&attached.node_url)
        .max_number_of_messages(MOST as i32)
        .receive_request_attempt_id(attempt);
    let call = call.wait_time_seconds(wait.as_secs() as i32).visibility_timeout(hidden as i32).customize();
    let config = aws_sdk_sqs::config::Config::builder().timeout_config(timeouts(wait + Duration::from_secs(5)));
    let answer = once("reading the node's queue", call.config_override(config).send()).await?;
    Ok(answer.messages.unwrap_or_default())
}

/// Takes in a message; whether it was there before.
fn take(shared: &Shared, attached: &Attachment, message: &Message) -> bool {
    let incoming = message.body.as_deref().and_then(wire::decode);
    let at = incoming.as_ref().and_then(|incoming| attached.names.parse_topic(&incoming.topic));
    let (Some(incoming), Some((log, epoch))) = (incoming, at) else {
        tracing::error!("a message that is none of this installation's was in the node's queue");
        return false;
    };
    if epoch > attached.epoch {
        // Whoever made the new topics subscribed this queue, too.
        shared.trouble(Trouble::Gone);
    }
    shared.logs.get(usize::from(log.0)).is_some_and(|log| log.arrives(epoch, &incoming))
}

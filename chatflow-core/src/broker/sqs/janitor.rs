//! Removes what nodes leave behind: their queues, and the subscriptions that feed them.

use super::Shared;
use super::client::{Cause, Fault, call};
use super::topology::{Attachment, OF, SEEN, all, queues, seconds, tags};
use crate::LogId;

/// Removes the queues of nodes that gave no sign of life for too long.
pub(super) async fn sweep(shared: &Shared) -> Result<(), Fault> {
    let Some(attached) = shared.attachment() else { return Ok(()) };
    for (name, url) in queues(shared, &attached.names.nodes()).await? {
        if name == attached.node_queue {
            continue;
        }
        let tags = match tags(shared, &url).await {
            Err(fault) if fault.is(Cause::Gone) => continue,
            tags => tags?,
        };
        // Another installation's prefix may begin like this one's; a queue without a sign of life is nobody's business.
        let seen = tags.get(SEEN).and_then(|seen| seen.parse::<u64>().ok());
        let ours = tags.get(OF) == Some(&shared.config.prefix);
        if ours && seen.is_some_and(|seen| seconds().saturating_sub(seen) > shared.config.dead_after.as_secs()) {
            tracing::info!(queue = name, "removing the queue of a node that is gone");
            let arn = attached.names.queue_arn(&name);
            let mut subscriptions = Vec::new();
            for log in &shared.logs {
                subscriptions.extend(subscriptions_of(shared, &attached, log.id, &arn).await?);
            }
            remove(shared, subscriptions, &url).await?;
        }
    }
    Ok(())
}

async fn subscriptions_of(shared: &Shared, attached: &Attachment, log: LogId, queue: &str) -> Result<Vec<String>, Fault> {
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let topic = &attached.topics[usize::from(log.0)];
        let request = shared.clients.sns.list_subscriptions_by_topic().topic_arn(topic).set_next_token(token);
        let answer = call("listing a topic's subscriptions", || request.clone().send()).await?;
        let of_queue = answer.subscriptions.unwrap_or_default().into_iter().filter(|found| found.endpoint.as_deref() == Some(queue));
        found.extend(of_queue.filter_map(|subscription| subscription.subscription_arn));
        token = answer.next_token.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(found);
        }
    }
}

/// Ends subscriptions, and then deletes the queue that they fed.
pub(super) async fn remove(shared: &Shared, subscriptions: Vec<String>, url: &str) -> Result<(), Fault> {
    let unsubscribe = |arn: String| async move {
        match call("unsubscribing", || shared.clients.sns.unsubscribe().subscription_arn(&arn).send()).await {
            // Another node may be doing the same, or the topic went and its subscriptions with it.
            Err(fault) if !fault.is(Cause::Gone) && !fault.is(Cause::Refused) => Err(fault),
            _ => Ok(()),
        }
    };
    all(subscriptions.into_iter().map(unsubscribe)).await?;
    match call("deleting a queue", || shared.clients.sqs.delete_queue().queue_url(url).send()).await {
        Err(fault) if !fault.is(Cause::Gone) => Err(fault),
        _ => Ok(()),
    }
}

//! What the broker needs in SNS and SQS: made on start where it is missing, and looked after.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::timeout;

use super::backlog::Backlog;
use super::client::{Cause, Fault, call};
use super::names::Names;
use super::{Shared, epoch};
use crate::{LogId, Position};

/// How many calls are made at a time.
const CALLS: usize = 8;
/// How long a fence is waited for while the node's queue gives nothing (the first one on an emulator takes seconds), and how often that
/// may begin anew because the queue has given something: what others publish stands before the fence, and a busy service is slow.
const FENCE: Duration = Duration::from_secs(15);
const FENCES: u32 = 8;
/// SQS keeps a message for 14 days at most.
const RETENTION: &str = "1209600";

/// Tags of queues: whose they are; when a node was seen last (seconds since 1970); an epoch of which a node's queue has everything; and
/// from where on a history's queue has everything, by which subscription.
pub(super) const OF: &str = "chatflow:of";
pub(super) const SEEN: &str = "chatflow:seen";
const WHOLE: &str = "chatflow:epoch";
const FROM: &str = "chatflow:from";
const SUBSCRIPTION: &str = "chatflow:subscription";

/// This node's place in the installation.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) names: Names,
    pub(super) root: String,
    pub(super) epoch: u64,
    /// The ARNs of the logs' topics.
    pub(super) topics: Vec<String>,
    pub(super) node_queue: String,
    pub(super) node_url: String,
    /// The node's subscription to each topic.
    pub(super) subscriptions: Vec<String>,
    /// The URLs of the history's queues; none without a history.
    pub(super) histories: Vec<String>,
}

/// A history's queue for one log.
struct HistoryQueue {
    url: String,
    subscription: String,
    /// It has everything after this. `None`: it is new, or was not subscribed for a while.
    from: Option<Position>,
}

pub(super) fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Makes what is missing, and checks that what was there before still is: then nothing was lost meanwhile. Otherwise the logs that may
/// have lost something go on after a fence.
pub(super) async fn attach(shared: &Shared) -> Result<(), Fault> {
    let before = shared.attachment();
    for _ in 0..4 {
        let (names, root, epoch) = epoch::current(shared, before.as_deref()).await?;
        match attach_in(shared, names, &root, epoch).await {
            // A topic is missing that was there: what came to it since can't be told, so the log begins a new life.
            Err(fault) if fault.is(Cause::Gone) => epoch::move_on(shared, &root, epoch).await?,
            outcome => return outcome,
        }
    }
    Err(Fault::odd("topics vanish as soon as they are made"))
}

async fn attach_in(shared: &Shared, names: Names, root: &str, epoch: u64) -> Result<(), Fault> {
    let before = shared.attachment();
    let topics: Vec<_> = shared.logs.iter().map(|log| names.topic_arn(log.id, epoch)).collect();
    let (node_queue, node_url) = node_queue(shared, &names).await?;
    let same_queue = before.as_ref().is_some_and(|before| before.node_url == node_url);
    if before.as_ref().is_none_or(|before| before.epoch != epoch) {
        // Before subscribing, so that nothing that comes is taken for more than it is.
        let whole = same_queue && tags(shared, &node_url).await.map_err(Fault::for_now)?.get(WHOLE) == Some(&epoch.to_string());
        for log in shared.logs.iter().filter(|log| !log.stands_in(epoch)) {
            if whole { log.begins(epoch) } else { log.fenced(epoch, shared.origin()) }
        }
    }
    let arn = names.queue_arn(&node_queue);
    let subscriptions = each(shared, |log| subscribe(shared, &topics[usize::from(log.0)], &arn)).await?;
    let histories = match shared.history() {
        Some(history) => each(shared, |log| history_queue(shared, &names, &history, log, &topics[usize::from(log.0)])).await?,
        None => Vec::new(),
    };
    let unsure: Vec<LogId> = (0..shared.logs.len())
        .filter(|&i| {
            let resubscribed =
                before.as_ref().is_some_and(|before| before.epoch == epoch && before.subscriptions.get(i) != subscriptions.get(i));
            let unregistered = histories.get(i).is_some_and(|queue| queue.from.is_none());
            !same_queue || resubscribed || unregistered || !shared.logs[i].stands_in(epoch)
        })
        .map(|i| shared.logs[i].id)
        .collect();
    let urls = histories.iter().map(|queue| queue.url.clone()).collect();
    let root = root.to_owned();
    shared.install(Attachment { names, root, epoch, topics, node_queue, node_url, subscriptions, histories: urls });
    all(unsure.into_iter().map(|log| fence(shared, log, epoch))).await?;
    all(histories.iter().zip(&shared.logs).map(|(queue, log)| register(shared, queue, log))).await?;
    Ok(())
}

/// Does the same for each log, in their order.
pub(super) async fn each<T, F>(shared: &Shared, of: impl Fn(LogId) -> F) -> Result<Vec<T>, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    all(shared.logs.iter().map(|log| of(log.id))).await
}

/// Makes calls, some at a time; their answers are in the same order.
pub(super) async fn all<T, F>(calls: impl Iterator<Item = F>) -> Result<Vec<T>, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    // Collected first: a stream that borrows what makes them would be no task's.
    let calls: Vec<_> = calls.collect();
    stream::iter(calls).buffered(CALLS).try_collect().await
}

/// The node's queue, with a sign of life; another one if it is gone.
async fn node_queue(shared: &Shared, names: &Names) -> Result<(String, String), Fault> {
    if let Some(before) = shared.attachment() {
        match seen(shared, &before.node_url).await {
            Ok(()) => return Ok((before.node_queue.clone(), before.node_url.clone())),
            // Its name is not free for a minute.
            Err(fault) if fault.is(Cause::Gone) => {}
            Err(fault) => return Err(fault),
        }
    }
    let name = names.node_queue(&shared.node(), &shared.next_life());
    let url = create_queue(shared, names, &name, &[(SEEN, seconds().to_string())]).await?;
    Ok((name, url))
}

/// Tags the node's queue with the time.
pub(super) async fn seen(shared: &Shared, url: &str) -> Result<(), Fault> {
    call("tagging the node's queue", || shared.clients.sqs.tag_queue().queue_url(url).tags(SEEN, seconds().to_string()).send()).await?;
    Ok(())
}

async fn create_queue(shared: &Shared, names: &Names, name: &str, tags: &[(&str, String)]) -> Result<String, Fault> {
    let mut request = shared
        .clients
        .sqs
        .create_queue()
        .queue_name(name)
        .attributes(Attribute::FifoQueue, "true")
        .attributes(Attribute::DeduplicationScope, "messageGroup")
        .attributes(Attribute::FifoThroughputLimit, "perMessageGroupId")
        .attributes(Attribute::MessageRetentionPeriod, RETENTION)
        .attributes(Attribute::Policy, names.policy(name))
        .tags(OF, &shared.config.prefix);
    for (key, value) in tags {
        request = request.tags(*key, value);
    }
    match call("creating a queue", || request.clone().send()).await {
        Ok(answer) => answer.queue_url.ok_or_else(|| Fault::odd("SQS gave no URL of a queue")),
        // Somebody has set it up in another way since.
        Err(fault) if fault.is(Cause::Different) => queue_url(shared, name).await,
        Err(fault) => Err(fault),
    }
}

async fn queue_url(shared: &Shared, name: &str) -> Result<String, Fault> {
    let answer = call("looking for a queue", || shared.clients.sqs.get_queue_url().queue_name(name).send()).await?;
    answer.queue_url.ok_or_else(|| Fault::odd("SQS gave no URL of a queue"))
}

/// Subscribes a queue to a topic, and gives the subscription's ARN: that of before, if it was subscribed.
pub(super) async fn subscribe(shared: &Shared, topic: &str, queue: &str) -> Result<String, Fault> {
    let request = shared.clients.sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(queue).return_subscription_arn(true);
    let answer = call("subscribing to a topic", || request.clone().send()).await?;
    answer.subscription_arn.ok_or_else(|| Fault::odd("SNS gave no ARN of a subscription"))
}

/// The tags of a queue.
pub(super) async fn tags(shared: &Shared, url: &str) -> Result<HashMap<String, String>, Fault> {
    let answer = call("reading a queue's tags", || shared.clients.sqs.list_queue_tags().queue_url(url).send()).await?;
    Ok(answer.tags.unwrap_or_default())
}

async fn history_queue(shared: &Shared, names: &Names, history: &str, log: LogId, topic: &str) -> Result<HistoryQueue, Fault> {
    let name = names.history_queue(history, log);
    let url = match queue_url(shared, &name).await {
        Ok(url) => url,
        Err(fault) if fault.is(Cause::Gone) => create_queue(shared, names, &name, &[]).await?,
        Err(fault) => return Err(fault),
    };
    let subscription = subscribe(shared, topic, &names.queue_arn(&name)).await?;
    let tags = tags(shared, &url).await.map_err(Fault::for_now)?;
    Ok(HistoryQueue { from: registered(&tags, &subscription), url, subscription })
}

/// Where a queue with these tags begins, if it had this subscription all the time.
fn registered(tags: &HashMap<String, String>, subscription: &str) -> Option<Position> {
    if tags.get(SUBSCRIPTION).map(String::as_str) == Some(subscription) { tags.get(FROM)?.parse().ok() } else { None }
}

/// Publishes a fence and waits until it came back.
async fn fence(shared: &Shared, log: LogId, epoch: u64) -> Result<(), Fault> {
    let attached = shared.attachment().ok_or_else(|| Fault::odd("not attached yet"))?;
    let log = &shared.logs[usize::from(log.0)];
    let origin = shared.origin();
    log.fenced(epoch, origin);
    let text = super::wire::encode(origin, std::iter::empty());
    let topic = &attached.topics[usize::from(log.id.0)];
    // Not by `call`: a fence is cheap to make again, and SNS may be slow to say that it has one.
    if let Err(fault) = shared.publish(topic, log.id, origin, &text).await
        && !fault.is(Cause::Away)
    {
        return Err(fault);
    }
    if back(log.is_attached(), || shared.received.load(Relaxed)).await {
        return Ok(());
    }
    Err(Fault::odd("a message that was published did not come back through the node's queue"))
}

/// Whether the fence came, as `comes` says; `received` counts what the queue has given.
async fn back(comes: impl Future<Output = ()>, received: impl Fn() -> u64) -> bool {
    let mut comes = pin!(comes);
    for _ in 0..FENCES {
        let before = received();
        if timeout(FENCE, comes.as_mut()).await.is_ok() {
            return true;
        }
        if received() == before {
            return false;
        }
    }
    false
}

/// Says from where on the history's queue has everything, to this node and to those that come later.
async fn register(shared: &Shared, queue: &HistoryQueue, log: &super::window::Log) -> Result<(), Fault> {
    if let Some(from) = queue.from {
        log.state.lock().backlog.get_or_insert_with(|| Backlog::new(from));
        return Ok(());
    }
    let mut from = log.attached().ok_or_else(|| Fault::odd("not attached yet"))?;
    // Another node of the same history may have been faster; the queue has what follows its fence, too.
    match registered(&tags(shared, &queue.url).await.map_err(Fault::for_now)?, &queue.subscription) {
        Some(earlier) => from = earlier,
        None => {
            let tag = shared.clients.sqs.tag_queue().queue_url(&queue.url);
            let tag = tag.tags(OF, &shared.config.prefix).tags(SUBSCRIPTION, &queue.subscription).tags(FROM, from.to_string());
            call("tagging the history's queue", || tag.clone().send()).await.map_err(Fault::for_now)?;
        }
    }
    match &mut log.state.lock().backlog {
        Some(backlog) => backlog.begins(from),
        none => *none = Some(Backlog::new(from)),
    }
    log.news.notify_waiters();
    Ok(())
}

/// Subscribes every queue of the installation to the topics of a new epoch, before anything is published there: so no history misses
/// anything, and every node hears of it.
pub(super) async fn subscribe_all(shared: &Shared, names: &Names, epoch: u64) -> Result<(), Fault> {
    for (name, url) in queues(shared, &names.histories()).await? {
        let Some(log) = names.parse_history_queue(&name) else { continue };
        let tags = match tags(shared, &url).await {
            Err(fault) if fault.is(Cause::Gone) => continue,
            tags => tags?,
        };
        let subscription = subscribe(shared, &names.topic_arn(log, epoch), &names.queue_arn(&name)).await?;
        if tags.contains_key(FROM) {
            let tag = shared.clients.sqs.tag_queue().queue_url(&url).tags(SUBSCRIPTION, subscription);
            call("tagging a history's queue", || tag.clone().send()).await?;
        }
    }
    for (name, url) in queues(shared, &names.nodes()).await? {
        let arn = names.queue_arn(&name);
        each(shared, |log| {
            let topic = names.topic_arn(log, epoch);
            let arn = &arn;
            async move { subscribe(shared, &topic, arn).await }
        })
        .await?;
        let tag = shared.clients.sqs.tag_queue().queue_url(&url).tags(WHOLE, epoch.to_string());
        match call("tagging a node's queue", || tag.clone().send()).await {
            Err(fault) if !fault.is(Cause::Gone) => return Err(fault),
            _ => {}
        }
    }
    Ok(())
}

/// The queues whose names begin with `prefix`, and their URLs.
pub(super) async fn queues(shared: &Shared, prefix: &str) -> Result<Vec<(String, String)>, Fault> {
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let request = shared.clients.sqs.list_queues().queue_name_prefix(prefix).max_results(1_000).set_next_token(token);
        let answer = call("listing queues", || request.clone().send()).await?;
        let named = |url: String| Some((url.rsplit('/').next()?.to_owned(), url));
        found.extend(answer.queue_urls.unwrap_or_default().into_iter().filter_map(named));
        token = answer.next_token;
        if token.is_none() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fence_is_waited_for_while_the_queue_gives_what_stands_before_it() {
        let begun = Instant::now();
        let every_ten_seconds = || begun.elapsed().as_secs() / 10;
        assert!(back(sleep(Duration::from_secs(70)), every_ten_seconds).await);

        let begun = Instant::now();
        assert!(!back(sleep(Duration::from_secs(70)), || 0).await, "nothing comes through this queue");
        assert_eq!(begun.elapsed(), FENCE);

        let begun = Instant::now();
        assert!(!back(std::future::pending(), || begun.elapsed().as_secs()).await, "something does, but never the fence");
        assert_eq!(begun.elapsed(), FENCES * FENCE);
    }
}

//! Which life of the logs it is: kept in the tags of a topic that carries nothing else.

use std::collections::HashMap;

use aws_sdk_sns::types::Tag;

use super::Shared;
use super::client::{Cause, Fault, call};
use super::names::Names;
use super::topology::{Attachment, each, subscribe_all};
use crate::Timestamp;

/// Tags of the root: the number of logs, the epoch, and the epoch whose topics were all made.
const LOGS: &str = "chatflow:logs";
const EPOCH: &str = "chatflow:epoch";
const READY: &str = "chatflow:ready";

/// The installation's epoch, with its topics made. The first node to come decides: SNS refuses to make a topic that exists with other
/// tags.
pub(super) async fn current(shared: &Shared, before: Option<&Attachment>) -> Result<(Names, String, u64), Fault> {
    let known = shared.known_epoch();
    let mut found = None;
    if let Some(before) = before {
        found = tags(shared, &before.root).await?.map(|tags| (before.root.clone(), tags));
    }
    let (root, tags) = match found {
        Some(found) => found,
        None => make_root(shared, known).await?,
    };
    let names = Names::new(&shared.config.prefix, &root).ok_or_else(|| Fault::odd("SNS gave an ARN that can't be read"))?;
    let number = |key: &str| tags.get(key).and_then(|value| value.parse::<u64>().ok());
    match number(LOGS) {
        Some(logs) if logs == u64::from(shared.config.logs) => {}
        logs => {
            let (prefix, there) = (&shared.config.prefix, logs.map_or("an unknown number of".into(), |logs| logs.to_string()));
            return Err(Fault::config(format!(
                "the installation {prefix:?} has {there} logs and this node is set to {}: set broker.logs alike, or use another prefix",
                shared.config.logs
            )));
        }
    }
    let (epoch, ready) = (number(EPOCH).unwrap_or_default(), number(READY));
    let next = if epoch < known { known.saturating_add(1) } else { epoch };
    if ready != Some(next) {
        make_topics(shared, &names, &root, ready, next).await?;
    }
    shared.knows_epoch(next);
    Ok((names, root, next))
}

/// A topic of `epoch` is gone: the next epoch begins, unless another node has begun it already.
pub(super) async fn move_on(shared: &Shared, root: &str, epoch: u64) -> Result<(), Fault> {
    let there = tags(shared, root).await?.and_then(|tags| tags.get(EPOCH)?.parse::<u64>().ok());
    if there == Some(epoch) {
        tracing::warn!(epoch, "topics of the installation are gone: its logs begin a new epoch");
        tag(shared, root, &[(EPOCH, epoch.saturating_add(1))]).await?;
    }
    Ok(())
}

/// Whether the installation is still in `epoch`.
pub(super) async fn is_current(shared: &Shared, root: &str, epoch: u64) -> Result<bool, Fault> {
    let there = tags(shared, root).await?;
    Ok(there.and_then(|tags| tags.get(READY)?.parse().ok()) == Some(epoch))
}

async fn make_root(shared: &Shared, known: u64) -> Result<(String, HashMap<String, String>), Fault> {
    let name = Names::root(&shared.config.prefix);
    // Greater than that of any earlier life, as far as the clock or a history knows.
    let epoch = u64::try_from(Timestamp::now().0).unwrap_or_default().max(known.saturating_add(1));
    let first = [(LOGS, u64::from(shared.config.logs)), (EPOCH, epoch)];
    let request = shared.clients.sns.create_topic().name(&name);
    let tagged = request.clone().set_tags(Some(first.iter().map(|(key, value)| pair(key, *value)).collect()));
    let answer = match call("creating the root topic", || tagged.clone().send()).await {
        // It is there: without tags, that is its ARN.
        Err(fault) if fault.is(Cause::Different) => call("looking for the root topic", || request.clone().send()).await?,
        answer => answer?,
    };
    let root = answer.topic_arn.ok_or_else(|| Fault::odd("SNS gave no ARN of a topic"))?;
    if let Some(tags) = tags(shared, &root).await? {
        return Ok((root, tags));
    }
    tag(shared, &root, &first).await?;
    Ok((root, first.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect()))
}

/// Makes the topics of `epoch`. Those of the epoch before are deleted first, so that nobody publishes where not everybody reads.
async fn make_topics(shared: &Shared, names: &Names, root: &str, before: Option<u64>, epoch: u64) -> Result<(), Fault> {
    if let Some(before) = before {
        each(shared, |log| {
            let request = shared.clients.sns.delete_topic().topic_arn(names.topic_arn(log, before));
            async move {
                match call("deleting a topic", || request.clone().send()).await {
                    Err(fault) if !fault.is(Cause::Gone) => Err(fault),
                    _ => Ok(()),
                }
            }
        })
        .await?;
    }
    tag(shared, root, &[(EPOCH, epoch)]).await?;
    each(shared, |log| {
        let request = shared
            .clients
            .sns
            .create_topic()
            .name(names.topic(log, epoch))
            .attributes("FifoTopic", "true")
            .attributes("ContentBasedDeduplication", "false")
            .attributes("FifoThroughputScope", "MessageGroup");
        async move { call("creating a topic", || request.clone().send()).await.map(drop) }
    })
    .await?;
    subscribe_all(shared, names, epoch).await?;
    tag(shared, root, &[(READY, epoch)]).await
}

fn pair(key: &str, value: u64) -> Tag {
    Tag::builder().key(key).value(value.to_string()).build().unwrap_or_else(|_| unreachable!("both are given"))
}

async fn tag(shared: &Shared, root: &str, tags: &[(&str, u64)]) -> Result<(), Fault> {
    let request = shared.clients.sns.tag_resource().resource_arn(root);
    let request = request.set_tags(Some(tags.iter().map(|(key, value)| pair(key, *value)).collect()));
    call("tagging the root topic", || request.clone().send()).await.map(drop)
}

/// The root's tags; `None` if there is no root, or nobody has tagged it.
async fn tags(shared: &Shared, root: &str) -> Result<Option<HashMap<String, String>>, Fault> {
    match call("reading the root topic's tags", || shared.clients.sns.list_tags_for_resource().resource_arn(root).send()).await {
        Ok(answer) => {
            let tags: HashMap<_, _> = answer.tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value)).collect();
            Ok(tags.contains_key(EPOCH).then_some(tags))
        }
        Err(fault) if fault.is(Cause::Gone) => Ok(None),
        Err(fault) => Err(fault),
    }
}

//! What topics and queues are called.

use crate::LogId;

/// The names of one installation's topics and queues, once its account is known.
///
/// An epoch is part of a topic's name: what was published to a topic of an earlier one can't be taken for this epoch's, and whoever
/// has not heard of the new epoch can't publish any more once the old topics are deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    prefix: String,
    /// `arn:<partition>`
    partition: String,
    /// `<region>:<account>`
    place: String,
}

impl Names {
    /// The name of the topic that carries nothing but the installation's tags.
    pub(super) fn root(prefix: &str) -> String {
        format!("{prefix}-root")
    }

    /// `None` if `root` is not the ARN of such a topic.
    pub(super) fn new(prefix: &str, root: &str) -> Option<Self> {
        let (partition, rest) = root.split_once(":sns:")?;
        let (place, name) = rest.rsplit_once(':')?;
        (name == Self::root(prefix)).then(|| Self { prefix: prefix.into(), partition: partition.into(), place: place.into() })
    }

    pub(super) fn topic(&self, log: LogId, epoch: u64) -> String {
        format!("{}-{log}-{epoch}.fifo", self.prefix)
    }

    pub(super) fn topic_arn(&self, log: LogId, epoch: u64) -> String {
        format!("{}:sns:{}:{}", self.partition, self.place, self.topic(log, epoch))
    }

    /// The log and the epoch of a topic of this installation.
    pub(super) fn parse_topic(&self, arn: &str) -> Option<(LogId, u64)> {
        let name = arn.rsplit(':').next()?;
        let (log, epoch) = name.strip_prefix(&self.prefix)?.strip_prefix('-')?.strip_suffix(".fifo")?.split_once('-')?;
        Some((LogId(log.parse().ok()?), epoch.parse().ok()?))
    }

    pub(super) fn queue_arn(&self, queue: &str) -> String {
        format!("{}:sqs:{}:{queue}", self.partition, self.place)
    }

    /// What the names of all nodes' queues begin with.
    pub(super) fn nodes(&self) -> String {
        format!("{}-node-", self.prefix)
    }

    /// The queue of one life of a node.
    pub(super) fn node_queue(&self, node: &str, life: &str) -> String {
        let legal = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
        let node: String = node.chars().take(20).map(legal).collect();
        format!("{}{node}-{life}.fifo", self.nodes())
    }

    /// What the names of all histories' queues begin with.
    pub(super) fn histories(&self) -> String {
        format!("{}-history-", self.prefix)
    }

    /// The queue of one log of the history called `identity`.
    pub(super) fn history_queue(&self, identity: &str, log: LogId) -> String {
        format!("{}{:016x}-{log}.fifo", self.histories(), twox_hash::XxHash3_64::oneshot(identity.as_bytes()))
    }

    /// The log of a history's queue.
    pub(super) fn parse_history_queue(&self, queue: &str) -> Option<LogId> {
        let (_, log) = queue.strip_prefix(&self.histories())?.strip_suffix(".fifo")?.split_once('-')?;
        log.parse().ok().map(LogId)
    }

    /// Lets the installation's topics, and nobody else, send to `queue`.
    pub(super) fn policy(&self, queue: &str) -> String {
        serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Sid": "topics",
                "Effect": "Allow",
                "Principal": { "Service": "sns.amazonaws.com" },
                "Action": "sqs:SendMessage",
                "Resource": self.queue_arn(queue),
                "Condition": { "ArnLike": { "aws:SourceArn": format!("{}:sns:{}:{}-*", self.partition, self.place, self.prefix) } },
            }],
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_and_read_back() {
        let names = Names::new("chat-flow", "arn:aws:sns:eu-west-1:123456789012:chat-flow-root").unwrap();
        let (log, epoch) = (LogId(999), u64::MAX);
        assert_eq!(names.parse_topic(&names.topic_arn(log, epoch)), Some((log, epoch)));
        assert_eq!(names.topic_arn(LogId(0), 7), "arn:aws:sns:eu-west-1:123456789012:chat-flow-0-7.fifo");
        assert_eq!(names.parse_topic("arn:aws:sns:eu-west-1:123456789012:chat-flow-root"), None);
        assert_eq!(names.parse_history_queue(&names.history_queue("any identity", log)), Some(log));
        assert_eq!(Names::new("other", "arn:aws:sns:eu-west-1:123456789012:chat-flow-root"), None);
        let long = Names::new(&"p".repeat(32), &format!("arn:aws:sns:r:1:{}-root", "p".repeat(32))).unwrap();
        for name in [long.node_queue("a node/with.a name of any length", "0123456789ab"), long.history_queue("h", log)] {
            assert!(name.len() <= 80 && name.ends_with(".fifo"), "{name}");
            assert!(name[..name.len() - 5].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{name}");
        }
    }
}

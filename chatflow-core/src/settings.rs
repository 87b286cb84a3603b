//! How an engine behaves: every bound and time-out, with its default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Identity;

/// Who is sent what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Delivery {
    /// The sender gets an answer, and every member a broadcast.
    #[default]
    Broadcast,
    /// The sender gets an answer with the message's own fields, and nobody a broadcast.
    AnswerOnly,
}

/// When members see a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Live {
    /// Once it is safe: a durable broker holds it, or the store has committed it.
    #[default]
    Committed,
    /// Once the broker has it, however volatile: sooner, and what was seen may be gone after a crash.
    Accepted,
}

/// What happens to a member that waits for more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SlowPolicy {
    /// It is disconnected (3008) and may resume.
    #[default]
    Disconnect,
    /// It is told of the gap and goes on with the present. In the plain dialect, which has no word for it: disconnected.
    Skip,
}

/// The settings of an [`Engine`](crate::Engine). 0 switches a limit off where that is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Who is sent what was said.
    pub delivery: Delivery,
    /// When members see a message.
    pub live: Live,
    /// The largest frame and message from a client, in bytes. Default 64 KiB.
    pub frame: usize,
    /// Messages of one connection that wait for their answer, beyond which it is not read. Default 1,024.
    pub in_flight: usize,
    /// Rooms on one connection. Default 1,024.
    pub rooms: usize,
    /// Messages per second that an anonymous connection may publish; 0 = off. Default 2,000, twice that in a burst.
    pub publish_rate_anonymous: u32,
    /// Messages per second that an authenticated user may publish; 0 = off. Default 50, twice that in a burst.
    pub publish_rate: u32,
    /// What happens to a slow member.
    pub slow_policy: SlowPolicy,
    /// Bytes that may wait for one member. Default 1 MiB.
    pub slow_bytes: usize,
    /// Messages that may wait for one member. Default 1,024.
    pub slow_messages: usize,
    /// Messages of each room that stay in memory for members who come back. Default 256.
    pub recent_messages: usize,
    /// Bytes of recent messages that stay in memory on the node, all rooms together. Default 64 MiB.
    pub recent_bytes: usize,
    /// The largest `history` that a join may ask for. Default 1,000.
    pub history: usize,
    /// Rooms up to this many members on the node tell them who comes and goes. Default 200; 0 = off.
    pub presence_members: usize,
    /// Catch-ups that read the store at the same time. Default 16.
    pub catch_ups: usize,
    /// Ids that are remembered for each log to tell repeats where a store does not: when there is none, or when messages are shown before
    /// it has them. No more than the broker retains, where nodes share one; up to twice the setting while the store is behind, which should
    /// not be less than a log may hold for it (`broker.entries`), or a log waits for it when an old message may be repeated. Default 65,536.
    pub dedup_messages: usize,
    /// How long ids are remembered. Default 5 minutes.
    #[serde(with = "duration")]
    pub dedup_window: Duration,
    /// The most rows in one commit. Default 2,000.
    pub batch_rows: usize,
    /// The most bytes in one commit. Default 4 MiB.
    pub batch_bytes: usize,
    /// How long a silent connection goes without a ping. Default 25 s.
    #[serde(with = "duration")]
    pub ping: Duration,
    /// How long after the ping a connection must have said something. Default 10 s.
    #[serde(with = "duration")]
    pub pong: Duration,
    /// How long the authenticator may take. Default 10 s.
    #[serde(with = "duration")]
    pub authentication: Duration,
    /// How long the last frames of a closing connection may take. Default 5 s.
    #[serde(with = "duration")]
    pub write: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delivery: Delivery::default(),
            live: Live::default(),
            frame: 64 << 10,
            in_flight: 1_024,
            rooms: 1_024,
            publish_rate_anonymous: 2_000,
            publish_rate: 50,
            slow_policy: SlowPolicy::default(),
            slow_bytes: 1 << 20,
            slow_messages: 1_024,
            recent_messages: 256,
            recent_bytes: 64 << 20,
            history: 1_000,
            presence_members: 200,
            catch_ups: 16,
            dedup_messages: 65_536,
            dedup_window: Duration::from_secs(300),
            batch_rows: 2_000,
            batch_bytes: 4 << 20,
            ping: Duration::from_secs(25),
            pong: Duration::from_secs(10),
            authentication: Duration::from_secs(10),
            write: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Messages per second that `who` may publish; 0 = as many as it likes.
    pub(crate) fn publish_rate_of(&self, who: &Identity) -> u32 {
        if who.user.is_some() { self.publish_rate } else { self.publish_rate_anonymous }
    }
}

/// Durations as people write them: `"25s"`, `"1m 30s"`, `"250ms"`, `"30d"`, whose days have 24 hours.
pub mod duration {
    use std::borrow::Cow;
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it as `"25s"`.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let signed = jiff::SignedDuration::try_from(*duration).unwrap_or(jiff::SignedDuration::MAX);
        serializer.collect_str(&format_args!("{signed:#}"))
    }

    /// Reads `"25s"`.
    ///
    /// # Errors
    /// The text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let days = |span: jiff::Span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
        let signed = text.parse().or_else(|_| text.parse().and_then(days));
        let signed: jiff::SignedDuration = signed.map_err(|_| D::Error::custom("a duration is written like \"25s\" or \"250ms\""))?;
        signed.try_into().map_err(|_| D::Error::custom("a duration can't be negative"))
    }
}

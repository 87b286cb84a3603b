//! What a [`RedisBroker`](super::RedisBroker) is set up with.

use std::fmt::{self, Debug};
use std::time::Duration;

/// Where Redis is, and the bounds of a [`RedisBroker`](super::RedisBroker).
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisBrokerConfig {
    /// `redis://[user:password@]host[:port][/db]`, or `rediss://` with TLS; for a cluster
    /// `redis-cluster://[user:password@]host:port,host:port`, or `rediss-cluster://`.
    pub url: String,
    /// Certificates (PEM) to trust with TLS in place of the system's.
    pub root_certificates: Option<Vec<u8>>,
    /// What all keys and channels begin with: `<prefix>:{<log>}:…`. Nodes with the same one share their logs. Default `chatflow`.
    pub prefix: String,
    /// How many logs. The number is kept in Redis; another one is refused. Default 16.
    pub logs: u16,
    /// Entries of one log that may wait for a history. Default 65,536.
    pub entries: usize,
    /// Bytes of one log that may wait for a history, at least 2 MiB. Default 32 MiB.
    pub bytes: usize,
    /// Settled entries of one log that are kept for readers that rewind. Default 8,192.
    pub retain: usize,
    /// A history whose nodes were silent for so long no longer holds the logs. Time in which no node runs does not count. Default 1 h.
    pub history_ttl: Duration,
    /// How long Redis may take to answer before it counts as gone, at least 100 ms. Default 5 s.
    pub timeout: Duration,
}

impl RedisBrokerConfig {
    /// The defaults, with Redis at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            root_certificates: None,
            prefix: "chatflow".into(),
            logs: 16,
            entries: 65_536,
            bytes: 32 << 20,
            retain: 8_192,
            history_ttl: Duration::from_secs(3_600),
            timeout: Duration::from_secs(5),
        }
    }

    /// The same, under another prefix.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The same, with another number of logs.
    #[must_use]
    pub fn with_logs(mut self, logs: u16) -> Self {
        self.logs = logs;
        self
    }

    /// The same, with another bound on what waits in one log.
    #[must_use]
    pub fn with_backlog(mut self, entries: usize, bytes: usize) -> Self {
        (self.entries, self.bytes) = (entries, bytes);
        self
    }

    /// The same, keeping another number of settled entries.
    #[must_use]
    pub fn with_retain(mut self, retain: usize) -> Self {
        self.retain = retain;
        self
    }
}

impl Default for RedisBrokerConfig {
    /// Redis on this machine.
    fn default() -> Self {
        Self::new("redis://127.0.0.1:6379")
    }
}

impl Debug for RedisBrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, root_certificates: _, prefix, logs, entries, bytes, retain, history_ttl, timeout } = self;
        f.debug_struct("RedisBrokerConfig")
            .field("url", &without_secret(url))
            .field("prefix", prefix)
            .field("logs", logs)
            .field("entries", entries)
            .field("bytes", bytes)
            .field("retain", retain)
            .field("history_ttl", history_ttl)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

/// The URL without user, password and query.
pub(super) fn without_secret(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{}", rest.split(['?', '#']).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let config = RedisBrokerConfig::new("rediss://ada:s3cr@t@example.org:1/2?pass=s3cret");
        let shown = format!("{config:?}");
        assert!(shown.contains("rediss://example.org:1/2") && !shown.contains("s3cr") && !shown.contains("ada"), "{shown}");
    }
}

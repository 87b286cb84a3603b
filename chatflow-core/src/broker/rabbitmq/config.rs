//! Where RabbitMQ is, and what is kept there.

use std::fmt;
use std::time::Duration;

use lapin::uri::AMQPUri;

use crate::{Error, ErrorKind, Result};

/// The largest entry in bytes.
pub(super) const LARGEST_ENTRY: usize = 1 << 20;
/// Entries of one log that a node which starts can count on: far fewer than `retained_bytes` holds, so that it starts soon.
pub(super) const RETAINED_ENTRIES: u64 = 8_192;
/// A peer that is silent for twice as long is gone, in seconds; a smaller one that the server asks for counts.
const HEARTBEAT: u16 = 4;
const CONNECT_TIMEOUT_MS: u64 = 3_000;

/// How a [`RabbitMqBroker`](super::RabbitMqBroker) reaches RabbitMQ, and its bounds.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RabbitMqConfig {
    /// `amqp://user:password@host:port/vhost`, or `amqps://…` for TLS. Without a vhost it is `/`.
    pub url: String,
    /// What the names of our queues begin with: 1–64 of `[A-Za-z0-9_.-]`. Default `chatflow`.
    pub prefix: String,
    /// How many logs; fixed once they exist. Default 16, at most 1,024.
    pub logs: u16,
    /// Entries of one log that may wait for a history. Default 65,536.
    pub entries: usize,
    /// Bytes of one log that may wait for a history. Default 32 MiB.
    pub bytes: usize,
    /// Bytes of one log that RabbitMQ keeps on disk before it drops the oldest segment: at least eight times `bytes`, so that it
    /// never drops what a history waits for. Set when a log is made. Default 256 MiB.
    pub retained_bytes: u64,
    /// Bytes of one segment of a log on disk; RabbitMQ drops whole segments. At most an eighth of `retained_bytes`. Default 16 MiB.
    pub segment_bytes: u64,
    /// Entries older than this may be dropped by RabbitMQ, settled or not. Default: none are for their age.
    pub max_age: Option<Duration>,
    /// A history that nobody was heard to write for so long is waited for no more. Default one hour.
    pub history_ttl: Duration,
}

impl RabbitMqConfig {
    /// The defaults, with RabbitMQ at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "chatflow".into(),
            logs: 16,
            entries: 65_536,
            bytes: 32 << 20,
            retained_bytes: 256 << 20,
            segment_bytes: 16 << 20,
            max_age: None,
            history_ttl: Duration::from_secs(3_600),
        }
    }

    /// The same with names that begin with `prefix`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The same with so many logs.
    #[must_use]
    pub fn with_logs(mut self, logs: u16) -> Self {
        self.logs = logs;
        self
    }

    /// The same with these bounds of what may wait for a history in each log.
    #[must_use]
    pub fn with_backlog(mut self, entries: usize, bytes: usize) -> Self {
        (self.entries, self.bytes) = (entries, bytes);
        self
    }

    /// The same, each log keeping `retained` bytes on disk in segments of `segment` bytes.
    #[must_use]
    pub fn with_retention(mut self, retained: u64, segment: u64) -> Self {
        (self.retained_bytes, self.segment_bytes) = (retained, segment);
        self
    }

    /// The address in a form that `lapin` takes, after everything else was found to be in range.
    pub(super) fn check(&self) -> Result<AMQPUri> {
        let wrong = |what: String| Err(Error::new(ErrorKind::Config, "rabbitmq", what));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if !(1..=64).contains(&self.prefix.len()) || !self.prefix.bytes().all(allowed) {
            return wrong(format!("prefix {:?}: 1 to 64 of A-Z a-z 0-9 _ . -", self.prefix));
        }
        if !(1..=1_024).contains(&self.logs) {
            return wrong(format!("logs = {}: 1 to 1024", self.logs));
        }
        if self.entries == 0 || self.bytes == 0 {
            return wrong("entries and bytes of the backlog must not be 0".into());
        }
        if self.retained_bytes / 8 < self.bytes as u64 || self.retained_bytes / 8 < self.segment_bytes || self.segment_bytes == 0 {
            let Self { retained_bytes, bytes, segment_bytes, .. } = self;
            return wrong(format!(
                "retained_bytes = {retained_bytes}: at least eight times bytes ({bytes}) and eight times segment_bytes ({segment_bytes}), or entries are dropped that a history waits for"
            ));
        }
        self.address()
    }

    fn address(&self) -> Result<AMQPUri> {
        // The parser's own error repeats the whole text, password included.
        let wrong = || Error::new(ErrorKind::Config, "rabbitmq", "the URL is not of the form amqp://user:password@host:port/vhost");
        let mut uri: AMQPUri = self.url.parse().map_err(|_| wrong())?;
        if uri.vhost.is_empty() {
            uri.vhost = "/".into();
        }
        // The parser passes over an IPv6 address and takes its default instead.
        let authority = self.url.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?']).next().unwrap_or_default();
        if let Some((host, _)) = authority.rsplit('@').next().and_then(|host| host.strip_prefix('[')?.split_once(']')) {
            uri.authority.host = host.to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.connection_timeout.get_or_insert(CONNECT_TIMEOUT_MS);
        Ok(uri)
    }
}

/// Without the password.
impl fmt::Debug for RabbitMqConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.address().map_or_else(|_| "?".to_owned(), |uri| place(&uri));
        f.debug_struct("RabbitMqConfig")
            .field("url", &at)
            .field("prefix", &self.prefix)
            .field("logs", &self.logs)
            .field("entries", &self.entries)
            .field("bytes", &self.bytes)
            .field("retained_bytes", &self.retained_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("max_age", &self.max_age)
            .field("history_ttl", &self.history_ttl)
            .finish()
    }
}

/// Where an address leads, without user and password.
pub(super) fn place(uri: &AMQPUri) -> String {
    format!("{}://{}:{}/{}", uri.scheme, uri.authority.host, uri.authority.port, uri.vhost.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Option<(String, u16, String)> {
        let uri = RabbitMqConfig::new(url).check().ok()?;
        Some((uri.authority.host, uri.authority.port, uri.vhost))
    }

    #[test]
    fn addresses_are_read() {
        let is = |host: &str, port, vhost: &str| Some((host.to_owned(), port, vhost.to_owned()));
        assert_eq!(address("amqp://a:b@rabbit:5673/chat"), is("rabbit", 5673, "chat"));
        assert_eq!(address("amqp://127.0.0.1"), is("127.0.0.1", 5672, "/"));
        assert_eq!(address("amqp://127.0.0.1/"), is("127.0.0.1", 5672, "/"), "not the vhost without a name");
        assert_eq!(address("amqps://u:p%40ss@[::1]/%2f"), is("::1", 5671, "/"));
        assert_eq!(address("redis://127.0.0.1"), None);
        assert_eq!(address("nonsense"), None);
    }

    #[test]
    fn what_is_out_of_range_is_said() {
        let good = RabbitMqConfig::new("amqp://h");
        assert!(good.check().is_ok());
        for bad in [
            good.clone().with_prefix("a b"),
            good.clone().with_prefix(""),
            good.clone().with_logs(0),
            good.clone().with_backlog(0, 1),
            good.clone().with_retention(64 << 20, 1 << 20),
            good.with_retention(256 << 20, 256 << 20),
        ] {
            assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::Config, "{bad:?}");
        }
    }

    #[test]
    fn nothing_shows_the_password() {
        for url in ["amqp://ada:hunter2@h/v", "amqp://ada:hunter2@[bad"] {
            let config = RabbitMqConfig::new(url);
            let error = config.clone().with_logs(0).check().unwrap_err();
            let shown = format!("{config:?} {error} {:?}", config.check().map(|uri| place(&uri)));
            assert!(!shown.contains("hunter2") && !shown.contains("ada"), "{shown}");
        }
    }
}

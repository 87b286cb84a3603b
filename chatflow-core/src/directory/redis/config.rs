//! What a [`RedisDirectory`](super::RedisDirectory) is set up with.

use std::fmt::{self, Debug};
use std::time::Duration;

/// Where Redis is, for a [`RedisDirectory`](super::RedisDirectory).
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisDirectoryConfig {
    /// `redis://[user:password@]host[:port][/db]`, or `rediss://` with TLS; for a cluster
    /// `redis-cluster://[user:password@]host:port,host:port`, or `rediss-cluster://`.
    pub url: String,
    /// Certificates (PEM) to trust with TLS in place of the system's.
    pub root_certificates: Option<Vec<u8>>,
    /// What all keys begin with. Nodes with the same one see each other. 1 to 64 characters without braces. Default `chatflow`.
    pub prefix: String,
    /// How long a call may take, connecting included. Default 2 s.
    pub timeout: Duration,
}

impl RedisDirectoryConfig {
    /// The defaults, with Redis at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), root_certificates: None, prefix: "chatflow".into(), timeout: Duration::from_secs(2) }
    }

    /// The same, under another prefix.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The same, with another bound on a call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same, trusting these certificates (PEM) in place of the system's.
    #[must_use]
    pub fn with_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates = Some(pem.into());
        self
    }
}

impl Debug for RedisDirectoryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, root_certificates: _, prefix, timeout } = self;
        f.debug_struct("RedisDirectoryConfig")
            .field("url", &without_secret(url))
            .field("prefix", prefix)
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
        let config = RedisDirectoryConfig::new("rediss://ada:s3cr@t@example.org:1/2?pass=s3cret");
        let shown = format!("{config:?}");
        assert!(shown.contains("rediss://example.org:1/2") && !shown.contains("s3cr") && !shown.contains("ada"), "{shown}");
    }
}

//! How an `SqsBroker` is set up.

use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// Where an [`SqsBroker`](super::SqsBroker) finds its topics and queues, and its bounds.
///
/// Credentials are not among them: they come with the `SdkConfig` that the broker is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqsBrokerConfig {
    /// The AWS region, as in `eu-west-1`.
    pub region: String,
    /// Another address for both services, as in `http://127.0.0.1:4566` for an emulator. Default: that of the region.
    pub endpoint: Option<String>,
    /// What the names of all topics and queues begin with: 1 to 32 of `[A-Za-z0-9_-]`. Nodes with the same prefix in one account and
    /// region are one installation. Default `chatflow`.
    pub prefix: String,
    /// How many logs, 1 to 1,000; kept with the installation. Each is an SNS topic. Default 16.
    pub logs: u16,
    /// Entries of one log that may wait for the history. Default 65,536.
    pub entries: usize,
    /// Bytes of one log that may wait for the history. Default 32 MiB.
    pub bytes: usize,
    /// Settled entries of one log that a node keeps in memory for readers that come back. Default 256.
    pub retain: usize,
    /// How many requests empty a node's queue at a time while there is much in it, 1 to 32; while there is little, one. Default 4.
    pub receivers: usize,
    /// After this time without a sign of life a node's queue is removed by the others, from 5 s on. Default 5 minutes.
    pub dead_after: Duration,
}

impl SqsBrokerConfig {
    /// The defaults, in `region`.
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            endpoint: None,
            prefix: "chatflow".into(),
            logs: 16,
            entries: 65_536,
            bytes: 32 << 20,
            retain: 256,
            receivers: 4,
            dead_after: Duration::from_secs(300),
        }
    }

    /// What `sqs://REGION?endpoint=URL&prefix=NAME` says; the rest are the defaults. `sns=true` may be said, too.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is not such a URL.
    pub fn from_url(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("sqs://").ok_or_else(|| bad(format!("{url:?} is not sqs://REGION?endpoint=URL&prefix=NAME")))?;
        let (region, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut config = Self::new(region.trim_end_matches('/'));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| bad(format!("{value:?} in the broker's URL is not percent-encoded text")))?;
            match (key, value.as_str()) {
                ("endpoint", _) => config.endpoint = Some(value),
                ("prefix", _) => config.prefix = value,
                ("sns", "true") => {}
                ("sns", _) => {
                    return Err(bad("SQS alone gives no order that several nodes share: leave sns=… out, the broker uses SNS FIFO topics"));
                }
                _ => return Err(bad(format!("{key:?} in the broker's URL is none of endpoint, prefix, sns"))),
            }
        }
        config.check()?;
        Ok(config)
    }

    /// The same, at another address.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The same, with another prefix.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The same, with so many logs.
    #[must_use]
    pub fn with_logs(mut self, logs: u16) -> Self {
        self.logs = logs;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let name = |text: &str, most| {
            (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !name(&self.region, 64) {
            return Err(bad(format!("{:?} is not the name of an AWS region", self.region)));
        }
        if !name(&self.prefix, 32) {
            return Err(bad(format!("the prefix {:?} is not 1 to 32 of [A-Za-z0-9_-]", self.prefix)));
        }
        if let Some(endpoint) = &self.endpoint
            && !["http://", "https://"].iter().any(|scheme| endpoint.strip_prefix(scheme).is_some_and(|host| !host.is_empty()))
        {
            return Err(bad(format!("the endpoint {endpoint:?} is not http://… or https://…")));
        }
        if !(1..=1_000).contains(&self.logs) {
            return Err(bad(format!("{} logs are not 1 to 1,000", self.logs)));
        }
        if !(1..=32).contains(&self.receivers) {
            return Err(bad(format!("{} receivers are not 1 to 32", self.receivers)));
        }
        if self.dead_after < Duration::from_secs(5) {
            return Err(bad("a node is not given up before 5 s"));
        }
        Ok(())
    }
}

fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "sqs", text)
}

/// `text` without its percent-encoding; `None` when that is broken.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok().filter(|d| !d.starts_with('+'))?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let config = SqsBrokerConfig::from_url("sqs://eu-west-1").unwrap();
        assert_eq!(config, SqsBrokerConfig::new("eu-west-1"));
        let expected = SqsBrokerConfig::new("us-east-1").with_endpoint("http://127.0.0.1:4566").with_prefix("p");
        for url in [
            "sqs://us-east-1?endpoint=http://127.0.0.1:4566&prefix=p",
            "sqs://us-east-1/?prefix=p&endpoint=http%3A%2F%2F127.0.0.1%3A4566&sns=true",
        ] {
            assert_eq!(SqsBrokerConfig::from_url(url).unwrap(), expected);
        }
        for url in [
            "sqs://",
            "redis://x",
            "sqs://eu-west-1?sns=false",
            "sqs://eu-west-1?prefix=",
            "sqs://eu-west-1?prefix=a%2",
            "sqs://eu-west-1?prefix=a.b",
            "sqs://eu-west-1?endpoint=ftp://x",
            "sqs://eu-west-1?endpoint=http://",
            "sqs://eu-west-1?colour=red",
            "sqs://eu west",
        ] {
            assert_eq!(SqsBrokerConfig::from_url(url).map_err(|error| error.kind()), Err(ErrorKind::Config), "{url}");
        }
    }
}

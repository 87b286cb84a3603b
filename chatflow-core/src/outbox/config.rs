//! How an outbox is forwarded.

use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// How a [`Forwarder`](super::Forwarder) works.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwarderConfig {
    /// Rows that are taken at a time, 1 to 10,000; each is in memory, and may be as large as the broker takes. Default 256.
    pub batch: usize,
    /// How soon the table is looked at again after there was something in it, at least 1 ms. Default 20 ms.
    pub shortest_pause: Duration,
    /// How long it is left alone at the most: the pause doubles each time that nothing was there. Where the database wakes the
    /// forwarder, that is how late it comes when the call was lost. Default 1 s.
    pub longest_pause: Duration,
    /// How long another forwarder waits for one that is not heard of, at least 1 s. Default 10 s.
    pub lease: Duration,
}

impl Default for ForwarderConfig {
    fn default() -> Self {
        Self {
            batch: 256,
            shortest_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
            lease: Duration::from_secs(10),
        }
    }
}

impl ForwarderConfig {
    /// Taking so many rows at a time.
    #[must_use]
    pub fn with_batch(mut self, rows: usize) -> Self {
        self.batch = rows;
        self
    }

    /// Looking again so soon, and so late at the most.
    #[must_use]
    pub fn with_pauses(mut self, shortest: Duration, longest: Duration) -> Self {
        (self.shortest_pause, self.longest_pause) = (shortest, longest);
        self
    }

    /// With leases of this length.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Checks the bounds.
    pub(super) fn check(&self) -> Result<()> {
        let config = |text: String| Err(Error::new(ErrorKind::Config, "outbox", text));
        if !(1..=10_000).contains(&self.batch) {
            return config(format!("batch = {}: 1 to 10,000 are allowed", self.batch));
        }
        if self.shortest_pause < Duration::from_millis(1) || self.longest_pause < self.shortest_pause {
            let (shortest, longest) = (self.shortest_pause, self.longest_pause);
            return config(format!("pauses from {shortest:?} to {longest:?}: the first must be at least 1 ms, the second no shorter"));
        }
        if self.lease < Duration::from_secs(1) {
            return config(format!("lease = {:?}: at least 1 s is needed", self.lease));
        }
        Ok(())
    }
}

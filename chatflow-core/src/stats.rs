//! What an engine counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use crate::registry::RegistryStats;

/// One number that many tasks add to. Nothing is ordered by it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// The counters of one engine.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// Counters (they only grow) and gauges of one engine.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: u64,)*
            /// Bytes written to clients.
            pub bytes_out: u64,
            /// What the registry counts.
            #[serde(flatten)]
            pub registry: RegistryStats,
        }

        impl Counters {
            pub(crate) fn snapshot(&self, bytes_out: u64, registry: RegistryStats) -> Stats {
                Stats { $($name: self.$name.get(),)* bytes_out, registry }
            }
        }
    };
}

counters! {
    /// Connections now.
    connections,
    /// Connections since the start.
    connections_total,
    /// Messages that passed validation and were taken by the broker.
    accepted,
    /// Messages that were refused for what they are (invalid, forbidden, wrong room).
    rejected,
    /// Messages that were refused for the state that the server is in (full, unavailable, draining, rate).
    refused,
    /// Messages answered with `SUCCESS`.
    acknowledged,
    /// Messages that came again under the same id.
    repeats,
    /// Messages whose id was used for another message.
    conflicts,
    /// Rows committed to the store.
    persisted,
    /// Commits to the store.
    commits,
    /// Microseconds from when batches were given to the store until they were committed, all commits together.
    commit_us,
    /// Commits that failed and were tried again.
    commit_failures,
    /// Messages that became dead letters.
    dead_letters,
    /// Rows removed from the store because they had become too old.
    removed,
    /// Times at which such rows could not be removed; it is tried again.
    removal_failures,
    /// Bytes read from clients.
    bytes_in,
    /// Messages read from the store for members that came back.
    caught_up,
}

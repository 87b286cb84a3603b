//! Where a database is and how it is used.

use std::fmt;
use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// Where the database of a store is and how it is used. Its `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database` or `mysql://…`, with the parameters of such URLs.
    pub url: String,
    /// Where pages are read, if that is not `url`: a replica.
    pub reader_url: Option<String>,
    /// Connections that write, 1 to 256. Default 8.
    pub writers: u32,
    /// Connections that read, 1 to 256. Default 8.
    pub readers: u32,
    /// How long a node that is not heard of keeps its logs, 1 s to 10 min. Default 10 s.
    pub lease: Duration,
    /// How long opening may take. Default 10 s.
    pub opening: Duration,
    /// Whether opening makes and updates the tables. Default: yes.
    pub migrate: bool,
    /// Whether questions are answered from summaries, which an engine counts after the commits; if not, from the rows. Default: yes.
    pub summaries: bool,
}

impl DatabaseConfig {
    /// The database at `url`, with the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            reader_url: None,
            writers: 8,
            readers: 8,
            lease: Duration::from_secs(10),
            opening: Duration::from_secs(10),
            migrate: true,
            summaries: true,
        }
    }

    /// Reading pages elsewhere.
    #[must_use]
    pub fn with_reader_url(mut self, url: impl Into<String>) -> Self {
        self.reader_url = Some(url.into());
        self
    }

    /// With so many connections to write and to read.
    #[must_use]
    pub fn with_connections(mut self, writers: u32, readers: u32) -> Self {
        (self.writers, self.readers) = (writers, readers);
        self
    }

    /// With leases of this length.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Opening leaves the tables alone, and fails unless they are current: for a user who may not change them.
    #[must_use]
    pub fn without_migrations(mut self) -> Self {
        self.migrate = false;
        self
    }

    /// Questions are answered from the rows, and this node counts no summaries.
    #[must_use]
    pub fn without_summaries(mut self) -> Self {
        self.summaries = false;
        self
    }

    /// What can be told without the database.
    ///
    /// # Errors
    /// [`ErrorKind::Config`].
    pub(in crate::store) fn check(&self, origin: &'static str) -> Result<()> {
        let config = |text: String| Err(Error::new(ErrorKind::Config, origin, text));
        for (name, connections) in [("writers", self.writers), ("readers", self.readers)] {
            if !(1..=256).contains(&connections) {
                return config(format!("{name} = {connections}: 1 to 256 are allowed"));
            }
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.lease) {
            return config(format!("lease = {:?}: 1 s to 10 min are allowed", self.lease));
        }
        Ok(())
    }

    /// Where pages are read, if that is another database.
    pub(in crate::store) fn replica(&self) -> Option<&str> {
        self.reader_url.as_deref().filter(|reader| *reader != self.url)
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, reader_url, writers, readers, lease, opening, migrate, summaries } = self;
        f.debug_struct("DatabaseConfig")
            .field("url", &"…")
            .field("reader_url", &reader_url.as_ref().map(|_| "…"))
            .field("writers", writers)
            .field("readers", readers)
            .field("lease", lease)
            .field("opening", opening)
            .field("migrate", migrate)
            .field("summaries", summaries)
            .finish()
    }
}

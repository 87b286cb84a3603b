//! Which store, and a private database for it.

use chatflow_testkit::{MariaDb, MySql, Postgres, Service};
use clap::ValueEnum;

/// A store that can be started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// A file for each server.
    Sqlite,
    /// One database for all.
    Postgres,
    /// One database for all.
    #[value(name = "mariadb")]
    MariaDb,
    /// One database for all.
    #[value(name = "mysql")]
    MySql,
}

impl Store {
    /// Starts the database with such settings, durable to the last commit unless they say otherwise; `None` where there is none to start.
    pub(crate) async fn start(self, settings: &[(String, String)]) -> Option<Service> {
        macro_rules! started {
            ($program:ident) => {
                Some(Service::start_new(settings.iter().fold($program::new(), |program, (key, value)| program.set(key, value))).await)
            };
        }
        match self {
            Self::Sqlite => None,
            Self::Postgres => started!(Postgres),
            Self::MariaDb => started!(MariaDb),
            Self::MySql => started!(MySql),
        }
    }
}

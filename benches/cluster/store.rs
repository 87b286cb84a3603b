//! A private database.

use chatflow_testkit::{MariaDb, Postgres, Service};

use crate::args::Store;

/// Starts one, durable to the last commit; `None` where each server has a file of its own.
pub(crate) async fn start(store: Store) -> Option<Service> {
    match store {
        Store::Sqlite => None,
        Store::Postgres => Some(Service::start_new(Postgres::new()).await),
        Store::MariaDb => Some(Service::start_new(MariaDb::new()).await),
    }
}

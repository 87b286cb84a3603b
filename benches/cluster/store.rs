//! A private database.

use chatflow_testkit::{MariaDb, Postgres, Service};

use crate::args::{Args, Store};

/// Starts one, durable to the last commit; `None` where each server has a file of its own.
pub(crate) async fn start(args: &Args) -> Option<Service> {
    let settings = args.store_settings.iter();
    match args.store {
        Store::Sqlite => None,
        Store::Postgres => {
            Some(Service::start_new(settings.fold(Postgres::new(), |postgres, (key, value)| postgres.set(key, value))).await)
        }
        Store::MariaDb => Some(Service::start_new(settings.fold(MariaDb::new(), |mariadb, (key, value)| mariadb.set(key, value))).await),
    }
}

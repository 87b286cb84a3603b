//! The store: private, or one that is there.

use chatflow_testkit::Service;
use tempfile::TempDir;
use tokio::process::Command;

use crate::args::Args;

/// Where the history is.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) url: String,
    service: Option<Service>,
    _folder: TempDir,
}

impl Home {
    /// Starts a database, or names a file.
    pub(crate) async fn new(args: &Args) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = if args.at.is_some() { None } else { args.store.start(&args.store_settings).await };
        let file = || format!("sqlite:{}", folder.path().join("history.db").display());
        let url = args.at.clone().or_else(|| service.as_ref().map(Service::url)).unwrap_or_else(file);
        Self { url, service, _folder: folder }
    }

    /// The numbers of the database's processes, if it is this program's own.
    pub(crate) fn processes(&self) -> Vec<i32> {
        self.service.as_ref().map(Service::processes).unwrap_or_default()
    }

    /// What a database does by itself some time after much was written, so that every run begins alike.
    pub(crate) async fn settle(&self) {
        let (program, url, statement) = match self.url.split(':').next() {
            Some("postgres") => ("psql", self.url.clone(), "VACUUM ANALYZE"),
            _ => return,
        };
        let done = Command::new(program).args([&*url, "-qc", statement]).kill_on_drop(true).status().await;
        assert!(done.is_ok_and(|status| status.success()), "{program} failed");
    }
}

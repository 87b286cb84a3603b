//! Logs whose rows somebody holds in the database, and others that must not notice.

use std::sync::Arc;

use chatflow_core::conformance::store::{at, batch};
use chatflow_core::{Lease, MessageStore};
use futures::future::join_all;

/// Commits into `held`, and once those wait into the `others`, which must not; then whoever holds them lets `go`.
pub(crate) async fn hold_up_no_others(
    store: Arc<dyn MessageStore>,
    held: Vec<Lease>,
    others: &[Lease],
    they_wait: impl Future<Output = ()>,
    go: impl Future<Output = ()>,
) {
    let wait = |lease: Lease| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit(&lease, &batch("held", 1..=3), at(3)).await })
    };
    let waits: Vec<_> = held.into_iter().map(wait).collect();
    they_wait.await;
    for first in [1, 4, 7] {
        let commits = others.iter().map(async |lease| store.commit(lease, &batch("a", first..=first + 2), at(first + 2)).await.unwrap());
        assert!(join_all(commits).await.iter().all(Vec::is_empty));
    }
    assert!(waits.iter().all(|wait| !wait.is_finished()), "they wait by themselves");
    go.await;
    for wait in waits {
        assert_eq!(wait.await.unwrap().unwrap(), []);
    }
}

//! Waiting for something to become so, with an end to patience.

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks until there is something.
///
/// # Panics
/// There was nothing `within` that time.
pub async fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    eventually_async(what, within, || std::future::ready(ask())).await
}

/// Asks until there is something.
///
/// # Panics
/// There was nothing `within` that time.
pub async fn eventually_async<T, F: Future<Output = Option<T>>>(what: &str, within: Duration, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! Keeps a connection to RabbitMQ: makes another when one is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{Shared, session};
use crate::{Backoff, Error};

/// How long to wait between attempts; the circuit is open meanwhile, and each attempt is the probe that may close it.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// How long a reader may take to come to the end of what there was when the broker was closed.
const LINGER: Duration = Duration::from_secs(30);

/// Runs until the broker is closed. If the first connection fails before every log stood, `failed` is told why, and that was it.
pub(super) async fn supervise(shared: Arc<Shared>, failed: oneshot::Sender<Error>) {
    let mut closing = shared.closing.subscribe();
    let mut failed = Some(failed);
    let mut attempt = 0;
    loop {
        let error = tokio::select! {
            error = session::run(&shared, &shared.links) => error,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let was_up = shared.logs.iter().all(|log| log.outbox.is_open());
        // Readers first: they wait for the next connection, and must not find the old one.
        shared.links.send_replace(None);
        *shared.trouble.lock() = error.to_string();
        shared.logs.iter().for_each(|log| log.away(&format!("RabbitMQ is away: {error}")));
        if let Some(failed) = failed.take()
            && !shared.logs.iter().all(|log| *log.ready.borrow())
        {
            // Whoever opened the broker may have given up.
            drop(failed.send(error));
            return;
        }
        tracing::warn!(%error, "the connection to RabbitMQ was lost");
        attempt = if was_up { 0 } else { attempt + 1 };
        tokio::select! {
            () = sleep(BACKOFF.delay(attempt)) => {}
            _ = closing.wait_for(|closing| *closing) => break,
        }
    }
    shared.logs.iter().for_each(|log| {
        log.away("the broker was closed");
        log.end();
    });
    // Readers that are behind use the connection until they have read what was there.
    drop(timeout(LINGER, shared.links.closed()).await);
    shared.links.send_replace(None);
}

//! Questions that may go through the whole history take turns, so that readers of the store are left for pages and for members who
//! come back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use chatflow_core::protocol::code;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Problem;

/// How long a question waits for its turn, as long as one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Half of the store's readers, one at least.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    pub(super) fn new(readers: usize) -> Self {
        Self(Arc::new(Semaphore::new((readers / 2).max(1))))
    }

    /// Does `work` in its turn. It keeps the turn to its end even if nobody waits for that any more: the store works on it as well.
    ///
    /// # Errors
    /// Its turn did not come in time, or it panicked.
    async fn take<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Problem> {
        let late = || {
            let detail = "too many questions about users and numbers are being answered";
            Problem::later(StatusCode::SERVICE_UNAVAILABLE, code::OVERLOADED, detail, PATIENCE)
        };
        let turn = timeout(PATIENCE, Arc::clone(&self.0).acquire_owned()).await;
        let turn = turn.map_err(|_| late())?.map_err(|_| late())?;
        let done = tokio::spawn(async move {
            let _turn = turn;
            work.await
        });
        done.await.map_err(|_| Problem::internal())
    }
}

/// Lets a question through in its turn.
pub(super) async fn in_turn(State(turns): State<Turns>, request: Request, next: Next) -> Result<Response, Problem> {
    turns.take(next.run(request)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_are_answered_at_a_time_than_may_and_who_waits_too_long_is_told() {
        let turns = Turns::new(4);
        let asked = |seconds| {
            let turns = turns.clone();
            tokio::spawn(async move { turns.take(tokio::time::sleep(Duration::from_secs(seconds))).await.is_ok() })
        };
        let (first, second) = (asked(3), asked(60));
        tokio::task::yield_now().await;
        let (third, fourth) = (asked(60), asked(1));
        assert!(first.await.unwrap());
        assert!(!fourth.await.unwrap(), "its turn did not come within 5 s: the third one's came first");
        assert_eq!(turns.0.available_permits(), 0);
        // Nobody waits for them any more; the store goes on all the same.
        second.abort();
        third.abort();
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(turns.0.available_permits(), 0);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(turns.0.available_permits(), 2);
        assert_eq!(Turns::new(1).0.available_permits(), 1);
    }
}

//! Serving rooms and connections that have news, in turn.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::outlet::Outlet;
use super::room::Room;
use crate::stats::Counter;

/// Who has news. Each stands in the queue at most once, so the queue is bounded by rooms and connections.
pub(super) enum Work {
    Room(Arc<Room>),
    Outlet(Arc<Outlet>),
}

/// The queue of those that have news, and the tasks that serve it.
///
/// There is no timer and no task for each connection: while one room is served, the others' news grow into larger
/// writes by themselves, and the queue's order makes them take turns.
pub struct Fanout {
    queue: Mutex<VecDeque<Work>>,
    news: Notify,
    /// Bytes that were written to all sockets.
    pub(super) bytes_out: Counter,
}

/// Ends its workers when dropped.
#[derive(Debug)]
pub(super) struct Workers(Vec<JoinHandle<()>>);

/// Writes to members between two looks at the sockets' readiness: enough to be worth a look, soon enough to be fair
/// to those who send.
const WRITES_PER_TURN: usize = 128;

impl Fanout {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), news: Notify::new(), bytes_out: Counter::default() })
    }

    /// Bytes that were written to all sockets so far.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.get()
    }

    pub(super) fn push(&self, work: Work) {
        self.queue.lock().push_back(work);
        self.news.notify_one();
    }

    pub(super) fn start(self: &Arc<Self>, workers: usize) -> Workers {
        // The budget that tokio gives a task is no use here: a write that it turned away would look like a full socket.
        let work = || tokio::spawn(tokio::task::unconstrained(serve(Arc::clone(self))));
        Workers((0..workers.max(1)).map(|_| work()).collect())
    }

    fn pop(&self) -> Option<Work> {
        self.queue.lock().pop_front()
    }
}

impl std::fmt::Debug for Fanout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fanout").field("queued", &self.queue.lock().len()).finish()
    }
}

async fn serve(fanout: Arc<Fanout>) {
    loop {
        let mut writes = 0;
        while writes < WRITES_PER_TURN {
            writes += match fanout.pop() {
                Some(Work::Room(room)) => room.turn(),
                Some(Work::Outlet(outlet)) => outlet.flush(),
                None => break,
            };
        }
        if writes < WRITES_PER_TURN {
            fanout.news.notified().await;
        }
        // Whoever has something to say is heard first: what is then written is more at a time.
        tokio::task::yield_now().await;
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &self.0 {
            worker.abort();
        }
    }
}

//! The task that takes committed rows to the engine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::batch::{self, Outcome};
use super::{ForwarderConfig, OutboxTable};
use crate::{Backoff, Engine, Error, ErrorKind, MessageId, Result};

/// Pauses while broker or database are away: short enough to be whole again within the five seconds that are promised.
const AWAY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
/// How long the database may take for one call. The application's own pool may be more patient.
const CALL: Duration = Duration::from_secs(5);
/// How long the last calls to the database may take when the forwarder is closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// Publishes what is committed into an outbox, in a task of its own that ends when this is dropped or [closed](Self::close), or when
/// the engine shuts down. It keeps the engine alive.
///
/// See the [module](super) for what is promised.
pub struct Forwarder {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
    seen: Arc<Seen>,
}

/// What others may see.
#[derive(Debug, Default)]
struct Seen {
    published: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Forwarder {
    /// Forwards from `table` through `engine`. Has to be called in a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: a setting is out of its bounds. Whether the table is there is found out later, and told by
    /// [`trouble`](Self::trouble).
    pub fn start(engine: &Engine, table: Arc<dyn OutboxTable>, config: ForwarderConfig) -> Result<Self> {
        config.check()?;
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = watch::channel(false);
        let holder = format!("{} {}", engine.node(), MessageId::new_v4().simple());
        let run = Run { engine: engine.clone(), table, config, holder, seen: Arc::clone(&seen), renewed: None };
        Ok(Self { task: tokio::spawn(run.until(stopped)), stop, seen })
    }

    /// How many messages it has published.
    pub fn published(&self) -> u64 {
        self.seen.published.load(Relaxed)
    }

    /// Why it does not get on, if it doesn't: it tries again by itself. Standing by for another forwarder is no trouble.
    pub fn trouble(&self) -> Option<String> {
        self.seen.trouble.lock().clone()
    }

    /// Ends it: what is on its way has two seconds to become safe and be removed, and another forwarder may begin at once. Within
    /// about six seconds.
    ///
    /// # Cancel safety
    /// When dropped, it ends at once.
    pub async fn close(mut self) {
        let _ = self.stop.send(true);
        // It may have ended with the engine.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").field("seen", &self.seen).finish_non_exhaustive()
    }
}

struct Run {
    engine: Engine,
    table: Arc<dyn OutboxTable>,
    config: ForwarderConfig,
    holder: String,
    seen: Arc<Seen>,
    /// When it took or kept the lead, if it has it.
    renewed: Option<Instant>,
}

impl Run {
    async fn until(mut self, mut stopped: watch::Receiver<bool>) {
        let stop = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
        tokio::pin!(stop);
        let (mut pause, mut failures) = (self.config.shortest_pause, 0);
        loop {
            let outcome = Mutex::default();
            let mut stopping = false;
            let turn = {
                let turn = self.turn(&outcome);
                tokio::pin!(turn);
                tokio::select! {
                    turn = &mut turn => Some(turn),
                    () = &mut stop => {
                        stopping = true;
                        timeout(FAREWELL, turn).await.ok()
                    }
                }
            };
            let Some(turn) = turn.filter(|_| !stopping) else {
                let _ = timeout(FAREWELL, self.remove(&outcome)).await;
                break;
            };
            let wait = match turn {
                Ok(Turn::Full) => continue,
                Ok(Turn::Some) => {
                    (pause, failures) = (self.config.shortest_pause, 0);
                    pause
                }
                Ok(Turn::Nothing) => {
                    failures = 0;
                    pause = (pause * 2).min(self.config.longest_pause);
                    pause
                }
                Ok(Turn::StandBy) => self.config.lease / 4,
                Err(error) if matches!(error.kind(), ErrorKind::Draining | ErrorKind::Closed) && self.engine.is_draining() => break,
                Err(_) => {
                    failures += 1;
                    AWAY.delay(failures)
                }
            };
            let wakes = matches!(turn, Ok(Turn::Some | Turn::Nothing));
            tokio::select! {
                () = sleep(wait) => {}
                () = self.table.news(), if wakes => pause = self.config.shortest_pause,
                () = &mut stop => break,
            }
        }
        if self.renewed.is_some() {
            let _ = timeout(FAREWELL, self.table.resign(&self.holder)).await;
        }
    }

    /// One look at the table, and what it leads to.
    async fn turn(&mut self, outcome: &Mutex<Outcome>) -> Result<Turn> {
        let turn = self.look(outcome).await;
        let mut trouble = self.seen.trouble.lock();
        match &turn {
            Ok(_) if trouble.is_some() => tracing::info!("the outbox is forwarded again"),
            Err(error) if trouble.is_none() => tracing::warn!(%error, "the outbox is not forwarded; trying again"),
            _ => {}
        }
        *trouble = turn.as_ref().err().map(Error::to_string);
        turn
    }

    async fn look(&mut self, outcome: &Mutex<Outcome>) -> Result<Turn> {
        let due = self.renewed.is_none_or(|renewed| renewed.elapsed() >= self.config.lease / 3);
        if due && !self.lead().await? {
            return Ok(Turn::StandBy);
        }
        let rows = within(self.table.first(self.config.batch)).await?;
        let found = rows.len();
        if found == 0 {
            return Ok(Turn::Nothing);
        }
        let engine = self.engine.clone();
        let publishing = batch::publish(&engine, rows, outcome);
        tokio::pin!(publishing);
        let leads = loop {
            tokio::select! {
                () = &mut publishing => break true,
                leads = self.keep() => if !leads { break false },
            }
        };
        self.remove(outcome).await?;
        let trouble = outcome.lock().trouble.take();
        match trouble {
            _ if !leads => Ok(Turn::StandBy),
            Some(error) => Err(error),
            None if found == self.config.batch => Ok(Turn::Full),
            None => Ok(Turn::Some),
        }
    }

    /// Counts what is published, and removes the rows that are done with.
    async fn remove(&self, outcome: &Mutex<Outcome>) -> Result<()> {
        let mut done = {
            let mut outcome = outcome.lock();
            self.seen.published.fetch_add(std::mem::take(&mut outcome.published), Relaxed);
            outcome.done.clone()
        };
        if done.is_empty() {
            return Ok(());
        }
        done.sort_unstable();
        within(self.table.remove(&done)).await?;
        outcome.lock().done.clear();
        Ok(())
    }

    async fn lead(&mut self) -> Result<bool> {
        let asked = Instant::now();
        let leads = within(self.table.lead(&self.holder, self.config.lease)).await?;
        self.renewed = leads.then_some(asked);
        Ok(leads)
    }

    /// Waits until it is time to keep the lead, and does; whether it still has it, as far as is known. If it can't be known, going on
    /// does no harm: two that forward the same rows publish each once, in the same order.
    async fn keep(&mut self) -> bool {
        let due = self.renewed.map_or(self.config.lease, |renewed| (self.config.lease / 3).saturating_sub(renewed.elapsed()));
        sleep(due.max(self.config.lease / 20)).await;
        self.lead().await.unwrap_or(true)
    }
}

/// What a call to the database leads to, if it does in time.
async fn within<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    let slow = || Error::new(ErrorKind::Timeout, "outbox", "the database does not answer");
    timeout(CALL, call).await.unwrap_or_else(|_| Err(slow()))
}

/// What a look at the table led to.
#[derive(Debug)]
enum Turn {
    /// As much as fits, and all of it is done with: there may be more.
    Full,
    /// Something, and all of it is done with.
    Some,
    /// There was nothing.
    Nothing,
    /// Another forwarder leads.
    StandBy,
}

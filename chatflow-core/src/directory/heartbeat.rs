//! A node's place among the live ones, kept for as long as it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{NodeDirectory, NodeInfo};
use crate::{ErrorKind, NodeId, Result};

/// How often a node announces itself.
pub const EVERY: Duration = Duration::from_secs(2);
/// How long it counts as alive after its last announcement.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long the directory may take for one call, whatever its own patience.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often a place that somebody of the same name has is asked for at the start.
const ASK: Duration = Duration::from_millis(500);

/// Announces a node every [two seconds](EVERY), and knows the live nodes as of the last announcement. Dropped, it stops; the node
/// is then gone after its [lease](LEASE).
pub struct Heartbeat {
    directory: Arc<dyn NodeDirectory>,
    node: NodeId,
    boot: u64,
    live: watch::Receiver<Arc<[NodeInfo]>>,
    nudge: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Heartbeat {
    /// Announces `me` for the first time, and goes on in the background; `me` is asked before each announcement. Has to be called in a
    /// tokio runtime.
    ///
    /// A place that is taken by a node of the same name is waited for as long as a dead node's lease may last.
    ///
    /// # Cancel safety
    /// When dropped, the node may have been announced once.
    ///
    /// # Errors
    /// The directory can't be reached, or another live node has this name.
    pub async fn start(directory: Arc<dyn NodeDirectory>, me: impl Fn() -> NodeInfo + Send + Sync + 'static) -> Result<Self> {
        let until = Instant::now() + LEASE + ASK;
        while let Err(error) = directory.announce(&me(), LEASE).await {
            let taken = matches!(error.kind(), ErrorKind::Config | ErrorKind::Fenced) && error.origin() == "directory";
            if !taken || Instant::now() >= until {
                return Err(error);
            }
            sleep(ASK).await;
        }
        let now = me();
        let (tell, live) = watch::channel(Arc::from(directory.nodes().await?));
        let nudge = Arc::new(Notify::new());
        let task = tokio::spawn(announce_regularly(Arc::clone(&directory), me, tell, Arc::clone(&nudge)));
        Ok(Self { directory, node: now.node, boot: now.boot, live, nudge, task: Mutex::new(Some(task)) })
    }

    /// The live nodes, by name, as of the last announcement. While the directory is away these are the last that were known.
    pub fn live(&self) -> Arc<[NodeInfo]> {
        self.live.borrow().clone()
    }

    /// Something changed that others should know at once, such as that the node drains: announces it now.
    pub fn changed(&self) {
        self.nudge.notify_one();
    }

    /// Ends it: the node is gone for everybody. Called again, it only says so again.
    ///
    /// # Cancel safety
    /// When dropped, the node is gone now or after its lease.
    ///
    /// # Errors
    /// The directory can't be reached; the node is gone after its lease.
    pub async fn leave(&self) -> Result<()> {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.abort();
            // Or an announcement that is under way could come after the farewell.
            let _ = task.await;
        }
        self.directory.withdraw(&self.node, self.boot).await
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat")
            .field("directory", &self.directory)
            .field("node", &self.node)
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

/// Announces `me` every [`EVERY`] and whenever it is nudged, and tells who else is alive; until it is aborted.
async fn announce_regularly(
    directory: Arc<dyn NodeDirectory>,
    me: impl Fn() -> NodeInfo,
    tell: watch::Sender<Arc<[NodeInfo]>>,
    nudge: Arc<Notify>,
) {
    // What went wrong last, so that it is logged once and not every two seconds.
    let mut trouble = None::<String>;
    loop {
        let _ = timeout(EVERY, nudge.notified()).await;
        let beat = async {
            directory.announce(&me(), LEASE).await?;
            directory.nodes().await
        };
        let fault = match timeout(PATIENCE, beat).await {
            Ok(Ok(nodes)) => {
                tell.send_replace(nodes.into());
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        if trouble != fault {
            match &fault {
                Some(error) => tracing::warn!(error, "this node can't be announced; others may take it for dead"),
                None => tracing::info!("this node is announced again"),
            }
            trouble = fault;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    use super::super::memory::MemoryDirectory;
    use super::*;

    fn named(name: &'static str, boot: u64) -> impl Fn() -> NodeInfo {
        move || NodeInfo::new(name, boot)
    }

    async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !is_so().await {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_stays_as_long_as_its_heart_beats_and_shows_how_it_does() {
        let directory = Arc::new(MemoryDirectory::new());
        let connections = Arc::new(AtomicU64::new(1));
        let counted = Arc::clone(&connections);
        let me = move || {
            let mut me = NodeInfo::new("a", 1);
            me.connections = counted.load(SeqCst);
            me
        };
        let heart = Heartbeat::start(directory.clone(), me).await.unwrap();
        assert_eq!(heart.live().len(), 1, "it is there before `start` returns");
        connections.store(7, SeqCst);
        until("the figures are new", async || directory.nodes().await.unwrap()[0].connections == 7).await;
        sleep(LEASE * 5).await;
        assert_eq!(directory.nodes().await.unwrap().len(), 1);
        let other = Heartbeat::start(directory.clone(), named("b", 1)).await.unwrap();
        until("both are known", async || heart.live().len() == 2).await;

        other.leave().await.unwrap();
        assert_eq!(directory.nodes().await.unwrap().len(), 1, "at once");
        drop(heart);
        assert_eq!(directory.nodes().await.unwrap().len(), 1, "as if killed: its lease runs");
        sleep(LEASE + EVERY).await;
        assert!(directory.nodes().await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_should_know_is_announced_at_once() {
        let directory = Arc::new(MemoryDirectory::new());
        let draining = Arc::new(AtomicBool::new(false));
        let state = Arc::clone(&draining);
        let me = move || {
            let mut me = NodeInfo::new("a", 1);
            me.draining = state.load(SeqCst);
            me
        };
        let heart = Heartbeat::start(directory.clone(), me).await.unwrap();
        // Half-way between two beats.
        sleep(EVERY / 2).await;
        draining.store(true, SeqCst);
        let begun = Instant::now();
        heart.changed();
        until("it is known", async || directory.nodes().await.unwrap()[0].draining).await;
        assert!(begun.elapsed() < EVERY / 4, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_namesake_is_waited_for_and_a_live_one_refuses() {
        let directory = Arc::new(MemoryDirectory::new());
        let at = |url: &'static str, boot| move || NodeInfo::new("a", boot).with_url(url);
        let heart = Heartbeat::start(directory.clone(), at("http://one", 1)).await.unwrap();
        let refused = Heartbeat::start(directory.clone(), at("http://two", 2)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
        drop(heart);
        let moved = Heartbeat::start(directory.clone(), at("http://two", 2)).await.unwrap();
        assert_eq!(moved.live()[0].url, "http://two");
        let back = Heartbeat::start(directory.clone(), at("http://two", 3)).await.unwrap();
        assert_eq!(back.live()[0].boot, 3, "killed and started again: at once");
    }
}

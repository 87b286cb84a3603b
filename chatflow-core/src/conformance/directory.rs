//! The suite for [`NodeDirectory`]s.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::directory::{API, GATEWAY, NodeDirectory, NodeInfo};
use crate::{ErrorKind, NodeId, Result};

/// How long a case waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// A lease that outlasts every case.
const LONG: Duration = Duration::from_secs(120);
/// One whose end is waited for.
const SHORT: Duration = Duration::from_millis(600);

/// An empty directory to be tested, made anew for each case, as two nodes have it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// As one node has it.
    pub one: Arc<dyn NodeDirectory>,
    /// As another has it: with a connection of its own, where there are any.
    pub other: Arc<dyn NodeDirectory>,
    _kept: Option<Arc<dyn Kept>>,
}

/// What is only kept.
trait Kept: Debug + Send + Sync {}
impl<T: Debug + Send + Sync> Kept for T {}

impl Subject {
    /// A directory, as two nodes have it.
    pub fn new(one: Arc<dyn NodeDirectory>, other: Arc<dyn NodeDirectory>) -> Self {
        Self { one, other, _kept: None }
    }

    /// The same, with what has to be kept until the case is over, such as a server.
    #[must_use]
    pub fn keeping(mut self, kept: Arc<impl Debug + Send + Sync + 'static>) -> Self {
        self._kept = Some(kept);
        self
    }
}

/// Makes a test of every case: `directory_suite!(memory, async { Subject::new(…) })`.
#[macro_export]
macro_rules! directory_suite {
    ($name:ident, $subject:expr) => {
        mod $name {
            use super::*;
            $crate::directory_suite!(@cases $subject,
                g1_an_announced_node_is_seen_by_everybody_at_once, g1_a_silent_node_is_gone_after_its_lease, g1_a_heartbeat_renews_the_lease,
                g2_a_node_that_withdraws_is_gone_at_once, g3_what_was_announced_comes_back_as_it_was, g3_nodes_are_in_the_order_of_their_names,
                g4_a_restarted_node_takes_its_place_and_the_earlier_one_is_fenced, g4_two_nodes_of_one_name_are_refused,
                g4_a_lease_that_ran_out_is_forgotten, g4_the_farewell_of_an_earlier_boot_changes_nothing, many_nodes_at_once);
        }
    };
    (@cases $subject:expr, $($case:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::directory::$case($subject.await).await;
            }
        )*
    };
}

fn info(name: &str, boot: u64) -> NodeInfo {
    NodeInfo::new(name, boot).with_roles([GATEWAY])
}

async fn names(directory: &Arc<dyn NodeDirectory>) -> Vec<NodeId> {
    directory.nodes().await.expect("live nodes").into_iter().map(|node| node.node).collect()
}

#[track_caller]
fn refused(result: Result<()>, kind: ErrorKind) {
    match result {
        Ok(()) => panic!("taken, not refused with {kind:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
    }
}

/// A node is among the live ones of everybody once `announce` has returned.
pub async fn g1_an_announced_node_is_seen_by_everybody_at_once(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    assert!(names(&one).await.is_empty());
    one.announce(&info("a", 1), LONG).await.expect("announced");
    assert_eq!(names(&one).await, ["a"]);
    assert_eq!(names(&other).await, ["a"]);
    other.announce(&info("b", 1), LONG).await.expect("announced");
    assert_eq!(names(&one).await, ["a", "b"]);
}

/// Not sooner than its lease has run out, and not much later.
pub async fn g1_a_silent_node_is_gone_after_its_lease(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    one.announce(&info("stays", 1), LONG).await.expect("announced");
    let begun = Instant::now();
    one.announce(&info("goes", 1), SHORT).await.expect("announced");
    let mut seen = false;
    loop {
        let alive = names(&other).await.contains(&"goes".into());
        let age = begun.elapsed();
        seen |= alive;
        if !alive {
            // The directory's clock may count whole milliseconds.
            assert!(age >= SHORT - Duration::from_millis(5), "gone after {age:?}");
            break;
        }
        assert!(age < SHORT + PATIENCE, "still there after {age:?}");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(seen, "never there");
    assert_eq!(names(&one).await, ["stays"]);
}

/// Each announcement counts from its own moment.
pub async fn g1_a_heartbeat_renews_the_lease(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    let begun = Instant::now();
    one.announce(&info("a", 1), SHORT).await.expect("announced");
    one.announce(&info("a", 1), LONG).await.expect("announced again");
    while begun.elapsed() < SHORT * 2 {
        assert_eq!(names(&other).await, ["a"]);
        sleep(Duration::from_millis(20)).await;
    }
    one.announce(&info("a", 1), Duration::from_millis(50)).await.expect("a shorter one");
    gone(&other, "a").await;
}

async fn gone(directory: &Arc<dyn NodeDirectory>, name: &str) {
    let begun = Instant::now();
    while names(directory).await.iter().any(|node| node == name) {
        assert!(begun.elapsed() < PATIENCE, "{name} is still there");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Whatever is left of its lease.
pub async fn g2_a_node_that_withdraws_is_gone_at_once(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    one.announce(&info("a", 1), LONG).await.expect("announced");
    one.announce(&info("b", 1), LONG).await.expect("announced");
    one.withdraw(&"a".into(), 1).await.expect("withdrawn");
    assert_eq!(names(&other).await, ["b"]);
    one.withdraw(&"a".into(), 1).await.expect("withdrawn twice");
    other.withdraw(&"nobody".into(), 1).await.expect("never there");
    assert_eq!(names(&other).await, ["b"]);
}

/// Every field, and the latest.
pub async fn g3_what_was_announced_comes_back_as_it_was(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    let mut node =
        info("node-1.example_2", (1 << 53) + 1).with_url("https://chat.example:8443/").with_roles([GATEWAY, API, "of/its own \"é\""]);
    (node.connections, node.rate, node.draining, node.version) = (u64::MAX, u64::MAX - 1, true, "1.2.3-β".into());
    one.announce(&node, LONG).await.expect("announced");
    assert_eq!(other.nodes().await.expect("live nodes"), [node.clone()]);
    (node.connections, node.draining, node.roles) = (0, false, Vec::new());
    one.announce(&node, LONG).await.expect("announced");
    assert_eq!(other.nodes().await.expect("live nodes"), [node]);
}

/// By the bytes of their names, whoever came first.
pub async fn g3_nodes_are_in_the_order_of_their_names(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    for name in ["b", "a10", "B", "a", "a-1", "é", "a2"] {
        one.announce(&info(name, 1), LONG).await.expect("announced");
    }
    assert_eq!(names(&other).await, ["B", "a", "a-1", "a10", "a2", "b", "é"]);
}

/// Even when boots are close together, and larger than what a floating-point number can tell apart.
pub async fn g4_a_restarted_node_takes_its_place_and_the_earlier_one_is_fenced(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    let at = |boot| info("a", boot).with_url("http://a");
    for boot in [9, 10, (1 << 53) + 1, (1 << 53) + 2, u64::MAX] {
        one.announce(&at(boot), LONG).await.expect("announced");
        assert_eq!(other.nodes().await.expect("live nodes"), [at(boot)]);
        refused(other.announce(&at(boot - 1), LONG).await, ErrorKind::Fenced);
        // One that does not say where it is may be the same node.
        refused(other.announce(&info("a", boot - 1), LONG).await, ErrorKind::Fenced);
        assert_eq!(other.nodes().await.expect("live nodes"), [at(boot)]);
        one.announce(&at(boot), LONG).await.expect("announced again");
    }
}

/// Whichever started later.
pub async fn g4_two_nodes_of_one_name_are_refused(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    let first = info("a", 5).with_url("http://one");
    one.announce(&first, LONG).await.expect("announced");
    for boot in [4, 6] {
        let second = other.announce(&info("a", boot).with_url("http://two"), LONG).await;
        assert!(second.as_ref().is_err_and(|error| error.to_string().contains("two nodes are called \"a\"")), "{second:?}");
        refused(second, ErrorKind::Config);
    }
    assert_eq!(other.nodes().await.expect("live nodes"), [first]);
    one.withdraw(&"a".into(), 5).await.expect("withdrawn");
    other.announce(&info("a", 4).with_url("http://two"), LONG).await.expect("the name is free");
}

/// A node whose clock is behind, or that moved, has its place then.
pub async fn g4_a_lease_that_ran_out_is_forgotten(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    one.announce(&info("a", 5).with_url("http://one"), Duration::from_millis(50)).await.expect("announced");
    gone(&other, "a").await;
    let later = info("a", 4).with_url("http://two");
    other.announce(&later, LONG).await.expect("the lease has run out");
    assert_eq!(one.nodes().await.expect("live nodes"), [later]);
}

/// Who was succeeded can't take the successor away.
pub async fn g4_the_farewell_of_an_earlier_boot_changes_nothing(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    one.announce(&info("a", 1), LONG).await.expect("announced");
    other.announce(&info("a", 2), LONG).await.expect("started again");
    for boot in [1, 3, (1 << 53) + 2] {
        one.withdraw(&"a".into(), boot).await.expect("nothing to do");
    }
    assert_eq!(names(&one).await, ["a"]);
}

/// A hundred, announced side by side.
pub async fn many_nodes_at_once(subject: Subject) {
    let Subject { one, other, _kept } = subject;
    let announce = (0..100).map(|n| {
        let directory = if n % 2 == 0 { Arc::clone(&one) } else { Arc::clone(&other) };
        async move { directory.announce(&info(&format!("node-{n:03}"), n), LONG).await }
    });
    for result in futures::future::join_all(announce).await {
        result.expect("announced");
    }
    let expected: Vec<_> = (0..100).map(|n| NodeId::from(format!("node-{n:03}"))).collect();
    assert_eq!(names(&one).await, expected);
    assert_eq!(names(&other).await, expected);
}

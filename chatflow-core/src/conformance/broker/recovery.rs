//! Guarantee 8: the backend goes away and comes back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::closing::status_becomes;
use super::publisher::{Traffic, offer, publish, publish_until_accepted};
use super::watch::{Settler, Watch, assert_one_log};
use super::{Backend, Need, RECOVERY, Subject};
use crate::Broker;

/// Two nodes publish and read while the backend is harmed so many times. Whatever is accepted is read by both exactly once and in one
/// order, and each time all is whole within [`RECOVERY`].
async fn nothing_is_lost<'a, F>(nodes: [Arc<dyn Broker>; 2], backend: &'a dyn Backend, times: usize, harm: impl Fn(&'a dyn Backend) -> F)
where
    F: Future<Output = ()>,
{
    let mut readers =
        [Watch::node(&nodes[0], "node 1").await, Watch::node(&nodes[1], "node 2").await, Watch::history(&nodes[0], "the history").await];
    let _settler = Settler::start(&nodes[0], &readers);
    let mut traffic = Traffic::start(&nodes);
    for time in 0..times {
        traffic.more(40).await;
        harm(backend).await;
        let whole = timeout(RECOVERY, async {
            for (node, name) in nodes.iter().zip(["one", "two"]) {
                let text = publish_until_accepted(node, &format!("{name}, time {time}:")).await;
                for reader in &mut readers {
                    reader.has([&text]).await;
                }
            }
        });
        assert!(whole.await.is_ok(), "not whole within {RECOVERY:?}: {:#?}", readers.each_ref().map(Watch::stands));
    }
    traffic.more(40).await;
    let sent = traffic.stop().await;
    for reader in &mut readers {
        reader.has_all(&sent).await;
    }
    assert_one_log(&readers, &sent);
}

/// Guarantee 8: all connections are cut, three times, in the midst of traffic.
pub async fn g8_cut_connections_lose_nothing(subject: Subject) {
    let Some(backend) = subject.backend("g8_cut_connections_lose_nothing", &[Need::Cuts]) else { return };
    nothing_is_lost(subject.two_nodes().await, backend, 3, |backend| backend.lose_live()).await;
}

/// Guarantees 3, 6 and 8: the backend is restarted in the midst of traffic.
pub async fn g8_a_restart_loses_nothing_that_was_accepted(subject: Subject) {
    // How durable it is may be its backend's affair, and known once it is open.
    let nodes = subject.two_nodes().await;
    let Some(backend) = subject.backend("g8_a_restart_loses_nothing_that_was_accepted", &[Need::Stops, Need::Durable]) else { return };
    nothing_is_lost(nodes, backend, 1, |backend| backend.restart()).await;
}

/// Guarantee 8: a publisher is told at once, once the node knows that the backend is away; nothing is accepted meanwhile; streams wait.
pub async fn g8_publishers_are_refused_at_once_while_the_backend_is_away(subject: Subject) {
    let Some(backend) = subject.backend("g8_publishers_are_refused_at_once_while_the_backend_is_away", &[Need::Stops]) else { return };
    let broker = Arc::clone(subject.opened().await);
    let mut reader = Watch::node(&broker, "the node").await;
    publish(&broker, "before").await;
    reader.has([&"before".to_owned()]).await;

    backend.stop().await;
    let refuse = async |text: &str| {
        let begin = Instant::now();
        let error = offer(&broker, text).await.map(|_| format!("{text:?} was accepted")).expect_err("the backend is away");
        assert!(error.is_transient(), "{error}");
        begin.elapsed()
    };
    refuse("while nobody knows").await;
    status_becomes(broker.as_ref(), "it says that it is not healthy", |status| !status.healthy).await;
    let mut waits = Vec::new();
    for i in 0..21 {
        waits.push(refuse(&format!("away {i}")).await);
        sleep(Duration::from_millis(10)).await;
    }
    // The middle one: a machine that does other things besides may hold up some of them.
    waits.sort_unstable();
    assert!(waits[10] < Duration::from_millis(100), "refused after {:?} only", waits[10]);

    backend.start().await;
    let back = Instant::now();
    let text = publish_until_accepted(&broker, "after").await;
    reader.has([&text]).await;
    assert!(back.elapsed() <= RECOVERY, "all is whole after {:?} only", back.elapsed());
    status_becomes(broker.as_ref(), "it says that it is healthy", |status| status.healthy).await;
}

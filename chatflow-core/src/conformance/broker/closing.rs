//! Guarantee 9, and what a broker says of itself.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::{sleep, timeout};

use super::publisher::{entry, publish};
use super::watch::{attach, next, texts};
use super::{Subject, in_time};
use crate::ErrorKind;
use crate::broker::{Broker, From, Opening, Reader, Receipt, Status};

/// Guarantee 9.
pub async fn g9_a_closed_broker_refuses_and_streams_end(subject: Subject) {
    let broker = subject.opened().await;
    let (mut events, _) = attach(broker, Reader::Node, From::Present).await;
    publish(broker, "last").await;
    in_time("it closes", broker.close()).await.expect("closed");
    let refused = broker.submit(entry("too late"), Receipt::ignored()).expect_err("closed");
    assert_eq!(refused.error.kind(), ErrorKind::Closed);
    assert_eq!(texts(&next(&mut events, 1).await), ["last"]);
    assert!(in_time("the stream ends", events.next()).await.is_none(), "nothing comes after the last entry");
    match broker.read(super::LOG, Reader::Node, From::Present).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
        Ok(events) => drop(in_time("the stream ends", events.collect::<Vec<_>>()).await),
    }
}

/// Guarantee 9: it is the node's broker that was closed, not the log.
pub async fn g9_the_other_nodes_go_on(subject: Subject) {
    let [one, two] = subject.two_nodes().await;
    let (mut of_one, _) = attach(&one, Reader::Node, From::Present).await;
    let (mut of_two, _) = attach(&two, Reader::Node, From::Present).await;
    publish(&one, "before").await;
    next(&mut of_one, 1).await;
    in_time("it closes", one.close()).await.expect("closed");
    assert!(in_time("the stream ends", of_one.next()).await.is_none(), "nothing comes after the last entry");
    publish(&two, "after").await;
    assert_eq!(texts(&next(&mut of_two, 2).await), ["before", "after"]);
    let (mut history, _) = attach(&two, Reader::History, From::Oldest).await;
    assert_eq!(texts(&next(&mut history, 2).await), ["before", "after"]);
}

/// Waits until the state is so. It is asked again and again, and answers within a second each time.
pub(super) async fn status_becomes(broker: &dyn Broker, what: &str, is: impl Fn(&Status) -> bool) {
    let becomes = async {
        while !is(&timeout(Duration::from_secs(1), broker.status()).await.expect("it answers within a second")) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(what, becomes).await;
}

/// The depth of a log is what was not settled.
pub async fn status_tells_depths(subject: Subject) {
    let broker = subject.opened().await;
    let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
    for i in 0..3 {
        publish(broker, &i.to_string()).await;
    }
    let seen = next(&mut events, 3).await;
    status_becomes(broker.as_ref(), "three entries deep", |status| status.healthy && status.depths[0] == 3).await;
    assert_eq!(broker.status().await.depths.len(), usize::from(broker.profile().logs));
    broker.settle(super::LOG, seen[1].position).await.expect("settled");
    status_becomes(broker.as_ref(), "one entry deep", |status| status.depths[0] == 1).await;
}

/// Rooms would live in other logs: a node that is set up for another number of them is not let in.
pub async fn open_refuses_another_number_of_logs(subject: Subject) {
    let broker = subject.opened().await;
    for logs in [broker.profile().logs + 1, broker.profile().logs - 1] {
        if logs == 0 {
            continue;
        }
        let odd = subject.another(logs);
        let refused = odd.open(&Opening::new("node-2").with_history("h", 0)).await;
        let error = refused.map(|()| format!("opened with {logs} logs")).expect_err("another number of logs");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    publish(broker, "others go on").await;
}

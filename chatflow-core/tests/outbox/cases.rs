//! What goes out, and who sends it.

use std::time::Duration;

use chatflow_core::outbox::{Forwarder, ForwarderConfig};
use chatflow_core::{ErrorKind, PublishError};
use tokio::time::Instant;

use crate::application::{Application, Node, config, draft, numbers, order, room, until_empty};
use crate::support::{eventually, v1};

pub(crate) async fn what_is_rolled_back_does_not_go_out(application: &dyn Application) {
    let node = Node::new().await;
    let _forwarder = node.forward(application.table().await);
    for n in 0..5 {
        let written = application.write(&node.engine, &order("7", [format!("never {n}")]), false).await;
        assert!(written[0].is_ok(), "{written:?}");
        node.commit(application, &order("7", [n.to_string()])).await;
    }
    node.until("7", &numbers(0..5)).await;
    until_empty(application).await;
    assert_eq!(node.texts("7").await, numbers(0..5));
}

pub(crate) async fn what_is_committed_goes_out_once_and_in_order(application: &dyn Application) {
    let node = Node::new().await;
    let mut member = crate::support::Client::connect(&node.engine, v1(Some("a"))).await;
    member.event("welcome").await;
    let mut ids = Vec::new();
    // More than a batch, before anybody forwards and while somebody does.
    let mut forwarder = None;
    for transaction in 0..6 {
        if transaction == 3 {
            forwarder = Some(node.forward(application.table().await));
        }
        let texts = numbers(transaction * 30..(transaction + 1) * 30);
        let drafts: Vec<_> = texts.iter().flat_map(|text| ["a", "b", "c"].map(|name| (room(name), draft(text)))).collect();
        ids.extend(node.commit(application, &drafts).await);
    }
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        node.until(name, &numbers(0..180)).await;
        let history: Vec<_> = node.history(name).await.into_iter().map(|(id, _)| id).collect();
        let written: Vec<_> = ids.iter().skip(index).step_by(3).copied().collect();
        assert_eq!(history, written, "the ids that it was told");
    }
    for text in numbers(0..180) {
        assert_eq!(member.broadcast().await["message"], text);
    }
    until_empty(application).await;
    assert_eq!(forwarder.unwrap().published(), 540);
}

pub(crate) async fn what_the_validator_refuses_is_not_written(application: &dyn Application) {
    let node = Node::new().await;
    let drafts = order("7", ["", "good"].map(str::to_owned).into_iter().chain(["x".repeat(501)]));
    let written = application.write(&node.engine, &drafts, true).await;
    assert!(matches!(&written[0], Err(PublishError::Invalid(violations)) if violations.len() == 1), "{written:?}");
    assert!(matches!(&written[2], Err(PublishError::Invalid(_))), "{written:?}");
    assert_eq!(application.waiting().await, 1, "the transaction went on without them");
    let _forwarder = node.forward(application.table().await);
    node.until("7", &["good".into()]).await;

    let huge = Node::with(|builder| builder.validator(|_: &chatflow_core::Draft| Ok(()))).await;
    let written = application.write(&huge.engine, &order("7", ["x".repeat(2 << 20)]), true).await;
    assert!(matches!(&written[0], Err(PublishError::Failed(error)) if error.kind() == ErrorKind::Invalid), "{:?}", written[0]);
    let wrong = ForwarderConfig::default().with_batch(0);
    assert_eq!(Forwarder::start(&node.engine, application.table().await, wrong).unwrap_err().kind(), ErrorKind::Config);
}

pub(crate) async fn two_forwarders_do_no_work_twice(application: &dyn Application) {
    let node = Node::new().await;
    let (one, two) = (node.forward(application.table().await), node.forward(application.table().await));
    for transaction in 0..20 {
        node.commit(application, &order("7", numbers(transaction * 10..(transaction + 1) * 10))).await;
    }
    node.until("7", &numbers(0..200)).await;
    until_empty(application).await;
    assert_eq!(one.published() + two.published(), 200);
    assert_eq!(node.engine.stats().accepted, 200);
    assert_eq!((one.trouble(), two.trouble()), (None, None));
}

pub(crate) async fn one_that_is_closed_hands_over_at_once(application: &dyn Application) {
    let node = Node::new().await;
    let long = config().with_lease(Duration::from_secs(40));
    let mut leader = Forwarder::start(&node.engine, application.table().await, long.clone()).unwrap();
    for round in 0..3 {
        node.commit(application, &order("7", [round.to_string()])).await;
        node.until("7", &numbers(0..round + 1)).await;
        let begun = Instant::now();
        leader.close().await;
        leader = Forwarder::start(&node.engine, application.table().await, long.clone()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    until_empty(application).await;
    assert_eq!(node.engine.stats().accepted, 3);
}

pub(crate) async fn one_that_is_dropped_is_taken_over_after_its_lease(application: &dyn Application) {
    let node = Node::new().await;
    let one = node.forward(application.table().await);
    node.commit(application, &order("7", numbers(0..1))).await;
    node.until("7", &numbers(0..1)).await;
    until_empty(application).await;
    let two = node.forward(application.table().await);
    let begun = Instant::now();
    drop(one);
    node.commit(application, &order("7", numbers(1..2))).await;
    node.until("7", &numbers(0..2)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    eventually("the other did it", async || two.published() == 1).await;
}

pub(crate) async fn an_engine_that_shuts_down_ends_its_forwarder(application: &dyn Application) {
    let (one, two) = (Node::new().await, Node::new().await);
    let long = config().with_lease(Duration::from_secs(40));
    let forwarder = Forwarder::start(&one.engine, application.table().await, long.clone()).unwrap();
    one.commit(application, &order("7", numbers(0..1))).await;
    one.until("7", &numbers(0..1)).await;
    until_empty(application).await;
    one.engine.shutdown(Duration::from_secs(5)).await;
    one.commit(application, &order("7", numbers(1..2))).await;
    let _other = Forwarder::start(&two.engine, application.table().await, long).unwrap();
    eventually("the other goes on", async || two.texts("7").await == numbers(1..2)).await;
    forwarder.close().await;
}

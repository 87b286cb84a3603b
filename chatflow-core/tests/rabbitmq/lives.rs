//! What becomes of a log when RabbitMQ is killed, gets an older copy of its data, or takes nothing.

use std::time::Duration;

use chatflow_core::ErrorKind;
use chatflow_core::broker::{Event, From, Reader};
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::harm::Private;
use super::node::{attach, config, healthy, next, node, publish, refused, submit, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_begins_no_epoch() {
    let rabbit = Private::get().await;
    let broker = node("a", Some("h"), config(&rabbit.url())).await;
    let mut reader = attach(&broker, Reader::Node, From::Present).await;
    let before = publish(&broker, "before").await;
    block_in_place(|| rabbit.kill());
    let error = refused(&broker).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_transient() && !broker.status().await.healthy, "{error}");
    rabbit.begin().await;
    let took = healthy(&broker).await;
    assert!(took < Duration::from_secs(5), "guarantee 8: {took:?}");
    let after = publish(&broker, "after").await;
    assert_eq!(after.epoch, before.epoch, "the log is the same");
    let seen = until(&mut reader, "after").await;
    assert_eq!((seen.texts(), seen.lost), (vec!["before".to_owned(), "after".to_owned()], vec![]));
}

/// Nobody who knows how long the log was is there when it is wound back: the history's cursor tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_was_away_is_told_what_an_old_copy_lost() {
    let rabbit = Private::get().await;
    let config = config(&rabbit.url());
    let first = node("a", Some("h"), config.clone()).await;
    publish(&first, "kept").await;
    block_in_place(|| rabbit.kill());
    let copy = rabbit.copy();
    rabbit.begin().await;
    for i in 0..20 {
        publish(&first, &format!("lost {i}")).await;
    }
    let lost = publish(&first, "lost").await;
    first.close().await.unwrap();
    block_in_place(|| rabbit.kill());
    rabbit.put(copy.path());
    rabbit.begin().await;
    let second = node("b", None, config).await;
    let mut reader = attach(&second, Reader::History, From::After(lost)).await;
    let event = next(&mut reader).await;
    assert!(matches!(event, Event::Lost { last, epoch } if last == lost && epoch > lost.epoch), "{event:?}");
    assert!(publish(&second, "next").await.epoch > lost.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_stops_publishers_and_not_readers() {
    let rabbit = Private::get().await;
    let broker = node("a", None, config(&rabbit.url())).await;
    publish(&broker, "before").await;
    block_in_place(|| rabbit.control(&["set_vm_memory_high_watermark", "0.000001"]));
    // It is noticed by the first that is published.
    let told = submit(&broker, "into the alarm");
    let error = refused(&broker).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("memory or disk alarm"), "{error}");
    if let Ok(told) = told {
        assert!(told.await.unwrap().is_err(), "its outcome is not known");
    }
    let mut reader = attach(&broker, Reader::Node, From::Oldest).await;
    until(&mut reader, "before").await;
    // Longer than anything is waited for: the connections stay.
    sleep(Duration::from_secs(8)).await;
    let error = submit(&broker, "still").expect_err("blocked");
    assert!(error.to_string().contains("memory or disk alarm"), "{error}");
    block_in_place(|| rabbit.control(&["set_vm_memory_high_watermark", "absolute", "512MB"]));
    let took = healthy(&broker).await;
    assert!(took < Duration::from_secs(5), "guarantee 8: {took:?}");
    publish(&broker, "after").await;
    let seen = until(&mut reader, "after").await;
    assert!(seen.lost.is_empty() && seen.attached.is_empty());
}

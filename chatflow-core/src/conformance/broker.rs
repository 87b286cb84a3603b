//! The suite for [`Broker`]s.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::broker::{Broker, Completion, Delivered, Entry, Event, From, Opening, Reader, Receipt, Refused};
use crate::{Error, ErrorKind, LogId, Message, MessageId, Position, Result, RoomId, Timestamp, kind};

/// How long a case waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker to be tested, made anew for each case and not opened yet.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// How many entries without being settled fill one of its logs, at most. Small, so that a case can fill it.
    pub full_at: usize,
}

/// Makes a test of every case: `broker_suite!(memory, async { Subject { … } })`.
#[macro_export]
macro_rules! broker_suite {
    ($name:ident, $subject:expr) => {
        mod $name {
            use super::*;
            $crate::broker_suite!(@cases $subject,
                g1_all_readers_see_one_order_whoever_publishes, g1_positions_grow, g2_a_late_reader_gets_everything_from_where_it_starts,
                g2_a_reader_of_the_present_gets_only_what_comes, g3_accepted_entries_are_read_back_as_they_were,
                g4_each_receipt_is_told_once, g5_a_full_log_refuses_and_settling_makes_room, g5_an_oversized_entry_is_refused_for_good,
                g6_the_history_reads_again_what_it_has_not_settled, g7_a_new_life_begins_after_the_floor,
                g9_a_closed_broker_refuses_and_streams_end, dropped_readers_hold_nothing, status_tells_depths);
        }
    };
    (@cases $subject:expr, $($case:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::broker::$case($subject.await).await;
            }
        )*
    };
}

const LOG: LogId = LogId(0);

struct Told(mpsc::UnboundedSender<(u64, Result<Option<Position>>)>, u64);

impl Completion for Told {
    fn accepted(self: Box<Self>, position: Option<Position>) {
        let _ = self.0.send((self.1, Ok(position)));
    }

    fn failed(self: Box<Self>, error: Error) {
        let _ = self.0.send((self.1, Err(error)));
    }
}

fn message(text: &str) -> Message {
    Message {
        id: MessageId::now_v7(),
        room: RoomId::new("room").expect("a valid name"),
        sender: "1".into(),
        kind: kind::TEXT,
        body: text.to_owned().into(),
        digest: 1,
        at: Timestamp::now(),
        node: "n".into(),
        session: 0,
        origin: "".into(),
    }
}

fn entry(text: &str) -> Entry {
    Entry::new(LOG, &message(text))
}

async fn opened(subject: &Subject) -> &Arc<dyn Broker> {
    subject.broker.open(&Opening::new("n").with_history("h", 0)).await.expect("opens");
    &subject.broker
}

/// Submits and waits until the entry was accepted.
async fn publish(broker: &Arc<dyn Broker>, text: &str) {
    let (tell, mut told) = mpsc::unbounded_channel();
    broker.submit(entry(text), Receipt::new(Box::new(Told(tell, 0)))).expect("taken");
    let (_, result) = in_time(told.recv()).await.expect("told");
    result.expect("accepted");
}

async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("in time")
}

type Events = BoxStream<'static, Result<Event>>;

/// A reader that stands where it was told, and where that is.
async fn attach(broker: &Arc<dyn Broker>, reader: Reader, from: From) -> (Events, Position) {
    let mut events = broker.read(LOG, reader, from).await.expect("read");
    loop {
        match in_time(events.next()).await.expect("an event").expect("no error") {
            Event::Attached(position) => return (events, position),
            Event::Lost { .. } => {}
            other => panic!("the first event is {other:?}"),
        }
    }
}

async fn next(events: &mut Events, n: usize) -> Vec<Delivered> {
    let mut all = Vec::new();
    while all.len() < n {
        match in_time(events.next()).await.expect("an event").expect("no error") {
            Event::Batch(batch) => all.extend(batch),
            other => panic!("{other:?} after {} of {n} entries", all.len()),
        }
    }
    assert_eq!(all.len(), n, "no more than was published");
    all
}

fn texts(entries: &[Delivered]) -> Vec<String> {
    let body = |entry: &Delivered| Message::decode(entry.bytes.clone()).expect("a message").body;
    entries.iter().map(|entry| String::from_utf8_lossy(&body(entry)).into_owned()).collect()
}

/// Guarantee 1: two publishers at once, two readers, one order, and each publisher's own order within it.
pub async fn g1_all_readers_see_one_order_whoever_publishes(subject: Subject) {
    let broker = opened(&subject).await;
    let each = (subject.full_at / 2).min(200);
    let (mut one, _) = attach(broker, Reader::Node, From::Present).await;
    let (mut other, _) = attach(broker, Reader::History, From::Oldest).await;
    let publisher = |name: &'static str| {
        let broker = Arc::clone(broker);
        tokio::spawn(async move {
            for i in 0..each {
                broker.submit(entry(&format!("{name}{i}")), Receipt::ignored()).expect("taken");
                tokio::task::yield_now().await;
            }
        })
    };
    let publishers = [publisher("a"), publisher("b")];
    let (seen, seen_by_other) = (next(&mut one, 2 * each).await, next(&mut other, 2 * each).await);
    for publisher in publishers {
        publisher.await.expect("published");
    }
    assert_eq!(seen, seen_by_other);
    for name in ["a", "b"] {
        let of_one: Vec<_> = texts(&seen).into_iter().filter(|text| text.starts_with(name)).collect();
        assert_eq!(of_one, (0..each).map(|i| format!("{name}{i}")).collect::<Vec<_>>());
    }
}

/// Guarantee 1: positions only grow, and begin after where the reader was attached.
pub async fn g1_positions_grow(subject: Subject) {
    let broker = opened(&subject).await;
    let (mut events, mut last) = attach(broker, Reader::Node, From::Present).await;
    for i in 0..5 {
        publish(broker, &i.to_string()).await;
    }
    for entry in next(&mut events, 5).await {
        assert!(entry.position > last, "{} after {last}", entry.position);
        last = entry.position;
    }
}

/// Guarantee 2: from the oldest entry, and from any position in between.
pub async fn g2_a_late_reader_gets_everything_from_where_it_starts(subject: Subject) {
    let broker = opened(&subject).await;
    for i in 0..6 {
        publish(broker, &i.to_string()).await;
    }
    let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
    let all = next(&mut events, 6).await;
    assert_eq!(texts(&all), ["0", "1", "2", "3", "4", "5"]);
    if broker.profile().rewinds {
        let (mut events, position) = attach(broker, Reader::Node, From::After(all[2].position)).await;
        assert_eq!(position, all[2].position);
        assert_eq!(next(&mut events, 3).await, all[3..]);
    }
}

/// Guarantee 2: the present begins when the reader is attached.
pub async fn g2_a_reader_of_the_present_gets_only_what_comes(subject: Subject) {
    let broker = opened(&subject).await;
    publish(broker, "before").await;
    let (mut events, _) = attach(broker, Reader::Node, From::Present).await;
    publish(broker, "after").await;
    assert_eq!(texts(&next(&mut events, 1).await), ["after"]);
}

/// Guarantee 3.
pub async fn g3_accepted_entries_are_read_back_as_they_were(subject: Subject) {
    let broker = opened(&subject).await;
    let (mut events, _) = attach(broker, Reader::Node, From::Present).await;
    let awkward = Message { body: (0..=255u8).collect::<Vec<_>>().into(), ..message("") };
    broker.submit(Entry::new(LOG, &awkward), Receipt::ignored()).expect("taken");
    let back = next(&mut events, 1).await;
    assert_eq!(Message::decode(back[0].bytes.clone()).expect("a message"), awkward);
}

/// Guarantee 4: accepted or failed, once; the positions that are told are those that readers see.
pub async fn g4_each_receipt_is_told_once(subject: Subject) {
    let broker = opened(&subject).await;
    let n = subject.full_at.min(100) as u64;
    let (tell, mut told) = mpsc::unbounded_channel();
    for i in 0..n {
        broker.submit(entry(&i.to_string()), Receipt::new(Box::new(Told(tell.clone(), i)))).expect("taken");
    }
    drop(tell);
    let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
    let seen = next(&mut events, n as usize).await;
    let mut receipts = Vec::new();
    while let Some((i, result)) = in_time(told.recv()).await {
        let position = result.expect("accepted");
        assert!(position.is_none_or(|position| position == seen[i as usize].position));
        receipts.push(i);
    }
    receipts.sort_unstable();
    assert_eq!(receipts, (0..n).collect::<Vec<_>>());
}

/// Guarantee 5.
pub async fn g5_a_full_log_refuses_and_settling_makes_room(subject: Subject) {
    let broker = opened(&subject).await;
    let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
    let mut taken = 0;
    let refused = loop {
        assert!(taken <= subject.full_at, "{taken} entries were taken");
        match broker.submit(entry(&taken.to_string()), Receipt::ignored()) {
            Ok(()) => taken += 1,
            Err(Refused { error, .. }) => break error,
        }
    };
    assert!(refused.is_transient(), "{refused}");
    let all = next(&mut events, taken).await;
    assert_eq!(texts(&all), (0..taken).map(|i| i.to_string()).collect::<Vec<_>>(), "nothing was dropped");
    broker.settle(LOG, all[taken - 1].position).await.expect("settled");
    publish(broker, "there is room again").await;
    assert_eq!(texts(&next(&mut events, 1).await), ["there is room again"]);
}

/// Guarantee 5: the sender is told that it will never succeed.
pub async fn g5_an_oversized_entry_is_refused_for_good(subject: Subject) {
    let broker = opened(&subject).await;
    let mut large = entry("");
    large.bytes = vec![0; broker.profile().largest_entry + 1].into();
    let refused = broker.submit(large, Receipt::ignored()).expect_err("too large");
    assert_eq!(refused.error.kind(), ErrorKind::Invalid);
    publish(broker, "others go on").await;
}

/// Guarantee 6.
pub async fn g6_the_history_reads_again_what_it_has_not_settled(subject: Subject) {
    let broker = opened(&subject).await;
    for i in 0..6 {
        publish(broker, &i.to_string()).await;
    }
    let settled = {
        let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
        let all = next(&mut events, 6).await;
        broker.settle(LOG, all[2].position).await.expect("settled");
        all[2].position
    };
    let (mut events, _) = attach(broker, Reader::History, From::After(settled)).await;
    assert_eq!(texts(&next(&mut events, 3).await), ["3", "4", "5"]);
}

/// Guarantee 7.
pub async fn g7_a_new_life_begins_after_the_floor(subject: Subject) {
    let floor = u64::MAX / 2;
    subject.broker.open(&Opening::new("n").with_history("h", floor)).await.expect("opens");
    let (_events, position) = attach(&subject.broker, Reader::Node, From::Present).await;
    assert!(position.epoch > floor, "{position}");
}

/// Guarantee 9.
pub async fn g9_a_closed_broker_refuses_and_streams_end(subject: Subject) {
    let broker = opened(&subject).await;
    let (mut events, _) = attach(broker, Reader::Node, From::Present).await;
    publish(broker, "last").await;
    broker.close().await.expect("closed");
    let refused = broker.submit(entry("too late"), Receipt::ignored()).expect_err("closed");
    assert_eq!(refused.error.kind(), ErrorKind::Closed);
    assert_eq!(texts(&next(&mut events, 1).await), ["last"]);
    assert!(in_time(events.next()).await.is_none(), "the stream ends");
    match broker.read(LOG, Reader::Node, From::Present).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
        Ok(events) => drop(in_time(events.collect::<Vec<_>>()).await),
    }
}

/// Guarantee 5: a reader that is gone keeps nothing from being settled.
pub async fn dropped_readers_hold_nothing(subject: Subject) {
    let broker = opened(&subject).await;
    for round in 0..4 {
        let (mut events, _) = attach(broker, Reader::Node, From::Present).await;
        let (history, _) = attach(broker, Reader::History, From::Present).await;
        let n = subject.full_at / 2;
        for i in 0..n {
            publish(broker, &format!("{round}.{i}")).await;
        }
        let seen = next(&mut events, n).await;
        drop(history);
        broker.settle(LOG, seen[n - 1].position).await.expect("settled");
    }
}

/// The depth of a log is what was not settled.
pub async fn status_tells_depths(subject: Subject) {
    let broker = opened(&subject).await;
    let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
    for i in 0..3 {
        publish(broker, &i.to_string()).await;
    }
    let seen = next(&mut events, 3).await;
    let status = broker.status().await;
    assert!(status.healthy, "{}", status.detail);
    assert_eq!(status.depths.len(), usize::from(broker.profile().logs));
    assert_eq!(status.depths[0], 3);
    broker.settle(LOG, seen[1].position).await.expect("settled");
    assert_eq!(broker.status().await.depths[0], 1);
}

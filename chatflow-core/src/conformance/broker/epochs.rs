//! Guarantee 7: a position is one entry's, for good.

use std::sync::Arc;

use futures::StreamExt;

use super::publisher::{Sent, Traffic, publish, publish_until_accepted};
use super::watch::{Settler, Watch, assert_one_log, attach, next, texts};
use super::{Need, Subject, in_time};
use crate::broker::{Broker, Event, From, Opening, Reader};
use crate::{Position, Timestamp};

/// Guarantee 7: whatever the history knows is older.
pub async fn g7_a_new_life_begins_after_the_floor(subject: Subject) {
    let floor = u64::MAX / 2;
    subject.broker.open(&Opening::new("node-1").with_history("h", floor)).await.expect("opens");
    let (_events, position) = attach(&subject.broker, Reader::Node, From::Present).await;
    assert!(position.epoch > floor, "{position}");
}

/// Guarantee 7: a node whose last position was of another life is told, and goes on.
pub async fn g7_a_position_that_is_gone_is_told_lost(subject: Subject) {
    let broker = subject.opened().await;
    publish(broker, "before").await;
    let gone = Position::new(1, 7);
    let mut events = broker.read(super::LOG, Reader::Node, From::After(gone)).await.expect("read");
    let mut next_event = async || in_time("a loss is told", events.next()).await.expect("an event").expect("no error");
    let Event::Lost { last, epoch } = next_event().await else { panic!("a loss is told first") };
    let Event::Attached(at) = next_event().await else { panic!("then where it goes on") };
    assert_eq!((last, epoch), (gone, at.epoch));
    assert!(at > gone);
    publish(broker, "after").await;
    let expected: &[_] = if broker.profile().rewinds { &["before", "after"] } else { &["after"] };
    assert_eq!(texts(&next(&mut events, expected.len()).await), expected);
}

/// Guarantee 7: a node that is started again, with a history that knows how far each log has come, disturbs nobody.
pub async fn g7_a_history_that_comes_back_begins_no_epoch(subject: Subject) {
    let one = Arc::clone(subject.opened().await);
    let mut reader = Watch::node(&one, "node 1").await;
    let before = publish_until_accepted(&one, "before").await;
    reader.has([&before]).await;
    let epoch = reader.seen().places[&before].epoch;

    let two = subject.another(one.profile().logs);
    let known = Opening::new("node-2").with_history("h", epoch + 1_000);
    // What is known of each log counts, not what is known of any.
    let floors = vec![epoch; usize::from(one.profile().logs)];
    two.open(&known.with_floors(floors)).await.expect("opens");
    let after = publish_until_accepted(&two, "after").await;
    reader.has([&after]).await;
    assert_eq!((reader.seen().places[&after].epoch, reader.seen().losses.len()), (epoch, 0));
}

/// Guarantee 7: a node comes with a history that knows epochs of the future, for its clock was ahead; the next one's was not.
pub async fn g7_a_clock_that_went_back_gives_no_place_twice(subject: Subject) {
    let one = Arc::clone(subject.opened().await);
    let mut readers = vec![Watch::node(&one, "node 1").await];
    let mut all = vec![publish_until_accepted(&one, "before").await];
    readers[0].has(&all).await;

    let future = 2 * u64::try_from(Timestamp::now().0).expect("after 1970");
    let two = subject.another(one.profile().logs);
    two.open(&Opening::new("node-2").with_history("h", future)).await.expect("opens");
    readers.push(Watch::node(&two, "node 2").await);
    let start = readers[1].seen().start;
    assert!(start.epoch > future, "{start} is not after {future}");
    let first = publish_until_accepted(&two, "a new epoch").await;
    // Who can't rewind goes on with what comes after that.
    let skipped = usize::from(!one.profile().rewinds);
    for reader in &mut readers[..skipped] {
        reader.until("it is told of the new epoch", |seen| !seen.losses.is_empty()).await;
    }
    for reader in &mut readers[skipped..] {
        reader.has([&first]).await;
    }
    for (node, name) in [(&two, "two"), (&one, "one")] {
        let text = publish_until_accepted(node, name).await;
        for reader in &mut readers {
            reader.has([&text]).await;
        }
        all.push(text);
    }
    let last = readers[1].seen().places[&all[2]];
    assert_one_log(&readers, &<[Sent; 2]>::default());
    let before: Vec<_> = readers.iter().flat_map(|reader| reader.seen().places.clone()).collect();
    drop(readers);
    for node in [one, two] {
        in_time("it closes", node.close()).await.expect("closed");
    }

    let three = subject.node("node-3", Some("h")).await;
    let mut reader = Watch::node(&three, "node 3").await;
    let text = publish_until_accepted(&three, "three").await;
    reader.has([&text]).await;
    let (start, place) = (reader.seen().start, reader.seen().places[&text]);
    assert!(start >= last && place > last, "attached at {start} and read at {place} after {last}");
    assert!(before.iter().all(|(_, position)| *position != place), "{place} was given before");
}

/// Two nodes that publish and read while harm is done to what the backend holds.
struct Witnesses {
    nodes: [Arc<dyn Broker>; 2],
    readers: Vec<Watch>,
    _settler: Settler,
    traffic: Traffic,
}

impl Witnesses {
    /// They have read a good deal by now.
    async fn of(subject: &Subject) -> Self {
        let nodes = subject.two_nodes().await;
        let readers = vec![
            Watch::node(&nodes[0], "node 1").await,
            Watch::node(&nodes[1], "node 2").await,
            Watch::history(&nodes[0], "the history").await,
        ];
        let _settler = Settler::start(&nodes[0], &readers);
        let traffic = Traffic::start(&nodes);
        let mut witnesses = Self { nodes, readers, _settler, traffic };
        witnesses.read_more().await;
        witnesses
    }

    async fn read_more(&mut self) {
        for reader in &mut self.readers {
            let goal = reader.seen().entries.len() + 40;
            reader.until("traffic is read", |seen| seen.entries.len() >= goal).await;
        }
    }

    /// Everybody is told that something was lost, and goes on in a greater epoch with all that both nodes publish from now on.
    /// No position was given twice.
    async fn assert_they_go_on(mut self, subject: &Subject) {
        let before = self.traffic.made();
        for reader in &mut self.readers {
            reader.until("it is told of the loss, and where it goes on", |seen| !seen.losses.is_empty()).await;
            let loss = reader.seen().losses[0];
            assert!(loss.attached.epoch > loss.last.epoch, "{loss:?}");
        }
        let mut anew = Vec::new();
        for (node, name) in self.nodes.iter().zip(["node 1 again", "node 2 again"]) {
            anew.push(publish_until_accepted(node, name).await);
        }
        self.traffic.more(20).await;
        let sent = self.traffic.stop().await;
        // Who can rewind reads a new log from its beginning; who can't has all that comes after where it was attached.
        if subject.broker.profile().rewinds {
            let number = |text: &str| text.rsplit_once(' ').and_then(|(_, i)| i.parse::<u64>().ok());
            for (sent, before) in sent.iter().zip(before) {
                anew.extend(sent.accepted.iter().map(|(text, _)| text).filter(|text| number(text) >= Some(before)).cloned());
            }
        }
        for reader in &mut self.readers {
            reader.has(&anew).await;
        }
        let three = subject.node("node-3", Some("h")).await;
        let (events, start) = attach(&three, Reader::Node, From::Oldest).await;
        self.readers.push(Watch::over(events, start, "a node that comes later"));
        let last = publish_until_accepted(&three, "a node that comes later").await;
        for reader in &mut self.readers {
            reader.has([&last]).await;
        }
        assert_one_log(&self.readers, &sent);
    }
}

/// Guarantee 7: everything that the backend held is thrown away while two nodes publish.
pub async fn g7_a_wiped_backend_goes_on_in_a_greater_epoch(subject: Subject) {
    let Some(backend) = subject.backend("g7_a_wiped_backend_goes_on_in_a_greater_epoch", &[Need::Wipes]) else { return };
    let witnesses = Witnesses::of(&subject).await;
    backend.wipe().await;
    witnesses.assert_they_go_on(&subject).await;
}

/// Guarantee 7: the backend is wound back to what it held a while ago. What was cut had been read.
pub async fn g7_an_old_copy_put_back_gives_no_place_twice(subject: Subject) {
    let Some(backend) = subject.backend("g7_an_old_copy_put_back_gives_no_place_twice", &[Need::Restores]) else { return };
    let mut witnesses = Witnesses::of(&subject).await;
    let copy = backend.snapshot().await;
    witnesses.read_more().await;
    backend.restore(copy).await;
    witnesses.assert_they_go_on(&subject).await;
}

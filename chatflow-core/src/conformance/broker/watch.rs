//! Who reads in the cases: a stream taken by hand, or one that is watched and held against what every stream owes its reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::select_all;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::publisher::Sent;
use super::{LOG, PATIENCE, in_time};
use crate::broker::{Broker, Delivered, Event, From, Reader};
use crate::{Message, Position, Result};

pub(super) type Events = BoxStream<'static, Result<Event>>;

/// A reader that stands where it was told, and where that is.
pub(super) async fn attach(broker: &Arc<dyn Broker>, reader: Reader, from: From) -> (Events, Position) {
    let mut events = broker.read(LOG, reader, from).await.expect("read");
    loop {
        match in_time("a reader is attached", events.next()).await.expect("an event").expect("no error") {
            Event::Attached(position) => return (events, position),
            Event::Lost { .. } => {}
            other => panic!("the first event is {other:?}"),
        }
    }
}

/// The next entries, at least one.
pub(super) async fn some(events: &mut Events) -> Vec<Delivered> {
    match in_time("an entry is read", events.next()).await.expect("an event").expect("no error") {
        Event::Batch(batch) => batch,
        other => panic!("{other:?} where entries should come"),
    }
}

/// The next so many entries.
pub(super) async fn next(events: &mut Events, n: usize) -> Vec<Delivered> {
    let mut all = Vec::new();
    while all.len() < n {
        all.extend(some(events).await);
    }
    assert_eq!(all.len(), n, "no more than was published");
    all
}

pub(super) fn text(entry: &Delivered) -> String {
    let body = Message::decode(entry.bytes.clone()).expect("a message").body;
    String::from_utf8_lossy(&body).into_owned()
}

pub(super) fn texts(entries: &[Delivered]) -> Vec<String> {
    entries.iter().map(text).collect()
}

/// A loss that a reader was told of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    /// How many entries it had read before.
    pub(super) after: usize,
    pub(super) last: Position,
    /// Where reading went on.
    pub(super) attached: Position,
}

/// What a reader was told so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Where it was attached first.
    pub(super) start: Position,
    pub(super) entries: Vec<Delivered>,
    /// Where each text stands.
    pub(super) places: HashMap<String, Position>,
    pub(super) losses: Vec<Loss>,
    at: Position,
    /// The loss that it was told of and not yet where it goes on, and in which epoch.
    lost: Option<(Position, u64)>,
    fault: Option<String>,
}

impl Seen {
    /// Takes an event in; what is wrong with it, if something is.
    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Batch(_) if self.lost.is_some() => return Err("a loss was told, and not where reading goes on".into()),
            Event::Batch(batch) if batch.is_empty() => return Err("a batch is empty".into()),
            Event::Batch(batch) => {
                for entry in batch {
                    let (position, text) = (entry.position, text(&entry));
                    if position <= self.at {
                        return Err(format!("positions must grow: {text:?} at {position} after {}", self.at));
                    }
                    if let Some(before) = self.places.insert(text.clone(), position) {
                        return Err(format!("{text:?} twice, at {before} and {position}"));
                    }
                    self.at = position;
                    self.entries.push(entry);
                }
            }
            Event::Lost { last, .. } if last != self.at => return Err(format!("lost after {last}, but {} was the last", self.at)),
            Event::Lost { last, epoch } => self.lost = Some((last, epoch)),
            Event::Attached(at) => {
                let Some((last, epoch)) = self.lost.take() else { return Err(format!("attached anew at {at} without a loss")) };
                if at < last || at.epoch != epoch {
                    return Err(format!("lost after {last}, to go on in epoch {epoch}, and attached at {at}"));
                }
                self.losses.push(Loss { after: self.entries.len(), last, attached: at });
                self.at = at;
            }
        }
        Ok(())
    }

    /// Holds it against what another reader has seen, who lost nothing: whatever follows where it was attached was read, or told lost.
    pub(super) fn assert_no_silent_gap(&self, whole: &[Delivered]) {
        let mut at = self.start;
        for (i, entry) in self.entries.iter().enumerate() {
            at = self.losses.iter().rfind(|loss| loss.after == i).map_or(at, |loss| loss.attached);
            let expected = whole.iter().find(|entry| entry.position > at);
            assert_eq!(expected.map(|e| e.position), Some(entry.position), "after {at} comes {:?}", text(entry));
            at = entry.position;
        }
    }
}

/// A reader in the background.
pub(super) struct Watch {
    name: String,
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// A node's reader of the present.
    pub(super) async fn node(broker: &Arc<dyn Broker>, name: &str) -> Self {
        let (events, start) = attach(broker, Reader::Node, From::Present).await;
        Self::over(events, start, name)
    }

    /// A history's reader.
    pub(super) async fn history(broker: &Arc<dyn Broker>, name: &str) -> Self {
        let (events, start) = attach(broker, Reader::History, From::Oldest).await;
        Self::over(events, start, name)
    }

    /// Watches a stream that was attached at `start`.
    pub(super) fn over(mut events: Events, start: Position, name: &str) -> Self {
        let (sender, seen) = watch::channel(Seen { start, at: start, ..Seen::default() });
        let task = tokio::spawn(async move {
            let mut fault = None;
            while fault.is_none() {
                match events.next().await {
                    Some(Ok(event)) => sender.send_modify(|seen| fault = seen.take(event).err()),
                    Some(Err(error)) => fault = Some(format!("the stream failed: {error}")),
                    None => fault = Some("the stream ended".to_owned()),
                }
            }
            sender.send_modify(|seen| seen.fault = fault);
        });
        Self { name: name.to_owned(), seen, task }
    }

    /// Waits until what it has seen is so.
    pub(super) async fn until(&mut self, what: &str, is: impl Fn(&Seen) -> bool) {
        let seen = self.seen.wait_for(|seen| seen.fault.is_some() || is(seen));
        let fault = timeout(PATIENCE, seen).await.map(|seen| seen.expect("it watches").fault.clone());
        match fault {
            Ok(None) => {}
            Ok(Some(fault)) => panic!("{}: {fault}", self.name),
            Err(_) => panic!("not in time: {what}; {}", self.stands()),
        }
    }

    /// How far it is, for who looks for the reason of a failure.
    pub(super) fn stands(&self) -> String {
        let seen = self.seen.borrow();
        format!("{} is at {} with {} entries, and was told of {:?}", self.name, seen.at, seen.entries.len(), seen.losses)
    }

    /// Waits until it has read these texts.
    pub(super) async fn has<'a>(&mut self, all: impl IntoIterator<Item = &'a String>) {
        for text in all {
            self.until(&format!("{text:?} is read"), |seen| seen.places.contains_key(text)).await;
        }
    }

    /// Waits until it has read everything that was accepted.
    pub(super) async fn has_all(&mut self, sent: &[Sent; 2]) {
        self.has(sent.iter().flat_map(|sent| &sent.accepted).map(|(text, _)| text)).await;
    }

    pub(super) fn seen(&self) -> watch::Ref<'_, Seen> {
        self.seen.borrow()
    }
}

/// A history's writer, in the background: settles what all of these readers have read, so that nothing is trimmed that one of them
/// has yet to read.
pub(super) struct Settler(JoinHandle<()>);

impl Drop for Settler {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Settler {
    pub(super) fn start(broker: &Arc<dyn Broker>, readers: &[Watch]) -> Self {
        let (broker, mut readers) = (Arc::clone(broker), readers.iter().map(|reader| reader.seen.clone()).collect::<Vec<_>>());
        Self(tokio::spawn(async move {
            let mut settled = Position::ZERO;
            loop {
                let through = readers.iter_mut().map(|seen| seen.borrow_and_update().at).min().unwrap_or_default();
                if through > settled {
                    match broker.settle(LOG, through).await {
                        Ok(()) => settled = through,
                        Err(error) if error.is_transient() => sleep(Duration::from_millis(10)).await,
                        Err(error) => panic!("settling failed: {error}"),
                    }
                } else if select_all(readers.iter_mut().map(|seen| Box::pin(seen.changed()))).await.0.is_err() {
                    return;
                }
            }
        }))
    }
}

/// All readers and receipts agree: a position is one entry's, an entry has one position, and each publisher's own order is kept.
pub(super) fn assert_one_log(readers: &[Watch], sent: &[Sent; 2]) {
    let (mut at, mut of) = (HashMap::new(), HashMap::new());
    let mut agrees = |who: &str, position: Position, text: &str| {
        let there = at.entry(position).or_insert_with(|| text.to_owned());
        assert_eq!(there, text, "{who}: two entries at {position}");
        let place = of.entry(text.to_owned()).or_insert(position);
        assert_eq!(*place, position, "{who}: two positions of {text:?}");
    };
    for (text, position) in sent.iter().flat_map(|sent| &sent.accepted) {
        if let Some(position) = position {
            agrees("a receipt", *position, text);
        }
    }
    for reader in readers {
        let seen = reader.seen();
        let mut last = HashMap::new();
        for entry in &seen.entries {
            let text = text(entry);
            agrees(&reader.name, entry.position, &text);
            if let Some((publisher, i)) = text.rsplit_once(' ').and_then(|(name, i)| Some((name.to_owned(), i.parse::<u64>().ok()?))) {
                let before = last.insert(publisher, i);
                assert!(before.is_none_or(|before| before < i), "{}: {text:?} after {before:?} of the same publisher", reader.name);
            }
        }
    }
}

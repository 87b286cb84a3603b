//! Readers of a log: cursors into what the node knows, and for a history into its queue.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};

use super::window::{Body, Item, Log, State};
use crate::broker::{Delivered, Event, From, Reader};
use crate::{Position, Result};

/// The most entries and bytes in one [`Event::Batch`].
const BATCH_ENTRIES: usize = 2_048;
const BATCH_BYTES: usize = 1 << 20;

/// One reader's place in a log.
struct Cursor {
    log: Arc<Log>,
    id: u64,
    at: Position,
    /// It reads the history's queue where the node's memory does not reach.
    history: bool,
    next: VecDeque<Event>,
}

/// The events of `log` for `reader`, from `from` on.
pub(super) fn read(log: Arc<Log>, reader: Reader, from: From) -> BoxStream<'static, Result<Event>> {
    let cursor = {
        let mut state = log.state.lock();
        let history = reader == Reader::History && state.backlog.is_some();
        let (at, next) = if history { attach_history(&mut state, from) } else { attach_node(&state, from) };
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, at);
        Cursor { log: Arc::clone(&log), id, at, history, next: next.into() }
    };
    // A history that was away longer than the node's memory reaches has its queue read for it.
    cursor.log.chores.notify_one();
    stream::unfold(cursor, |mut cursor| async move { cursor.next().await.map(|event| (Ok(event), cursor)) }).boxed()
}

fn attach_node(state: &State, from: From) -> (Position, Vec<Event>) {
    let (base, latest) = (state.window.base, state.latest());
    match from {
        // What this node did not see it can't read again, so there are no last entries either.
        From::Present | From::Last(_) => (latest, vec![Event::Attached(latest)]),
        From::After(last) if !(base..=latest).contains(&last) => {
            (latest, vec![Event::Lost { last, epoch: latest.epoch }, Event::Attached(latest)])
        }
        from => from.attach(base, latest),
    }
}

fn attach_history(state: &mut State, from: From) -> (Position, Vec<Event>) {
    let oldest = state.backlog.as_ref().map_or(Position::ZERO, |backlog| backlog.from).max(state.settled);
    let begins = state.backlog.as_ref().map_or(Position::ZERO, |backlog| backlog.from);
    let (at, lost) = match from {
        From::Present | From::Last(_) => (state.latest(), None),
        From::Oldest => (oldest, None),
        From::After(last) if last >= begins => {
            state.settle(last);
            (last, None)
        }
        From::After(last) => (begins, Some(Event::Lost { last, epoch: begins.epoch })),
    };
    if let Some(backlog) = &mut state.backlog {
        backlog.readers += 1;
    }
    (at, lost.into_iter().chain([Event::Attached(at)]).collect())
}

impl Cursor {
    async fn next(&mut self) -> Option<Event> {
        let log = Arc::clone(&self.log);
        loop {
            // Listening before looking: what comes in between is not missed.
            let mut news = pin!(log.news.notified());
            news.as_mut().enable();
            if let Some(event) = self.next.pop_front() {
                return Some(event);
            }
            {
                let mut state = log.state.lock();
                if let Some(event) = self.take(&mut state) {
                    state.readers.insert(self.id, self.at);
                    state.trim();
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            news.await;
        }
    }

    fn take(&mut self, state: &mut State) -> Option<Event> {
        if self.history { self.take_for_history(state) } else { self.take_for_node(state) }
    }

    fn take_for_node(&mut self, state: &State) -> Option<Event> {
        if self.at < state.window.base {
            return Some(self.jump(state.window.base));
        }
        match state.window.after(self.at).next() {
            Some(Item { position, body: Body::Hole }) => Some(self.jump(*position)),
            _ => self.batch(state.window.after(self.at)),
        }
    }

    /// The node's memory as far as it reaches, the queue where it does not.
    fn take_for_history(&mut self, state: &mut State) -> Option<Event> {
        let Some(backlog) = &mut state.backlog else { return None };
        let covered = self.at >= state.window.base;
        if covered && let Some(event) = self.batch(state.window.after(self.at)) {
            backlog.wanted = false;
            return Some(event);
        }
        let holed = state.window.after(self.at).next().is_some();
        if covered && !holed {
            backlog.wanted = false;
            return None;
        }
        if self.at < backlog.from {
            return Some(self.jump(backlog.from));
        }
        let event = self.batch(backlog.after(self.at));
        // The queue may just have caught up with what the node remembers.
        let event = match event {
            None if self.at >= state.window.base => self.batch(state.window.after(self.at)),
            event => event,
        };
        backlog.wanted = event.is_none() && !(self.at >= state.window.base && state.window.after(self.at).next().is_none());
        if backlog.wanted {
            self.log.chores.notify_one();
        }
        event
    }

    /// Goes on after `position`, and says so.
    fn jump(&mut self, position: Position) -> Event {
        let lost = Event::Lost { last: self.at, epoch: position.epoch };
        self.at = position;
        self.next.push_back(Event::Attached(position));
        lost
    }

    /// The entries that follow, up to a hole or another epoch. Passes over marks.
    fn batch<'a>(&mut self, items: impl Iterator<Item = &'a Item>) -> Option<Event> {
        let (mut batch, mut size) = (Vec::new(), 0);
        for Item { position, body } in items {
            if matches!(body, Body::Hole) {
                break;
            }
            if position.epoch != self.at.epoch {
                if !batch.is_empty() {
                    break;
                }
                // Nothing was lost that this queue could have had, but a new life has begun.
                return Some(match body {
                    Body::Entry(_) => self.jump(Position::new(position.epoch, position.offset.saturating_sub(1))),
                    _ => self.jump(*position),
                });
            }
            if let Body::Entry(bytes) = body {
                size += bytes.len();
                if batch.len() == BATCH_ENTRIES || (size > BATCH_BYTES && !batch.is_empty()) {
                    break;
                }
                batch.push(Delivered { position: *position, bytes: bytes.clone() });
            }
            self.at = *position;
        }
        (!batch.is_empty()).then_some(Event::Batch(batch))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        {
            let mut state = self.log.state.lock();
            state.readers.remove(&self.id);
            if self.history
                && let Some(backlog) = &mut state.backlog
            {
                backlog.readers -= 1;
                backlog.wanted = false;
            }
            state.trim();
        }
        self.log.chores.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::super::SqsBrokerConfig;
    use super::super::backlog::Backlog;
    use super::super::wire::{Incoming, Load, Origin, place};
    use super::*;
    use crate::LogId;
    use bytes::Bytes;
    use futures::FutureExt;

    const ORIGIN: Origin = Origin { life: 1, nonce: 1 };

    /// A log of at most four entries that stands after the fence 10 of epoch 1.
    fn log(history: bool) -> Arc<Log> {
        let mut config = SqsBrokerConfig::new("eu-west-1");
        (config.entries, config.retain) = (4, 1);
        let log = Arc::new(Log::new(LogId(0), &config));
        log.fenced(1, ORIGIN);
        arrives(&log, 1, 9, &["before the fence"]);
        fence(&log, 1, 10);
        if history {
            log.state.lock().backlog = Some(Backlog::new(at(1, 10)));
        }
        log
    }

    fn at(epoch: u64, sequence: u128) -> Position {
        place(epoch, sequence, 0).unwrap()
    }

    fn arrives(log: &Log, epoch: u64, sequence: u128, texts: &[&'static str]) -> bool {
        let load = Load::Entries(texts.iter().copied().map(Bytes::from).collect());
        let origin = Origin { life: 2, nonce: 1 };
        log.arrives(epoch, &Incoming { topic: String::new(), sequence, origin, load })
    }

    fn fence(log: &Log, epoch: u64, sequence: u128) {
        log.arrives(epoch, &Incoming { topic: String::new(), sequence, origin: ORIGIN, load: Load::Fence });
    }

    /// What a reader is told by now.
    fn told(events: &mut BoxStream<'static, Result<Event>>) -> Vec<String> {
        let tell = |event: Event| match event {
            Event::Attached(position) => format!("at {}:{}", position.epoch, position.offset >> 16),
            Event::Lost { last, epoch } => format!("lost {}:{} {epoch}", last.epoch, last.offset >> 16),
            Event::Batch(batch) => {
                batch.iter().map(|entry| String::from_utf8_lossy(&entry.bytes).into_owned()).collect::<Vec<_>>().join(" ")
            }
        };
        std::iter::from_fn(|| events.next().now_or_never()?.map(|event| tell(event.unwrap()))).collect()
    }

    #[test]
    fn what_comes_again_is_passed_over_and_what_comes_out_of_order_is_told() {
        let log = log(false);
        let mut node = read(Arc::clone(&log), Reader::Node, From::Oldest);
        assert!(!arrives(&log, 1, 12, &["a", "b"]));
        assert!(arrives(&log, 1, 12, &["a", "b"]), "it came before");
        assert_eq!(told(&mut node), ["at 1:10", "a b"]);
        assert!(!arrives(&log, 1, 11, &["late"]));
        arrives(&log, 1, 13, &["c"]);
        assert_eq!(told(&mut node), ["lost 1:12 1", "at 1:12", "c"]);
    }

    #[test]
    fn a_reader_that_stands_still_holds_no_more_than_a_bound() {
        let log = log(false);
        let mut node = read(Arc::clone(&log), Reader::Node, From::Present);
        for sequence in 11..=20_030 {
            arrives(&log, 1, sequence, &["x"]);
        }
        let told = told(&mut node);
        assert_eq!(told[..3], ["at 1:10", "lost 1:10 1", "at 1:22"]);
        assert_eq!(told[3..].iter().map(|batch| batch.split(' ').count()).sum::<usize>(), 20_008);
    }

    #[test]
    fn a_hole_is_told_to_nodes_and_read_from_the_queue_by_the_history() {
        let log = log(true);
        let mut node = read(Arc::clone(&log), Reader::Node, From::Oldest);
        let mut history = read(Arc::clone(&log), Reader::History, From::Oldest);
        arrives(&log, 1, 11, &["a"]);
        log.fenced(1, ORIGIN);
        arrives(&log, 1, 13, &["before the fence"]);
        fence(&log, 1, 14);
        arrives(&log, 1, 15, &["d"]);
        assert_eq!(told(&mut node), ["at 1:10", "a", "lost 1:11 1", "at 1:14", "d"]);
        assert_eq!(told(&mut history), ["at 1:10", "a"]);
        let offer = |sequence, body| {
            let item = Item { position: at(1, sequence), body };
            log.state.lock().backlog.as_mut().unwrap().offer(item);
        };
        assert!(log.state.lock().backlog.as_ref().unwrap().wanted);
        for (sequence, text) in [(11, "a"), (12, "b"), (13, "c")] {
            offer(sequence, Body::Entry(text.into()));
        }
        offer(14, Body::Mark);
        log.news.notify_waiters();
        assert_eq!(told(&mut history), ["b c", "d"]);
        assert!(!log.state.lock().backlog.as_ref().unwrap().wanted);
    }

    #[test]
    fn a_new_epoch_is_whole_when_somebody_else_subscribed_the_queue() {
        let log = log(true);
        let mut node = read(Arc::clone(&log), Reader::Node, From::Present);
        arrives(&log, 1, 11, &["a"]);
        arrives(&log, 2, 5, &["b"]);
        arrives(&log, 1, 12, &["of a topic that is gone"]);
        log.begins(2);
        assert_eq!(told(&mut node), ["at 1:10", "a", "lost 1:11 2", "at 2:0", "b"]);
        let mut again = read(Arc::clone(&log), Reader::History, From::After(Position::new(1, 1)));
        assert_eq!(told(&mut again), ["lost 1:0 1", "at 1:10"], "the queue begins at the fence, and is to be read yet");
    }

    #[test]
    fn room_is_taken_until_the_history_has_it() {
        let log = log(true);
        let _history = read(Arc::clone(&log), Reader::History, From::Oldest);
        for sequence in 11..=14 {
            log.admit(1).unwrap();
            log.accepted(at(1, sequence), 1);
        }
        assert_eq!(log.admit(1), Err(4), "accepted, and not back yet");
        for sequence in 11..=14 {
            arrives(&log, 1, sequence, &["x"]);
        }
        assert_eq!(log.admit(1), Err(4), "back, and not settled");
        log.settle(at(1, 13));
        assert_eq!((log.depth(), log.admit(1)), (1, Ok(())));
        log.refused(1);
        assert_eq!(log.admit(32 << 20), Err(1), "by bytes, too");
    }
}

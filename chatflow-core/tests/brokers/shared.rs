//! The brokers of several nodes on one backend in this process.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use chatflow_core::broker::{Broker, Delivered, Entry, Event, From, LogId, Opening, Profile, Reader, Receipt, Refused, Status};
use chatflow_core::conformance::broker::{Capabilities, Subject};
use chatflow_core::{Error, ErrorKind, Position, Result};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::service::{Fault, Log, MOST, Node, Service, State, away};

/// A backend of two logs, with the broker of its first node.
pub(super) fn subject(rewinds: bool, tells_positions: bool, fault: Option<Fault>) -> Subject {
    let service = Service::new(fault, Capabilities::ALL);
    let another = {
        let service = Arc::clone(&service);
        move |logs| SharedBroker::of(&service, logs, rewinds, tells_positions)
    };
    Subject::new(another(2), MOST).shared_by(another).on(service)
}

#[derive(Debug)]
struct SharedBroker {
    profile: Profile,
    service: Arc<Service>,
    node: usize,
    queue: mpsc::Sender<(u64, Entry, Receipt)>,
}

impl SharedBroker {
    fn of(service: &Arc<Service>, logs: u16, rewinds: bool, tells_positions: bool) -> Arc<dyn Broker> {
        let mut profile = Profile::new("shared", logs).durable().shared();
        (profile.rewinds, profile.largest_entry) = (rewinds, 1 << 16);
        let (queue, waiting) = mpsc::channel(MOST);
        let node = service.change(|state| {
            state.nodes.push(Node { seen: vec![Position::ZERO; logs.into()], ..Node::default() });
            state.nodes.len() - 1
        });
        tokio::spawn(Arc::clone(service).carry(node, tells_positions, waiting));
        Arc::new(Self { profile, service: Arc::clone(service), node, queue })
    }

    fn refusal(&self, entry: &Entry) -> Result<u64> {
        let state = self.service.state.lock();
        if entry.bytes.len() > self.profile.largest_entry {
            return Err(Error::new(ErrorKind::Invalid, "shared", "the entry is too large"));
        }
        if state.nodes[self.node].closed {
            return Err(closed());
        }
        let told = state.up || self.service.has(Fault::AcceptsAway) || self.service.has(Fault::RefusesLate);
        if told { Ok(state.cuts) } else { Err(away()) }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "shared", "the broker was closed")
}

#[async_trait]
impl Broker for SharedBroker {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn open(&self, opening: &Opening) -> Result<()> {
        self.service.change(|state| {
            let logs = usize::from(self.profile.logs);
            if state.logs.is_empty() {
                state.logs = vec![Log::default(); logs];
            }
            if state.logs.len() != logs && !self.service.has(Fault::AnyNumberOfLogs) {
                return Err(Error::new(ErrorKind::Config, "shared", format!("there are {} logs, not {logs}", state.logs.len())));
            }
            (state.nodes[self.node].history, state.nodes[self.node].floor) = (opening.history.clone(), opening.floor_of(LogId(0)));
            for log in 0..logs.min(state.logs.len()) {
                self.service.visit(state, self.node, log);
            }
            Ok(())
        })
    }

    fn submit(&self, entry: Entry, receipt: Receipt) -> Result<(), Refused> {
        match self.refusal(&entry) {
            Ok(cuts) => self.queue.try_send((cuts, entry, receipt)).map_err(|refused| {
                let (_, _, receipt) = refused.into_inner();
                Refused { error: Error::new(ErrorKind::Full, "shared", "too much waits for the backend"), receipt }
            }),
            Err(error) => Err(Refused { error, receipt }),
        }
    }

    async fn read(&self, log: LogId, reader: Reader, from: From) -> Result<BoxStream<'static, Result<Event>>> {
        let (service, log) = (Arc::clone(&self.service), usize::from(log.0));
        let rewinds = self.profile.rewinds || reader == Reader::History;
        let (first, tail) = {
            let mut state = service.state.lock();
            if state.nodes[self.node].closed {
                return Err(closed());
            }
            if !state.up {
                return Err(away());
            }
            let it = service.visit(&mut state, self.node, log);
            let (oldest, tail) = (if rewinds { it.oldest() } else { it.tail() }, it.tail());
            let (at, first) = from.attach(oldest, tail);
            state.streams += 1;
            let (id, cuts) = (state.streams, state.cuts);
            state.readers.insert(id, at.offset as u64);
            (first, Tail { service: Arc::clone(&service), node: self.node, log, rewinds, id, at, cuts, told: VecDeque::new() })
        };
        let rest = stream::unfold(tail, |mut tail| async move { tail.next().await.map(|event| (event, tail)) });
        Ok(stream::iter(first).chain(rest).map(Ok).boxed())
    }

    async fn settle(&self, log: LogId, through: Position) -> Result<()> {
        self.service.change(|state| {
            if !state.up {
                return Err(away());
            }
            let (held, history) = (self.service.held(state), state.nodes[self.node].history.clone());
            let log = self.service.visit(state, self.node, usize::from(log.0));
            if through.epoch == log.epoch {
                let through = through.min(log.tail()).offset as u64;
                let settled = log.settled.entry(history).or_default();
                *settled = through.max(*settled);
                let by_all = if self.service.has(Fault::TrimsForOne) { through } else { log.settled() };
                log.trim(by_all.min(held));
            }
            Ok(())
        })
    }

    async fn status(&self) -> Status {
        let state = self.service.state.lock();
        let own = &state.nodes[self.node].history;
        let depth = |log: &Log| log.depth(log.settled.get(own).copied().unwrap_or_default()) as u64;
        Status::new(state.up, "in this process", state.logs.iter().map(depth).collect())
    }

    async fn close(&self) -> Result<()> {
        self.service.change(|state| {
            let all = self.service.has(Fault::ClosesAll);
            state.nodes.iter_mut().enumerate().filter(|(i, _)| all || *i == self.node).for_each(|(_, node)| node.closed = true);
        });
        Ok(())
    }
}

/// A reader's place.
struct Tail {
    service: Arc<Service>,
    node: usize,
    log: usize,
    rewinds: bool,
    id: u64,
    at: Position,
    cuts: u64,
    /// What it is told before it looks again.
    told: VecDeque<Event>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        if !self.service.has(Fault::WaitsForTheDead) {
            self.service.change(|state| state.readers.remove(&self.id));
        }
    }
}

impl Tail {
    async fn next(&mut self) -> Option<Event> {
        let service = Arc::clone(&self.service);
        loop {
            let mut news = pin!(service.news.notified());
            news.as_mut().enable();
            {
                let mut state = service.state.lock();
                if state.up {
                    self.look(&mut state);
                }
                if let Some(event) = self.told.pop_front() {
                    state.readers.insert(self.id, self.at.offset as u64);
                    return Some(event);
                }
                if state.nodes[self.node].closed || (!state.up && service.has(Fault::EndsStreams)) {
                    return None;
                }
            }
            news.await;
        }
    }

    fn look(&mut self, state: &mut State) {
        if !self.told.is_empty() {
            return;
        }
        let cuts = state.cuts;
        let it = self.service.visit(state, self.node, self.log);
        let (oldest, tail) = (it.oldest(), it.tail());
        if !(oldest..=tail).contains(&self.at) {
            let lost = Event::Lost { last: self.at, epoch: tail.epoch };
            self.at = if self.rewinds { oldest } else { tail };
            self.told.extend([lost, Event::Attached(self.at)]);
        } else if self.at < tail {
            let cut = std::mem::replace(&mut self.cuts, cuts) != cuts;
            let second = |fault| self.node == 1 && self.service.has(fault);
            if cut && second(Fault::Skips) {
                self.at.offset += 1;
            }
            if cut && second(Fault::Repeats) && self.at > oldest {
                self.at.offset -= 1;
            }
            let shift = u128::from(second(Fault::Shifts));
            let from = (self.at.offset - oldest.offset) as usize;
            let mut batch: Vec<_> = (self.at.offset + 1..)
                .zip(it.ring.range(from..).cloned())
                .map(|(offset, bytes)| Delivered { position: Position::new(tail.epoch, offset + shift), bytes })
                .collect();
            if let [one, other, ..] = batch.as_mut_slice()
                && second(Fault::Swaps)
            {
                std::mem::swap(&mut one.bytes, &mut other.bytes);
            }
            self.at = tail;
            let seen = &mut state.nodes[self.node].seen[self.log];
            *seen = tail.max(*seen);
            self.told.extend((!batch.is_empty()).then_some(Event::Batch(batch)));
        }
    }
}

//! One reader's way through a log: from memory where it can, from RabbitMQ where it is further behind.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::{sleep, timeout};

use super::envelope::{Envelope, Kind};
use super::epochs::queue_of;
use super::fault::Fault;
use super::link::{Feed, Start};
use super::log::Log;
use super::place::{before, nth, number_of, offset_of, place_of};
use super::session::Session;
use super::window::{BATCH_BYTES, BATCH_ENTRIES, Look};
use super::{Links, RETRY};
use crate::broker::{Delivered, Event};
use crate::{Position, Result};

/// How long it may take to hear of an epoch's successor before looking again.
const PATIENCE: Duration = Duration::from_secs(1);

/// A reader.
#[derive(Debug)]
pub(super) struct Reading {
    log: Arc<Log>,
    links: Links,
    at: Position,
    /// What it is told next.
    told: VecDeque<Event>,
    /// What it reads from RabbitMQ while it is behind.
    own: Option<Own>,
}

/// A consumer of its own.
#[derive(Debug)]
struct Own {
    session: Arc<Session>,
    feed: Feed,
    /// Nothing has come yet: whether something is gone in front of it is not known.
    first: bool,
    /// Whether the epoch was over when it began.
    over: bool,
}

impl Own {
    /// Whether the epoch of `at` has ended since, perhaps in front of what was asked for: that never comes then.
    fn waits_in_vain(&self, log: &Log, at: Position) -> bool {
        self.first && !self.over && self.session.epochs.chain().borrow().current(log.id.0) > at.epoch
    }
}

impl Reading {
    pub(super) fn new(log: Arc<Log>, links: Links, at: Position) -> Self {
        Self { log, links, at, told: VecDeque::new(), own: None }
    }

    /// Tells these events first.
    #[must_use]
    pub(super) fn telling(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        self.told.extend(events);
        self
    }

    /// Finds out whether it can go on from where it stands, and tells where it does.
    pub(super) async fn attach(&mut self) {
        let at = self.at;
        while self.told.is_empty() && self.own.as_ref().is_none_or(|own| own.first) && self.step().await {}
        if !matches!(self.told.front(), Some(Event::Lost { .. })) {
            self.told.push_front(Event::Attached(at));
        }
    }

    pub(super) fn stream(self) -> BoxStream<'static, Result<Event>> {
        stream::unfold(self, |mut reading| async move { reading.next().await.map(|event| (Ok(event), reading)) }).boxed()
    }

    async fn next(&mut self) -> Option<Event> {
        while self.told.is_empty() {
            if !self.step().await {
                return None;
            }
        }
        self.told.pop_front()
    }

    /// Goes on by one stretch, or waits for something to change; `false` at the end of it all.
    async fn step(&mut self) -> bool {
        let log = Arc::clone(&self.log);
        // Listening before looking: what comes in between is not missed.
        let news = log.news();
        let Some(look) = log.look(self.at) else { return false };
        if look != Look::Behind {
            self.own = None;
        }
        match look {
            Look::Batch(batch, at) => {
                self.at = at;
                self.told.push_back(Event::Batch(batch));
            }
            Look::Turn(epoch) => self.lose(Position::new(epoch, 0)),
            Look::Tail(at) => {
                self.at = at;
                news.await;
            }
            Look::Behind => {
                // The connection is not waited for when nobody makes it any more.
                if log.has_ended() && self.links.borrow().is_none() {
                    return false;
                }
                let mut news = pin!(news);
                if self.own.as_ref().is_none_or(|own| own.waits_in_vain(&log, self.at)) {
                    self.own = None;
                    tokio::select! {
                        _ = self.links.wait_for(Option::is_some) => {}
                        () = &mut news => return true,
                    }
                    // Not left for news: a busy log has more of them than it takes to begin.
                    self.open().await;
                    if self.own.is_none() {
                        return true;
                    }
                }
                tokio::select! {
                    biased;
                    () = self.behind() => {}
                    () = news => {}
                }
            }
        }
        true
    }

    /// What is between here and `place` can't be had any more.
    fn lose(&mut self, place: Position) {
        self.told.push_back(Event::Lost { last: self.at, epoch: place.epoch });
        self.told.push_back(Event::Attached(place));
        self.at = place;
    }

    /// Reads the next stretch from RabbitMQ.
    ///
    /// # Cancel safety
    /// Nothing is taken by a call that is dropped.
    async fn behind(&mut self) {
        let Some(own) = &mut self.own else { return };
        match own.feed.next(BATCH_ENTRIES, BATCH_BYTES).await {
            Ok(fed) => {
                let mut batch = Vec::with_capacity(fed.len());
                let mut over = false;
                for fed in fed {
                    let position = place_of(self.at.epoch, fed.offset);
                    if std::mem::take(&mut own.first) && number_of(position) > number_of(self.at) + 1 {
                        self.told.push_back(Event::Lost { last: self.at, epoch: position.epoch });
                        self.told.push_back(Event::Attached(before(position)));
                    }
                    let Some(envelope) = Envelope::open(fed.data) else { continue };
                    if envelope.kind == Kind::End && position > self.at {
                        over = true;
                        break;
                    }
                    let messages =
                        envelope.messages().enumerate().map(|(index, bytes)| Delivered { position: nth(position, index), bytes });
                    // The entry in which it stands is read again.
                    batch.extend(messages.filter(|message| message.position > self.at));
                    self.at = batch.last().map_or(self.at, |last| last.position).max(self.at.max(position));
                }
                if !batch.is_empty() {
                    self.told.push_back(Event::Batch(batch));
                }
                if over {
                    self.over().await;
                } else if own.feed.acknowledge(false).await.is_err() {
                    self.own = None;
                }
            }
            Err(_) => {
                self.own = None;
                sleep(RETRY).await;
            }
        }
    }

    /// Begins to read where it stands, unless that can't be, or its epoch is over.
    async fn open(&mut self) {
        let session = self.links.wait_for(Option::is_some).await.ok().and_then(|session| session.clone());
        let Some(session) = session else {
            // Nobody makes connections any more.
            self.log.end();
            return;
        };
        match self.consume(&session).await {
            Ok(Some((feed, over))) => self.own = Some(Own { session, feed, first: true, over }),
            Ok(None) | Err(Fault::Missing) => self.over().await,
            Err(Fault::Other(error)) => {
                tracing::debug!(log = self.log.id.0, %error, "reading what is behind failed; trying again");
                sleep(RETRY).await;
            }
        }
    }

    /// What follows where it stands, and whether the epoch is over; `None` when that ended before.
    async fn consume(&self, session: &Session) -> Result<Option<(Feed, bool)>, Fault> {
        let epoch = self.at.epoch;
        let queue = queue_of(&session.config, self.log.id.0, epoch);
        let over = session.epochs.chain().borrow().current(self.log.id.0) > epoch;
        // Where the end was lost, reading would not come to one.
        if over && place_of(epoch, session.link.probe(&queue, Kind::End, self.log.mark()).await?) <= self.at {
            return Ok(None);
        }
        // The entry itself is read again: if it is there, nothing is gone that follows it.
        Ok(Some((session.link.consume(&queue, Start::At(offset_of(self.at))).await?, over)))
    }

    /// Its epoch has no more: goes on with the next, once there is one.
    async fn over(&mut self) {
        let Some(session) = self.own.take().map(|own| own.session).or_else(|| self.links.borrow().clone()) else { return };
        let (log, epoch) = (self.log.id.0, self.at.epoch);
        let mut chain = session.epochs.chain();
        // Whoever ended it says soon where the log goes on; if that takes long, the end is found again.
        let next = timeout(PATIENCE, chain.wait_for(|chain| chain.after(log, epoch).is_some())).await;
        if let Ok(Ok(chain)) = next
            && let Some(next) = chain.after(log, epoch)
        {
            self.lose(Position::new(next, 0));
        }
    }
}

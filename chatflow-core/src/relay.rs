//! From a log to the rooms of this node: the one place that joins broker and registry.

mod judging;
mod repeats;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt;
use tokio::sync::{mpsc, watch};

pub(crate) use self::judging::Asked;
use self::judging::Judging;
use crate::answers::{Answers, Fate, Told};
use crate::broker::{Broker, Delivered, Event, From, Reader, Receipt};
use crate::dedup::Dedup;
use crate::notice::{LOG, Notice};
use crate::presence::Presence;
use crate::protocol::put_text_frame;
use crate::registry::{Encoder, Pressure, RoomRegistry};
use crate::start::Starting;
use crate::stats::Counters;
use crate::store::Exception;
use crate::{Codec, Delivery, ErrorKind, Hooks, LogId, Message, MessageId, MessageStore, NodeId, Position, Timestamp};

/// How long a fence may take to come back before another is raised.
const FENCE: Duration = Duration::from_secs(1);

/// News of the history: it has the log up to `through`.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) through: Position,
    /// The log lost whatever stood in it between the last news and here: it is not in the history.
    pub(crate) lost: Option<Position>,
    /// The messages since the last news that did not become a row. `None`: another node wrote, and it has to be looked up.
    pub(crate) fates: Option<Vec<(Position, Fate)>>,
}

/// Makes the frames that members see.
#[derive(Clone)]
pub(crate) struct Show {
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) node: NodeId,
}

impl Show {
    /// Appends the frame of `message`.
    pub(crate) fn frame(&self, message: &Message, position: Position, out: &mut BytesMut) {
        put_text_frame(out, |out| self.codec.broadcast(message, position, out));
    }

    /// The session of this node that sent `message`; 0 for another node's.
    fn session(&self, message: &Message) -> u64 {
        if message.node == self.node { message.session } else { 0 }
    }
}

impl Encoder for Show {
    fn encode(&self, entry: &Delivered, out: &mut BytesMut) -> Option<u64> {
        let message = Message::decode(entry.bytes.clone()).ok()?;
        self.frame(&message, entry.position, out);
        Some(self.session(&message))
    }
}

/// The same, telling the application of each message that is accepted from now on.
struct ShowAndTell<'a>(&'a Show, &'a dyn Hooks, Timestamp);

impl Encoder for ShowAndTell<'_> {
    fn encode(&self, entry: &Delivered, out: &mut BytesMut) -> Option<u64> {
        let message = Message::decode(entry.bytes.clone()).ok()?;
        self.0.frame(&message, entry.position, out);
        if message.at >= self.2 {
            self.1.on_published(&message, entry.position);
        }
        Some(self.0.session(&message))
    }
}

/// How far a node has read a log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reach {
    pub(crate) read: Position,
    /// Nothing more will come.
    pub(crate) ended: bool,
}

/// What decides when an entry is shown.
pub(crate) enum Gate {
    /// The history: an entry is shown once it is committed, unless it met another fate there.
    Committed(mpsc::Receiver<Committed>),
    /// The log: an entry is shown as it comes, unless it repeats another; the history may have news too.
    Accepted(Dedup, Option<mpsc::Receiver<Committed>>),
}

/// Reads one log and gives it to the registry and the answers.
pub(crate) struct Relay {
    pub(crate) log: LogId,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) registry: Arc<dyn RoomRegistry>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) show: Show,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    /// Learns what other nodes tell.
    pub(crate) presence: Arc<Presence>,
    pub(crate) delivery: Delivery,
    pub(crate) gate: Gate,
    /// The node's history: what the fold over repeats has forgotten is looked up there.
    pub(crate) history: Option<Arc<dyn MessageStore>>,
    pub(crate) reach: watch::Sender<Reach>,
    /// How many entries of the past are read at the start: what the fold over repeats has to know, and members who come back.
    pub(crate) past: u64,
    pub(crate) state: State,
}

/// How far a relay is.
pub(crate) struct State {
    started: Timestamp,
    /// As long as the relay has not read everything that was in the log when it started.
    starting: Option<Starting>,
    /// The fence that says so when it comes back, where other nodes publish as well.
    fence: u64,
    /// Read, and not shown yet. Bounded by what the broker keeps for the history.
    held: VecDeque<Delivered>,
    /// Fates of entries that were not shown yet, in log order.
    fates: VecDeque<(Position, Fate)>,
    read: Position,
    /// Up to here entries may be shown.
    cleared: Position,
    watermark: Position,
    judging: Judging,
}

impl State {
    /// At the start, which is over once the relay has read everything that is in the log by now.
    pub(crate) fn new(starting: Starting) -> Self {
        Self {
            started: Timestamp::now(),
            starting: Some(starting),
            fence: MessageId::new_v4().as_u64_pair().0,
            held: VecDeque::new(),
            fates: VecDeque::new(),
            read: Position::ZERO,
            cleared: Position::ZERO,
            watermark: Position::ZERO,
            judging: Judging::default(),
        }
    }
}

impl Relay {
    /// Runs until the broker is closed.
    pub(crate) async fn run(mut self) {
        let mut from = if self.past == 0 { From::Present } else { From::Last(self.past) };
        if !matches!(self.gate, Gate::Committed(_) | Gate::Accepted(_, Some(_))) {
            self.state.watermark = Position::MAX;
        }
        loop {
            match self.broker.read(self.log, Reader::Node, from).await {
                Ok(mut events) => loop {
                    match self.next(&mut events).await {
                        Some(Ok(event)) => self.take(event).await,
                        Some(Err(error)) => {
                            tracing::warn!(log = self.log.0, %error, "reading the log failed; reading again");
                            break;
                        }
                        None => return self.finish().await,
                    }
                },
                Err(error) if error.kind() == ErrorKind::Closed => return self.finish().await,
                Err(error) => tracing::warn!(log = self.log.0, %error, "the log can't be read; trying again"),
            }
            if self.state.read > Position::ZERO {
                from = From::After(self.state.read);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The log's next event, taking in the history's news meanwhile. While the registry can't keep up, nothing is taken that would
    /// give it more: the log fills, and publishers are refused.
    async fn next<S>(&mut self, events: &mut S) -> Option<S::Item>
    where
        S: futures::Stream + Unpin,
    {
        loop {
            let congested = self.registry.pressure() == Pressure::Full;
            let gated = matches!(self.gate, Gate::Committed(_));
            let news = match &mut self.gate {
                Gate::Committed(news) | Gate::Accepted(_, Some(news)) => Some(news),
                Gate::Accepted(_, None) => None,
            };
            let heard = async {
                match news {
                    Some(news) if !(congested && gated) => news.recv().await,
                    _ => None,
                }
            };
            tokio::select! {
                biased;
                Some(committed) = heard => self.committed(committed),
                Some(found) = self.state.judging.found(), if !(congested && gated) => self.take_found(found),
                event = events.next(), if !congested => return event,
                () = tokio::time::sleep(Duration::from_millis(1)), if congested => {}
                () = tokio::time::sleep(FENCE), if self.state.starting.is_some() && self.broker.profile().shared => self.raise_fence(),
            }
        }
    }

    /// The log has ended; the history's last news are waited for.
    async fn finish(mut self) {
        // What the history's writers on other nodes have still to write of what was read here is waited for, too.
        self.reach.send_modify(|reach| reach.ended = true);
        while let Gate::Committed(news) | Gate::Accepted(_, Some(news)) = &mut self.gate {
            tokio::select! {
                biased;
                Some(found) = self.state.judging.found() => self.take_found(found),
                committed = news.recv() => match committed {
                    Some(committed) => self.committed(committed),
                    None => break,
                }
            }
        }
        while let Some(found) = self.state.judging.found().await {
            self.take_found(found);
        }
    }

    fn committed(&mut self, Committed { through, lost, fates }: Committed) {
        self.state.watermark = self.state.watermark.max(through);
        let Some(fates) = fates.filter(|_| !self.state.judging.is_behind()) else {
            self.state.judging.heard(through, lost);
            return self.judge();
        };
        if let Some(below) = lost {
            self.answers.lose(self.log, below);
            let cleared = self.state.cleared;
            self.state.held.retain(|entry| entry.position <= cleared || entry.position >= below);
        }
        self.state.judging.knows(through);
        self.settled(through, fates);
    }

    /// The history has what it will ever have of the log up to `through`, and `fates` are those of the messages that it has not.
    fn settled(&mut self, through: Position, fates: Vec<(Position, Fate)>) {
        if matches!(self.gate, Gate::Committed(_)) {
            self.state.cleared = through;
            self.state.fates.extend(fates);
            self.show();
        } else {
            self.registry.advance(self.log, &mut std::iter::empty(), Position::ZERO, self.state.watermark, &self.show);
            self.answers.resolve(self.log, through, &fates);
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Attached(position) => {
                if self.state.read != position {
                    self.state.held.clear();
                    self.state.read = position;
                    if let Gate::Accepted(dedup, _) = &mut self.gate {
                        dedup.begin(position);
                    }
                    self.registry.begin(self.log, position);
                    self.judge();
                }
                if self.broker.profile().shared {
                    self.raise_fence();
                } else {
                    self.state.starting = None;
                }
            }
            Event::Lost { last, epoch } => {
                tracing::warn!(log = self.log.0, %last, epoch, "entries of the log were lost; members come back by their positions");
                self.answers.lose_unread(self.log);
                if self.log == LOG {
                    self.presence.lost();
                }
                if !matches!(self.gate, Gate::Accepted(_, Some(_))) {
                    // What this node has read by now and not shown is lost with the rest.
                    self.answers.lose(self.log, Position::new(epoch, 0));
                }
            }
            Event::Batch(batch) => self.read(batch).await,
        }
    }

    async fn read(&mut self, batch: Vec<Delivered>) {
        let Some(last) = batch.last().map(|entry| entry.position) else { return };
        if let Some(starting) = &self.state.starting {
            starting.has_read(batch.len());
        }
        if self.log == LOG || self.state.starting.is_some() {
            self.listen(&batch);
        }
        let fates = self.fold(&batch).await;
        // Not before: what is read stands among what is shown or waited for, or news that came meanwhile would pass over it.
        self.state.read = last;
        self.reach.send_modify(|reach| reach.read = last);
        let told = self.answers.read(self.log, &batch, &fates);
        self.state.fates.extend(fates);
        self.state.held.extend(batch);
        self.show();
        told.into_iter().for_each(Told::tell);
        self.judge();
        if matches!(self.gate, Gate::Accepted(_, None))
            && let Err(error) = self.broker.settle(self.log, last).await
        {
            tracing::debug!(log = self.log.0, %error, "settling failed; a later position will do");
        }
    }

    /// Until it comes back there may be more in the log than this node has read. One that the broker does not take now is
    /// published by the next try.
    fn raise_fence(&self) {
        if self.state.starting.is_some() {
            Notice::Fence { node: self.show.node.clone(), token: self.state.fence }.publish(&*self.broker, self.log, Receipt::ignored());
        }
    }

    /// Takes in notices. What others told before this node's own fence came back is the past: they may be gone.
    fn listen(&mut self, batch: &[Delivered]) {
        for notice in batch.iter().filter_map(|entry| Notice::decode(&entry.bytes)) {
            match notice {
                Notice::Fence { token, .. } if token == self.state.fence => self.state.starting = None,
                Notice::Members(told) if self.state.starting.is_none() => self.presence.heard(told),
                _ => {}
            }
        }
    }

    /// Shows what was read and is cleared; then, in the same breath, answers those who sent it.
    fn show(&mut self) {
        let State { held, fates, read, cleared, watermark, started, .. } = &mut self.state;
        let through = (*cleared).min(*read);
        let ready = held.partition_point(|entry| entry.position <= through);
        let met = fates.partition_point(|(position, _)| *position <= through);
        let met: Vec<_> = fates.drain(..met).collect();
        for (_, fate) in &met {
            match fate {
                Fate::Excepted(Exception::Repeat { .. }) => self.counters.repeats.add(1),
                Fate::Excepted(Exception::Conflict { .. }) => self.counters.conflicts.add(1),
                Fate::Dead | Fate::Lost => {}
            }
        }
        let mut skip = met.iter().map(|(position, _)| *position).peekable();
        let mut entries = held.drain(..ready).filter(|entry| {
            while skip.next_if(|position| *position < entry.position).is_some() {}
            skip.peek() != Some(&entry.position)
        });
        let tell = self.hooks.as_deref().map(|hooks| ShowAndTell(&self.show, hooks, *started));
        let encoder: &dyn Encoder = tell.as_ref().map_or(&self.show, |tell| tell);
        match self.delivery {
            Delivery::Broadcast => self.registry.advance(self.log, &mut entries, through, *watermark, encoder),
            Delivery::AnswerOnly => self.registry.advance(self.log, &mut std::iter::empty(), through, *watermark, encoder),
        }
        drop(entries);
        // A volatile log without a history holds as well as anything here does; with one, `through` is the history's word.
        if !matches!(self.gate, Gate::Accepted(_, Some(_))) {
            self.answers.resolve(self.log, through, &met);
        }
    }
}

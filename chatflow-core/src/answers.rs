//! Answering publishers, each once, and not before its message is safe.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::broker::{Completion, Durability};
use crate::engine::{Ack, PublishError, Published};
use crate::protocol::{Answer, ErrorFrame, code};
use crate::registry::Outlet;
use crate::stats::Counters;
use crate::store::Exception;
use crate::{Error, ErrorKind, LogId, MessageId, Position, RoomId, Timestamp};

/// What became of a message in the log, if it is not simply kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It repeats another or contradicts it.
    Excepted(Exception),
    /// It can't be stored, and is a dead letter.
    Dead,
}

/// Who is told.
pub(crate) enum Reply {
    /// A client, by a frame.
    Session(Arc<Outlet>),
    /// The embedding application.
    Call(oneshot::Sender<Result<Published, PublishError>>),
}

/// A message whose sender waits for an answer.
pub(crate) struct Pending {
    pub(crate) answers: Arc<Answers>,
    pub(crate) log: LogId,
    pub(crate) id: MessageId,
    pub(crate) room: RoomId,
    pub(crate) at: Timestamp,
    pub(crate) client_timestamp: ByteString,
    pub(crate) reference: Option<ByteString>,
    pub(crate) ack: Ack,
    pub(crate) echo: Bytes,
    pub(crate) reply: Reply,
}

/// How many fates of a log are remembered for acceptances that come after them.
const FATES: usize = 1_024;

/// The messages of this node whose senders wait. Bounded by what connections may have in flight.
#[derive(Debug)]
pub(crate) struct Answers {
    logs: Vec<Mutex<LogAnswers>>,
    durable: bool,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct LogAnswers {
    /// Up to here, all messages of the log are safe, or have met another fate.
    through: Position,
    waiting: BTreeMap<Position, Box<Pending>>,
    /// Accepted by a broker that did not say where.
    unplaced: HashMap<MessageId, Box<Pending>>,
    fates: BTreeMap<Position, Fate>,
}

impl std::fmt::Debug for LogAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogAnswers").field("through", &self.through).field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Answers {
    pub(crate) fn new(logs: u16, durability: Durability, counters: Arc<Counters>) -> Arc<Self> {
        let logs = (0..logs).map(|_| Mutex::default()).collect();
        Arc::new(Self { logs, durable: durability == Durability::Durable, counters })
    }

    fn log(&self, log: LogId) -> &Mutex<LogAnswers> {
        &self.logs[usize::from(log.0)]
    }

    /// The log is safe up to `through`; `fates` are those of its messages that are not simply kept, since the last call.
    pub(crate) fn resolve(&self, log: LogId, through: Position, fates: &[(Position, Fate)]) {
        let told: Vec<_> = {
            let mut log = self.log(log).lock();
            log.through = log.through.max(through);
            log.fates.extend(fates.iter().copied());
            while log.fates.len() > FATES {
                log.fates.pop_first();
            }
            let later = log.waiting.split_off(&through.next());
            let done = std::mem::replace(&mut log.waiting, later);
            let fate = |position| if log.fates.is_empty() { None } else { log.fates.get(&position).copied() };
            done.into_iter().map(|(position, pending)| (fate(position), position, pending)).collect()
        };
        for (fate, position, pending) in told {
            pending.tell(position, fate);
        }
    }

    /// Whether a message of this log was accepted without a position.
    pub(crate) fn has_unplaced(&self, log: LogId) -> bool {
        !self.log(log).lock().unplaced.is_empty()
    }

    /// A message came back from the log: now its place is known.
    pub(crate) fn place(&self, log: LogId, id: MessageId, position: Position) {
        let pending = self.log(log).lock().unplaced.remove(&id);
        if let Some(pending) = pending {
            self.wait(pending, position);
        }
    }

    fn wait(&self, pending: Box<Pending>, position: Position) {
        let mut log = self.log(pending.log).lock();
        if position > log.through {
            log.waiting.insert(position, pending);
        } else {
            let fate = log.fates.get(&position).copied();
            drop(log);
            pending.tell(position, fate);
        }
    }

    /// How many of `room`'s messages wait.
    pub(crate) fn waiting_in(&self, log: LogId, room: &RoomId) -> u64 {
        let log = self.log(log).lock();
        log.waiting.values().chain(log.unplaced.values()).filter(|pending| pending.room == *room).count() as u64
    }

    /// Rooms with messages that wait, and how many.
    pub(crate) fn waiting_rooms(&self) -> HashMap<RoomId, u64> {
        let mut rooms = HashMap::new();
        for log in &self.logs {
            let log = log.lock();
            for pending in log.waiting.values().chain(log.unplaced.values()) {
                *rooms.entry(pending.room.clone()).or_default() += 1;
            }
        }
        rooms
    }

    /// Nothing more will become safe: tells everybody who waits, and how many that were.
    pub(crate) fn give_up(&self) -> usize {
        let mut count = 0;
        for log in &self.logs {
            let log = std::mem::take(&mut *log.lock());
            for pending in log.waiting.into_values().chain(log.unplaced.into_values()) {
                count += 1;
                pending.failed(Error::new(ErrorKind::Draining, "engine", "the server stopped before the message was safe: send it again"));
            }
        }
        count
    }
}

impl Completion for Pending {
    fn accepted(self: Box<Self>, position: Option<Position>) {
        let answers = Arc::clone(&self.answers);
        if answers.durable && self.ack == Ack::Accepted {
            return self.succeed(position);
        }
        match position {
            Some(position) => answers.wait(self, position),
            None => {
                let log = self.log;
                answers.log(log).lock().unplaced.insert(self.id, self);
            }
        }
    }

    fn failed(self: Box<Self>, error: Error) {
        self.answers.counters.refused.add(1);
        match self.reply {
            Reply::Session(ref outlet) => {
                let frame = refusal(&error).about(Some(self.id.to_string()), self.reference.clone());
                outlet.answer(|out| put_error(out, &frame));
            }
            Reply::Call(call) => drop(call.send(Err(PublishError::Failed(error)))),
        }
    }
}

impl Pending {
    fn tell(self, position: Position, fate: Option<Fate>) {
        let counters = &self.answers.counters;
        match fate {
            None => self.succeed(Some(position)),
            Some(Fate::Excepted(Exception::Repeat { first })) => self.succeed(Some(first)),
            Some(Fate::Excepted(Exception::Conflict { .. })) => {
                counters.rejected.add(1);
                let problem = "messageId: was used for another message";
                self.refuse(ErrorFrame::new(code::ID_CONFLICT, vec![problem.into()]), PublishError::IdConflict);
            }
            Some(Fate::Dead) => {
                counters.rejected.add(1);
                let error = Error::new(ErrorKind::Invalid, "store", "the message can't be stored; it was put aside as a dead letter");
                self.refuse(ErrorFrame::new(code::INTERNAL, vec![error.to_string()]), error.into());
            }
        }
    }

    fn succeed(self, position: Option<Position>) {
        self.answers.counters.acknowledged.add(1);
        match self.reply {
            Reply::Session(ref outlet) => {
                let answer = Answer {
                    id: self.id,
                    room: self.room.as_str(),
                    position,
                    at: self.at,
                    client_timestamp: &self.client_timestamp,
                    reference: self.reference.as_deref(),
                    echo: &self.echo,
                };
                outlet.answer(|out| answer.write(out));
            }
            Reply::Call(call) => drop(call.send(Ok(Published { id: self.id, position, at: self.at }))),
        }
    }

    fn refuse(self, frame: ErrorFrame, error: PublishError) {
        match self.reply {
            Reply::Session(ref outlet) => {
                let frame = frame.about(Some(self.id.to_string()), self.reference.clone());
                outlet.answer(|out| put_error(out, &frame));
            }
            Reply::Call(call) => drop(call.send(Err(error))),
        }
    }
}

/// Appends an error frame's JSON.
pub(crate) fn put_error(out: &mut BytesMut, frame: &ErrorFrame) {
    // Writing into memory can't fail, and the frame holds nothing that JSON can't.
    let _ = serde_json::to_writer(out.writer(), frame);
}

/// The frame that says why a valid message was not taken.
pub(crate) fn refusal(error: &Error) -> ErrorFrame {
    let (code, wait) = match error.kind() {
        ErrorKind::Full => (code::OVERLOADED, Some(500)),
        ErrorKind::Draining => (code::DRAINING, Some(1_000)),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Closed => (code::UNAVAILABLE, Some(1_000)),
        ErrorKind::Invalid => (code::TOO_BIG, None),
        _ => (code::INTERNAL, None),
    };
    let frame = ErrorFrame::new(code, vec![error.to_string()]);
    match wait {
        Some(ms) => frame.retry_after(ms),
        None => frame,
    }
}

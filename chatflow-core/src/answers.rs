//! Answering publishers, each once, and not before its message is safe.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::broker::{Completion, Delivered, Durability, Receipt};
use crate::engine::{Ack, PublishError, Published};
use crate::protocol::{Answer, ErrorFrame, code};
use crate::registry::Outlet;
use crate::relay::Asked;
use crate::stats::Counters;
use crate::store::Exception;
use crate::{Error, ErrorKind, LogId, Message, MessageId, Position, RoomId, Timestamp};

/// What became of a message in the log, if it is not simply kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It repeats another or contradicts it.
    Excepted(Exception),
    /// It can't be stored, and is a dead letter.
    Dead,
    /// The log lost it.
    Lost,
}

/// Who is told.
pub(crate) enum Reply {
    /// A client, by a frame.
    Session(Arc<Outlet>),
    /// The embedding application, by a call.
    Call(Call),
}

/// Who waits for a call to return.
pub(crate) struct Call {
    /// Told, if anybody wants to know, that the message has its place and waits for the history.
    pub(crate) placed: Option<oneshot::Sender<()>>,
    /// Told what became of it.
    pub(crate) done: oneshot::Sender<Result<Published, PublishError>>,
}

/// Says of an error that the message it is about is a dead letter by now.
#[derive(Debug, thiserror::Error)]
#[error("it was put aside as a dead letter")]
struct Buried;

/// Whether an error says that the message is a dead letter by now.
pub(crate) fn is_buried(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Buried>())
}

/// A message whose sender waits for an answer.
pub(crate) struct Pending {
    pub(crate) answers: Arc<Answers>,
    pub(crate) log: LogId,
    pub(crate) id: MessageId,
    pub(crate) digest: u64,
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
///
/// A volatile broker says where a message stands as it takes it, and the sender waits for the log to be safe up to there. With a
/// durable one the message is waited for from the moment it is given: once it comes back from the log its position is known, and
/// whether it repeats another; that it came back means that the broker holds it, so the broker's own word adds nothing but a failure.
#[derive(Debug)]
pub(crate) struct Answers {
    logs: Vec<Mutex<LogAnswers>>,
    durable: bool,
    /// Whether there is a history that what is asked to be persisted has to reach.
    persists: bool,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct LogAnswers {
    /// Up to here, all messages of the log are safe, or have met another fate.
    through: Position,
    /// By position, and by number where several wait for one.
    waiting: BTreeMap<(Position, u64), Box<Pending>>,
    /// Not back from the log yet, in the order in which they were given.
    unread: HashMap<MessageId, Vec<(u64, Box<Pending>)>, foldhash::fast::RandomState>,
    next: u64,
    fates: BTreeMap<Position, Fate>,
}

/// Someone who can be told now.
pub(crate) struct Told(Box<Pending>, Position, Option<Fate>);

impl Told {
    pub(crate) fn tell(self) {
        self.0.tell(self.1, self.2);
    }
}

impl std::fmt::Debug for LogAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogAnswers").field("through", &self.through).field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Answers {
    pub(crate) fn new(logs: u16, durability: Durability, persists: bool, counters: Arc<Counters>) -> Arc<Self> {
        let logs = (0..logs).map(|_| Mutex::default()).collect();
        Arc::new(Self { logs, durable: durability == Durability::Durable, persists, counters })
    }

    /// The receipt of a message that is about to be given to the broker.
    pub(crate) fn receipt(self: &Arc<Self>, pending: Pending) -> Receipt {
        if !self.durable {
            return Receipt::new(Box::new(pending));
        }
        let (log, id) = (pending.log, pending.id);
        let number = self.log(log).lock().expect(Box::new(pending));
        Receipt::new(Box::new(Ticket { answers: Arc::clone(self), log, id, number }))
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
            let later = log.waiting.split_off(&(through.next(), 0));
            let done = std::mem::replace(&mut log.waiting, later);
            let fate = |position| if log.fates.is_empty() { None } else { log.fates.get(&position).copied() };
            done.into_iter().map(|((position, _), pending)| Told(pending, position, fate(position))).collect()
        };
        told.into_iter().for_each(Told::tell);
    }

    /// `batch` came back from the log; `fates` are those of its messages that repeat or contradict an earlier one, in log order.
    /// Answers with whoever is to be told once the batch was shown; the others wait for the history.
    pub(crate) fn read(&self, log: LogId, batch: &[Delivered], fates: &[(Position, Fate)]) -> Vec<Told> {
        let mut told = Vec::new();
        let mut log = self.log(log).lock();
        if log.unread.is_empty() {
            return told;
        }
        let mut fates = fates.iter().peekable();
        for entry in batch {
            while fates.next_if(|(position, _)| *position < entry.position).is_some() {}
            let fate = fates.peek().filter(|(position, _)| *position == entry.position).map(|(_, fate)| *fate);
            let Some(header) = Message::peek(&entry.bytes) else { continue };
            let Some(pending) = log.came_back(header.id, header.digest, header.room) else { continue };
            // What it repeats may not be in the history yet, either.
            let position = match fate {
                Some(Fate::Excepted(Exception::Repeat { first })) => first,
                _ => entry.position,
            };
            let waits = self.persists && !(self.durable && pending.ack == Ack::Accepted) && position > log.through;
            if waits && matches!(fate, None | Some(Fate::Excepted(Exception::Repeat { .. }))) {
                log.wait(pending, position);
            } else {
                let fate = fate.or_else(|| log.fates.get(&position).copied());
                told.push(Told(pending, position, fate));
            }
        }
        told
    }

    /// The log has lost what stood in it between what is safe and `below`: whoever waits for that has to send it again.
    pub(crate) fn lose(&self, log: LogId, below: Position) {
        let lost = {
            let mut log = self.log(log).lock();
            let later = log.waiting.split_off(&(below, 0));
            std::mem::replace(&mut log.waiting, later)
        };
        lost.into_values().for_each(|pending| pending.failed(lost_message()));
    }

    /// The node's reader has lost some of the log: what it has not read by now may never come.
    pub(crate) fn lose_unread(&self, log: LogId) {
        let lost = std::mem::take(&mut self.log(log).lock().unread);
        lost.into_values().flatten().for_each(|(_, pending)| pending.failed(lost_message()));
    }

    /// Whose senders wait for the history to have the log up to `through`, or less.
    pub(crate) fn waiting_through(&self, log: LogId, through: Position) -> Vec<Asked> {
        let log = self.log(log).lock();
        let waiting = log.waiting.range(..(through.next(), 0));
        let asked =
            waiting.map(|(&(position, _), pending)| Asked { position, id: pending.id, digest: pending.digest, room: pending.room.clone() });
        asked.collect()
    }

    /// Whether any sender waits.
    pub(crate) fn anybody_waits(&self, log: LogId) -> bool {
        self.log(log).lock().all().next().is_some()
    }

    /// How many of `room`'s messages wait.
    pub(crate) fn waiting_in(&self, log: LogId, room: &RoomId) -> u64 {
        let log = self.log(log).lock();
        log.all().filter(|pending| pending.room == *room).count() as u64
    }

    /// Rooms with messages that wait, and how many.
    pub(crate) fn waiting_rooms(&self) -> HashMap<RoomId, u64> {
        let mut rooms = HashMap::new();
        for log in &self.logs {
            let log = log.lock();
            for pending in log.all() {
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
            let unread = log.unread.into_values().flatten().map(|(_, pending)| pending);
            for pending in log.waiting.into_values().chain(unread) {
                count += 1;
                pending.failed(Error::new(ErrorKind::Draining, "engine", "the server stopped before the message was safe: send it again"));
            }
        }
        count
    }
}

impl LogAnswers {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Waits for a message to come back from the log; the number that it can be withdrawn by.
    fn expect(&mut self, pending: Box<Pending>) -> u64 {
        let number = self.number();
        self.unread.entry(pending.id).or_default().push((number, pending));
        number
    }

    fn wait(&mut self, mut pending: Box<Pending>, position: Position) {
        if let Reply::Call(call) = &mut pending.reply
            && let Some(placed) = call.placed.take()
        {
            let _ = placed.send(());
        }
        let number = self.number();
        self.waiting.insert((position, number), pending);
    }

    /// Who has waited longest for a message of this id and content.
    fn came_back(&mut self, id: MessageId, digest: u64, room: &str) -> Option<Box<Pending>> {
        self.take(id, |_, pending| pending.digest == digest && pending.room.as_str() == room)
    }

    fn take(&mut self, id: MessageId, is_it: impl Fn(u64, &Pending) -> bool) -> Option<Box<Pending>> {
        let same = self.unread.get_mut(&id)?;
        let index = same.iter().position(|(number, pending)| is_it(*number, pending))?;
        let (_, pending) = same.remove(index);
        if same.is_empty() {
            self.unread.remove(&id);
        }
        Some(pending)
    }

    fn all(&self) -> impl Iterator<Item = &Pending> {
        let unread = self.unread.values().flatten().map(|(_, pending)| &**pending);
        self.waiting.values().map(|pending| &**pending).chain(unread)
    }
}

fn lost_message() -> Error {
    Error::new(ErrorKind::Unavailable, "broker", "the log was lost before the message was safe: send it again")
}

/// The receipt of a message that is waited for already.
struct Ticket {
    answers: Arc<Answers>,
    log: LogId,
    id: MessageId,
    number: u64,
}

impl Completion for Ticket {
    fn accepted(self: Box<Self>, _: Option<Position>) {}

    fn failed(self: Box<Self>, error: Error) {
        let pending = self.answers.log(self.log).lock().take(self.id, |number, _| number == self.number);
        // It came back from the log before the broker gave up on it: then it was told.
        if let Some(pending) = pending {
            pending.failed(error);
        }
    }
}

impl Completion for Pending {
    fn accepted(self: Box<Self>, position: Option<Position>) {
        let answers = Arc::clone(&self.answers);
        let mut log = answers.log(self.log).lock();
        match position {
            Some(position) if position > log.through => log.wait(self, position),
            Some(position) => {
                let fate = log.fates.get(&position).copied();
                drop(log);
                self.tell(position, fate);
            }
            None => drop(log.expect(self)),
        }
    }

    fn failed(self: Box<Self>, error: Error) {
        self.answers.counters.refused.add(1);
        match self.reply {
            Reply::Session(ref outlet) => {
                let frame = refusal(&error).about(Some(self.id.to_string()), self.reference.clone());
                outlet.answer(|out| put_error(out, &frame));
            }
            Reply::Call(call) => drop(call.done.send(Err(PublishError::Failed(error)))),
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
                let error = Error::new(ErrorKind::Invalid, "store", "the message can't be stored").with_source(Buried);
                self.refuse(ErrorFrame::new(code::INTERNAL, vec![error.to_string()]), error.into());
            }
            Some(Fate::Lost) => Box::new(self).failed(lost_message()),
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
            Reply::Call(call) => drop(call.done.send(Ok(Published { id: self.id, position, at: self.at }))),
        }
    }

    fn refuse(self, frame: ErrorFrame, error: PublishError) {
        match self.reply {
            Reply::Session(ref outlet) => {
                let frame = frame.about(Some(self.id.to_string()), self.reference.clone());
                outlet.answer(|out| put_error(out, &frame));
            }
            Reply::Call(call) => drop(call.done.send(Err(error))),
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

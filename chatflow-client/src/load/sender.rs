//! A sending connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_core::Position;
use chatflow_core::protocol::close;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::args::Senders;
use super::csv::Rows;
use super::flight::{Due, Flight};
use super::frame::{Frame, looks_like_answer};
use super::ledger::{Acknowledged, Membership, Reader};
use super::plan::KINDS;
use super::reads::AHEAD;
use super::reconnect::{NoWay, Route};
use super::run::{Event, Phase, Run, chance};
use super::stats::{count, read};
use super::violation::Kind;
use super::wire::{Ended, Socket};

/// One connection that sends its part of the plan, waits for the answers, and is a member of its room besides.
#[derive(Debug)]
pub(super) struct Sender {
    run: Arc<Run>,
    number: u32,
    room: u32,
    room_name: String,
    /// `None` if it is no member.
    membership: Option<Membership>,
    /// Where the room was before it came: if its first connection is cut before it has seen anything, it goes on from here.
    before: Option<Position>,
    /// It sends at once and leaves when it is done: the warm-up.
    warmup: bool,
    flight: Flight,
    reader: Reader,
    rows: Rows,
    /// The server asked for a pause until then.
    hold: Option<Instant>,
    finished: bool,
    /// The position of its last message, by the answers; and when it stops waiting to see it.
    newest_answer: Option<Position>,
    leaves: Option<Instant>,
    events: mpsc::UnboundedSender<Event>,
    phase: watch::Receiver<Phase>,
    answers: Vec<Acknowledged>,
}

impl Sender {
    pub(super) fn new(run: Arc<Run>, number: u32, warmup: bool, rows: Rows, events: mpsc::UnboundedSender<Event>) -> Self {
        let room = run.plan.room_of(number);
        let start = run.baseline.lock()[room as usize];
        let before = run.ledger.newest(room).or(start);
        let name = || format!("sending connection {number}");
        let membership = (run.setup.senders == Senders::Members).then(|| run.ledger.join(room, name(), false, None));
        Self {
            number,
            room,
            room_name: (room + 1).to_string(),
            membership,
            before,
            warmup,
            flight: Flight::new(run.setup.timeout, run.setup.retries),
            reader: Reader::default(),
            rows,
            hold: None,
            finished: false,
            newest_answer: None,
            leaves: None,
            events,
            phase: run.phase.subscribe(),
            answers: Vec::new(),
            run,
        }
    }

    /// Sends, waits, comes back, until the run closes; the warm-up until its part is done.
    pub(super) async fn run(mut self) {
        let mut route = Route::new(self.number as usize, self.run.setup.rooms);
        let mut ready = false;
        loop {
            let path = self.path(ready);
            let run = Arc::clone(&self.run);
            let mut socket = match route.connect(&run, &path, None, &mut self.phase).await {
                Ok(socket) => socket,
                Err(NoWay::Closing) => break,
                Err(NoWay::GivenUp(why)) if !ready => {
                    let _ = self.events.send(Event::Unable(why));
                    break;
                }
                Err(NoWay::GivenUp(why)) => {
                    self.gone(&why);
                    break;
                }
            };
            if !std::mem::replace(&mut ready, true) {
                let _ = self.events.send(Event::Ready);
            }
            let Err(ended) = self.talk(&mut socket).await else {
                socket.close().await;
                break;
            };
            self.flight.lost(Instant::now());
            if !self.comes_back(&ended) {
                self.gone(&format!("closed with {:?}: {}", ended.code, ended.reason));
                break;
            }
        }
        for number in self.flight.abandon() {
            self.fail(number, "lost", String::new);
        }
        self.tell_finished();
        if let Some(membership) = self.membership {
            self.run.ledger.leave(membership);
        }
        self.rows.flush(true).await;
    }

    fn gone(&self, why: &str) {
        let detail = || format!("room {}: sending connection {}: {why}", self.room_name, self.number);
        self.run.violations.add(Kind::ConnectionLost, detail);
    }

    fn path(&self, again: bool) -> String {
        let last = self.membership.and_then(|m| self.run.ledger.last(m).or(self.before.filter(|_| again)));
        match (self.run.setup.senders, last) {
            (Senders::PublishOnly, _) => format!("/chat/{}?deliver=none", self.room_name),
            (_, Some(position)) => format!("/chat/{}?after={position}", self.room_name),
            (_, None) => format!("/chat/{}", self.room_name),
        }
    }

    fn comes_back(&mut self, ended: &Ended) -> bool {
        self.run.stats.tally(self.number).error(&ended.name(), || ended.reason.clone());
        if ended.code == Some(close::POSITION_LOST) {
            let detail = || format!("room {}: sending connection {} could not resume: {}", self.room_name, self.number, ended.reason);
            self.run.violations.add(Kind::PositionLost, detail);
            if let Some(membership) = self.membership {
                self.run.ledger.restart(membership, None);
                self.before = None;
            }
        }
        ended.code.is_none_or(|code| code == close::NORMAL || close::comes_back(code))
    }

    /// Serves one connection; returns once the run closes, or with the reason why it ended before.
    async fn talk(&mut self, socket: &mut Socket) -> Result<(), Ended> {
        let mut frames: Vec<Utf8Bytes> = Vec::new();
        let mut due = Vec::new();
        loop {
            let now = Instant::now();
            self.flight.expire(now, chance, &mut due);
            for due in due.drain(..) {
                match due {
                    Due::Again(number) => self.write_again(socket, number)?,
                    Due::GivenUp(number) => self.fail(number, "timeout", String::new),
                }
            }
            let next = self.fill(socket, now)?;
            if self.flight.len() == 0 && next == Next::Never {
                self.tell_finished();
                if self.warmup && self.has_seen_its_own(now) {
                    return Ok(());
                }
            }
            let next = if let Next::At(instant) = next { Some(instant) } else { None };
            let wake = self.flight.wake().into_iter().chain(next).chain(self.leaves).min().unwrap_or(now + Duration::from_secs(60));
            tokio::select! {
                biased;
                result = socket.read(&mut frames) => {
                    result?;
                    self.take(&frames);
                    frames.clear();
                    self.rows.flush(false).await;
                }
                changed = self.phase.changed() => {
                    if changed.is_err() || *self.phase.borrow() == Phase::Close {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// Whether it may leave: an answer may overtake the broadcast, and where nobody else is a member, nobody else would see it.
    fn has_seen_its_own(&mut self, now: Instant) -> bool {
        let Some(membership) = self.membership else { return true };
        let leaves = *self.leaves.get_or_insert(now + self.run.setup.patience);
        self.run.ledger.last(membership) >= self.newest_answer || now >= leaves
    }

    /// Writes as many new messages as may be under way; when it may go on.
    fn fill(&mut self, socket: &mut Socket, now: Instant) -> Result<Next, Ended> {
        let start_us = match *self.phase.borrow() {
            Phase::Prepare if self.warmup => None,
            Phase::Prepare => return Ok(Next::Answered),
            Phase::Send { start_us } => Some(start_us),
            Phase::Stop | Phase::Close => return Ok(Next::Never),
        };
        if self.hold.is_some_and(|hold| hold <= now) {
            self.hold = None;
        }
        let run = &self.run;
        let now_us = run.clock.us(now);
        loop {
            let Some(number) = run.plan.number(self.number, self.flight.next()) else { return Ok(Next::Never) };
            if self.flight.len() >= run.setup.in_flight {
                return Ok(Next::Answered);
            }
            if let Some(hold) = self.hold {
                return Ok(Next::At(hold));
            }
            if start_us.is_some() && !run.reads.let_write(read(&run.stats.sent)) {
                return Ok(Next::At(now + AHEAD));
            }
            let mut from_us = now_us;
            if let (Some(rate), Some(start_us)) = (run.setup.rate, start_us) {
                let slot = f64::from(number - run.plan.warmup_messages());
                from_us = start_us + (slot / rate * 1e6) as u64;
                if from_us > now_us {
                    return Ok(Next::At(run.clock.instant(from_us)));
                }
                run.stats.tally(self.number).lag.saturating_record((now_us - from_us).max(1));
            }
            let ms = run.clock.wall_ms(now_us);
            run.sent.first(number, ms, from_us);
            self.flight.wrote(number, now);
            count(&run.stats.sent, 1);
            socket.write(run.plan.frame(number, ms))?;
        }
    }

    fn write_again(&mut self, socket: &mut Socket, number: u32) -> Result<(), Ended> {
        count(&self.run.stats.retries, 1);
        self.run.sent.again(number);
        let ms = self.run.sent.made_ms(number).unwrap_or_default();
        socket.write(self.run.plan.frame(number, ms))
    }

    /// Reads a batch of frames: answers here, broadcasts into the ledger.
    fn take(&mut self, frames: &[Utf8Bytes]) {
        let now = Instant::now();
        let run = Arc::clone(&self.run);
        let mut settled = 0;
        let mut firsts = 0;
        let mut broadcasts = 0;
        for text in frames.iter().filter(|text| looks_like_answer(text)) {
            match Frame::parse(text) {
                Ok(frame) => self.answer(&frame, now, &mut settled, &mut firsts),
                Err(why) => run.violations.add(Kind::BadFrame, || why),
            }
        }
        // Answers of servers that write their fields in another order turn up among the broadcasts.
        let mut reader = std::mem::take(&mut self.reader);
        let (membership, name) = (self.membership, self.room_name.clone());
        let find = |room: &str| membership.filter(|_| room == name);
        let shown = frames.iter().filter(|text| !looks_like_answer(text)).map(|text| {
            broadcasts += 1;
            text.as_str()
        });
        let mut others = 0;
        let other = |frame: &Frame<'_>| {
            others += 1;
            if frame.is_answer() {
                self.answer(frame, now, &mut settled, &mut firsts);
            }
        };
        run.ledger.shown(run.truth(), &mut reader, shown, find, |_| {}, other);
        self.reader = reader;
        broadcasts -= others;
        if !self.answers.is_empty() {
            run.ledger.acknowledge(self.room, &self.answers, firsts);
            self.answers.clear();
        }
        count(&run.stats.delivered, broadcasts);
        run.stats.tick(self.number, run.clock.us(now), settled, broadcasts);
    }

    fn answer(&mut self, frame: &Frame<'_>, now: Instant, settled: &mut u64, firsts: &mut usize) {
        let run = Arc::clone(&self.run);
        let Some(id) = frame.message_id else {
            return run.stats.tally(self.number).error(Frame::text(&frame.code), || frame.errors.join("; "));
        };
        let found = run.plan.recognise(id).map(|(number, _)| (number, run.plan.sender(number)));
        let Some((number, (_, nth))) = found.filter(|(number, (sender, _))| *sender == self.number && run.sent.since_us(*number).is_some())
        else {
            let detail = || format!("sending connection {} got an answer to {id}, which it did not send", self.number);
            return run.violations.add(Kind::WrongAnswer, detail);
        };
        if !frame.is_success() {
            return self.refused(frame, number, nth, now);
        }
        if frame.room_id.is_some() && Frame::text(&frame.room_id) != self.room_name {
            let detail = || format!("{id} was sent to room {} and answered from room {}", self.room_name, Frame::text(&frame.room_id));
            run.violations.add(Kind::WrongAnswer, detail);
        }
        let first = run.sent.answer(number);
        *firsts += usize::from(first);
        self.answers.push(Acknowledged { number, position: frame.position });
        self.newest_answer = self.newest_answer.max(frame.position);
        if !self.flight.settle(nth) {
            if !first && run.sent.written_once(number) {
                run.violations.add(Kind::WrongAnswer, || format!("{id} was sent once and answered twice"));
            }
            return;
        }
        *settled += 1;
        count(&run.stats.acknowledged, 1);
        let (latency, kind) = (self.latency_us(number, now), run.plan.content(number).kind);
        let mut tally = run.stats.tally(self.number);
        tally.kinds[kind] += 1;
        tally.rooms[self.room as usize] += 1;
        if number >= run.plan.warmup_messages() {
            tally.answer.saturating_record(latency.max(1));
        }
        drop(tally);
        self.rows.add(run.sent.made_ms(number).unwrap_or_default(), KINDS[kind], latency, "SUCCESS", self.room);
    }

    fn refused(&mut self, frame: &Frame<'_>, number: u32, nth: u32, now: Instant) {
        let code = if frame.code.is_some() { Frame::text(&frame.code) } else { "error" };
        let after = frame.retry_after_ms.map(Duration::from_millis);
        if !frame.retryable {
            if self.flight.settle(nth) {
                self.fail(number, code, || frame.errors.join("; "));
            }
            return;
        }
        // Whoever is asked to wait should not go on with the next message either.
        self.hold = self.hold.max(after.map(|after| now + after));
        match self.flight.refused(nth, after, now, chance()) {
            Some(true) => self.run.stats.tally(self.number).error(code, || frame.errors.join("; ")),
            Some(false) => self.fail(number, code, || frame.errors.join("; ")),
            None => {}
        }
    }

    fn latency_us(&self, number: u32, now: Instant) -> u64 {
        self.run.clock.us(now).saturating_sub(self.run.sent.since_us(number).unwrap_or_default())
    }

    /// The message failed for good.
    fn fail(&mut self, number: u32, code: &str, say: impl FnOnce() -> String) {
        count(&self.run.stats.failed, 1);
        self.run.stats.tally(self.number).error(code, say);
        let latency = self.latency_us(number, Instant::now());
        let kind = KINDS[self.run.plan.content(number).kind];
        self.rows.add(self.run.sent.made_ms(number).unwrap_or_default(), kind, latency, code, self.room);
    }

    fn tell_finished(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            let _ = self.events.send(Event::Finished);
        }
    }
}

/// When a connection may send its next new message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Once others were answered, or the run goes on.
    Answered,
    /// Then.
    At(Instant),
    /// There are no more.
    Never,
}

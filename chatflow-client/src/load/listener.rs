//! A listening connection: a member of every room, in the `chatflow.v1` dialect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_core::Position;
use chatflow_core::protocol::{SUBPROTOCOL, close};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::frame::{Frame, shortened};
use super::ledger::{Membership, Reader};
use super::reconnect::{NoWay, Route};
use super::run::{Event, Phase, Run};
use super::stats::count;
use super::violation::Kind;
use super::wire::{Ended, Socket};

/// How long the welcomes of all rooms may take.
const WELCOMES: Duration = Duration::from_secs(30);

/// One connection that joins every room of the run and holds what it is shown against what others were.
#[derive(Debug)]
pub(super) struct Listener {
    run: Arc<Run>,
    number: u16,
    name: String,
    /// Its place in each room; `None` until that room's first welcome.
    rooms: Vec<Option<Membership>>,
    welcomed: usize,
    reader: Reader,
    latencies: Vec<u64>,
    events: mpsc::UnboundedSender<Event>,
    phase: watch::Receiver<Phase>,
}

/// The frame that joins a room (from 0), after a position or from now on.
fn join(room: u32, after: Option<Position>) -> String {
    match after {
        Some(after) => format!(r#"{{"op":"join","roomId":"{}","after":"{after}"}}"#, room + 1),
        None => format!(r#"{{"op":"join","roomId":"{}"}}"#, room + 1),
    }
}

impl Listener {
    pub(super) fn new(run: Arc<Run>, number: u16, events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            number,
            name: format!("listener {number}"),
            rooms: vec![None; run.setup.rooms as usize],
            welcomed: 0,
            reader: Reader::default(),
            latencies: Vec::new(),
            events,
            phase: run.phase.subscribe(),
            run,
        }
    }

    /// Listens, and comes back after each interruption, until the run closes.
    pub(super) async fn run(mut self) {
        let mut route = Route::new(self.number.into(), u32::MAX);
        let deadline = tokio::time::Instant::now() + WELCOMES;
        loop {
            let run = Arc::clone(&self.run);
            let mut socket = match route.connect(&run, "/chat", Some(SUBPROTOCOL), &mut self.phase).await {
                Ok(socket) => socket,
                Err(NoWay::Closing) => return,
                Err(NoWay::GivenUp(why)) => return self.gone(&why),
            };
            let joins = (0..run.setup.rooms).zip(&self.rooms).try_for_each(|(room, membership)| {
                let after = membership.and_then(|m| run.ledger.last(m));
                socket.write(join(room, after))
            });
            let ended = match joins {
                Ok(()) => self.listen(&mut socket, deadline).await,
                Err(ended) => Err(ended),
            };
            let Err(ended) = ended else { return socket.close().await };
            run.stats.tally(self.number.into()).error(&format!("listener_{}", ended.name()), || ended.reason.clone());
            if !ended.code.is_none_or(|code| code == close::NORMAL || close::comes_back(code)) {
                return self.gone(&format!("{}: {}", ended.name(), ended.reason));
            }
        }
    }

    /// It can't go on: before the run begins that ends it, later it is a violation.
    fn gone(&self, why: &str) {
        if self.welcomed < self.rooms.len() {
            let _ = self.events.send(Event::Unable(format!("{}: {why}", self.name)));
        } else {
            self.run.violations.add(Kind::ConnectionLost, || format!("{}: {why}", self.name));
        }
    }

    async fn listen(&mut self, socket: &mut Socket, deadline: tokio::time::Instant) -> Result<(), Ended> {
        let mut frames = Vec::new();
        loop {
            let waiting = self.welcomed < self.rooms.len();
            tokio::select! {
                biased;
                result = socket.read(&mut frames) => {
                    result?;
                    self.take(&frames);
                    frames.clear();
                }
                changed = self.phase.changed() => {
                    if changed.is_err() || *self.phase.borrow() == Phase::Close {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(deadline), if waiting => {
                    self.gone(&format!("welcome to {} of {} rooms within 30 s", self.welcomed, self.rooms.len()));
                    return Ok(());
                }
            }
        }
    }

    /// Reads a batch of frames: events here, each before what follows it, and broadcasts into the ledger.
    fn take(&mut self, frames: &[Utf8Bytes]) {
        let now_us = self.run.clock.us(Instant::now());
        let is_event = |text: &Utf8Bytes| text.starts_with(r#"{"event":"#);
        let mut broadcasts = 0;
        let mut rest = frames;
        while !rest.is_empty() {
            let until = rest.iter().position(is_event).unwrap_or(rest.len());
            broadcasts += self.shown(&rest[..until], now_us);
            rest = &rest[until..];
            if let Some((event, after)) = rest.split_first() {
                match Frame::parse(event) {
                    Ok(frame) => self.event(&frame),
                    Err(why) => self.run.violations.add(Kind::BadFrame, || why),
                }
                rest = after;
            }
        }
        let stats = &self.run.stats;
        count(&stats.delivered, broadcasts);
        stats.tick(self.number.into(), now_us, 0, broadcasts);
        if self.latencies.is_empty() {
            return;
        }
        let mut tally = stats.tally(self.number.into());
        for latency in self.latencies.drain(..) {
            tally.last_member.saturating_record(latency.max(1));
        }
    }

    fn shown(&mut self, frames: &[Utf8Bytes], now_us: u64) -> u64 {
        let run = Arc::clone(&self.run);
        let mut reader = std::mem::take(&mut self.reader);
        let mut latencies = std::mem::take(&mut self.latencies);
        let rooms = std::mem::take(&mut self.rooms);
        let find = |name: &str| name.parse().ok().and_then(|n: usize| *rooms.get(n.checked_sub(1)?)?);
        let last = |number| {
            if number >= run.plan.warmup_messages()
                && let Some(from) = run.sent.since_us(number)
            {
                latencies.push(now_us.saturating_sub(from));
            }
        };
        let mut others = 0;
        let other = |frame: &Frame<'_>| {
            others += 1;
            run.stats.tally(self.number.into()).error(Frame::text(&frame.code), || frame.errors.join("; "));
        };
        run.ledger.shown(run.truth(), &mut reader, frames.iter().map(Utf8Bytes::as_str), find, last, other);
        (self.reader, self.latencies, self.rooms) = (reader, latencies, rooms);
        frames.len() as u64 - others
    }

    fn event(&mut self, frame: &Frame<'_>) {
        let room = Frame::text(&frame.room_id).parse().ok().filter(|n: &u32| (1..=self.rooms.len() as u32).contains(n)).map(|n| n - 1);
        let (Some(room), Some(position)) = (room, frame.position) else { return };
        let run = &self.run;
        let lost = match Frame::text(&frame.event) {
            "welcome" => frame.recovered == Some(false),
            "gap" => true,
            _ => return,
        };
        match self.rooms[room as usize] {
            None => {
                run.stood_at(room, position);
                self.rooms[room as usize] = Some(run.ledger.join(room, self.name.clone(), true, Some(position)));
                self.welcomed += 1;
                if self.welcomed == self.rooms.len() {
                    let _ = self.events.send(Event::Ready);
                }
            }
            // Told of, so not a silent gap: from here on it owes everything again.
            Some(membership) if lost => {
                count(&run.stats.announced_gaps, 1);
                run.ledger.restart(membership, Some(position));
            }
            Some(_) => {}
        }
    }
}

/// Finds out where every room's log stands now, and leaves again.
///
/// # Errors
/// Why that can't be known, for a person: an older server has no `chatflow.v1`.
pub(super) async fn look(run: &Run) -> Result<(), String> {
    let mut socket = Err("no server".to_owned());
    for target in &run.setup.targets {
        socket = target.connect("/chat", Some(SUBPROTOCOL)).await;
        if socket.is_ok() {
            break;
        }
    }
    let mut socket = socket?;
    let mut unknown = run.setup.rooms;
    let mut frames: Vec<Utf8Bytes> = Vec::new();
    let find_out = async {
        (0..run.setup.rooms).try_for_each(|room| socket.write(join(room, None)))?;
        while unknown > 0 {
            socket.read(&mut frames).await?;
            for text in frames.drain(..) {
                let Ok(frame) = Frame::parse(&text) else { continue };
                let room = Frame::text(&frame.room_id).parse::<u32>().ok().filter(|n| (1..=run.setup.rooms).contains(n));
                if frame.is_answer() {
                    return Err(Ended { code: None, reason: shortened(&text).to_owned() });
                }
                if let (Some(room), Some(position), "welcome") = (room, frame.position, Frame::text(&frame.event)) {
                    run.stood_at(room - 1, position);
                    unknown -= 1;
                }
            }
        }
        Ok(())
    };
    let result: Result<Result<(), Ended>, _> = tokio::time::timeout(WELCOMES, find_out).await;
    result.map_err(|_| "no welcome within 30 s".to_owned())?.map_err(|ended| ended.reason)?;
    socket.close().await;
    Ok(())
}

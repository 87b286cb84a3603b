//! The task behind a client: connects, converses, comes back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chatflow_core::RoomId;
use chatflow_core::protocol::WelcomeLimits;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::assign::assigned;
use crate::builder::Settings;
use crate::command::{Command, JoinOptions};
use crate::dial::dial;
use crate::failover::Servers;
use crate::publishes::Publishes;
use crate::rooms::Rooms;
use crate::socket::Lost;
use crate::{ConnectError, ConnectFailure, Endpoint, Error, Incoming};

/// How many commands are taken at once, so that they share a write.
const COMMANDS_AT_ONCE: usize = 64;

/// Why the task ends: told to whoever still calls.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) error: Error,
    /// The close code and reason to show, if it was not the application's wish.
    pub(crate) lost: Option<Lost>,
}

impl End {
    pub(crate) fn wanted() -> Self {
        Self { error: Error::Closed, lost: None }
    }
}

/// What waits for the application: at most what one frame makes, since no other is read before it is gone.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Incoming>,
    waiting: VecDeque<Incoming>,
}

impl Outbox {
    pub(crate) fn push(&mut self, event: Incoming) {
        // Events of the connection itself may come while it is full; the last few say all there is to say.
        const ENOUGH: usize = 16;
        if self.sender.is_closed() {
            return;
        }
        if self.waiting.is_empty() {
            match self.sender.try_send(event) {
                Err(mpsc::error::TrySendError::Full(event)) => self.waiting.push_back(event),
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        } else {
            if self.waiting.len() >= ENOUGH
                && let Some(stale) = self.waiting.iter().position(|e| matches!(e, Incoming::Disconnected { .. }))
            {
                self.waiting.remove(stale);
            }
            self.waiting.push_back(event);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Delivers what waits; when nothing does, waits until nobody receives any more.
    async fn tend(&mut self) {
        if self.waiting.is_empty() {
            return self.sender.closed().await;
        }
        self.deliver().await;
    }

    async fn deliver(&mut self) {
        while !self.waiting.is_empty() {
            match self.sender.reserve().await {
                Ok(slot) => {
                    if let Some(event) = self.waiting.pop_front() {
                        slot.send(event);
                    }
                }
                Err(_) => self.waiting.clear(),
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) settings: Arc<Settings>,
    pub(crate) servers: Servers,
    commands: mpsc::Receiver<Command>,
    taken: Vec<Command>,
    has_handles: bool,
    pub(crate) events: Outbox,
    pub(crate) rooms: Rooms,
    pub(crate) publishes: Publishes,
    /// Frames to send; only filled while connected.
    pub(crate) frames: Vec<Utf8Bytes>,
    /// The limits of the server that it is connected to; `None` while it is not.
    pub(crate) limits: Option<WelcomeLimits>,
    pub(crate) started: Option<oneshot::Sender<Result<(), Error>>>,
    /// A draining server asked not to come back sooner.
    pub(crate) hold_until: Option<Instant>,
    ended: Arc<OnceLock<Error>>,
}

impl Connection {
    pub(crate) fn new(
        settings: Arc<Settings>,
        rooms: Vec<(RoomId, JoinOptions)>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Incoming>,
        started: oneshot::Sender<Result<(), Error>>,
        ended: Arc<OnceLock<Error>>,
    ) -> Self {
        let mut wanted = Rooms::default();
        for (room, options) in rooms {
            wanted.want(room, options);
        }
        Self {
            servers: Servers::new(settings.endpoints.clone()),
            settings,
            commands,
            taken: Vec::new(),
            has_handles: true,
            events: Outbox { sender: events, waiting: VecDeque::new() },
            rooms: wanted,
            publishes: Publishes::default(),
            frames: Vec::new(),
            limits: None,
            started: Some(started),
            hold_until: None,
            ended,
        }
    }

    pub(crate) async fn run(mut self) {
        let End { error, lost } = match self.stay_connected().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        // First the reason, then the doors: whoever finds them closed finds the reason.
        let _ = self.ended.set(error.clone());
        self.commands.close();
        self.publishes.fail_all(&error);
        self.rooms.fail_all(&error);
        if let Some(started) = self.started.take() {
            let _ = started.send(Err(error));
        }
        while self.commands.recv().await.is_some() {}
        if let Some(Lost { code, reason }) = lost {
            self.events.push(Incoming::Disconnected { code, reason, retry_in: None });
        }
        self.events.deliver().await;
    }

    async fn stay_connected(&mut self) -> Result<Infallible, End> {
        let backoff = self.settings.backoff;
        // Rounds without a connection that lasted; failures of this round; what is to be told of the last attempt.
        let (mut attempt, mut failures, mut news) = (0, Vec::new(), None::<Lost>);
        let mut wait = Duration::ZERO;
        self.ask(None).await?;
        let mut round = self.servers.round();
        loop {
            let now = Instant::now();
            let (endpoint, free) = self.servers.pick(now);
            let from = (now + wait).max(free).max(self.hold_until.unwrap_or(now));
            if let Some(Lost { code, reason }) = news.take() {
                self.events.push(Incoming::Disconnected { code, reason, retry_in: Some(from - now) });
            }
            self.meanwhile(sleep_until(from)).await?;

            let settings = Arc::clone(&self.settings);
            let lost = match self.meanwhile(dial(&endpoint, &settings)).await? {
                Ok((socket, greeting)) => {
                    failures.clear();
                    self.servers.reached(&endpoint);
                    let began = Instant::now();
                    let lost = self.converse(&endpoint, socket, greeting).await?;
                    self.limits = None;
                    self.frames.clear();
                    self.publishes.disconnected();
                    self.rooms.disconnected();
                    if !lost.comes_back() {
                        let error = Error::ClosedByServer { code: lost.code.unwrap_or_default(), reason: lost.reason.clone() };
                        return Err(End { error, lost: Some(lost) });
                    }
                    // A server that accepts and hangs up must not be asked every 100 ms.
                    if began.elapsed() >= backoff.ceiling(attempt) {
                        attempt = 0;
                    }
                    wait = backoff.delay(attempt);
                    attempt += 1;
                    round = self.servers.round();
                    lost
                }
                Err(failure) => {
                    if let ConnectFailure::Status { retry_after: Some(delay), .. } = failure {
                        self.servers.hold(&endpoint, delay);
                    }
                    let lost = Lost::because(format!("{endpoint}: {failure}"));
                    failures.push(ConnectError { url: endpoint.to_string(), failure });
                    wait = Duration::ZERO;
                    // Once a round: where it was is gone, and the others know who is alive.
                    if failures.len() == 1 && self.started.is_none() {
                        self.ask(Some(&endpoint)).await?;
                        round = round.max(1 + self.servers.round());
                    }
                    if failures.len() >= round {
                        let failures = std::mem::take(&mut failures);
                        if self.started.is_some() || failures.iter().all(|f| !f.failure.comes_back()) {
                            return Err(End { error: Error::Unreachable(failures), lost: Some(lost) });
                        }
                        wait = backoff.delay(attempt);
                        attempt += 1;
                        round = self.servers.round();
                    }
                    lost
                }
            };
            news = Some(lost);
        }
    }

    /// Asks those known, but for `failed`, which server is best; that one is tried next.
    async fn ask(&mut self, failed: Option<&Endpoint>) -> Result<(), End> {
        let settings = Arc::clone(&self.settings);
        let Some(assign) = &settings.assign else { return Ok(()) };
        let servers = self.servers.to_ask(failed);
        if let Some(best) = self.meanwhile(assigned(&servers, assign.token.as_deref())).await?
            && Some(&best) != failed
        {
            self.servers.assigned(best);
        }
        Ok(())
    }

    /// Goes on serving callers until `work` is done.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            if let Some(done) = self.turn(work.as_mut()).await? {
                return Ok(done);
            }
        }
    }

    /// Does one thing: a part of `work`, what a caller wants, what is due, what the application takes.
    ///
    /// # Cancel safety
    /// `work` is dropped whenever something else was done, so it must be safe to be polled anew.
    pub(crate) async fn turn<T>(&mut self, work: impl Future<Output = T>) -> Result<Option<T>, End> {
        let timer = self.publishes.next_timer().into_iter().chain(self.rooms.next_timer()).min();
        tokio::select! {
            done = work => return Ok(Some(done)),
            count = self.commands.recv_many(&mut self.taken, COMMANDS_AT_ONCE), if self.has_handles => {
                self.has_handles = count > 0;
                for command in std::mem::take(&mut self.taken) {
                    self.obey(command)?;
                }
            }
            () = self.events.tend(), if !self.has_handles || !self.events.is_empty() => {
                if !self.has_handles && self.events.sender.is_closed() {
                    return Err(End::wanted());
                }
            }
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => self.attend(),
        }
        Ok(None)
    }
}

//! How a client is set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chatflow_core::{Ack, Deliver};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::{Backoff, Client, Endpoint, Error, Events, JoinOptions};

/// Sets a [`Client`] up. Its `Debug` hides the token.
#[derive(Clone)]
#[must_use]
pub struct ClientBuilder {
    pub(crate) urls: String,
    pub(crate) user: Option<(String, String)>,
    pub(crate) token: Option<String>,
    pub(crate) assign: bool,
    pub(crate) rooms: Vec<(String, JoinOptions)>,
    pub(crate) ack: Ack,
    pub(crate) deliver: Deliver,
    pub(crate) backoff: Backoff,
    pub(crate) connect_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) in_flight: usize,
    pub(crate) event_buffer: usize,
}

/// That servers are to be asked, and with which token. Its `Debug` hides the token.
pub(crate) struct Assign {
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Assign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assign")
    }
}

/// What a connection needs of it, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) authorization: Option<HeaderValue>,
    /// The bearer token once more, if the servers are asked which of them is best.
    pub(crate) assign: Option<Assign>,
    pub(crate) path: String,
    pub(crate) backoff: Backoff,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
}

impl ClientBuilder {
    pub(crate) fn new(urls: String) -> Self {
        Self {
            urls,
            user: None,
            token: None,
            assign: false,
            rooms: Vec::new(),
            ack: Ack::default(),
            deliver: Deliver::default(),
            backoff: Backoff::default(),
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            in_flight: 256,
            event_buffer: 1_024,
        }
    }

    /// Who publishes: `userId` and `username` of chat messages.
    pub fn user(mut self, id: impl Into<String>, name: impl Into<String>) -> Self {
        self.user = Some((id.into(), name.into()));
        self
    }

    /// The bearer token, sent in the `Authorization` header.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Whether to ask the servers (`/api/v1/assign`) which of them takes new clients best: before the first attempt, and when the
    /// server that it was connected to can't be reached any more. The first that answers counts; when none does within a
    /// second, or the one assigned can't be reached, the servers are tried in turn. Default: no. Worth it where the addresses are
    /// the nodes' own; behind a balancer that balances already it is not.
    pub fn assign(mut self, assign: bool) -> Self {
        self.assign = assign;
        self
    }

    /// Enters `room` at once. May be called for several.
    pub fn room(self, room: impl Into<String>) -> Self {
        self.room_with(room, JoinOptions::default())
    }

    /// The same with options.
    pub fn room_with(mut self, room: impl Into<String>, options: JoinOptions) -> Self {
        self.rooms.push((room.into(), options));
        self
    }

    /// When a publisher is answered. Default: once the broker holds the message durably.
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// Which messages come. Default: all; `Others` leaves out one's own, `None` is for those who only publish.
    pub fn deliver(mut self, deliver: Deliver) -> Self {
        self.deliver = deliver;
        self
    }

    /// The waits between attempts to reconnect, and between those to publish what was refused for now.
    /// Default: full jitter from 100 ms up to 10 s.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long one attempt to connect may take, from the name's resolution to the welcome. Default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call waits for its answer, over any number of reconnects. Default 30 s.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// How long a server may be silent before the connection counts as dead; it is pinged after half of that.
    /// Default 60 s (servers ping every 25 s).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How many messages may wait for an answer; further publishers wait. At least 1. Default 256.
    pub fn in_flight(mut self, messages: usize) -> Self {
        self.in_flight = messages.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// How many events are kept for an application that is slow to receive them; then the socket is not read.
    /// At least 1. Default 1,024.
    pub fn event_buffer(mut self, events: usize) -> Self {
        self.event_buffer = events.max(1);
        self
    }

    /// Connects, and enters the builder's rooms.
    ///
    /// Each server is tried once. It returns when every room was entered or, if history fills the event buffer before
    /// that, when the application has to begin to receive. From then on the client reconnects by itself for as long
    /// as a handle or the stream is kept, and the server does not refuse it for good.
    ///
    /// # Cancel safety
    /// Dropping the future gives the connection up.
    ///
    /// # Errors
    /// An address, room or token that can't be one; [`Error::Unreachable`] with what happened at each server;
    /// [`Error::Refused`] for a room that may not be entered; [`Error::TimedOut`] when a server is silent about one.
    pub async fn connect(self) -> Result<(Client, Events), Error> {
        Client::connect(self).await
    }

    pub(crate) fn settings(&self) -> Result<Arc<Settings>, Error> {
        let authorization = self.token.as_ref().map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Error::BadToken)?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        Ok(Arc::new(Settings {
            endpoints: Endpoint::parse_list(&self.urls)?,
            authorization: authorization.transpose()?,
            assign: self.assign.then(|| Assign { token: self.token.clone() }),
            path: self.path(),
            backoff: self.backoff,
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
        }))
    }

    /// Rooms are joined by operations, one path for the first as for the tenth and for those entered again.
    fn path(&self) -> String {
        let ack = match self.ack {
            Ack::Accepted => "accepted",
            Ack::Persisted => "persisted",
        };
        let deliver = match self.deliver {
            Deliver::All => "all",
            Deliver::Others => "others",
            Deliver::None => "none",
        };
        format!("/chat?ack={ack}&deliver={deliver}")
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        let mut builder = f.debug_struct("ClientBuilder");
        builder.field("urls", &self.urls).field("user", &self.user).field("token", &token).field("rooms", &self.rooms);
        builder.finish_non_exhaustive()
    }
}

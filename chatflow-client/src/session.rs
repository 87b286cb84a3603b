//! What is said on a connection, in both directions.

use std::time::Duration;

use chatflow_core::RoomId;
use chatflow_core::protocol::{ErrorFrame, Event, Op};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::command::{Command, Joined};
use crate::connection::{Connection, End};
use crate::dial::Greeting;
use crate::frame::{self, Received};
use crate::incoming::Message;
use crate::rooms::Refusal;
use crate::socket::{Lost, Socket};
use crate::{Endpoint, Error, Incoming, Published};

impl Connection {
    /// Enters the rooms, sends what waits, and goes on until the connection is lost.
    pub(crate) async fn converse(&mut self, endpoint: &Endpoint, mut socket: Socket, greeting: Greeting) -> Result<Lost, End> {
        let Greeting { session, durable, limits } = greeting;
        self.limits = Some(limits);
        self.hold_until = None;
        self.events.push(Incoming::Connected { url: endpoint.to_string(), session, durable });
        for room in self.rooms.names() {
            self.ask_to_enter(&room);
        }
        // When to go elsewhere by itself, after a hint of the server's.
        let mut move_at = None::<Instant>;
        loop {
            self.report_start();
            socket.queue(self.frames.drain(..));
            let (read, at) = (self.events.is_empty(), move_at.unwrap_or_else(Instant::now));
            let work = async {
                tokio::select! {
                    text = socket.next(read) => Some(text),
                    () = sleep_until(at), if move_at.is_some() => None,
                }
            };
            let text = match self.turn(work).await {
                Ok(None) => continue,
                Ok(Some(Some(Ok(text)))) => text,
                Ok(Some(Some(Err(lost)))) => return Ok(lost),
                Ok(Some(None)) => {
                    socket.close().await;
                    return Ok(Lost::because("the server asked to go elsewhere"));
                }
                Err(end) => {
                    socket.queue(self.frames.drain(..));
                    socket.close().await;
                    return Err(end);
                }
            };
            match self.hear(endpoint, text) {
                Ok(None) => {}
                Ok(Some(delay)) => {
                    let at = Instant::now() + delay;
                    self.hold_until = Some(at);
                    move_at = self.servers.elsewhere(endpoint).then_some(at);
                }
                Err(Fault::Frame(reason)) => return Ok(Lost::because(reason)),
                Err(Fault::End(end)) => {
                    socket.close().await;
                    return Err(end);
                }
            }
        }
    }

    /// Tells `connect` that it is done: every room was entered, or the application has to receive before that can be.
    fn report_start(&mut self) {
        if (self.rooms.all_inside() || !self.events.is_empty())
            && let Some(started) = self.started.take()
        {
            let _ = started.send(Ok(()));
        }
    }

    /// Acts on a frame. Returns the delay of a `reconnect` hint.
    fn hear(&mut self, endpoint: &Endpoint, text: Utf8Bytes) -> Result<Option<Duration>, Fault> {
        match frame::read(&text).map_err(|error| Fault::Frame(format!("the server sent a frame that is none ({error})")))? {
            Received::Answer(answer) => {
                if let (Some(number), Some(message_id)) = (number(answer.reference.as_deref()), answer.id) {
                    let published = Published { message_id, position: answer.position, server_timestamp: answer.server_timestamp };
                    self.publishes.answered(number, published);
                }
            }
            Received::Error(error) => self.refused(error)?,
            Received::Broadcast { room, id, position } => {
                let Some((room, cursor)) = self.rooms.cursor(&room.0) else { return Ok(None) };
                if position.is_none_or(|position| cursor.admit(position)) {
                    self.events.push(Incoming::Message(Message { raw: text, room, id, position }));
                }
            }
            Received::Event(Event::Reconnect { delay_ms, alternates }) => {
                let delay = Duration::from_millis(delay_ms);
                self.servers.suggest(endpoint, &alternates);
                self.events.push(Incoming::Reconnect { delay, alternates });
                return Ok(Some(delay));
            }
            Received::Event(event) => self.witness(event),
            Received::Unknown => tracing::debug!("a frame of an unknown kind was passed over"),
        }
        Ok(None)
    }

    fn witness(&mut self, event: Event) {
        match event {
            Event::Welcome { room_id: Some(room), position, recovered, reason, durable, reference, .. } => {
                let joined = Joined { position, recovered, reason: reason.clone() };
                if let Some(room) = self.rooms.entered(&room, reference.as_deref(), joined) {
                    self.events.push(Incoming::Welcome { room: room.clone(), position, recovered, reason, durable });
                    for number in self.publishes.of_room(&room) {
                        self.send(number);
                    }
                }
            }
            Event::Left { reference, .. } => {
                if let Some(room) = self.rooms.left(reference.as_deref()) {
                    self.events.push(Incoming::Left { room });
                }
            }
            Event::Gap { room_id, after, position } => {
                if let Some((room, cursor)) = self.rooms.cursor(&room_id) {
                    cursor.skip_to(position);
                    self.events.push(Incoming::Gap { room, after, position });
                }
            }
            Event::Presence { room_id, count, joined, left } => {
                if let Some((room, _)) = self.rooms.cursor(&room_id) {
                    self.events.push(Incoming::Presence { room, count, joined, left });
                }
            }
            Event::Welcome { room_id: None, .. } | Event::Reconnect { .. } => {}
        }
    }

    fn refused(&mut self, error: ErrorFrame) -> Result<(), Fault> {
        let backoff = self.settings.backoff;
        if let Some(number) = number(error.reference.as_deref()) {
            self.publishes.refused(number, error, backoff);
            return Ok(());
        }
        match self.rooms.refused(error, backoff) {
            Refusal::Again => {}
            Refusal::Unrelated(error) => self.events.push(Incoming::Refused { room: None, error }),
            Refusal::Final { room, error, told } => {
                self.publishes.fail_room(&room, &error.clone().into());
                if self.started.is_some() {
                    return Err(Fault::End(End { error: error.into(), lost: None }));
                }
                if !told {
                    self.events.push(Incoming::Refused { room: Some(room), error });
                }
            }
        }
        Ok(())
    }

    /// Does what a caller wants.
    pub(crate) fn obey(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Publish(publish) if !self.rooms.wants(&publish.room) => {
                let _ = publish.reply.send(Err(Error::NotJoined(publish.room.to_string())));
            }
            Command::Publish(publish) => {
                let number = publish.number;
                self.publishes.insert(publish);
                self.send(number);
            }
            Command::Join { room, options, reply } => {
                if self.rooms.want_and_tell(room.clone(), options, reply) {
                    self.ask_to_enter(&room);
                }
            }
            Command::Leave { room, reply } => {
                self.publishes.fail_room(&room, &Error::NotJoined(room.to_string()));
                let operation = self.rooms.leave(room, reply, self.limits.is_some());
                self.frames.extend(operation.as_ref().map(operation_frame));
            }
            Command::Close => return Err(End::wanted()),
        }
        Ok(())
    }

    /// Does what is due by now.
    pub(crate) fn attend(&mut self) {
        let now = Instant::now();
        for number in self.publishes.due(now) {
            self.send(number);
        }
        for room in self.rooms.due(now) {
            self.ask_to_enter(&room);
        }
    }

    /// Sends a message if its room was entered; otherwise it goes out with the room's welcome.
    fn send(&mut self, number: u64) {
        let Some(limits) = &self.limits else { return };
        if self.publishes.room(number).is_some_and(|room| self.rooms.is_inside(room)) {
            self.frames.extend(self.publishes.send(number, Some(limits.frame)));
        }
    }

    fn ask_to_enter(&mut self, room: &RoomId) {
        if self.limits.is_some() {
            self.frames.extend(self.rooms.ask(room).as_ref().map(operation_frame));
        }
    }
}

/// What ends a conversation from this side.
enum Fault {
    /// The server's frames can't be read.
    Frame(String),
    End(End),
}

fn operation_frame(operation: &Op) -> Utf8Bytes {
    serde_json::to_string(operation).expect("an operation is always JSON").into()
}

/// The number in a message's `ref`.
fn number(reference: Option<&str>) -> Option<u64> {
    reference?.strip_prefix('p')?.parse().ok()
}

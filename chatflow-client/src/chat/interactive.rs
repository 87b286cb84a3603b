//! A person at a terminal.

use std::collections::HashSet;
use std::process::ExitCode;

use chatflow_client::{Client, Draft, Error, Events, Incoming, Joined, MessageId, Published, RoomId};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::command::{HELP, Typed, read};
use super::editor::{Editor, Key};
use super::view::View;
use super::{Args, advice};
use crate::terminal::{Paint, harmless};

/// What may wait for the server at the same time; below the client's bound, so that typing never waits.
const MOST_WAITING: usize = 200;

/// What came of something that was asked of the server.
enum Outcome {
    Said { id: MessageId, text: String, result: Result<Published, Error> },
    Joined { room: RoomId, result: Result<Joined, Error> },
    Left { result: Result<(), Error> },
}

struct Conversation<'a> {
    args: &'a Args,
    client: Client,
    view: View,
    editor: Editor,
    /// Rooms, the one that is being looked at last.
    rooms: Vec<RoomId>,
    /// Said here and shown at once: not shown again when the room has it.
    own: HashSet<MessageId>,
    waiting: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

/// Runs it until the person leaves or the server refuses for good.
pub(super) async fn run(args: &Args, client: Client, mut events: Events) -> ExitCode {
    let rooms: Vec<RoomId> = RoomId::new(&args.room).into_iter().collect();
    let editor = match Editor::open(prompt(rooms.last(), &args.username)) {
        Ok(editor) => editor,
        Err(error) => {
            eprintln!("error: the terminal can't be used ({error}); use a pipe instead");
            return ExitCode::FAILURE;
        }
    };
    let view = View::new(Paint::for_stdout(), TimeZone::system());
    let mut chat = Conversation { args, client, view, editor, rooms, own: HashSet::new(), waiting: FuturesUnordered::new() };
    let code = chat.go_on(&mut events).await;
    let Conversation { client, editor, .. } = chat;
    drop(editor);
    client.close().await;
    code
}

impl Conversation<'_> {
    async fn go_on(&mut self, events: &mut Events) -> ExitCode {
        loop {
            tokio::select! {
                key = self.editor.key() => match key {
                    Key::Line(line) => {
                        if !self.obey(&line).await {
                            return ExitCode::SUCCESS;
                        }
                        self.editor.again(prompt(self.rooms.last(), &self.args.username));
                    }
                    Key::Interrupt => return ExitCode::from(130),
                    Key::End => return ExitCode::SUCCESS,
                },
                Some(outcome) = self.waiting.next() => self.report(outcome),
                event = events.recv() => match event {
                    None | Some(Incoming::Disconnected { retry_in: None, .. }) => return self.give_up().await,
                    Some(event) => self.show(&event),
                },
                // The editor reads Ctrl-C as a key; this is a `kill -INT`.
                _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
            }
        }
    }

    /// Does what was typed; `false` to leave.
    async fn obey(&mut self, line: &str) -> bool {
        match read(line) {
            Typed::Nothing => {}
            Typed::Say(text) => self.say(text).await,
            Typed::Help => HELP.lines().for_each(|line| self.editor.print(&self.view.note(line))),
            Typed::Quit => return false,
            Typed::Who => match self.rooms.last() {
                Some(room) => self.editor.print(&self.view.who(room)),
                None => self.complain("you are in no room; /join ROOM"),
            },
            Typed::Join(name) => self.join(name),
            Typed::Leave => self.leave(),
            Typed::Unknown(line) => self.complain(&format!("{}: no such command; /help lists them", harmless(line))),
        }
        true
    }

    async fn say(&mut self, text: &str) {
        let Some(room) = self.rooms.last().cloned() else { return self.complain("you are in no room; /join ROOM") };
        if self.waiting.len() >= MOST_WAITING {
            return self.complain(&format!("not said, too much waits for the server: {}", harmless(text)));
        }
        let draft = Draft::new(text);
        let id = draft.message_id();
        self.editor.print(&self.view.said(Timestamp::now(), &self.args.username, text));
        match self.client.enqueue(room.as_str(), draft).await {
            Ok(answer) => {
                self.own.insert(id);
                let text = text.to_owned();
                self.waiting.push(Box::pin(async move { Outcome::Said { id, text, result: answer.await } }));
            }
            Err(error) => self.complain(&format!("not said: {}", advice::explain(&error))),
        }
    }

    fn join(&mut self, name: &str) {
        let Ok(room) = RoomId::new(name) else { return self.complain(&Error::BadRoom(name.to_owned()).to_string()) };
        if let Some(index) = self.rooms.iter().position(|r| *r == room) {
            let room = self.rooms.remove(index);
            return self.rooms.push(room);
        }
        let (client, options) = (self.client.clone(), self.args.options());
        self.rooms.push(room.clone());
        self.waiting.push(Box::pin(async move {
            let result = client.join_with(room.as_str(), options).await;
            Outcome::Joined { room, result }
        }));
    }

    fn leave(&mut self) {
        let Some(room) = self.rooms.pop() else { return self.complain("you are in no room") };
        let client = self.client.clone();
        self.waiting.push(Box::pin(async move { Outcome::Left { result: client.leave(room.as_str()).await } }));
    }

    fn report(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Said { result: Ok(_), .. } | Outcome::Joined { result: Ok(_), .. } | Outcome::Left { result: Ok(()) } => {}
            Outcome::Said { id, text, result: Err(error) } => {
                // If it comes after all, it is news.
                self.own.remove(&id);
                self.complain(&format!("not said: {} ({})", harmless(&text), advice::explain(&error)));
            }
            Outcome::Joined { room, result: Err(error) } => {
                self.rooms.retain(|r| *r != room);
                self.complain(&format!("room {room}: {}", advice::explain(&error)));
            }
            Outcome::Left { result: Err(error) } => self.complain(&advice::explain(&error)),
        }
    }

    fn show(&mut self, event: &Incoming) {
        match event {
            Incoming::Message(message) if self.own.remove(&message.id()) => return,
            Incoming::Refused { room: Some(room), .. } => self.rooms.retain(|r| r != room),
            _ => {}
        }
        if let Some(line) = self.view.show(event, self.rooms.last()) {
            self.editor.print(&line);
        }
    }

    fn complain(&mut self, text: &str) {
        self.editor.print(&self.view.complaint(text));
    }

    /// The client has ended by itself; a call says why in full.
    async fn give_up(&mut self) -> ExitCode {
        let error = self.client.leave("-").await.err().unwrap_or(Error::Closed);
        self.editor.print(&self.view.complaint(&advice::explain(&error)));
        ExitCode::FAILURE
    }
}

fn prompt(room: Option<&RoomId>, username: &str) -> String {
    match room {
        Some(room) => format!("{room} {}> ", harmless(username)),
        None => format!("(no room) {}> ", harmless(username)),
    }
}

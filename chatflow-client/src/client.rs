//! The handle that an application holds.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chatflow_core::{MessageId, Position, RoomId};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::command::{Command, JoinOptions, Joined, Publish};
use crate::connection::Connection;
use crate::frame::{self, ChatFrame};
use crate::{ClientBuilder, Draft, Error, Events};

/// How many calls may be on their way to the connection's task.
const COMMANDS: usize = 256;

/// A message that the server has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its id.
    pub message_id: MessageId,
    /// Its place in the room, once it is known.
    pub position: Option<Position>,
    /// When the server accepted it, ISO-8601.
    pub server_timestamp: String,
}

/// A connection to a ChatFlow server that comes back by itself. Cheap to clone; all clones share the connection.
///
/// It ends with [`close`](Self::close), when a server refuses it for good, or when the last handle and the
/// [`Events`] are dropped.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
struct Shared {
    user: Option<(String, String)>,
    answer_timeout: Duration,
    in_flight: Arc<Semaphore>,
    numbers: AtomicU64,
    ended: Arc<OnceLock<Error>>,
}

impl Client {
    /// Begins to set a client up. `urls` is one address, such as `ws://127.0.0.1:8080`, or several, separated by
    /// commas: the client goes on to the next when one fails.
    pub fn builder(urls: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(urls.into())
    }

    pub(crate) async fn connect(builder: ClientBuilder) -> Result<(Self, Events), Error> {
        let settings = builder.settings()?;
        let rooms: Vec<_> = builder.rooms.iter().map(|(room, options)| Ok((room_id(room)?, *options))).collect::<Result<_, Error>>()?;
        let (commands, command_receiver) = mpsc::channel(COMMANDS);
        let (events, event_receiver) = mpsc::channel(builder.event_buffer);
        let (started, ready) = oneshot::channel();
        let ended = Arc::new(OnceLock::new());
        let connection = Connection::new(settings, rooms, command_receiver, events, started, Arc::clone(&ended));
        let shared = Shared {
            user: builder.user,
            answer_timeout: builder.answer_timeout,
            in_flight: Arc::new(Semaphore::new(builder.in_flight)),
            numbers: AtomicU64::new(0),
            ended,
        };
        let client = Self { shared: Arc::new(shared), commands };
        tokio::spawn(connection.run());
        client.answer(ready).await?;
        Ok((client, Events(event_receiver)))
    }

    /// Publishes a `TEXT` message and waits until the server has acknowledged it.
    ///
    /// It is sent again under the same id, over any number of reconnects and for as long as the server says that trying
    /// again may help, until the [`answer_timeout`](ClientBuilder::answer_timeout) has passed. Messages of one task
    /// that awaits each are in the room in that order.
    ///
    /// # Cancel safety
    /// Dropping the future stops further attempts; an attempt that was made may still succeed. Publish a [`Draft`] whose id
    /// you keep to be able to ask again.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's reasons; [`Error::Unanswered`] when it is not known whether the message is
    /// in the room; [`Error::NotJoined`]; [`Error::TooLarge`]; [`Error::NoUser`]; or why the client has ended.
    pub async fn publish(&self, room: impl AsRef<str>, text: impl Into<String>) -> Result<Published, Error> {
        self.publish_draft(room, Draft::new(text)).await
    }

    /// Publishes a message of another kind, time or id: see [`publish`](Self::publish).
    ///
    /// ```no_run
    /// # use chatflow_client::{Client, Draft, Error};
    /// # async fn run(client: Client) -> Result<(), Error> {
    /// let draft = Draft::new("order 17 has shipped");
    /// // The same draft again is the same message, even after this program has crashed and kept the draft.
    /// while let Err(Error::Unanswered { .. }) = client.publish_draft("orders", draft.clone()).await {}
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    pub async fn publish_draft(&self, room: impl AsRef<str>, draft: Draft) -> Result<Published, Error> {
        self.enqueue(room, draft).await?.await
    }

    /// Takes a message without waiting for its answer, which the returned future is. Messages that one task enqueues
    /// are first sent in that order, many at a time: this is how to publish fast. Waits while too many are in flight.
    ///
    /// # Cancel safety
    /// Dropping this future publishes nothing. For the returned one see [`publish`](Self::publish).
    ///
    /// ```no_run
    /// # use chatflow_client::{Client, Draft, Error};
    /// # async fn run(client: Client) -> Result<(), Error> {
    /// let mut acknowledgements = Vec::new();
    /// for n in 0..100 {
    ///     acknowledgements.push(client.enqueue("7", Draft::new(format!("message {n}"))).await?);
    /// }
    /// for acknowledgement in acknowledgements {
    ///     acknowledgement.await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoUser`], [`Error::BadRoom`], [`Error::Unanswered`] if no place became free, or why the client has ended.
    pub async fn enqueue(&self, room: impl AsRef<str>, draft: Draft) -> Result<Acknowledgement, Error> {
        let (user_id, username) = self.shared.user.as_ref().ok_or(Error::NoUser)?;
        self.submit(room.as_ref(), draft.id, |room, reference| {
            let frame = ChatFrame {
                message_id: draft.id,
                room_id: room,
                reference,
                user_id,
                username,
                message: &draft.text,
                timestamp: &draft.timestamp,
                message_type: &draft.kind,
            };
            serde_json::to_string(&frame).expect("texts are always JSON")
        })
        .await
    }

    /// Publishes a message of the application's own form, for servers with a codec of their own. `roomId` and `ref`
    /// are set by the client, `messageId` where there is none: see [`publish`](Self::publish).
    ///
    /// ```no_run
    /// # use chatflow_client::{Client, Error};
    /// # async fn run(client: Client) -> Result<(), Error> {
    /// let tick = serde_json::json!({"symbol": "ACME", "price": 17.5});
    /// if let serde_json::Value::Object(fields) = tick {
    ///     client.publish_json("ticks", fields).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`publish`](Self::publish), and [`Error::BadMessageId`].
    pub async fn publish_json(
        &self,
        room: impl AsRef<str>,
        mut fields: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Published, Error> {
        let id = frame::own_id(&fields)?;
        self.submit(room.as_ref(), id, |room, reference| {
            for (name, value) in [("messageId", id.to_string()), ("roomId", room.to_owned()), ("ref", reference.to_owned())] {
                fields.insert(name.to_owned(), value.into());
            }
            serde_json::Value::Object(fields).to_string()
        })
        .await?
        .await
    }

    async fn submit(&self, room: &str, id: MessageId, frame: impl FnOnce(&str, &str) -> String) -> Result<Acknowledgement, Error> {
        let room = room_id(room)?;
        let within = self.shared.answer_timeout;
        let deadline = Instant::now() + within;
        let unanswered = Error::Unanswered { id, within };
        let acquired = timeout_at(deadline, Arc::clone(&self.shared.in_flight).acquire_owned()).await;
        let permit = acquired.map_err(|_| unanswered.clone())?.map_err(|_| self.end())?;
        let slot = timeout_at(deadline, self.commands.reserve()).await.map_err(|_| unanswered)?.map_err(|_| self.end())?;
        // The number is taken and the command sent without a wait in between: the order of numbers is that of calls.
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let frame = frame(room.as_str(), &format!("p{number}")).into();
        let (reply, answer) = oneshot::channel();
        slot.send(Command::Publish(Publish { number, id, room, frame, deadline, within, reply, permit }));
        Ok(Acknowledgement { answer, shared: Arc::clone(&self.shared) })
    }

    /// Enters a room. Its messages come after this returned or shortly before.
    ///
    /// The client stays a member over reconnects until [`leave`](Self::leave).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: the room is entered all the same.
    ///
    /// # Errors
    /// [`Error::Refused`] when it may not be entered; [`Error::TimedOut`], after which it may still be entered later.
    pub async fn join(&self, room: impl AsRef<str>) -> Result<Joined, Error> {
        self.join_with(room, JoinOptions::default()).await
    }

    /// Enters a room with its history, or from a position on: see [`join`](Self::join). The options of a room that the
    /// client is in already change nothing.
    ///
    /// ```no_run
    /// # use chatflow_client::{Client, Error, JoinOptions};
    /// # async fn run(client: Client, kept: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let joined = client.join_with("7", JoinOptions { after: Some(kept.parse()?), history: None }).await?;
    /// if !joined.recovered {
    ///     println!("something is missing: {:?}", joined.reason);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub async fn join_with(&self, room: impl AsRef<str>, options: JoinOptions) -> Result<Joined, Error> {
        let room = room_id(room.as_ref())?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Join { room, options, reply }).await?;
        self.answer(answer).await
    }

    /// Leaves a room: nothing of it comes any more once this returned. Leaving a room that one is not in is fine.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: the room is left all the same.
    ///
    /// # Errors
    /// [`Error::TimedOut`], or why the client has ended.
    pub async fn leave(&self, room: impl AsRef<str>) -> Result<(), Error> {
        let room = room_id(room.as_ref())?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Leave { room, reply }).await?;
        self.answer(answer).await
    }

    /// Closes the connection for good, for all clones. What is not answered yet fails with [`Error::Closed`].
    pub async fn close(&self) {
        if self.commands.send(Command::Close).await.is_ok() {
            self.commands.closed().await;
        }
    }

    async fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| self.end())
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        let within = self.shared.answer_timeout;
        match tokio::time::timeout(within, answer).await {
            Err(_) => Err(Error::TimedOut(within)),
            Ok(answer) => answer.map_err(|_| self.end())?,
        }
    }

    fn end(&self) -> Error {
        self.shared.end()
    }
}

impl Shared {
    /// Why the connection has ended.
    fn end(&self) -> Error {
        self.ended.get().cloned().unwrap_or(Error::Closed)
    }
}

/// The answer to a message that was [enqueued](Client::enqueue). Dropped, the message is not sent again.
#[derive(Debug)]
#[must_use = "a message whose acknowledgement is dropped may never be sent"]
pub struct Acknowledgement {
    answer: oneshot::Receiver<Result<Published, Error>>,
    shared: Arc<Shared>,
}

impl Future for Acknowledgement {
    type Output = Result<Published, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The connection keeps the deadline: it knows what was refused, and what is unknown.
        let answered = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answered.unwrap_or_else(|_| Err(self.shared.end())))
    }
}

fn room_id(room: &str) -> Result<RoomId, Error> {
    RoomId::new(room).map_err(|_| Error::BadRoom(room.to_owned()))
}

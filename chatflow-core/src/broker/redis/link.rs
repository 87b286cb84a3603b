//! One server: a connection to write, and one to read and listen.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind as Kind, FromRedisValue, PushInfo, PushKind, ServerErrorKind as Server, Value};
use tokio::sync::watch;

use super::address::{Address, Target};
use super::batch::Batch;
use super::failure::Failure;
use super::feed::Feed;
use super::script::{self, Script};
use super::server::Server as About;
use crate::ErrorKind;

/// Longer than this nobody waits for a connection: once the server is there again, all has to be whole within seconds.
const CONNECT: Duration = Duration::from_secs(2);
/// Commands that may wait for the socket before the next caller does.
const QUEUE: usize = 1_024;

/// Two connections to one process, as long as both live. They are never mended: whoever finds a link down takes a new one.
pub(super) struct Link {
    pub(super) server: About,
    address: Address,
    /// Answers come in the order of the calls, and so do the scripts' effects.
    write: MultiplexedConnection,
    /// Messages of the channels come before the answer to a command that was run after them.
    read: MultiplexedConnection,
    feeds: Feeds,
    down: Down,
}

type Feeds = Arc<Mutex<HashMap<String, Arc<Feed>>>>;
type Down = Arc<watch::Sender<Option<Failure>>>;

impl Link {
    /// Connects, and looks whether the server is one that we can work with.
    pub(super) async fn connect(target: &Target, address: &Address, timeout: Duration) -> Result<Self, Failure> {
        let failed = |error| Failure::of(address, &error);
        let client = target.client(address).map_err(failed)?;
        let (feeds, down) = (Feeds::default(), Down::new(watch::Sender::new(None)));
        let open = |config: AsyncConnectionConfig| {
            let config = config.set_connection_timeout(Some(CONNECT.min(timeout))).set_response_timeout(Some(CONNECT.min(timeout)));
            let client = &client;
            async move { client.get_multiplexed_async_connection_with_config(&config.set_pipeline_buffer_size(QUEUE)).await }
        };
        let lost = {
            let (down, address) = (Arc::clone(&down), address.clone());
            move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    fail(&down, Failure::new(ErrorKind::Unavailable, format!("Redis at {address}: the connection was lost")));
                }
                Ok::<_, redis::aio::SendError>(())
            }
        };
        let heard = {
            let (feeds, lost, down, address) = (Arc::clone(&feeds), lost.clone(), Arc::clone(&down), address.clone());
            move |push: PushInfo| match push.kind {
                PushKind::Message | PushKind::SMessage => {
                    tell(&feeds, push.data);
                    Ok(())
                }
                PushKind::SUnsubscribe | PushKind::Unsubscribe => {
                    // We never unsubscribe: the cluster moved a slot. The client takes this for the answer to some command.
                    fail(&down, Failure::new(ErrorKind::Unavailable, format!("Redis at {address}: a slot was moved")));
                    Ok(())
                }
                _ => lost(push),
            }
        };
        let mut write = open(AsyncConnectionConfig::new().set_push_sender(lost)).await.map_err(failed)?;
        let server = About::look(&mut write, target, address).await?;
        for script in script::all() {
            script.load().query_async::<()>(&mut write).await.map_err(failed)?;
        }
        let mut read = open(AsyncConnectionConfig::new().set_push_sender(heard)).await.map_err(failed)?;
        write.set_response_timeout(timeout);
        read.set_response_timeout(timeout);
        Ok(Self { server, address: address.clone(), write, read, feeds, down })
    }

    /// Listens to `channel` for `feed`. Everything that is said after this returned is heard, or the link goes down.
    pub(super) async fn listen(&self, channel: &str, sharded: bool, feed: &Arc<Feed>) -> Result<(), Failure> {
        self.feeds.lock().insert(channel.to_owned(), Arc::clone(feed));
        // One channel a call: in a cluster, several would cross slots.
        let mut subscribe = redis::cmd(if sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" });
        self.ask::<Value>(&self.read, subscribe.arg(channel)).await.map(drop)
    }

    /// Runs a script where it is in order with everything that was written before.
    pub(super) async fn write<T: FromRedisValue>(&self, script: &Script, command: &Cmd) -> Result<T, Failure> {
        self.run(&self.write, script, command).await
    }

    /// Runs a script where it is in order with what is heard.
    pub(super) async fn read<T: FromRedisValue>(&self, script: &Script, command: &Cmd) -> Result<T, Failure> {
        self.run(&self.read, script, command).await
    }

    /// Sees to it that the server knows `script`.
    pub(super) async fn load(&self, script: &Script) -> Result<(), Failure> {
        self.ask(&self.write, &script.load()).await
    }

    /// The connection for writing; the caller says what its failures mean.
    pub(super) fn writer(&self) -> MultiplexedConnection {
        self.write.clone()
    }

    /// For scripts that may be run twice. Somebody may have flushed the server's scripts.
    async fn run<T: FromRedisValue>(&self, on: &MultiplexedConnection, script: &Script, command: &Cmd) -> Result<T, Failure> {
        match command.query_async(&mut on.clone()).await {
            Err(error) if error.kind() == Kind::Server(Server::NoScript) => {
                self.ask::<()>(on, &script.load()).await?;
                self.ask(on, command).await
            }
            answer => self.believe(answer),
        }
    }

    async fn ask<T: FromRedisValue>(&self, on: &MultiplexedConnection, command: &Cmd) -> Result<T, Failure> {
        self.believe(command.query_async(&mut on.clone()).await)
    }

    /// An answer of a link that is down may be another command's.
    fn believe<T>(&self, answer: redis::RedisResult<T>) -> Result<T, Failure> {
        let answer = answer.map_err(|error| self.judge(&error));
        match &*self.down.borrow() {
            Some(failure) => Err(failure.clone()),
            None => answer,
        }
    }

    /// What an error means. Where the connection is lost or silent, the link is down.
    pub(super) fn judge(&self, error: &redis::RedisError) -> Failure {
        let failure = Failure::of(&self.address, error);
        if error.is_timeout() || error.is_unrecoverable_error() || error.is_connection_dropped() {
            fail(&self.down, failure.clone());
        }
        failure
    }

    /// Why it is down, if it is.
    pub(super) fn is_down(&self) -> bool {
        self.down.borrow().is_some()
    }

    /// Waits until it is down.
    pub(super) async fn down(&self) -> Failure {
        let mut down = self.down.subscribe();
        let failure = down.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        failure.unwrap_or_else(|| Failure::new(ErrorKind::Unavailable, "the link is gone"))
    }
}

/// The first reason stays.
fn fail(down: &watch::Sender<Option<Failure>>, failure: Failure) {
    down.send_if_modified(|reason| {
        let first = reason.is_none();
        reason.get_or_insert(failure);
        first
    });
}

/// Runs on the connection's own task: it never waits.
fn tell(feeds: &Mutex<HashMap<String, Arc<Feed>>>, data: Vec<Value>) {
    let Ok([Value::BulkString(channel), Value::BulkString(message)]) = <[Value; 2]>::try_from(data) else { return };
    let feed = std::str::from_utf8(&channel).ok().and_then(|channel| feeds.lock().get(channel).cloned());
    // What is no batch is somebody else's, or a probe.
    if let (Some(feed), Some(batch)) = (feed, Batch::told(Bytes::from(message))) {
        feed.tell(batch);
    }
}

impl Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).field("down", &*self.down.borrow()).finish_non_exhaustive()
    }
}

//! A TCP proxy that behaves as a bad network does, and changes its behaviour while connections go through it.

mod connection;
mod pump;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::Port;
use connection::Order;

/// What becomes of bytes on their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pass {
    /// They arrive.
    #[default]
    Through,
    /// They wait, and arrive once this changes: a network that is away for a while.
    Held,
    /// They vanish, and so does the end of the connection. Because bytes are missing then, nothing later arrives in this direction
    /// of the connection either, whatever is set.
    Dropped,
}

/// What becomes of one direction of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// How much later bytes arrive. Up to 1 MiB are on their way at a time.
    pub delay: Duration,
    /// Whether they arrive.
    pub pass: Pass,
    /// After so many more bytes both sides of the connection are reset. Counted for each connection, anew each time that faults are set.
    pub cut_after: Option<u64>,
    /// How fast they arrive, if there is a limit.
    pub bytes_per_second: Option<u64>,
}

impl Flow {
    /// Bytes arrive later by this time.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Bytes wait.
    pub fn held() -> Self {
        Self { pass: Pass::Held, ..Self::default() }
    }

    /// Bytes vanish.
    pub fn dropped() -> Self {
        Self { pass: Pass::Dropped, ..Self::default() }
    }

    /// So many bytes, and the connection is reset.
    pub fn cut_after(bytes: u64) -> Self {
        Self { cut_after: Some(bytes), ..Self::default() }
    }

    /// So many bytes a second.
    pub fn throttled(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: Some(bytes_per_second), ..Self::default() }
    }
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// From the client to the server.
    pub up: Flow,
    /// From the server to the client.
    pub down: Flow,
}

impl Faults {
    /// The same in both directions.
    pub fn both(flow: Flow) -> Self {
        Self { up: flow, down: flow }
    }
}

/// What went through a proxy so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Connections that were taken.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections that were reset here.
    pub reset: u64,
    /// Bytes that arrived at the server.
    pub up: u64,
    /// Bytes that arrived at clients.
    pub down: u64,
    /// Bytes that vanished.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Tally {
    accepted: AtomicU64,
    open: AtomicU64,
    reset: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    dropped: AtomicU64,
}

/// What connections and whoever takes them share.
#[derive(Debug)]
struct State {
    target: SocketAddr,
    tally: Tally,
    /// For connections to come.
    faults: Mutex<Faults>,
    /// One for each connection that may still be open.
    orders: Mutex<Vec<watch::Sender<Order>>>,
}

/// A listener on 127.0.0.1 that passes on to an address what it is sent. Its connections are reset when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    state: Arc<State>,
    /// Whether new connections are wanted, and whether they are taken.
    wanted: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
    listener: AbortHandle,
}

impl Proxy {
    /// A proxy without faults in front of `target`.
    ///
    /// # Panics
    /// It can't listen.
    pub async fn start(target: SocketAddr) -> Self {
        let port = Port::free();
        let state = Arc::new(State { target, tally: Tally::default(), faults: Mutex::default(), orders: Mutex::default() });
        let (wanted, wants) = watch::channel(true);
        let (says, mut listening) = watch::channel(false);
        let listener = tokio::spawn(listen(port.address(), Arc::clone(&state), wants, says)).abort_handle();
        listening.wait_for(|listening| *listening).await.unwrap();
        Self { port, state, wanted, listening, listener }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Sets the faults of all connections, and of those to come.
    pub fn set(&self, faults: Faults) {
        self.set_for_new(faults);
        for order in self.state.orders.lock().iter() {
            order.send_if_modified(|order| {
                // One that is to be reset, and does not know yet, is reset all the same.
                let may = matches!(order, Order::Behave(_));
                if may {
                    *order = Order::Behave(faults);
                }
                may
            });
        }
    }

    /// Sets the faults of connections to come.
    pub fn set_for_new(&self, faults: Faults) {
        *self.state.faults.lock() = faults;
    }

    /// No more faults, and new connections are taken.
    pub async fn heal(&self) {
        self.set(Faults::default());
        self.accept().await;
    }

    /// Resets all connections: both sides get an RST.
    pub fn reset(&self) {
        for order in self.state.orders.lock().iter() {
            order.send_replace(Order::Reset);
        }
    }

    /// Refuses new connections from now on: nobody listens any more. Open ones stay.
    pub async fn refuse(&self) {
        self.listens(false).await;
    }

    /// Takes new connections again.
    pub async fn accept(&self) {
        self.listens(true).await;
    }

    /// Cuts the network: open connections are reset, new ones refused.
    pub async fn cut(&self) {
        self.refuse().await;
        self.reset();
    }

    /// What went through so far.
    pub fn counters(&self) -> Counters {
        let tally = &self.state.tally;
        let [accepted, open, reset, up, down, dropped] =
            [&tally.accepted, &tally.open, &tally.reset, &tally.up, &tally.down, &tally.dropped].map(|figure| figure.load(Relaxed));
        Counters { accepted, open, reset, up, down, dropped }
    }

    async fn listens(&self, wanted: bool) {
        self.wanted.send_replace(wanted);
        self.listening.clone().wait_for(|listening| *listening == wanted).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.reset();
    }
}

/// Takes connections while they are wanted.
async fn listen(address: SocketAddr, state: Arc<State>, mut wanted: watch::Receiver<bool>, says: watch::Sender<bool>) {
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        // The address is this proxy's own, but whom it refused just now may hold it for a moment.
        let listener = TcpListener::bind(address).await.unwrap();
        says.send_replace(true);
        loop {
            tokio::select! {
                biased;
                _ = wanted.wait_for(|wanted| !wanted) => break,
                Ok((client, _)) = listener.accept() => take(client, &state),
            }
        }
        drop(listener);
        says.send_replace(false);
    }
}

fn take(client: TcpStream, state: &Arc<State>) {
    state.tally.accepted.fetch_add(1, Relaxed);
    state.tally.open.fetch_add(1, Relaxed);
    let mut orders = state.orders.lock();
    orders.retain(|order| !order.is_closed());
    let (order, obeys) = watch::channel(Order::Behave(*state.faults.lock()));
    orders.push(order);
    drop(orders);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        connection::serve(client, &state, obeys).await;
        state.tally.open.fetch_sub(1, Relaxed);
    });
}

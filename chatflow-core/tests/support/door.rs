//! A door in front of a service: who comes through can be cut off, reset or not be heard, and it can be shut.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

/// What becomes of those who come through.
#[derive(Debug, Clone, Copy, Default)]
struct Order {
    /// Their bytes wait.
    silent: bool,
    /// How often all were reset.
    resets: u32,
}

#[derive(Debug)]
pub(crate) struct Door {
    /// Where it is.
    pub(crate) address: SocketAddr,
    behind: SocketAddr,
    open: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    passing: Arc<Mutex<Vec<AbortHandle>>>,
    order: watch::Sender<Order>,
}

impl Door {
    /// An open one, in front of the service at `behind`.
    pub(crate) async fn new(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let door = Self { address, behind, open: tokio::sync::Mutex::default(), passing: Arc::default(), order: watch::Sender::default() };
        door.take_from(listener).await;
        door
    }

    async fn take_from(&self, listener: TcpListener) {
        let (behind, passing, order) = (self.behind, Arc::clone(&self.passing), self.order.subscribe());
        *self.open.lock().await = Some(tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                let order = order.clone();
                let pass = tokio::spawn(async move {
                    if let Ok(inside) = TcpStream::connect(behind).await {
                        pass(outside, inside, order).await;
                    }
                });
                passing.lock().push(pass.abort_handle());
            }
        }));
    }

    /// Nobody comes through any more.
    pub(crate) async fn shut(&self) {
        if let Some(open) = self.open.lock().await.take() {
            open.abort();
            let _ = open.await;
        }
        self.cut();
    }

    /// Who was shut out may come again.
    pub(crate) async fn open(&self) {
        self.take_from(TcpListener::bind(self.address).await.expect("the port is still free")).await;
    }

    /// Cuts off who has come through; the door stays as it is.
    pub(crate) fn cut(&self) {
        self.passing.lock().drain(..).for_each(|pass| pass.abort());
    }

    /// Resets who has come through: both sides get an RST.
    pub(crate) fn reset(&self) {
        self.order.send_modify(|order| order.resets += 1);
    }

    /// From now on, or no more, nothing is heard of those who have come through and of those who come; what they say waits.
    pub(crate) fn hush(&self, silent: bool) {
        self.order.send_modify(|order| order.silent = silent);
    }
}

/// Copies both ways until an end; the door's own is one.
async fn pass(mut outside: TcpStream, mut inside: TcpStream, mut order: watch::Receiver<Order>) {
    let mine = order.borrow().resets;
    {
        let mut copying = pin!(copy_bidirectional(&mut outside, &mut inside));
        loop {
            let Order { silent, resets } = *order.borrow_and_update();
            if resets != mine {
                break;
            }
            tokio::select! {
                changed = order.changed() => if changed.is_err() { return },
                _ = &mut copying, if !silent => return,
            }
        }
    }
    let _ = (outside.set_zero_linger(), inside.set_zero_linger());
}

//! A door in front of a service: who comes through can be cut off, and it can be shut.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

#[derive(Debug)]
pub(crate) struct Door {
    /// Where it is.
    pub(crate) address: SocketAddr,
    behind: SocketAddr,
    open: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    passing: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Door {
    /// An open one, in front of the service at `behind`.
    pub(crate) async fn new(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let door = Self { address, behind, open: tokio::sync::Mutex::default(), passing: Arc::default() };
        door.take_from(listener).await;
        door
    }

    async fn take_from(&self, listener: TcpListener) {
        let (behind, passing) = (self.behind, Arc::clone(&self.passing));
        *self.open.lock().await = Some(tokio::spawn(async move {
            while let Ok((mut outside, _)) = listener.accept().await {
                let pass = tokio::spawn(async move {
                    if let Ok(mut inside) = TcpStream::connect(behind).await {
                        let _ = copy_bidirectional(&mut outside, &mut inside).await;
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
}

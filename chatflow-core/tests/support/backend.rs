//! An emulator behind a door that can be shut: what it holds survives that, as in AWS.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use chatflow_core::conformance::broker::{Backend, Capabilities};
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

use crate::emulator::Emulator;

#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    emulator: Arc<tokio::sync::Mutex<Emulator>>,
    behind: SocketAddr,
    open: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    passing: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Door {
    pub(crate) async fn new() -> Self {
        let emulator = tokio::task::spawn_blocking(Emulator::start).await.expect("an emulator");
        let behind = emulator.endpoint().trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let door = Self {
            address: listener.local_addr().expect("an address"),
            emulator: Arc::new(tokio::sync::Mutex::new(emulator)),
            behind,
            open: tokio::sync::Mutex::default(),
            passing: Arc::default(),
        };
        door.open(listener).await;
        door
    }

    async fn open(&self, listener: TcpListener) {
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
}

#[async_trait]
impl Backend for Door {
    fn capabilities(&self) -> Capabilities {
        // Cuts are not told of in five seconds on a busy machine (5.8 s seen): what the cut answers held is hidden until its time is up.
        Capabilities { restores: false, cuts: false, ..Capabilities::ALL }
    }

    async fn stop(&self) {
        if let Some(open) = self.open.lock().await.take() {
            open.abort();
            let _ = open.await;
        }
        self.lose_live().await;
    }

    async fn start(&self) {
        self.open(TcpListener::bind(self.address).await.expect("the port is still free")).await;
    }

    async fn wipe(&self) {
        let emulator = Arc::clone(&self.emulator);
        let again = move || {
            let mut emulator = emulator.blocking_lock();
            emulator.stop();
            emulator.resume();
        };
        tokio::task::spawn_blocking(again).await.expect("it starts again");
    }

    async fn lose_live(&self) {
        self.passing.lock().drain(..).for_each(|pass| pass.abort());
    }
}

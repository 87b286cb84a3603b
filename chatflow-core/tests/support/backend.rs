//! An emulator behind a door that can be shut: what it holds survives that, as in AWS.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use chatflow_core::conformance::broker::{Backend, Capabilities};
use tokio::sync::Mutex;

use crate::door::Door;
use crate::emulator::Emulator;

#[derive(Debug)]
pub(crate) struct Private {
    emulator: Arc<Mutex<Emulator>>,
    door: Door,
}

impl Private {
    pub(crate) async fn new() -> Self {
        let emulator = tokio::task::spawn_blocking(Emulator::start).await.expect("an emulator");
        let door = Door::new(emulator.endpoint().trim_start_matches("http://").parse().expect("an address")).await;
        Self { emulator: Arc::new(Mutex::new(emulator)), door }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.door.address
    }
}

#[async_trait]
impl Backend for Private {
    fn capabilities(&self) -> Capabilities {
        // It does not know a receive request that is tried again, as SQS does: what a cut answer held stays hidden until its time is up,
        // and behind that nothing comes. On a busy machine that takes longer than the five seconds in which all has to be whole.
        Capabilities { restores: false, cuts: false, ..Capabilities::ALL }
    }

    async fn stop(&self) {
        self.door.shut().await;
    }

    async fn start(&self) {
        self.door.open().await;
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
        self.door.cut();
    }
}

//! The harm that the public suite does to a backend, done to a private server.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use chatflow_core::broker::rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use chatflow_core::conformance::broker::{Backend, Capabilities, Subject};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio::task::block_in_place;

use super::door::Door;
use super::node::config;
use super::server::Rabbit;

/// On the server that all cases share which do it no harm.
pub(crate) async fn shared() -> &'static Rabbit {
    static SHARED: OnceCell<Rabbit> = OnceCell::const_new();
    let start = async || {
        let rabbit = Rabbit::new();
        rabbit.begin().await;
        rabbit
    };
    SHARED.get_or_init(start).await
}

/// A server that one test after the other has for itself: its start takes seconds of a whole processor.
pub(crate) struct Private(MutexGuard<'static, Rabbit>);

impl Private {
    pub(crate) async fn get() -> Self {
        static PRIVATE: LazyLock<Mutex<Rabbit>> = LazyLock::new(|| Mutex::new(Rabbit::new()));
        let rabbit = PRIVATE.lock().await;
        rabbit.begin().await;
        Self(rabbit)
    }
}

impl std::ops::Deref for Private {
    type Target = Rabbit;

    fn deref(&self) -> &Rabbit {
        &self.0
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // What a test that failed has made of it, the next need not find.
        if std::thread::panicking() {
            self.0.kill();
        }
    }
}

/// The private server behind a door.
struct BehindADoor {
    rabbit: Private,
    door: Door,
}

#[async_trait]
impl Backend for BehindADoor {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn stop(&self) {
        block_in_place(|| self.rabbit.kill());
    }

    async fn start(&self) {
        self.rabbit.begin().await;
    }

    async fn wipe(&self) {
        self.stop().await;
        self.rabbit.forget();
        self.start().await;
    }

    async fn snapshot(&self) -> Box<dyn Any + Send> {
        self.stop().await;
        let copy = self.rabbit.copy();
        self.start().await;
        Box::new(copy)
    }

    async fn restore(&self, copy: Box<dyn Any + Send>) {
        self.stop().await;
        self.rabbit.put(copy.downcast::<TempDir>().unwrap().path());
        self.start().await;
    }

    async fn lose_live(&self) {
        self.door.cut();
    }
}

impl std::fmt::Debug for BehindADoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BehindADoor").field("rabbit", &*self.rabbit).finish_non_exhaustive()
    }
}

fn on(config: RabbitMqConfig) -> Subject {
    let (broker, full_at) = (RabbitMqBroker::new(config.clone()).unwrap(), config.entries);
    Subject::new(Arc::new(broker), full_at).shared_by(move |logs| Arc::new(RabbitMqBroker::new(config.clone().with_logs(logs)).unwrap()))
}

/// On the server that others use, too.
pub(crate) async fn common() -> Subject {
    on(config(&shared().await.url()).with_backlog(64, 1 << 20))
}

/// On a server of its own.
pub(crate) async fn private() -> Subject {
    let rabbit = Private::get().await;
    let door = Door::new(([127, 0, 0, 1], rabbit.port).into()).await;
    on(config(&format!("amqp://guest:guest@{}", door.address))).on(Arc::new(BehindADoor { rabbit, door }))
}

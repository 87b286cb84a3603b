//! A publisher that shares no code with the client library and shows what it was refused.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};
use uuid::Uuid;

use crate::{Frame, Ledger, Sent, Socket, between, text_message};

/// How often each reason to refuse was given, all publishers together.
pub type Refusals = Arc<Mutex<BTreeMap<String, usize>>>;

/// Publishes into one room, a bounded number at a time, and sends again what was refused or not answered.
#[derive(Debug)]
pub struct Publisher {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

struct State {
    number: usize,
    room: String,
    ledger: Arc<Ledger>,
    refusals: Refusals,
    stop: Arc<AtomicBool>,
    texts: HashMap<Uuid, String>,
    /// In order; sent on this connection, if there is one, and not answered.
    sent: VecDeque<Uuid>,
    /// Refused: when to send it again.
    resting: Vec<(Instant, Uuid)>,
    next: usize,
}

impl Publisher {
    /// Begins to publish: at most `window` without an answer, one each `pause`.
    pub fn spawn(
        address: SocketAddr,
        room: &str,
        number: usize,
        window: usize,
        pause: Duration,
        ledger: &Arc<Ledger>,
        refusals: &Refusals,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut state = State {
            number,
            room: room.to_owned(),
            ledger: Arc::clone(ledger),
            refusals: Arc::clone(refusals),
            stop: Arc::clone(&stop),
            texts: HashMap::new(),
            sent: VecDeque::new(),
            resting: Vec::new(),
            next: 0,
        };
        let task = tokio::spawn(async move {
            while !state.is_done() {
                let path = format!("/chat/{}?deliver=none", state.room);
                if let Ok(socket) = Socket::connect(address, &path).await {
                    state.publish(socket, window, pause).await;
                }
                sleep(between(Duration::from_millis(5), Duration::from_millis(50))).await;
            }
        });
        Self { stop, task }
    }

    /// Sends nothing new.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether it was told to stop and everything is answered.
    pub fn is_done(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn is_done(&self) -> bool {
        self.stop.load(Relaxed) && self.sent.is_empty() && self.resting.is_empty()
    }

    /// One connection, to its end.
    async fn publish(&mut self, mut socket: Socket, window: usize, pause: Duration) {
        for id in self.sent.clone() {
            if socket.send(&text_message(&self.room, id, &self.texts[&id])).await.is_err() {
                return;
            }
        }
        let mut turn = Instant::now();
        while !self.is_done() {
            tokio::select! {
                frame = socket.next() => match frame {
                    Frame::Json(frame) => self.answered(&frame),
                    _ => return,
                },
                () = sleep_until(turn.into()) => {
                    turn = Instant::now() + pause;
                    if let Some(id) = self.take(window) {
                        self.sent.push_back(id);
                        if socket.send(&text_message(&self.room, id, &self.texts[&id])).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// The next to send: one that has rested, or a new one.
    fn take(&mut self, window: usize) -> Option<Uuid> {
        let now = Instant::now();
        if let Some(at) = self.resting.iter().position(|(until, _)| *until <= now) {
            return Some(self.resting.remove(at).1);
        }
        if self.stop.load(Relaxed) || self.texts.len() >= window {
            return None;
        }
        let (id, text) = (Uuid::now_v7(), format!("{} of {}", self.next, self.number));
        self.next += 1;
        self.ledger.sent(id, Sent { room: self.room.clone(), sender: self.number, text: text.clone() });
        self.texts.insert(id, text);
        Some(id)
    }

    fn answered(&mut self, frame: &Value) {
        let Some(status) = frame["status"].as_str() else { return };
        let id: Uuid = frame["messageId"].as_str().unwrap_or_else(|| panic!("about nothing: {frame}")).parse().unwrap();
        let at = self.sent.iter().position(|sent| *sent == id);
        // Each copy that was sent has one answer.
        self.sent.remove(at.unwrap_or_else(|| panic!("an answer to nothing: {frame}")));
        if status == "SUCCESS" {
            self.texts.remove(&id);
            self.ledger.acknowledged(id, frame["position"].as_str().map(|position| position.parse().unwrap()));
            return;
        }
        assert_eq!(frame["retryable"], true, "refused for good: {frame}");
        let rest = Duration::from_millis(frame["retryAfterMs"].as_u64().unwrap_or_else(|| panic!("when to try again? {frame}")));
        *self.refusals.lock().entry(frame["code"].as_str().unwrap().to_owned()).or_default() += 1;
        self.resting.push((Instant::now() + rest, id));
    }
}

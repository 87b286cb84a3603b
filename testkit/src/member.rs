//! A member of a room that shares no code with the client library: it resumes by itself and believes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{Frame, Row, Seen, Socket, between};

/// What a member does when nothing happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Stays connected, and comes back when it is cut off.
    Stays,
    /// Goes away after up to so long, and comes back after up to half of that, until it is told to stay.
    ComesAndGoes(Duration),
}

/// A member. Gone when dropped.
#[derive(Debug)]
pub struct Member {
    seen: Arc<Mutex<Seen>>,
    stay: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Member {
    /// Begins to be a member of `room`; [`has_entered`](Self::has_entered) says when it is.
    pub fn spawn(address: SocketAddr, room: &str, name: &str, habit: Habit) -> Self {
        let seen = Arc::new(Mutex::new(Seen { name: name.into(), room: room.into(), ..Seen::default() }));
        let stay = Arc::new(AtomicBool::new(false));
        let (room, shared, stays) = (room.to_owned(), Arc::clone(&seen), Arc::clone(&stay));
        let task = tokio::spawn(async move {
            loop {
                let visit = match habit {
                    Habit::ComesAndGoes(longest) if !stays.load(Relaxed) => between(Duration::from_millis(10), longest),
                    _ => Duration::MAX,
                };
                // Going away is closing the socket, in the middle of whatever it is doing.
                let _ = timeout(visit, be_there(address, &room, &shared, &stays, visit)).await;
                sleep(between(Duration::from_millis(5), visit.min(Duration::from_millis(50)) / 2 + Duration::from_millis(5))).await;
            }
        });
        Self { seen, stay, task }
    }

    /// Whether it was let in.
    pub fn has_entered(&self) -> bool {
        self.seen.lock().start.is_some()
    }

    /// It doesn't go away any more.
    pub fn stay(&self) {
        self.stay.store(true, Relaxed);
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// How much of that there is, without a copy.
    pub fn count(&self) -> usize {
        self.seen.lock().rows.len()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, to its end.
async fn be_there(address: SocketAddr, room: &str, seen: &Mutex<Seen>, stays: &AtomicBool, visit: Duration) {
    let last = seen.lock().last();
    let path = last.map_or(format!("/chat/{room}"), |last| format!("/chat/{room}?after={last}"));
    let Ok(mut socket) = Socket::connect(address, &path).await else { return };
    loop {
        let frame = match timeout(Duration::from_millis(200), socket.next()).await {
            Err(_) if visit < Duration::MAX && stays.load(Relaxed) => return,
            Err(_) => continue,
            Ok(Frame::Json(frame)) => frame,
            Ok(_) => return,
        };
        let mut seen = seen.lock();
        match frame["event"].as_str() {
            None if frame["status"].is_string() => seen.losses.push(format!("an answer to nothing: {frame}")),
            None => seen.rows.push(Row::of(&frame)),
            Some("welcome") => seen.welcome(&frame),
            Some("gap") => seen.losses.push(format!("a gap: {frame}")),
            Some(_) => {}
        }
    }
}

impl Seen {
    fn welcome(&mut self, welcome: &Value) {
        let position = welcome["position"].as_str().unwrap().parse().unwrap();
        if self.start.is_none() {
            self.start = Some(position);
            return;
        }
        self.reconnects += 1;
        if welcome["recovered"] != true {
            self.losses.push(format!("not recovered: {welcome}"));
        }
    }
}

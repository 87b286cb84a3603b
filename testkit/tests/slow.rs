//! A member that stops reading costs nobody else anything: G7.
//!
//! `CHATFLOW_SLOW_RATE` sets the messages per second (20 in a debug build, 200 in a release build), `CHATFLOW_SLOW_MEMBERS` the others
//! in the room (1,000).

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use chatflow_core::Position;
use chatflow_testkit::{Frame, History, Options, Row, Server, Socket, eventually, eventually_async, raise_file_limit, text_message};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
/// What each latency is measured over.
const WINDOW: Duration = Duration::from_secs(5);
/// Messages that may wait for one member.
const MOST_WAITING: usize = 128;
/// Every so many members' latency is measured.
const SAMPLE: usize = 20;

/// Each measures alone.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Publishes at a fixed rate; remembers when each message was sent.
struct Source {
    sent: Arc<Mutex<Vec<Instant>>>,
    answers: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    async fn start(server: &Server, rate: usize) -> Self {
        let (sent, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let answers = Arc::new(AtomicUsize::new(0));
        let mut socket = Socket::connect(server.address, "/chat/7?deliver=none").await.unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let (times, answered) = (Arc::clone(&sent), Arc::clone(&answers));
        let (asked, done) = (Arc::clone(&stop), Arc::clone(&stopped));
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / rate as u32);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                // Looked at once a turn: whoever asked is told when nothing more can follow.
                let stopping = asked.load(Relaxed);
                done.store(stopping, Relaxed);
                tokio::select! {
                    frame = socket.next() => match frame {
                        Frame::Json(frame) if frame["status"] == "SUCCESS" => drop(answered.fetch_add(1, Relaxed)),
                        Frame::Json(frame) => assert!(frame["event"].is_string(), "{frame}"),
                        end => panic!("{end:?}"),
                    },
                    _ = ticks.tick(), if !stopping => {
                        let text = format!("{:06} {:x<400}", times.lock().len(), "");
                        times.lock().push(Instant::now());
                        socket.send(&text_message("7", Uuid::now_v7(), &text)).await.unwrap();
                    }
                }
            }
        });
        Self { sent, answers, stop, stopped, task }
    }

    /// Sends nothing more; how many there were, once all are acknowledged.
    async fn finish(&self) -> usize {
        self.stop.store(true, Relaxed);
        eventually("all are acknowledged", PATIENCE, || {
            let sent = self.sent.lock().len();
            (self.stopped.load(Relaxed) && self.answers.load(Relaxed) == sent).then_some(sent)
        })
        .await
    }
}

/// The number that a broadcast carries; `None` for an event.
fn number(frame: &str) -> Option<usize> {
    let (_, rest) = frame.split_once(r#""message":""#)?;
    rest[..6].parse().ok()
}

/// Reads as fast as it can, and sees to it that each message comes once and in order.
async fn read(
    mut socket: Socket,
    next: Arc<AtomicUsize>,
    sent: Option<Arc<Mutex<Vec<Instant>>>>,
    latencies: Arc<Mutex<Vec<(Instant, Duration)>>>,
) {
    while let Some(frame) = socket.0.next().await {
        let Message::Text(text) = frame.expect("whoever reads is not cut off") else { continue };
        let Some(number) = number(&text) else { continue };
        assert_eq!(number, next.fetch_add(1, Relaxed), "in order, none missing, none twice");
        if let Some(sent) = &sent {
            let now = Instant::now();
            let latency = now - sent.lock()[number];
            latencies.lock().push((now, latency));
        }
    }
    panic!("whoever reads is not cut off");
}

/// What came between two moments: its median, its 99th percentile, and how many that were.
fn percentiles(latencies: &Mutex<Vec<(Instant, Duration)>>, from: Instant, until: Instant) -> (Duration, Duration, usize) {
    let mut within: Vec<_> = latencies.lock().iter().filter(|(at, _)| (from..until).contains(at)).map(|(_, latency)| *latency).collect();
    within.sort_unstable();
    let percentile = |percent| within[(within.len() - 1) * percent / 100];
    (percentile(50), percentile(99), within.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_is_cut_off_and_nobody_else_notices() {
    let _turn = TURN.lock().await;
    raise_file_limit();
    let rate = setting("CHATFLOW_SLOW_RATE", if cfg!(debug_assertions) { 20 } else { 200 });
    let others = setting("CHATFLOW_SLOW_MEMBERS", 1_000);
    let server = Server::start(Options::new().set("engine.slow_messages", MOST_WAITING));
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let mut sockets = Vec::new();
    for _ in 0..others {
        sockets.push(Socket::connect(server.address, "/chat/7").await.unwrap());
    }
    eventually_async("all are members", PATIENCE, || async { (server.metric("chatflow_members").await == others as u64).then_some(()) })
        .await;
    let source = Source::start(&server, rate).await;
    let counts: Vec<_> = (0..others).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let mut readers = Vec::new();
    for (n, (socket, count)) in sockets.into_iter().zip(&counts).enumerate() {
        let sent = (n % SAMPLE == 0).then(|| Arc::clone(&source.sent));
        readers.push(tokio::spawn(read(socket, Arc::clone(count), sent, Arc::clone(&latencies))));
    }
    // The first moments warm caches and buffers.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let memory_before = server.resident_bytes();
    // It reads the first frame and nothing more.
    let mut stuck = Socket::connect_thinly(server.address, "/chat/7").await.unwrap();
    let start: Position =
        stuck.expect("a welcome", |frame| frame["event"] == "welcome").await["position"].as_str().unwrap().parse().unwrap();
    let stopped = Instant::now();
    eventually_async("it is too slow", PATIENCE, || async { (server.metric("chatflow_slow_members_total").await == 1).then_some(()) })
        .await;
    let noticed = stopped.elapsed();
    tokio::time::sleep(WINDOW.saturating_sub(noticed)).await;
    let (median_before, before, samples_before) = percentiles(&latencies, begun, stopped);
    let (median_after, after, samples_after) = percentiles(&latencies, stopped, Instant::now());
    let memory_after = server.resident_bytes();

    // What it was sent before is still on its way to it; then it is told why.
    stuck.widen();
    let mut rows = Vec::new();
    let end = loop {
        match stuck.next().await {
            Frame::Json(frame) if frame["event"].is_null() => rows.push(Row::of(&frame)),
            Frame::Json(_) => {}
            end => break end,
        }
    };
    assert!([Frame::Closed(3008), Frame::Cut].contains(&end), "{end:?}");
    let sent = source.finish().await;
    let behind = || counts.iter().map(|count| sent - count.load(Relaxed)).filter(|missing| *missing > 0).collect::<Vec<_>>();
    let until = Instant::now() + PATIENCE;
    while !behind().is_empty() {
        assert!(
            Instant::now() < until,
            "of {sent} messages these are missing, of {others} members: {:?}; {}",
            behind(),
            server.get("/metrics").await.body
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(readers.iter().all(|reader| !reader.is_finished()), "a reader failed");
    readers.iter().for_each(JoinHandle::abort);

    // It comes back, and has missed nothing.
    let mut history = History::in_file(&server.database()).0.remove("7").unwrap();
    assert_eq!(history.len(), sent);
    history.retain(|row| row.position > start);
    let missed = history.len() - rows.len();
    assert!(missed > 0, "it was cut off while it missed nothing");
    let mut resumed = 0;
    while rows.len() < history.len() {
        // A machine that is busy enough makes it too slow again: it comes back once more.
        resumed += 1;
        assert!(resumed <= 20, "it never gets to the end");
        let mut back = Socket::connect(server.address, &format!("/chat/7?after={}", rows.last().unwrap().position)).await.unwrap();
        while rows.len() < history.len() {
            match back.next().await {
                Frame::Json(frame) if frame["event"].is_null() => rows.push(Row::of(&frame)),
                Frame::Json(frame) => assert_ne!(frame["recovered"], false, "{frame}"),
                end => {
                    assert!([Frame::Closed(3008), Frame::Cut].contains(&end), "{end:?}");
                    break;
                }
            }
        }
    }
    assert_eq!(rows, history);

    let ratio = after.as_secs_f64() / before.as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    println!(
        "a member that stops reading, among {others} others at {rate} msg/s: median {:.1} ms before, {:.1} ms after; p99 {:.1} ms before \
         ({samples_before} samples), {:.1} ms after ({samples_after}), ratio {ratio:.2}; cut off with {end:?} after {:.1} s, resumed {missed} messages; memory {:.1} -> {:.1} MiB",
        median_before.as_secs_f64() * 1e3,
        median_after.as_secs_f64() * 1e3,
        before.as_secs_f64() * 1e3,
        after.as_secs_f64() * 1e3,
        noticed.as_secs_f64(),
        mib(memory_before),
        mib(memory_after),
    );
    // A server that waits for one member holds up the others until it gives up on it. Far looser than what is measured on a machine
    // of one's own: another may be busy with other things just then.
    assert!(median_after < median_before * 4 + Duration::from_millis(50), "the median went from {median_before:?} to {median_after:?}");
    assert!(after < Duration::from_secs(2), "p99 went from {before:?} to {after:?}");
    assert!(memory_after as f64 <= memory_before as f64 * 1.1 + (8 << 20) as f64, "memory went from {memory_before} to {memory_after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_rooms_skip_it_is_told_of_the_gap_and_goes_on() {
    let _turn = TURN.lock().await;
    let server = Server::start(Options::new().set("engine.slow_messages", MOST_WAITING).set("engine.slow_policy", "skip"));
    let mut stuck = Socket::connect_thinly(server.address, "/chat/7").await.unwrap();
    stuck.expect("a welcome", |frame| frame["event"] == "welcome").await;
    let source = Source::start(&server, 400).await;
    let mut rows = vec![Row::of(&stuck.expect("a message", |frame| frame["event"].is_null()).await)];
    eventually_async("it is too slow", PATIENCE, || async { (server.metric("chatflow_slow_members_total").await >= 1).then_some(()) })
        .await;
    let sent = source.finish().await;
    let history = History::in_file(&server.database()).0.remove("7").unwrap();
    assert_eq!(history.len(), sent);

    let (mut gaps, mut passed_over) = (0, 0);
    while rows.last() != history.last() {
        let Frame::Json(frame) = stuck.next().await else { panic!("a member that is skipped stays connected") };
        match frame["event"].as_str() {
            None => rows.push(Row::of(&frame)),
            Some("gap") => {
                let place = |name: &str| frame[name].as_str().unwrap().parse().unwrap();
                let (after, until) = (place("after"), place("position"));
                assert_eq!(rows.last().unwrap().position, after, "the gap begins after what was seen last");
                let page = server.get(&format!("/api/v1/rooms/7/messages?limit=1000&after={after}")).await.json();
                let missed: Vec<_> = page["messages"].as_array().unwrap().iter().map(Row::of).filter(|row| row.position <= until).collect();
                assert!(!missed.is_empty(), "a gap without anything in it: {frame}");
                (gaps, passed_over) = (gaps + 1, passed_over + missed.len());
                rows.extend(missed);
            }
            Some(_) => {}
        }
    }
    assert_eq!(rows, history, "what it saw and what the history told of the gaps is everything");
    assert!(gaps >= 1);
    println!("skip: {sent} sent, {gaps} gaps with {passed_over} messages, all of them had from the history");
}

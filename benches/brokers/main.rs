//! What a broker takes: ChatFlow's backend and a bare loop, on one server, in turn.
//!
//! `cargo bench --bench brokers -- [--broker redis] [--logs 16] [--window 1000] [--seconds 5] [--size 200] [--rounds 3]
//! [--broker-set appendfsync=everysec]`
//!
//! A private server is started. The bare loop does the least that gives a message its durability and its order: for Redis a script
//! that adds one message to a stream and tells a channel that one connection listens to; for RabbitMQ a publish with a confirm into a
//! stream queue. Both keep `--window` messages under way over `--logs` logs, and count what is confirmed. ChatFlow's backend is read by
//! one node besides, which settles what it has read. The ratio is the median of the rounds.

#![allow(clippy::unwrap_used)]

mod bare;
mod ours;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use chatflow_testkit::{RabbitMq, Redis, Service};
use clap::{Parser, ValueEnum};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Debug, Clone, Parser)]
struct Args {
    /// Which broker.
    #[arg(long, value_enum, default_value = "redis")]
    broker: Kind,
    /// A line of the broker's own configuration.
    #[arg(long = "broker-set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    #[arg(long, default_value = "16")]
    logs: u16,
    /// Messages under way.
    #[arg(long, default_value = "1000")]
    window: usize,
    /// How long a round takes.
    #[arg(long, default_value = "5")]
    seconds: f64,
    /// Bytes of a message's text.
    #[arg(long, default_value = "200")]
    size: usize,
    #[arg(long, default_value = "3")]
    rounds: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Redis,
    #[value(name = "rabbitmq")]
    RabbitMq,
}

/// How many were confirmed, and the room for more.
#[derive(Debug, Clone)]
struct Window {
    free: Arc<Semaphore>,
    size: usize,
    confirmed: Arc<AtomicU64>,
}

/// The place of one message under way.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    confirmed: Arc<AtomicU64>,
}

impl Window {
    fn new(size: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(size)), size, confirmed: Arc::default() }
    }

    /// Waits for room.
    async fn place(&self) -> Place {
        let permit = Arc::clone(&self.free).acquire_owned().await.unwrap();
        Place { _permit: permit, confirmed: Arc::clone(&self.confirmed) }
    }

    /// Waits until nothing is under way.
    async fn empty(&self) {
        drop(self.free.acquire_many(u32::try_from(self.size).unwrap()).await.unwrap());
    }

    /// Sends messages for that long; how many were confirmed per second, the last one included.
    async fn rate(&self, span: Duration, mut send: impl AsyncFnMut(u64, Place)) -> f64 {
        let begun = Instant::now();
        for n in 0.. {
            if begun.elapsed() >= span {
                break;
            }
            let place = self.place().await;
            send(n, place).await;
        }
        self.empty().await;
        self.confirmed.swap(0, Relaxed) as f64 / begun.elapsed().as_secs_f64()
    }
}

impl Place {
    /// The message is held.
    fn confirm(self) {
        self.confirmed.fetch_add(1, Relaxed);
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let (bench, given): (Vec<_>, Vec<_>) = std::env::args().partition(|arg| arg == "--bench");
    if bench.is_empty() {
        return println!("measured by cargo bench --bench brokers");
    }
    let args = Args::parse_from(given);
    let pairs = args.settings.iter().map(|pair| pair.split_once('=').expect("KEY=VALUE"));
    let service = match args.broker {
        Kind::Redis => Service::start_new(pairs.fold(Redis::new(), |redis, (key, value)| redis.set(key, value))).await,
        Kind::RabbitMq => Service::start_new(pairs.fold(RabbitMq::new(), |rabbit, (key, value)| rabbit.set(key, value))).await,
    };
    let (url, span) = (service.url(), Duration::from_secs_f64(args.seconds));
    println!("{:?} {:?}, {} logs, {} messages of {} bytes under way", args.broker, args.settings, args.logs, args.window, args.size);
    let mut ratios = Vec::new();
    for round in 1..=args.rounds {
        let bare = match args.broker {
            Kind::Redis => bare::redis(&url, &args, round, span).await,
            Kind::RabbitMq => bare::rabbitmq(&url, &args, round, span).await,
        };
        let ours = ours::rate(&url, &args, round, span).await;
        println!("round {round}: bare {bare:.0} msg/s, ChatFlow {ours:.0} msg/s, {:.2} of bare", ours / bare);
        ratios.push(ours / bare);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median: {:.2} of bare", ratios[ratios.len() / 2]);
}

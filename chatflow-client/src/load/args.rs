//! What can be asked for on the command line, and the meaning made of it.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use super::wire::Target;

/// Sends half a million messages, and checks that every member and the history got each of them once and in order.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The servers: `ws://host:port`, several separated by commas; connections are spread over them.
    #[arg(value_name = "URL", value_delimiter = ',', required = true)]
    urls: Vec<Target>,
    /// What to send: `classic` is the half million of the older systems.
    #[arg(long, value_enum, default_value = "classic")]
    profile: Profile,
    /// Messages in all, warm-up included. Default 500000, or no end with --duration.
    #[arg(long, value_name = "N")]
    messages: Option<u32>,
    /// CONNECTIONSxMESSAGES each, before the measured part; at most half of all messages; `0x0` for none.
    #[arg(long, default_value = "32x1000", value_name = "CxN")]
    warmup: Warmup,
    /// Connections that send.
    #[arg(long, default_value = "64", value_name = "N")]
    connections: NonZeroU32,
    /// Messages of one connection that may wait for their answer; 1 = one at a time.
    #[arg(long, default_value = "50", value_name = "N")]
    in_flight: NonZeroU32,
    /// Rooms, called 1 to N; every connection stays in one.
    #[arg(long, default_value = "20", value_name = "N")]
    rooms: NonZeroU32,
    /// Shares of TEXT, JOIN and LEAVE.
    #[arg(long, default_value = "90,5,5", value_name = "T,J,L")]
    mix: Mix,
    /// Length of every text in bytes, 1 to 60000, in place of the canned lengths.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    size: Option<u32>,
    /// Messages per second in all, on a fixed schedule; latency then counts from when a message was due.
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
    /// Share of reads among all requests, such as 70%: beside the sending, as many readers as connections ask over HTTP for pages of rooms
    /// (40 of 100), active users (20), top users (20), top rooms (10) and health (10).
    #[arg(long, default_value = "0%", value_name = "P%", value_parser = share)]
    reads: f64,
    /// Connections that listen to all rooms and check each broadcast.
    #[arg(long, default_value = "0", value_name = "N")]
    listeners: u16,
    /// What the sending connections are besides.
    #[arg(long, value_enum, default_value = "members")]
    senders: Senders,
    /// How long to send after the warm-up: `90s`, `15m`, `1h`.
    #[arg(long, value_name = "T", value_parser = span)]
    duration: Option<Duration>,
    /// How long to wait for an answer, counted from the write, before the message is sent again.
    #[arg(long, default_value = "1s", value_name = "T", value_parser = span)]
    timeout: Duration,
    /// How often a message is sent again before it counts as failed.
    #[arg(long, default_value = "5", value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    retries: u8,
    /// How long everything may stand still at the end before what somebody has not seen counts as missed.
    #[arg(long, default_value = "10s", value_name = "T", value_parser = span)]
    patience: Duration,
    /// Writes messages.csv, throughput.svg and summary.json into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The same seed gives the same rooms, kinds, users and texts.
    #[arg(long, default_value = "1", value_name = "N")]
    seed: u64,
    /// Others may use the rooms at the same time: messages that this run did not send are no fault.
    #[arg(long)]
    shared: bool,
    /// Don't read the history back at the end.
    #[arg(long)]
    no_history: bool,
}

/// Named sets of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// 32 × 1,000 to warm up, 64 connections for the rest, 50 in flight, 20 rooms, 90/5/5.
    Classic,
}

/// What a sending connection is in its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Senders {
    /// A member: it sees the room's broadcasts too, and checks them.
    Members,
    /// It only publishes (`deliver=none`).
    PublishOnly,
    /// The server answers and broadcasts nothing (`delivery = "answer-only"`).
    AnswersOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Warmup {
    connections: u32,
    each: u32,
}

impl FromStr for Warmup {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write CONNECTIONSxMESSAGES, such as 32x1000";
        let (connections, each) = text.split_once('x').ok_or(WRONG)?;
        Ok(Self { connections: connections.parse().map_err(|_| WRONG)?, each: each.parse().map_err(|_| WRONG)? })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mix([u32; 3]);

impl FromStr for Mix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write three shares, TEXT,JOIN,LEAVE, such as 90,5,5";
        let shares: Vec<u32> =
            text.split(',').map(|s| s.trim().parse::<u16>().map(u32::from)).collect::<Result<_, _>>().map_err(|_| WRONG)?;
        let shares: [u32; 3] = shares.try_into().map_err(|_| WRONG)?;
        if shares.iter().sum::<u32>() == 0 {
            return Err(WRONG);
        }
        Ok(Self(shares))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate(f64);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix("/s").unwrap_or(text);
        let rate = number.parse().ok().filter(|r: &f64| r.is_finite() && *r > 0.0 && *r <= 1e7);
        rate.map(Self).ok_or("write messages per second, such as 1000/s, at most 10000000/s")
    }
}

/// `70%`; from 0 to 99.
fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok().filter(|percent| (0.0..=99.0).contains(percent));
    number.map(|percent| percent / 100.0).ok_or_else(|| "write a share such as 70%, from 0% to 99%".to_owned())
}

/// `250ms`, `1s`, `1.5s`, `15m`, `1h`; a bare number is seconds.
fn span(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("{other:?} is no unit: ms, s, m or h")),
    };
    let seconds = digits.parse::<f64>().map(|n| n * unit).map_err(|_| "write a number and a unit, such as 15m".to_owned())?;
    match (0.001..=86_400.0 * 30.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("must be from 1ms to 30 days".into()),
    }
}

/// What a run does, its contradictions and defaults resolved.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) targets: Vec<Target>,
    /// Messages in all; the table of sent messages holds no more than `MOST_MESSAGES`.
    pub(super) messages: u32,
    pub(super) warmup_connections: u32,
    pub(super) warmup_each: u32,
    pub(super) connections: u32,
    pub(super) in_flight: usize,
    pub(super) rooms: u32,
    pub(super) mix: [u32; 3],
    pub(super) size: Option<usize>,
    /// Messages per second in all.
    pub(super) rate: Option<f64>,
    /// Share of reads among all requests, below 1.
    pub(super) reads: f64,
    pub(super) listeners: u16,
    pub(super) senders: Senders,
    pub(super) duration: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) retries: u8,
    /// How long everything may stand still before what is not there counts as missing.
    pub(super) patience: Duration,
    pub(super) out: Option<PathBuf>,
    pub(super) seed: u64,
    pub(super) shared: bool,
    pub(super) history: bool,
}

/// The most messages of one run.
pub(super) const MOST_MESSAGES: u32 = 1 << 30;

impl Setup {
    /// The meaning of `args`, or in one line what is wrong with them.
    pub(super) fn of(args: Args) -> Result<Self, String> {
        let Profile::Classic = args.profile;
        let messages = args.messages.unwrap_or(if args.duration.is_some() { MOST_MESSAGES } else { 500_000 });
        if !(1..=MOST_MESSAGES).contains(&messages) {
            return Err(format!("--messages {messages}: must be 1 to {MOST_MESSAGES}"));
        }
        if args.senders == Senders::AnswersOnly && args.listeners > 0 {
            return Err("--senders answers-only: nobody gets a broadcast then, so --listeners must be 0".into());
        }
        let Warmup { connections, each } = args.warmup;
        let each = (messages / 2).checked_div(connections).unwrap_or(0).min(each);
        Ok(Self {
            targets: args.urls,
            messages,
            warmup_connections: if each == 0 { 0 } else { connections },
            warmup_each: each,
            connections: args.connections.get(),
            in_flight: args.in_flight.get() as usize,
            rooms: args.rooms.get(),
            mix: args.mix.0,
            size: args.size.map(|s| s as usize),
            rate: args.rate.map(|r| r.0),
            reads: args.reads,
            listeners: args.listeners,
            senders: args.senders,
            duration: args.duration,
            timeout: args.timeout,
            retries: args.retries,
            patience: args.patience,
            out: args.out,
            seed: args.seed,
            shared: args.shared,
            history: !args.no_history && args.senders != Senders::AnswersOnly,
        })
    }

    /// Messages of the warm-up, all connections together.
    pub(super) fn warmup_messages(&self) -> u32 {
        self.warmup_connections * self.warmup_each
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn setup(line: &str) -> Result<Setup, String> {
        let words = ["load"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map_err(|e| e.to_string()).and_then(|line| Setup::of(line.args))
    }

    #[test]
    fn the_default_is_the_classic_half_million() {
        let setup = setup("ws://a:1,ws://b:2").unwrap();
        assert_eq!(setup.targets.len(), 2);
        assert_eq!((setup.messages, setup.warmup_messages(), setup.connections), (500_000, 32_000, 64));
        assert_eq!((setup.in_flight, setup.rooms, setup.mix), (50, 20, [90, 5, 5]));
        assert_eq!((setup.timeout, setup.retries), (Duration::from_secs(1), 5));
    }

    #[test]
    fn a_short_run_warms_up_with_at_most_half() {
        let setup = setup("ws://a:1 --messages 2000").unwrap();
        assert_eq!((setup.warmup_connections, setup.warmup_each), (32, 31));
    }

    #[test]
    fn figures_are_read_with_their_units() {
        let setup = setup("ws://a:1 --rate 1000/s --reads 70% --duration 15m --timeout 250ms --mix 1,0,0").unwrap();
        assert_eq!((setup.rate, setup.reads), (Some(1000.0), 0.7));
        assert_eq!(setup.duration, Some(Duration::from_secs(900)));
        assert_eq!(setup.timeout, Duration::from_millis(250));
        assert_eq!(setup.messages, MOST_MESSAGES);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "",
            "http://a:1",
            "wss://a:1",
            "ws://",
            "ws://a:1 --mix 1,2",
            "ws://a:1 --mix 0,0,0",
            "ws://a:1 --rate 0",
            "ws://a:1 --rate NaN",
            "ws://a:1 --duration 5x",
            "ws://a:1 --duration -1s",
            "ws://a:1 --connections 0",
            "ws://a:1 --warmup 32",
            "ws://a:1 --messages 0",
            "ws://a:1 --size 0",
            "ws://a:1 --reads 100%",
            "ws://a:1 --reads x",
            "ws://a:1 --senders answers-only --listeners 1",
        ] {
            assert!(setup(line).is_err(), "{line:?}");
        }
    }
}

//! What can be asked for.

use std::time::Duration;

use chatflow_testkit::{HaProxy, RabbitMq, Redis, Sqs, can_use};
use clap::{Parser, ValueEnum};

use crate::database::Store;

/// Several servers on one broker, behind HAProxy, under load.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// Where the messages go; a private one is started.
    #[arg(long, value_enum, default_value = "redis")]
    pub(crate) broker: Kind,
    /// A line of the broker's own configuration, such as `appendfsync=everysec`.
    #[arg(long = "broker-set", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) broker_settings: Vec<(String, String)>,
    /// Where the history is; what servers share is started, and private, too.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub(crate) store: Store,
    /// A setting of the database's own, such as `shared_buffers=1GB`.
    #[arg(long = "store-set", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) store_settings: Vec<(String, String)>,
    /// What is in front of the history.
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) cache: Cache,
    /// Servers, at most four. With the broker in memory, one.
    #[arg(long, default_value = "4", value_name = "N")]
    pub(crate) servers: usize,
    /// A setting of every server, such as `store.url=none`.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) settings: Vec<(String, String)>,
    /// What happens in the midst of it.
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) fault: Fault,
    /// When, in seconds after the start of the load.
    #[arg(long, default_value = "6", value_name = "S", value_parser = seconds)]
    pub(crate) at: Duration,
    /// For how long. Default 3, or 30 for a network that is cut.
    #[arg(long = "for", value_name = "S", value_parser = seconds)]
    lasts: Option<Duration>,
    /// Arguments of `chatflow-client load`.
    #[arg(last = true, value_name = "ARGUMENTS")]
    load: Vec<String>,
}

/// A broker that can be started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// In the server's own memory.
    Memory,
    Redis,
    #[value(name = "rabbitmq")]
    RabbitMq,
    /// An emulator of SNS and SQS.
    Sqs,
}

/// A cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cache {
    None,
    /// In each server.
    Memory,
    /// In each server, and in a Redis of its own for all.
    Redis,
}

/// What happens while messages flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    None,
    /// A server is killed with -9, and started again.
    Kill,
    /// The broker is killed with -9, and started again on its data.
    Restart,
    /// The servers' connections to the broker are reset, and no new ones taken.
    Cut,
    /// Nothing arrives any more between the servers and the broker, either way, and nobody is told.
    Silence,
}

impl Args {
    /// The arguments of the load.
    pub(crate) fn load(&self) -> impl Iterator<Item = &str> {
        // Others win: the last of two counts.
        let profile = ["--profile", "classic"].into_iter();
        profile.chain(self.load.iter().map(String::as_str))
    }

    /// How long the fault lasts.
    pub(crate) fn lasts(&self) -> Duration {
        let usual = if matches!(self.fault, Fault::Cut | Fault::Silence) { 30 } else { 3 };
        self.lasts.unwrap_or(Duration::from_secs(usual))
    }

    /// Whether there are histories to compare: where servers share one, the load compares it with what was sent, and that is all.
    pub(crate) fn keeps_history(&self) -> bool {
        self.store == Store::Sqlite && !self.settings.iter().any(|(key, _)| key == "store.url")
    }

    /// What is asked for on the command line; without cargo's `--bench`, as `cargo test` runs it, a short run on each broker that is
    /// here.
    pub(crate) fn all() -> Vec<Self> {
        let (bench, args): (Vec<_>, Vec<_>) = std::env::args().partition(|arg| arg == "--bench");
        if !bench.is_empty() {
            return vec![Self::parse_from(args)];
        }
        let short = ["", "--servers=2", "--", "--warmup=0x0", "--messages=2000", "--connections=8", "--listeners=2"];
        let run = |broker| Self { broker, ..Self::parse_from(short) };
        Kind::value_variants().iter().copied().filter(|kind| kind.is_here()).map(run).collect()
    }
}

impl Kind {
    /// Whether this machine has what it takes.
    fn is_here(self) -> bool {
        can_use::<HaProxy>()
            && match self {
                // Servers can't share it.
                Self::Memory => false,
                Self::Redis => can_use::<Redis>(),
                Self::RabbitMq => can_use::<RabbitMq>(),
                Self::Sqs => can_use::<Sqs>(),
            }
    }
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "write seconds, such as 2.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

//! What can be asked for.

use std::time::Duration;

use chatflow_testkit::{MariaDb, MySql, Postgres, can_use};
use clap::{Parser, ValueEnum};

use crate::database::Store;

/// Questions about a history, by several readers at once.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// Where the history is; a private one is started.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub(crate) store: Store,
    /// A line of the database's own configuration, such as `shared_buffers=1GB`.
    #[arg(long = "store-set", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) store_settings: Vec<(String, String)>,
    /// A store that is there, by its URL, instead: what this program left in it, or nothing. It is filled up and stays.
    #[arg(long, value_name = "URL")]
    pub(crate) at: Option<String>,
    /// Messages; with several numbers, ascending, the history grows and is asked again.
    #[arg(long, default_value = "1000000", value_delimiter = ',', value_name = "N,…")]
    pub(crate) rows: Vec<u64>,
    /// Days over which the first so many messages are spread. What comes after them goes on as fast.
    #[arg(long, default_value = "30", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rooms: u64,
    /// Who says something, a few much more than most.
    #[arg(long, default_value = "100000", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) users: u64,
    /// How many ask at once, each as soon as it has its answer.
    #[arg(long, default_value = "8")]
    pub(crate) readers: usize,
    /// How long each question is asked.
    #[arg(long, default_value = "10", value_name = "S", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Only questions whose name holds this.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) only: String,
    /// A setting of the server, such as `store.readers=8`.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) settings: Vec<(String, String)>,
}

impl Args {
    /// What is asked for on the command line; without cargo's `--bench`, as `cargo test` runs it, a short run on each store that is here.
    pub(crate) fn all() -> Vec<Self> {
        let (bench, args): (Vec<_>, Vec<_>) = std::env::args().partition(|arg| arg == "--bench");
        if !bench.is_empty() {
            return vec![Self::parse_from(args)];
        }
        let short = ["", "--rows=2000,4000", "--days=1", "--users=500", "--readers=2", "--seconds=0.1"];
        let run = |store| Self { store, ..Self::parse_from(short) };
        Store::value_variants().iter().copied().filter(|store| store.is_here()).map(run).collect()
    }
}

impl Store {
    /// Whether this machine has what it takes.
    fn is_here(self) -> bool {
        match self {
            Self::Sqlite => true,
            Self::Postgres => can_use::<Postgres>(),
            Self::MariaDb => can_use::<MariaDb>(),
            Self::MySql => can_use::<MySql>(),
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

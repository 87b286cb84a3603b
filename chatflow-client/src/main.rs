//! The command line of the ChatFlow client.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

mod analytics;
mod chat;
mod check;
mod dead_letters;
mod history;
mod load;
mod monitor;
mod nodes;
mod pages;
mod servers;
mod table;
mod terminal;
mod users;

/// Chat on a ChatFlow server, check it, load it, ask it.
///
/// Exit codes: 0 done; 1 the work failed; 2 usage; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "chatflow-client", version, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Chat in a room: history above, live lines as they come; reconnects and resumes by itself.
    Chat(chat::Args),
    /// Smoke test of a deployment: connect, publish, see it, read it back, health.
    Check(check::Args),
    /// Load a server, and find out whether anything was lost, repeated or out of order.
    Load(load::Args),
    /// How servers do, live: rates, queues, lag, nodes, what is missing.
    Monitor(monitor::Args),
    /// The live nodes, and how much each has to do.
    Nodes(nodes::Args),
    /// What was said in a room.
    History(history::Args),
    /// What somebody said, and where.
    Users(users::Args),
    /// Who said how much, and where.
    Analytics(analytics::Args),
    /// What was accepted and could not be stored.
    DeadLetters(dead_letters::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Chat(args) => chat::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Load(args) => load::run(args).await,
        Command::Monitor(args) => monitor::run(args).await,
        Command::Nodes(args) => nodes::run(args).await,
        Command::History(args) => history::run(args).await,
        Command::Users(args) => users::run(args).await,
        Command::Analytics(args) => analytics::run(args).await,
        Command::DeadLetters(args) => dead_letters::run(args).await,
    }
}

/// Reads a duration off the command line: `5s`, `1m 30s`, `250ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text.parse().map_err(|_| "a duration is written like 5s, 1m30s or 250ms".to_owned())?;
    Duration::try_from(signed).map_err(|_| "a duration can't be negative".to_owned())
}

/// Says what is wrong with the command line, where clap can't.
fn usage(problem: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {problem}");
    ExitCode::from(2)
}

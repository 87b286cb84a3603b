//! The command line of the ChatFlow client.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod chat;
mod check;
mod load;

/// Chat on a ChatFlow server, check it, load it.
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
}

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Chat(args) => chat::run(args).await,
        Command::Check(args) => check::run(args).await,
        Command::Load(args) => load::run(args).await,
    }
}

//! The ChatFlow command line client.

use std::process::ExitCode;

use clap::Parser;

mod load;

#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// Put a server under load, and check what it does with it.
    Load(load::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Command::parse() {
        Command::Load(args) => load::run(args).await,
    }
}

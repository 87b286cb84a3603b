//! `check`: the smoke test of a deployment.

mod plain;
mod report;
mod steps;

use std::process::ExitCode;
use std::time::Duration;

use chatflow_client::{Endpoint, MessageId};

use crate::terminal::{Paint, print};
use report::Report;

/// What `check` is told on the command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 every step passed; 1 one did not; 2 usage; 130 interrupted.")]
pub(crate) struct Args {
    /// The server, such as ws://127.0.0.1:8080, or several, separated by commas: each is checked.
    url: String,
    /// The room to publish into [default: a new one, check-…]
    #[arg(long)]
    room: Option<String>,
    /// The userId to publish as.
    #[arg(long, default_value = "1")]
    user_id: String,
    /// The username to publish as.
    #[arg(long, default_value = "checker")]
    username: String,
    /// A bearer token, for servers that want one.
    #[arg(long, env = "CHATFLOW_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How long one step may take, such as 5s or 500ms.
    #[arg(long, default_value = "5s", value_parser = crate::duration)]
    timeout: Duration,
    /// Writes one JSON object for each server instead of lines.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) async fn run(args: Args) -> ExitCode {
    let endpoints = match Endpoint::parse_list(&args.url) {
        Ok(endpoints) => endpoints,
        Err(error) => return crate::usage(&error),
    };
    let room = args.room.clone().unwrap_or_else(|| format!("check-{}", MessageId::now_v7().simple()));
    let mut passed = true;
    for endpoint in &endpoints {
        if !args.json {
            print(&format!("{endpoint}, room {room}"));
        }
        let mut report = Report::new(endpoint, &room, (!args.json).then(Paint::for_stdout));
        let all = steps::run(&mut report, endpoint, &room, &args);
        tokio::select! {
            () = all => {}
            _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
        }
        if args.json {
            print(&report.to_json());
        }
        passed &= report.passed();
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

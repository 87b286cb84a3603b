//! The ChatFlow server: configuration, HTTP, WebSocket upgrade and wiring around `chatflow-core`.

mod admission;
mod archive;
mod attempts;
mod backup;
mod cli;
mod cluster;
mod config;
mod failed;
mod handshake;
mod http;
mod life;
mod listener;
mod log;
mod peers;
mod replay;
mod user;
mod wiring;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::config::{ConfigError, Layers};
use crate::failed::Failed;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chatflow-server: {error}");
            ExitCode::from(error.code())
        }
    }
}

fn run(mut cli: Cli) -> Result<ExitCode, Failed> {
    let command = cli.command.take().unwrap_or(Command::Run);
    if matches!(command, Command::DefaultConfig) {
        print(&config::default_document());
        return Ok(ExitCode::SUCCESS);
    }
    if matches!(command, Command::Openapi) {
        print(http::openapi::DOCUMENT);
        return Ok(ExitCode::SUCCESS);
    }
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let layers = Layers::read(&cli.flags(), environment)?;
    let config = layers.config()?;
    if matches!(command, Command::CheckConfig) {
        print(&config::effective_document(&config, &layers));
        return Ok(ExitCode::SUCCESS);
    }
    log::start(&config.log);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.server.threads > 0 {
        runtime.worker_threads(config.server.threads);
    }
    let runtime = runtime.enable_all().build().map_err(|error| ConfigError::line(format!("the runtime can't start: {error}")))?;
    if let Command::Migrate { rebuild_summaries } = command {
        let done = runtime.block_on(wiring::migrate(&config, rebuild_summaries))?;
        print(&format!("{done}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let done = match command {
        Command::Export { room, out } => runtime.block_on(archive::export(&config, room.as_deref(), &out)).map(|()| ExitCode::SUCCESS),
        Command::Import { file } => runtime.block_on(archive::import(&config, &file)).map(|()| ExitCode::SUCCESS),
        Command::User { command } => runtime.block_on(user::run(&config, command)).map(|done| {
            print(&done);
            ExitCode::SUCCESS
        }),
        _ => runtime.block_on(life::run(config)).map_err(Failed::from),
    };
    // What still runs by now has had its time.
    runtime.shutdown_background();
    done
}

/// Prints to a reader that may have gone: `chatflow-server default-config | head` is no error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

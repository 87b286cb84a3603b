//! `check`: the smoke test of a deployment.

use std::process::ExitCode;

/// What `check` is told on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs it.
pub(crate) async fn run(_args: Args) -> ExitCode {
    ExitCode::from(2)
}

//! `load`: placeholder until the load generator stands.

use std::process::ExitCode;

/// What `load` is told on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs it.
pub(crate) async fn run(_args: Args) -> ExitCode {
    ExitCode::from(2)
}

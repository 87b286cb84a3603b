//! What is logged, and how. Never a message's text, never a token.

use std::io::IsTerminal;
use std::panic;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::config::{LogFormat, LogSection};

/// Starts logging to stderr and has panics logged. Called once.
pub(crate) fn start(config: &LogSection) {
    let filter: Targets = config.level.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let terminal = std::io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // A subscriber that somebody else installed stays.
    let _ = match json {
        true => registry.with(lines.json().flatten_event(true)).try_init(),
        false => registry.with(lines.with_ansi(terminal)).try_init(),
    };
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // A formatted reason may quote what a client said (slicing a text inside a character does): only literals are shown.
        let reason = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("withheld: it may quote a message");
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        tracing::error!(place, reason, thread, "panicked");
    }));
}

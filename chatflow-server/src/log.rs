//! What is logged, and how. Never a message's text, never a token.

use std::io::IsTerminal;
use std::panic;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::config::{LogFormat, LogSection};

/// Logs each of its errors besides returning it, so that it would be told twice: silent unless `log.level` names it.
const TOLD_BY_US: &str = "lapin";

/// Starts logging to stderr and has panics logged. Called once.
pub(crate) fn start(config: &LogSection) {
    let filter = filter(&config.level);
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

fn filter(level: &str) -> Targets {
    let filter: Targets = level.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let named = filter.iter().any(|(target, _)| target.starts_with(TOLD_BY_US));
    if named { filter } else { filter.with_target(TOLD_BY_US, LevelFilter::OFF) }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::filter;

    #[test]
    fn a_library_that_logs_what_it_returns_is_silent_unless_it_is_named() {
        let would = |level, target| filter(level).would_enable(target, &Level::ERROR);
        for level in ["info", "debug", "info,chatflow_core=debug", "off"] {
            assert!(!would(level, "lapin::channel"), "{level}");
        }
        assert!(would("info", "chatflow_core::broker") && would("info", "aws_config"));
        assert!(would("info,lapin=warn", "lapin::channel") && would("off,lapin::channel=error", "lapin::channel"));
    }
}

//! Signals that end the view.

use std::io;
use std::process::ExitCode;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals to end, which end nothing by themselves while this is there, or after.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct Ending {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

#[cfg(unix)]
impl Ending {
    /// Listens to them, from now on.
    pub(super) fn listen() -> io::Result<Self> {
        let [interrupt, terminate, hang_up] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self { interrupt: interrupt?, terminate: terminate?, hang_up: hang_up? })
    }

    /// Waits for one. The code is a shell's for the signal.
    ///
    /// # Cancel safety
    /// None is lost.
    pub(super) async fn asked(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.interrupt.recv() => ExitCode::from(130),
            _ = self.terminate.recv() => ExitCode::from(143),
            _ = self.hang_up.recv() => ExitCode::from(129),
        }
    }
}

/// Where there are no signals: Ctrl-C alone, which the terminal's keys tell first.
#[cfg(not(unix))]
#[derive(Debug)]
pub(super) struct Ending;

#[cfg(not(unix))]
impl Ending {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn asked(&mut self) -> ExitCode {
        let _ = tokio::signal::ctrl_c().await;
        ExitCode::from(130)
    }
}

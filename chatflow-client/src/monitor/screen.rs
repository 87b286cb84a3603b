//! The whole terminal, given back on the way out.

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use crossterm::event::{Event, EventStream};
use futures::StreamExt;
use jiff::Zoned;
use ratatui::DefaultTerminal;

use super::ending::Ending;
use super::view::View;
use super::{Heard, keys};

/// The terminal while it shows the view. Given back when dropped, and by a panic.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self).inspect_err(|_| give_back())
    }

    fn draw(&mut self, view: &View) -> io::Result<()> {
        let clock = Zoned::now().strftime("%H:%M:%S").to_string();
        self.0.draw(|frame| view.draw(frame, &clock, Instant::now())).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // One that is gone need not be given back.
    let _ = ratatui::try_restore();
}

/// Shows what is heard until the person leaves, or everything was heard.
pub(super) async fn run(mut view: View, mut heard: Heard) -> ExitCode {
    // Before the terminal is taken: from then on no signal may end this without giving it back.
    let outcome = match Ending::listen().and_then(|ending| Ok((ending, Screen::open()?))) {
        Ok((mut ending, mut screen)) => show(&mut screen, &mut ending, &mut view, &mut heard).await,
        Err(error) => Err(error),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: the terminal can't be used ({error}); use a pipe instead");
        ExitCode::FAILURE
    })
}

async fn show(screen: &mut Screen, ending: &mut Ending, view: &mut View, heard: &mut Heard) -> io::Result<ExitCode> {
    let mut events = EventStream::new();
    loop {
        screen.draw(view)?;
        tokio::select! {
            observation = heard.observations.recv() => {
                let Some((place, observation)) = observation else { return Ok(ExitCode::SUCCESS) };
                view.observe(place, observation);
            }
            event = events.next() => {
                let event: Event = event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
                if let Some(code) = keys::obey(&event, view) {
                    return Ok(code);
                }
            }
            code = ending.asked() => return Ok(code),
        }
        // What else has come meanwhile is drawn along.
        while let Ok((place, observation)) = heard.observations.try_recv() {
            view.observe(place, observation);
        }
    }
}

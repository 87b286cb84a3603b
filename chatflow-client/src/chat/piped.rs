//! Plain lines in, plain lines out.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use chatflow_client::{Client, Draft, Events, Incoming};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::tz::TimeZone;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::view::{View, plain_line};
use super::{Args, advice};
use crate::terminal::{Paint, harmless};

/// Lines that may wait for their answer: the client's own bound, so that none waits for a place and holds the events up.
const IN_FLIGHT: usize = 256;
/// How long to wait for one's own last message to be shown after everything was acknowledged.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Runs it until the input has ended and everything was acknowledged.
pub(super) async fn run(args: &Args, client: Client, mut events: Events) -> ExitCode {
    let mut view = View::new(Paint::never(), TimeZone::UTC);
    let mut lines = Some(read_lines());
    let mut answers = FuturesUnordered::new();
    let (mut refused, mut said, mut shown) = (false, None, None);
    let mut until = Instant::now();
    loop {
        let done = lines.is_none() && answers.is_empty();
        if done && shown >= said {
            break;
        }
        tokio::select! {
            line = next_line(&mut lines), if lines.is_some() && answers.len() < IN_FLIGHT => match line {
                None => lines = None,
                Some(line) if line.trim().is_empty() => {}
                Some(line) => match client.enqueue(&args.room, Draft::new(line.trim_end())).await {
                    Ok(answer) => answers.push(answer),
                    Err(error) => return fail(&error),
                },
            },
            Some(answer) = answers.next() => {
                until = Instant::now() + LAST_LOOK;
                match answer {
                    Ok(published) => said = said.max(published.position),
                    Err(error) => {
                        eprintln!("✗ not said: {}", advice::explain(&error));
                        refused = true;
                    }
                }
            }
            event = events.recv() => match event {
                None | Some(Incoming::Disconnected { retry_in: None, .. }) => {
                    // The call says why in full.
                    return fail(&client.leave(&args.room).await.err().unwrap_or(chatflow_client::Error::Closed));
                }
                Some(Incoming::Message(message)) => {
                    shown = shown.max(message.position());
                    if writeln!(std::io::stdout(), "{}", plain_line(&message)).is_err() {
                        // Nobody reads any more.
                        return ExitCode::FAILURE;
                    }
                }
                Some(event @ (Incoming::Disconnected { .. } | Incoming::Gap { .. } | Incoming::Refused { .. }))
                | Some(event @ Incoming::Welcome { recovered: false, .. }) => {
                    if let Some(line) = view.show(&event, None) {
                        eprintln!("{line}");
                    }
                }
                Some(_) => {}
            },
            () = sleep_until(until), if done => break,
            _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
        }
    }
    client.close().await;
    if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn fail(error: &chatflow_client::Error) -> ExitCode {
    eprintln!("error: {}", advice::explain(error));
    ExitCode::FAILURE
}

async fn next_line(lines: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    lines.as_mut()?.recv().await
}

/// Standard input's lines. A thread of its own: a read of it can't be called off, and must not hold up the exit.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n') {
            match line {
                Ok(bytes) if sender.blocking_send(String::from_utf8_lossy(&bytes).into_owned()).is_ok() => {}
                Ok(_) => break,
                Err(error) => {
                    eprintln!("✗ standard input: {}", harmless(&error.to_string()));
                    break;
                }
            }
        }
    });
    receiver
}

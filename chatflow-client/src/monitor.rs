//! `monitor`: how servers do, as long as somebody looks.

mod columns;
mod ending;
mod figures;
#[cfg(test)]
mod invented;
mod keys;
mod lines;
mod rates;
mod sample;
mod screen;
mod server;
mod view;
mod watch;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chatflow_client::Endpoint;
use jiff::{Timestamp, Unit};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::servers::{self, Ended};
use crate::terminal::print;
use server::{Observation, Server};
use view::View;
use watch::{Manner, watch};

/// The most servers that are watched at the same time.
const MOST_SERVERS: usize = 64;
/// Bounds of the interval.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// What `monitor` is told on the command line.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "At a terminal: a view that is kept up to date; the arrow keys choose the server that is shown in detail, q leaves, \
                        Ctrl-C too, with exit code 130.\nIn a pipe: a line for each server and interval.\nA server that does not answer is \
                        shown as down, and asked on.\n\nExit codes: 0 done; 1 the terminal failed; 2 usage; 130 interrupted.\nNO_COLOR \
                        turns colours off."
)]
pub(crate) struct Args {
    /// The servers, such as ws://127.0.0.1:8080, each node by its own address; all of them are watched, up to 64.
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// How often each is asked, from 100ms to 1h.
    #[arg(long, default_value = "1s", value_name = "T", value_parser = every)]
    every: Duration,
    /// Ends after so many intervals.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: Option<u64>,
    /// How long a server may take to answer before it counts as down, such as 2s or 500ms.
    #[arg(long, default_value = "2s", value_name = "T", value_parser = crate::duration)]
    timeout: Duration,
    /// A bearer token, for servers behind something that wants one.
    #[arg(long, env = "CHATFLOW_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Prints a JSON object for each server and interval, on a terminal too.
    #[arg(long)]
    json: bool,
}

/// What is heard of the servers, and by their places of which.
struct Heard {
    observations: mpsc::Receiver<(usize, Observation)>,
    /// Who asks them; ends with this.
    _watchers: JoinSet<()>,
}

/// Runs it.
pub(crate) async fn run(args: Args) -> ExitCode {
    let endpoints = match endpoints(&args.urls) {
        Ok(endpoints) => endpoints,
        Err(problem) => return crate::usage(&problem),
    };
    let now = Instant::now();
    let watched: Vec<_> = endpoints.iter().map(|endpoint| Server::new(endpoint.to_string(), now)).collect();
    let heard = heard(endpoints, &args);
    let terminal = io::stdout().is_terminal() && io::stdin().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    if terminal && !args.json {
        return screen::run(View::new(watched, args.every), heard).await;
    }
    servers::run(tell(watched, heard, args.json)).await
}

/// One line for each server and interval, until all were told or nobody reads on.
async fn tell(mut watched: Vec<Server>, mut heard: Heard, json: bool) -> Ended<()> {
    while let Some((place, observation)) = heard.observations.recv().await {
        let server = &mut watched[place];
        server.observe(observation);
        // The first answers are what the interval begins with.
        if server.rounds() == 1 {
            continue;
        }
        let time = Timestamp::now().round(Unit::Second).unwrap_or_default().to_string();
        let now = Instant::now();
        let line = if json { lines::json(server, &time, now).to_string() } else { lines::plain(server, &time, now) };
        if !print(&line) {
            break;
        }
    }
    Ok(())
}

/// Begins to ask.
fn heard(endpoints: Vec<Endpoint>, args: &Args) -> Heard {
    let rounds = args.count.map(|count| count + 1);
    let manner = Manner { every: args.every, timeout: args.timeout, rounds, token: args.token.clone() };
    let (sender, observations) = mpsc::channel(endpoints.len());
    let mut watchers = JoinSet::new();
    for (place, endpoint) in endpoints.into_iter().enumerate() {
        watchers.spawn(watch(endpoint, manner.clone(), place, sender.clone()));
    }
    Heard { observations, _watchers: watchers }
}

/// The servers of a command line, each once.
fn endpoints(urls: &[String]) -> Result<Vec<Endpoint>, String> {
    let mut all = Vec::new();
    for url in urls {
        for endpoint in Endpoint::parse_list(url).map_err(|error| error.to_string())? {
            if !all.contains(&endpoint) {
                all.push(endpoint);
            }
        }
    }
    if all.len() > MOST_SERVERS { Err(format!("at most {MOST_SERVERS} servers are watched at the same time")) } else { Ok(all) }
}

fn every(text: &str) -> Result<Duration, String> {
    let every = crate::duration(text)?;
    if EVERY.contains(&every) { Ok(every) } else { Err("it is from 100ms to 1h".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(urls: &[&str]) -> Result<Vec<String>, String> {
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        endpoints(&urls).map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn servers_are_given_apart_or_in_a_list_and_watched_once() {
        assert_eq!(read(&["ws://a", "http://b:1,a:80"]).unwrap(), ["ws://a", "ws://b:1"]);
        assert!(read(&["ftp://a"]).unwrap_err().contains("begins with"));
        let many: Vec<_> = (1..=65).map(|port| format!("ws://a:{port}")).collect();
        assert!(read(&[&many.join(",")]).unwrap_err().contains("at most 64"));
    }

    #[test]
    fn the_interval_has_bounds() {
        assert_eq!(every("250ms"), Ok(Duration::from_millis(250)));
        assert!(["0s", "99ms", "3601s", "-1s", "x"].iter().all(|text| every(text).is_err()));
    }
}

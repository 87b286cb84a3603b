//! Asking servers: the first that answers is the one.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use chatflow_client::http::{self, Answer};
use chatflow_client::{ConnectError, Endpoint};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::time::timeout;

use crate::table::cell;
use crate::terminal::{harmless, print};

/// What every command that asks the HTTP API is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// The server, such as ws://127.0.0.1:8080, or several, separated by commas: the first that answers is asked.
    url: String,
    /// A bearer token, for servers that want one.
    #[arg(long, env = "CHATFLOW_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How long one server may take to answer, such as 5s or 500ms.
    #[arg(long, default_value = "5s", value_parser = crate::duration)]
    timeout: Duration,
    /// Prints the server's JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What ends a command before its end. It has been told to the user.
pub(crate) type Ended<T> = Result<T, ExitCode>;

/// The servers that may be asked. One that answered is asked first from then on.
#[derive(Debug)]
pub(crate) struct Servers {
    list: Vec<Endpoint>,
    token: Option<String>,
    timeout: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Method {
    Get,
    Post,
    Delete,
}

impl Servers {
    /// The servers of a command line.
    pub(crate) fn new(asked: &Asked) -> Ended<Self> {
        let list = Endpoint::parse_list(&asked.url).map_err(|error| crate::usage(&error))?;
        Ok(Self { list, token: asked.token.clone(), timeout: asked.timeout })
    }

    /// What `path` holds.
    pub(crate) async fn get(&mut self, path: &str) -> Ended<Value> {
        self.ask(Method::Get, path).await
    }

    /// Posts to `path` what is safe to post twice, to another server the second time.
    pub(crate) async fn post(&mut self, path: &str) -> Ended<Value> {
        self.ask(Method::Post, path).await
    }

    /// Deletes `path`.
    pub(crate) async fn delete(&mut self, path: &str) -> Ended<Value> {
        self.ask(Method::Delete, path).await
    }

    /// A request that is refused for what it is would be refused by the next server, too.
    async fn ask(&mut self, method: Method, path: &str) -> Ended<Value> {
        for place in 0..self.list.len() {
            let server = &self.list[place];
            let (why, last) = match timeout(self.timeout, self.request(server, method, path)).await {
                Ok(Ok(answer)) => {
                    let last = (400..500).contains(&answer.status) && !matches!(answer.status, 408 | 429);
                    match answer.success() {
                        Ok(body) => {
                            self.list[..=place].rotate_right(1);
                            return Ok(body);
                        }
                        Err(why) => (format!("{server}: {why}"), last),
                    }
                }
                Ok(Err(error)) => (error.to_string(), false),
                Err(_) => (format!("{server}: no answer within {} s", self.timeout.as_secs_f32()), false),
            };
            complain(&why);
            if last {
                break;
            }
        }
        Err(ExitCode::FAILURE)
    }

    async fn request(&self, server: &Endpoint, method: Method, path: &str) -> Result<Answer, ConnectError> {
        let token = self.token.as_deref();
        match method {
            Method::Get => http::get(server, path, token).await,
            Method::Post => http::post(server, path, token, None).await,
            Method::Delete => http::delete(server, path, token).await,
        }
    }
}

/// Tells what is wrong. What servers say may be anything.
pub(crate) fn complain(problem: &dyn Display) {
    eprintln!("error: {}", harmless(&problem.to_string()));
}

/// The list called `name` in an answer.
pub(crate) fn list<'a>(body: &'a Value, name: &str) -> Ended<&'a [Value]> {
    let list = body.get(name).and_then(Value::as_array);
    list.map(Vec::as_slice).ok_or_else(|| {
        complain(&format_args!("the server's answer has no list of {name}"));
        ExitCode::FAILURE
    })
}

/// What an answer is without, because a part could not be asked.
#[derive(Debug, Default)]
pub(crate) struct Missing(BTreeSet<String>);

impl Missing {
    /// Tells what an answer names as missing, once.
    pub(crate) fn note(&mut self, body: &Value) {
        for one in body.get("missing").and_then(Value::as_array).into_iter().flatten() {
            let text = format!("{} {} is missing: {}", cell(one, "part"), cell(one, "name"), cell(one, "reason"));
            if self.0.insert(text.clone()) {
                complain(&text);
            }
        }
    }

    /// The end of it: not everything was done if there was any.
    pub(crate) fn done(self) -> Ended<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ExitCode::FAILURE) }
    }
}

/// Prints all of it, to whoever reads on.
pub(crate) fn print_all(lines: &[String]) {
    let _ = lines.iter().all(|line| print(line));
}

/// Does the work of a command, unless the user interrupts it.
pub(crate) async fn run(work: impl Future<Output = Ended<()>>) -> ExitCode {
    tokio::select! {
        done = work => done.err().unwrap_or(ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

/// What stands for itself in a path or query.
const ITSELF: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A text as a part of a path or query, whatever is in it.
pub(crate) fn encoded(text: &str) -> impl Display {
    utf8_percent_encode(text, &ITSELF)
}

/// `?a=1&b=2` of what there is.
pub(crate) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let mut out = String::new();
    for (name, value) in parameters.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
        out.push(if out.is_empty() { '?' } else { '&' });
        out += &format!("{name}={}", encoded(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_stays_one_part() {
        assert_eq!(encoded("a/b?c#d%\0 é\"").to_string(), "a%2Fb%3Fc%23d%25%00%20%C3%A9%22");
        assert_eq!(query(&[("a", None), ("b", Some("1:2")), ("c", Some("+&="))]), "?b=1%3A2&c=%2B%26%3D");
        assert_eq!(query(&[("a", None)]), "");
    }
}

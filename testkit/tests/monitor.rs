//! `chatflow-client monitor` against real servers: what it tells is so, and a server that goes away and comes back is all the same to it.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use chatflow_client::{Client, Draft};
use chatflow_testkit::{Options, Port, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// One that runs, line by line.
struct Monitor {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Monitor {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.arg("monitor").args(arguments).env_remove("CHATFLOW_TOKEN").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line; `None` at the end.
    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap()
    }

    /// Reads on to a line that is as wanted. No rate on the way is below nothing.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let search = async {
            loop {
                let line: Value = serde_json::from_str(&self.line().await.unwrap()).unwrap();
                let rates = line["perSecond"].as_object().into_iter().flatten();
                assert!(rates.clone().all(|(_, rate)| rate.as_f64().is_none_or(|rate| rate >= 0.0)), "{line}");
                if wanted(&line) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
    }

    async fn ended(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code()
    }
}

fn program() -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("chatflow-client");
    assert!(path.is_file(), "{} is not there: build it with `cargo build -p chatflow-client`", path.display());
    path
}

async fn say(client: &Client, messages: usize) {
    for n in 0..messages {
        client.publish("lobby", n.to_string()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_followed_through_silence_and_death() {
    let mut server = Server::start(Options::new().node("node-1"));
    let (client, _events) = Client::builder(server.url()).user("42", "ada").room("lobby").connect().await.unwrap();
    let mut monitor = Monitor::start(&[&server.url(), "--every", "100ms", "--timeout", "400ms", "--json"]);

    let quiet = monitor.until("it is ready", |line| line["state"] == "ready" && line["perSecond"]["messagesAccepted"] == 0.0).await;
    let names = |line: &Value, of: &str| {
        line[of].as_object().unwrap().iter().filter(|(_, n)| n.is_null()).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!((names(&quiet, "sinceStart"), names(&quiet, "perSecond")), (vec![], vec![]), "the server has every counter by its name");
    for gauge in ["residentBytes", "recentBytes", "connections", "members", "rooms", "waiting", "lagSeconds"] {
        assert!(quiet[gauge].is_number(), "{gauge}: {quiet}");
    }
    assert_eq!((&quiet["node"], &quiet["members"], &quiet["nodes"][0]["node"]), (&"node-1".into(), &1.into(), &"node-1".into()));
    assert_eq!(quiet["queues"][0]["roomId"], "lobby");
    assert!(quiet["parts"].as_array().unwrap().iter().any(|part| part["name"] == "store" && part["healthy"] == true));

    let talk = tokio::spawn(async move {
        say(&client, 50).await;
        client
    });
    let busy = monitor
        .until("messages come in", |line| line["perSecond"]["messagesPersisted"].as_f64() > Some(0.0) && line["commitSeconds"].is_number())
        .await;
    assert!(busy["commitSeconds"].as_f64().unwrap() < 5.0 && busy["rowsPerCommit"].as_f64().unwrap() > 0.0, "{busy}");
    let client = talk.await.unwrap();
    let all = monitor.until("all are counted", |line| line["sinceStart"]["messagesPersisted"] == 50).await;
    assert_eq!((&all["sinceStart"]["messagesAccepted"], &all["waiting"]), (&50.into(), &0.into()));

    server.freeze();
    let silent = monitor.until("its silence is noticed", |line| line["state"] == "down").await;
    assert_eq!(silent["reason"], "no answer within 0.4 s");
    assert!(silent["perSecond"].is_null() && silent["members"].is_null(), "nothing is told that is not so now: {silent}");
    server.thaw();
    monitor.until("it answers again", |line| line["state"] == "ready" && line["perSecond"]["messagesAccepted"].is_number()).await;

    server.kill9();
    let dead = monitor.until("its end is noticed", |line| line["state"] == "down" && line["reason"] != "no answer within 0.4 s").await;
    monitor.until("it counts how long", |line| line["state"] == "down" && line["forSeconds"].as_f64() > Some(0.2)).await;
    assert!(dead["reason"].is_string(), "{dead}");
    server.restart();
    let again = monitor.until("it is back", |line| line["state"] == "ready").await;
    assert_eq!(again["perSecond"]["messagesAccepted"], Value::Null, "what it counted before its end is of another life: {again}");
    say(&client, 5).await;
    monitor
        .until("and measured", |line| {
            line["sinceStart"]["messagesPersisted"].as_u64() >= Some(5) && line["perSecond"]["messagesAccepted"].is_number()
        })
        .await;

    kill(Pid::from_raw(monitor.child.id().unwrap().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(monitor.ended().await, Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_history_is_named_and_its_lag_told() {
    let server = Server::start(Options::new());
    let (client, _events) = Client::builder(server.url()).user("42", "ada").room("lobby").connect().await.unwrap();
    let mut monitor = Monitor::start(&[&server.url(), "--every", "100ms", "--json"]);
    let lock = server.lock_database();
    let answer = client.enqueue("lobby", Draft::new("hello")).await.unwrap();
    monitor.until("it waits", |line| line["waiting"] == 1 && line["queues"][0]["waiting"] == 1 && line["lagSeconds"].is_null()).await;
    let missing = monitor.until("what is missing is named", |line| line["state"] == "not ready").await;
    assert!(missing["reason"].as_str().unwrap().contains("locked"), "{missing}");
    drop(lock);
    answer.await.unwrap();
    monitor.until("it is whole again", |line| line["state"] == "ready" && line["waiting"] == 0 && line["lagSeconds"] == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pipe_each_server_has_a_line_for_each_interval() {
    let (server, nobody) = (Server::start(Options::new().node("node-1")), Port::free());
    let nobody = format!("ws://{}", nobody.address());
    let mut monitor = Monitor::start(&[&server.url(), &nobody, "--every", "100ms", "--count", "3"]);
    let mut lines = Vec::new();
    while let Some(line) = monitor.line().await {
        lines.push(line);
    }
    assert_eq!(monitor.ended().await, Some(0));
    let of = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(
        (lines.len(), of(&format!("  {}  node-1  ready  in 0/s  out 0/s  saved 0/s  waiting 0  lag 0", server.url()))),
        (6, 3),
        "{lines:#?}"
    );
    assert_eq!((of(&format!("  {nobody}  down for ")), of(" s (connection refused: nobody listens there)")), (3, 3), "{lines:#?}");
}

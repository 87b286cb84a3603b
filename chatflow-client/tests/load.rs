//! `chatflow-client load` as an oracle: a right server passes, and each way of being wrong is found and named.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::reference::{Behaviour, Fault, Reference};

/// What a run of the load came to.
struct Outcome {
    code: Option<i32>,
    out: String,
    summary: Value,
    csv: String,
}

impl Outcome {
    /// How often a kind of violation was found.
    fn found(&self, kind: &str) -> u64 {
        self.summary["violations"]["counts"][kind].as_u64().unwrap_or(0)
    }
}

async fn load(server: &Reference, options: &str) -> Outcome {
    load_url(server.url(), options).await
}

async fn load_url(url: String, options: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatflow-client"));
    command.arg("load").arg(url).args(options.split_whitespace()).arg("--out").arg(dir.path());
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let out = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let summary = serde_json::from_str(&file("summary.json")).unwrap_or_default();
    Outcome { code: status.code(), out, summary, csv: file("messages.csv") }
}

const SMALL: &str = "--messages 2000 --warmup 4x100 --connections 8 --in-flight 10 --rooms 4 --listeners 3";

#[tokio::test(flavor = "multi_thread")]
async fn a_right_server_passes() {
    let server = Reference::start(Behaviour::default()).await;
    let run = load(&server, SMALL).await;
    assert_eq!(run.code, Some(0), "{}", run.out);
    assert_eq!(run.summary["succeeded"], 2000);
    assert_eq!(run.summary["warmupMessages"], 400);
    assert_eq!(run.summary["history"]["compared"], 2000);
    assert_eq!(run.summary["answerLatencyMs"]["count"], 1600);
    assert_eq!(run.summary["lastMemberLatencyMs"]["count"], 1600);
    assert_eq!(run.csv.lines().next(), Some("timestamp,messageType,latency,statusCode,roomId"));
    assert_eq!(run.csv.lines().count(), 2001);
    // Every listener saw all of it, and the senders what was said in their own room.
    assert!(run.summary["deliveries"].as_u64().unwrap() > 3 * 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_are_loaded_alike_and_each_room_through_several() {
    let server = Reference::several(4, Behaviour::default()).await;
    let run = load(&server, "--messages 4000 --warmup 0x0 --connections 64 --in-flight 10 --rooms 20 --listeners 20").await;
    assert_eq!(run.code, Some(0), "{}", run.out);
    let came = server.came();
    for node in 0..4 {
        let (listeners, senders): (Vec<_>, Vec<_>) = came.iter().filter(|(at, _)| *at == node).partition(|(_, room)| room.is_none());
        assert_eq!((listeners.len(), senders.len()), (5, 16), "node {node}");
    }
    for room in 1..=20 {
        let nodes: std::collections::HashSet<_> = came.iter().filter(|(_, of)| *of == Some(room.to_string())).map(|(at, _)| at).collect();
        assert!(nodes.len() >= 3, "room {room} is written at {nodes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_on_one_of_several_nodes_is_found() {
    for (fault, name) in [(Fault::Drop, "missed"), (Fault::Swap, "out_of_order"), (Fault::AlterForOne, "different")] {
        let server = Reference::several(3, Behaviour { fault: Some((fault, 500)), ..Behaviour::default() }).await;
        let run = load(&server, &format!("{SMALL} --patience 3s --timeout 10s")).await;
        assert_eq!(run.code, Some(1), "{fault:?}: {}", run.out);
        assert!(run.found(name) > 0, "{fault:?} is not called {name}: {}", run.out);
    }
}

/// Every way of being wrong, and by which name it has to be found.
const FAULTS: [(Fault, &str); 16] = [
    (Fault::Lose, "lost"),
    (Fault::Drop, "missed"),
    (Fault::Swap, "out_of_order"),
    (Fault::Repeat, "repeated"),
    (Fault::Duplicate, "duplicated"),
    (Fault::Alter, "altered"),
    (Fault::AlterForOne, "different"),
    (Fault::ReusePosition, "position_reused"),
    (Fault::WrongAnswer, "wrong_position"),
    (Fault::Invent, "never_sent"),
    (Fault::SenderOrder, "sender_order"),
    (Fault::HistorySwap, "history_out_of_order"),
    (Fault::HistorySwapCommits, "history_different"),
    (Fault::HistoryRepeat, "history_repeated"),
    (Fault::HistoryDrop, "history_missing"),
    (Fault::HistoryAlter, "history_different"),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_way_of_being_wrong_is_found_and_named() {
    // Side by side: what is missing takes the patience of a run to be sure of. On a busy machine everything may take long; what is
    // sent again or counted as missed for that would blur the fault.
    let runs = FAULTS.map(|(fault, name)| {
        tokio::spawn(async move {
            let server = Reference::start(Behaviour { fault: Some((fault, 500)), ..Behaviour::default() }).await;
            let run = load(&server, &format!("{SMALL} --patience 3s --timeout 10s")).await;
            assert_eq!(run.code, Some(1), "{fault:?}: {}", run.out);
            assert!(run.found(name) > 0, "{fault:?} is not called {name}: {}", run.out);
            assert!(run.out.contains(&format!("- {name}: ")), "{fault:?}: no detail of {name}: {}", run.out);
        })
    });
    for run in runs {
        run.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_and_refusals_are_no_fault() {
    let server = Reference::start(Behaviour { cut_every: Some(97), refuse_every: Some(50), ..Behaviour::default() }).await;
    let run = load(&server, SMALL).await;
    assert_eq!(run.code, Some(0), "{}", run.out);
    assert_eq!(run.summary["succeeded"], 2000);
    assert!(run.summary["reconnections"].as_u64().unwrap() > 10, "{}", run.out);
    assert!(run.summary["retries"].as_u64().unwrap() > 40, "{}", run.out);
    assert_eq!(run.summary["history"]["compared"], 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_position_is_told_of_and_hides_no_more_than_it_has_to() {
    let behaviour = Behaviour { cut_every: Some(97), forgets: true, ..Behaviour::default() };
    let server = Reference::start(behaviour).await;
    let run = load(&server, &format!("{SMALL} --patience 300ms")).await;
    assert_eq!(run.code, Some(1), "a plain sender has no word for it: {}", run.out);
    assert!(run.found("position_lost") > 0, "{}", run.out);
    assert!(run.summary["announcedGaps"].as_u64().unwrap() > 0, "{}", run.out);
    assert_eq!(run.found("missed") + run.found("lost"), 0, "what a listener is told of is no silent gap: {}", run.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_found_even_among_cut_connections() {
    let behaviour = Behaviour { cut_every: Some(97), fault: Some((Fault::Drop, 501)), ..Behaviour::default() };
    let server = Reference::start(behaviour).await;
    let run = load(&server, &format!("{SMALL} --patience 300ms")).await;
    assert_eq!(run.code, Some(1), "{}", run.out);
    assert!(run.found("missed") > 0, "{}", run.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_alone_find_a_loss_without_listeners_or_history() {
    let options = "--messages 2000 --warmup 0x0 --connections 8 --rooms 4 --no-history";
    let right = load(&Reference::start(Behaviour::default()).await, options).await;
    assert_eq!(right.code, Some(0), "{}", right.out);
    let wrong = Reference::start(Behaviour { fault: Some((Fault::Lose, 500)), ..Behaviour::default() }).await;
    let wrong = load(&wrong, &format!("{options} --patience 300ms")).await;
    assert_eq!((wrong.code, wrong.found("lost")), (Some(1), 4), "{}", wrong.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_alone_finds_a_loss_when_nobody_listens() {
    let options = "--messages 2000 --warmup 0x0 --connections 8 --rooms 4 --senders publish-only";
    let right = load(&Reference::start(Behaviour::default()).await, options).await;
    assert_eq!((right.code, &right.summary["deliveries"]), (Some(0), &Value::from(0)), "{}", right.out);
    let wrong = Reference::start(Behaviour { fault: Some((Fault::Lose, 500)), ..Behaviour::default() }).await;
    let wrong = load(&wrong, &format!("{options} --patience 300ms")).await;
    assert_eq!((wrong.code, wrong.found("history_missing")), (Some(1), 4), "{}", wrong.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_history_is_told_of_and_passes() {
    let server = Reference::start(Behaviour { no_history: true, ..Behaviour::default() }).await;
    let run = load(&server, SMALL).await;
    assert_eq!(run.code, Some(0), "{}", run.out);
    assert!(run.out.contains("history: not kept"), "{}", run.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_and_a_duration_ends_it() {
    let server = Reference::start(Behaviour::default()).await;
    let run = load(&server, "--rate 400/s --duration 1s --warmup 2x10 --connections 4 --rooms 2 --listeners 1").await;
    assert_eq!(run.code, Some(0), "{}", run.out);
    let (sent, seconds) = (run.summary["sent"].as_f64().unwrap() - 20.0, run.summary["wallSeconds"].as_f64().unwrap());
    assert!(sent <= 400.0 * seconds + 1.0, "{sent}: {}", run.out);
    // However slow the machine, what was due is sent once there is time for it.
    assert!(sent > 200.0 && (1.0..10.0).contains(&seconds), "{sent}: {}", run.out);
    assert_eq!(run.summary["openLoop"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_stay_refused_fail() {
    let server = Reference::start(Behaviour { refuse_every: Some(1), ..Behaviour::default() }).await;
    let run = load(&server, "--messages 20 --warmup 0x0 --connections 2 --rooms 2 --retries 1").await;
    assert_eq!(run.code, Some(1), "{}", run.out);
    assert_eq!(run.summary["failed"], 20, "{}", run.out);
    assert_eq!(run.csv.lines().filter(|row| row.contains(",overloaded,")).count(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_options_and_absent_servers_end_it_at_once() {
    let server = Reference::start(Behaviour::default()).await;
    assert_eq!(load(&server, "--mix 1,2").await.code, Some(2));
    assert_eq!(load(&server, "--senders answers-only --listeners 1").await.code, Some(2));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = load_url(format!("ws://{free}"), "--messages 20").await;
    assert_eq!(run.code, Some(1));
    assert!(run.out.contains("refused"), "{}", run.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_and_a_server_that_only_answers() {
    let server = Reference::start(Behaviour { answers_only: true, no_history: true, ..Behaviour::default() }).await;
    let run = load(&server, "--messages 500 --warmup 0x0 --connections 4 --in-flight 1 --senders answers-only --size 200").await;
    assert_eq!(run.code, Some(0), "{}", run.out);
    assert_eq!((&run.summary["succeeded"], &run.summary["deliveries"]), (&Value::from(500), &Value::from(0)));
    // A closed loop of so few obeys Little's law.
    let mean = run.summary["meanInFlight"].as_f64().unwrap();
    assert!((1.0..=4.1).contains(&mean), "{mean}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_still_reports() {
    let server = Reference::start(Behaviour::default()).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatflow-client"));
    command.args(["load", &server.url(), "--rate", "500", "--duration", "60s", "--warmup", "0x0", "--listeners", "1"]);
    let load = command.stdout(Stdio::piped()).spawn().unwrap();
    while server.messages() < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(Command::new("kill").args(["-INT", &load.id().to_string()]).status().unwrap().success());
    let run = tokio::task::spawn_blocking(|| load.wait_with_output()).await.unwrap().unwrap();
    let out = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(130), "{out}");
    assert!(out.starts_with("interrupted") && out.contains("failed 0\n") && out.contains("nothing lost"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_loads_share_rooms_only_if_told_so() {
    let server = Reference::start(Behaviour::default()).await;
    let shared = format!("{SMALL} --shared");
    let (a, b) = tokio::join!(load(&server, &shared), load(&server, &shared));
    assert_eq!((a.code, b.code), (Some(0), Some(0)), "{}{}", a.out, b.out);
    let (a, b) = tokio::join!(load(&server, SMALL), load(&server, SMALL));
    assert!(a.found("never_sent") + b.found("never_sent") > 0, "{}{}", a.out, b.out);
}

/// How much the load itself can take, and what each delivery costs it; not a check. Run it with `--profile bench`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn ceiling() {
    let server = Reference::start(Behaviour::default()).await;
    let options = std::env::var("LOAD").unwrap_or("--messages 500000 --listeners 20".into());
    let line = format!("time {} load {} {options}", env!("CARGO_BIN_EXE_chatflow-client"), server.url());
    let run = tokio::task::spawn_blocking(|| Command::new("bash").arg("-c").arg(line).output()).await.unwrap().unwrap();
    eprintln!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}

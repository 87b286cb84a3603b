//! Every example runs and does what it says.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chatflow_client::{Client, Incoming};
use chatflow_testkit::{Postgres, Service, needs};

/// Long enough for a busy machine; nothing waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those that serve until they are interrupted, or need a database, are driven by a test of their own.
const APART: [&str; 2] = ["chat", "transaction"];

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Name and source of each program in a folder: a file, or a folder with a `main.rs`.
fn programs(folder: &Path) -> Vec<(String, String)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let source = |path: PathBuf| match path.extension() {
        Some(ext) if ext == "rs" && !path.ends_with("lib.rs") => Some((name(&path), format!("{}.rs", name(&path)))),
        None if path.join("main.rs").is_file() => Some((name(&path), format!("{}/main.rs", name(&path)))),
        _ => None,
    };
    let mut programs: Vec<_> = files.filter_map(source).collect();
    programs.sort();
    programs
}

fn examples() -> Vec<String> {
    programs(folder()).into_iter().map(|(name, _)| name).collect()
}

/// The built program: cargo puts examples beside the folder of the tests that it builds together with them.
fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(example);
    assert!(program.exists(), "{} is not built", program.display());
    program
}

/// Waits for its end, which has to come in time.
fn finish(mut child: Child, example: &str) -> Output {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{example} does not end: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn start(example: &str, args: &[&str]) -> Child {
    Command::new(program(example)).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_manifests_list_every_file() {
    for (member, section) in [("examples", "[[example]]"), ("benches", "[[bench]]")] {
        let folder = folder().with_file_name(member);
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let programs = programs(&folder);
        for (name, source) in &programs {
            let listed = format!("{section}\nname = \"{name}\"\npath = \"{source}\"\n");
            assert!(manifest.contains(&listed), "{member}/{source} is not listed");
        }
        assert_eq!(manifest.matches(section).count(), programs.len(), "what is listed in {member} is there");
    }
}

#[test]
fn every_example_succeeds() {
    for example in examples().iter().filter(|name| !APART.contains(&name.as_str())) {
        let output = finish(start(example, &[]), example);
        assert!(output.status.success(), "{example}: {output:?}");
        assert!(!output.stdout.is_empty(), "{example} shows nothing");
    }
}

#[test]
fn every_example_says_how_to_run_it() {
    for example in examples() {
        let source = std::fs::read_to_string(folder().join(example.clone() + ".rs")).unwrap();
        assert!(source.starts_with("//! "), "{example}");
        assert!(source.contains(&format!("//! `cargo run --example {example}")), "{example}");
    }
}

#[test]
fn the_short_ones_are_short() {
    let chat = std::fs::read_to_string(folder().join("chat.rs")).unwrap();
    assert!(chat.lines().count() < 60);
    let broker = std::fs::read_to_string(folder().join("custom_broker.rs")).unwrap();
    let lines = broker.lines().skip_while(|line| line.is_empty() || line.starts_with("//") || line.starts_with("use "));
    assert!(lines.take_while(|line| *line != "// The broker ends here.").count() < 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_announced_if_it_was_placed() {
    needs!(Postgres);
    let database = Service::start_new(Postgres::new()).await;
    let child = start("transaction", &[&database.url()]);
    let output = tokio::task::spawn_blocking(move || finish(child, "transaction")).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("order 2 is placed") && !said.contains("order 1"), "{said} {:?}", output.stderr);
}

#[tokio::test]
async fn people_talk_in_the_chat() {
    let mut child = start("chat", &["127.0.0.1:0"]);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}"));

    let (ada, _ada_hears) = Client::builder(url).user("1", "ada").room("lobby").connect().await.unwrap();
    let (_bob, mut bob_hears) = Client::builder(url).room("lobby").connect().await.unwrap();
    ada.publish("lobby", "hello").await.unwrap();
    let heard = async {
        loop {
            if let Incoming::Message(message) = bob_hears.recv().await.unwrap() {
                break message.chat().unwrap().text.into_owned();
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, heard).await.unwrap(), "hello");

    // The shell's own `kill`, which is there where nothing else is.
    let interrupted = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(interrupted.success());
    let mut stderr = child.stderr.take().unwrap();
    let output = tokio::task::spawn_blocking(move || finish(child, "chat")).await.unwrap();
    let mut complaints = String::new();
    stderr.read_to_string(&mut complaints).unwrap();
    assert!(output.status.success(), "{output:?} {complaints}");
}

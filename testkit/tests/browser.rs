//! Two people at the page, each in a browser tab, while the server is killed and started again.
//!
//! Pictures of it are kept in `target/screenshots`.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chatflow_testkit::browser::{Browser, Tab, chromium};
use chatflow_testkit::{History, Options, Server, eventually_async, skip};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
const WIDE: (u32, u32) = (1280, 800);
const NARROW: (u32, u32) = (390, 844);

/// The texts of the lines in the conversation, from the top.
const LINES: &str = "[...document.querySelectorAll('#log .bubble')].map((bubble) => bubble.textContent)";

/// Goes in through the page's own form, and waits until it is live.
async fn come_in(tab: &Tab, room: &str, name: &str) {
    tab.write("#room", room).await;
    tab.write("#name", name).await;
    tab.enter().await;
    tab.until("it is live", "document.querySelector('#state').dataset.state === 'live'").await;
    // A reload would forget this.
    tab.eval("window.neverReloaded = true").await;
}

async fn say(tab: &Tab, text: &str) {
    tab.write("#text", text).await;
    tab.enter().await;
}

async fn lines(tab: &Tab) -> Vec<String> {
    let Value::Array(lines) = tab.eval(LINES).await else { panic!("no lines") };
    lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

fn picture(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("screenshots").join(format!("{name}.png"))
}

async fn show(tab: &Tab, name: &str) {
    for (size, (width, height)) in [("wide", WIDE), ("narrow", NARROW)] {
        tab.resize(width, height).await;
        // The page has room for the conversation and its composer, and nothing sticks out at the side.
        tab.until("it fits", "document.documentElement.scrollWidth <= innerWidth").await;
        tab.screenshot(&picture(&format!("{name}-{size}"))).await;
    }
    tab.resize(WIDE.0, WIDE.1).await;
}

fn browser_program() -> Option<PathBuf> {
    let program = chromium();
    if program.is_none() {
        skip("there is no `chromium` in PATH: apt-get install chromium");
    }
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_chat_over_a_crash_of_the_server_without_a_reload_or_a_missing_line() {
    let Some(program) = browser_program() else { return };
    let begun = Instant::now();
    let mut server = Server::start(Options::new());
    let browser = Browser::start(&program).await;
    let url = format!("http://{}/", server.address);
    let (ada, grace) = (browser.open(&url).await, browser.open(&url).await);
    show(&ada, "enter").await;
    come_in(&ada, "lobby", "ada").await;
    come_in(&grace, "lobby", "grace").await;
    ada.until("both are members", "document.querySelectorAll('#members-list li').length === 2").await;

    let mut said = Vec::new();
    for n in 0..6 {
        let (tab, name) = if n % 2 == 0 { (&ada, "ada") } else { (&grace, "grace") };
        let text = format!("{name} says number {n} <b>& not in bold</b>");
        say(tab, &text).await;
        said.push(text);
        let last = serde_json::to_string(said.last().unwrap()).unwrap();
        for tab in [&ada, &grace] {
            tab.until("it is seen", &format!("document.querySelector('#log li:last-child .bubble')?.textContent === {last}")).await;
        }
    }
    ada.until("it says that there is nothing older", "document.querySelector('#older').textContent.includes('begins')").await;
    show(&ada, "chat").await;

    ada.darken(true).await;
    show(&ada, "dark").await;
    ada.darken(false).await;
    ada.resize(NARROW.0, NARROW.1).await;
    ada.eval("document.querySelector('#members-button').click()").await;
    ada.until("members are shown over the conversation", "getComputedStyle(document.querySelector('#members')).display !== 'none'").await;
    ada.screenshot(&picture("members-narrow")).await;
    ada.eval("document.querySelector('#members-button').click()").await;
    ada.resize(WIDE.0, WIDE.1).await;

    // The crash comes while one of them is sending; what is said meanwhile waits, and the page says so.
    for n in 0..5 {
        let text = format!("ada says {n} around the crash");
        say(&ada, &text).await;
        said.push(text);
        if n == 2 {
            server.kill9();
        }
    }
    for tab in [&ada, &grace] {
        tab.until("it sees that the server is away", "document.querySelector('#state').dataset.state !== 'live'").await;
    }
    ada.until("what has no answer stands apart", "document.querySelectorAll('#pending .waiting').length > 0").await;
    show(&ada, "away").await;
    server.restart();
    let restarted = Instant::now();
    for tab in [&ada, &grace] {
        tab.until("it is live again", "document.querySelector('#state').dataset.state === 'live'").await;
    }
    let back = restarted.elapsed();
    ada.until("nothing waits any more", "document.querySelectorAll('#pending li').length === 0").await;
    say(&grace, "grace is back, too").await;
    said.push("grace is back, too".to_owned());
    for tab in [&ada, &grace] {
        eventually_async("both have the same lines, each once and in order", PATIENCE, || async {
            (lines(tab).await == said).then_some(())
        })
        .await;
        assert_eq!(tab.eval("window.neverReloaded").await, true);
    }
    let joins = "[...document.querySelectorAll('#log .announce')].map((line) => line.textContent)";
    assert_eq!(ada.eval(joins).await, grace.eval(joins).await);
    let history = History::over_http(server.address, &["lobby".to_owned()], 100).await;
    let kept: Vec<_> = history.0["lobby"].iter().map(|row| &row.text).filter(|text| *text != "joined the room").collect();
    assert_eq!(kept, said.iter().collect::<Vec<_>>());

    // Whoever reads further up is told of what is new, and not pulled away.
    for n in 0..40 {
        say(&grace, &format!("filler {n}: {}", "some words that fill a line ".repeat(4))).await;
    }
    ada.until("all came", "document.querySelector('#log li:last-child .bubble')?.textContent.startsWith('filler 39')").await;
    ada.eval("document.querySelector('#scroll').scrollTop = 400").await;
    // The page hears of scrolling with the next picture.
    ada.drawn().await;
    say(&grace, "news").await;
    ada.until("it is told", "!document.querySelector('#jump').hidden && document.querySelector('#jump').textContent === '1 new message ↓'")
        .await;
    assert_eq!(ada.eval("document.querySelector('#scroll').scrollTop").await, 400);
    show(&ada, "unread").await;
    println!(
        "two tabs: {} lines over a crash, the same in both tabs and in the history, none double, no reload; live again {} ms after the \
         restart; {:.1} s in all",
        said.len(),
        back.as_millis(),
        begun.elapsed().as_secs_f64(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_an_account_logs_in_at_the_page() {
    let Some(program) = browser_program() else { return };
    let server = Server::start(Options::new().set("auth.required", true));
    server.run(&["user", "add", "Ada", "--id", "42"], "correct horse");
    let browser = Browser::start(&program).await;
    let tab = browser.open(&format!("http://{}/", server.address)).await;
    let hint = |text: &str| format!("document.querySelector('#password-hint').textContent === {text:?}");
    tab.write("#room", "lobby").await;
    tab.write("#name", "ada").await;
    tab.enter().await;
    tab.until("a login is asked for", &hint("This server asks you to log in.")).await;
    tab.write("#password", "a wrong one").await;
    tab.enter().await;
    tab.until("it is refused", &hint("Name or password is wrong")).await;
    show(&tab, "login").await;
    tab.write("#password", "correct horse").await;
    tab.enter().await;
    tab.until("it is live", "document.querySelector('#state').dataset.state === 'live'").await;
    say(&tab, "in my own name").await;
    tab.until("it is taken", "document.querySelectorAll('#log .bubble').length === 1 && !document.querySelector('#pending li')").await;
    tab.until("it is a member", "document.querySelectorAll('#members-list li').length === 1").await;
    // Until the tab is closed.
    tab.eval("location.reload()").await;
    tab.until("it is live again", "document.querySelector('#state')?.dataset.state === 'live'").await;
    tab.until("what was said is there", "document.querySelectorAll('#log .bubble').length === 1").await;
}

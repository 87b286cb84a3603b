use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::monitor::invented::{Invented, server};

const SECOND: Duration = Duration::from_secs(1);

/// The lines of the screen, without the blanks at their ends.
fn drawn(view: &View, columns: u16, rows: u16, now: Instant) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| view.draw(frame, "14:03:22", now)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..rows).map(row).collect()
}

/// A server under load, one that is not ready and one that is down, watched for two seconds.
fn three(begin: Instant) -> View {
    let named = |url: &str| Server::new(url.to_owned(), begin);
    let mut view = View::new(vec![server(begin), named("ws://127.0.0.1:8081"), named("wss://chat.example")], SECOND);
    for n in 0..3u64 {
        let (at, up) = (begin + n as u32 * SECOND, 7_380 + n);
        let busy = Invented::at(at, up).accepted(n * 12_310).persisted(n * 12_000, n * 60, n * 246_000).figure("deliveries", n * 61_000);
        let busy = (0..30).fold(busy.figure("messagesRefused", n * 3), |busy, room| busy.room(&format!("room-{room:02}"), 10 * room));
        view.observe(0, Ok(busy.node("node-1").node("node-2").sample()));
        view.observe(1, Ok(Invented::at(at, up).broken("store", "chatflow.db: database is locked").sample()));
        view.observe(2, Err((at, "connection refused: nobody listens there".to_owned())));
    }
    view
}

#[test]
fn a_wide_terminal_shows_everything() {
    let begin = Instant::now();
    let lines = drawn(&three(begin), 120, 40, begin + 4 * SECOND);
    let expected = [
        "ChatFlow  1 of 3 ready                                                           every 1 s  14:03:22  ↑↓ choose  q leave",
        "  SERVER              NODE        STATE          IN/S      OUT/S   SAVED/S   WAITING       LAG    COMMIT  REFUSED/S",
        "▸ 127.0.0.1:8080      node-1      ready        12,310     61,000    12,000     4,350  362.5 ms    4.1 ms        3.0",
        "  127.0.0.1:8081      node-1      not ready  for 4 s: store: chatflow.db: database is locked",
        "  wss://chat.example  -           down       for 4 s: connection refused: nobody listens there",
        "── node-1  ws://127.0.0.1:8080  0.1.0  up 2 h 3 min  183.0 MB ──────────────────────────────────────────────────────────",
        "in                  12,310/s  out                 61,000/s  saved               12,000/s  refused              3.0/s 6",
        "connections               64  members                1,280  waiting                4,350  rejected                   -",
        "received                   -  sent                       -  lag                 362.5 ms  commit failures            -",
        "opened                     -  rooms                     20  commit takes          4.1 ms  dead letters               -",
        "acknowledged               -  caught up                  -  rows a commit            200  slow members               -",
        "broadcasts                 -  recent                1.2 MB  commits                 60/s  repeats                    -",
        "✓ broker: in memory, not durable",
        "in/s, most 12,310                                                                                                     ██",
    ];
    assert_eq!(lines[..14], expected, "{}", lines.join("\n"));
    let expected = [
        "── rooms  30, the fullest first ───────────────  ── nodes  2 ───────────────────────────────────────────────────────────",
        "ROOM           WAITING   WRITING       LOG       NODE          STATE       CONNS    MSG/S  VERSION  ROLES",
        "room-29            290       145       546       node-1        up, here       64      310  0.1.0    gateway,history,api",
        "room-28            280       140       536       node-2        draining       64      310  0.1.0    gateway,history,api",
    ];
    assert_eq!(lines[16..20], expected, "{}", lines.join("\n"));
    assert_eq!(lines[39], "and 9 more");
}

#[test]
fn a_narrow_terminal_shows_what_matters_most() {
    let begin = Instant::now();
    let lines = drawn(&three(begin), 60, 20, begin + 4 * SECOND);
    let expected = [
        "ChatFlow  1 of 3 ready  ↑↓ choose  q leave",
        "  SERVER            STATE          IN/S      OUT/S   WAITING",
        "▸ 127.0.0.1:8080    ready        12,310     61,000     4,350",
        "  127.0.0.1:8081    not ready  for 4 s: store: chatflow.db:…",
        "  wss://chat.exam…  down       for 4 s: connection refused:…",
        "── node-1  ws://127.0.0.1:8080  0.1.0  up 2 h 3 min  183.0…",
        "in                  12,310/s  out                 61,000/s",
        "saved               12,000/s  refused              3.0/s 6",
        "connections               64  members                1,280",
        "waiting                4,350  rejected                   -",
        "received                   -  sent                       -",
        "lag                 362.5 ms  commit failures            -",
        "✓ broker: in memory, not durable",
        "── rooms  30, the fullest first ────────────────────────────",
        "ROOM           WAITING   WRITING       LOG",
        "room-29            290       145       546",
        "room-28            280       140       536",
        "room-27            270       135       526",
        "and 27 more",
        "nodes  2: node-1, node-2 draining",
    ];
    assert_eq!(lines, expected, "{}", lines.join("\n"));
}

#[test]
fn the_chosen_server_is_shown_in_detail_also_when_it_is_down() {
    let begin = Instant::now();
    let mut view = three(begin);
    view.choose(1);
    let lines = drawn(&view, 80, 24, begin + 4 * SECOND);
    assert!(lines[3].starts_with("▸ 127.0.0.1:8081"), "{}", lines.join("\n"));
    let place = lines.iter().position(|line| line == "✗ store: chatflow.db: database is locked").expect("what is missing is named");
    assert_eq!(lines[place + 1], "✓ broker: in memory, not durable");
    view.choose(1);
    let lines = drawn(&view, 80, 24, begin + 4 * SECOND);
    assert_eq!(lines[6], "down for 4 s: connection refused: nobody listens there", "{}", lines.join("\n"));
    assert!(lines[7..].iter().all(String::is_empty), "nothing is shown that is not so now");
}

#[test]
fn of_many_servers_the_chosen_one_is_always_seen() {
    let begin = Instant::now();
    let mut view = View::new((1..=50).map(|port| Server::new(format!("ws://h:{port}"), begin)).collect(), SECOND);
    for place in 1..=50 {
        let lines = drawn(&view, 80, 24, begin);
        let seen: Vec<_> = lines.iter().filter(|line| line.starts_with('▸')).collect();
        assert_eq!(seen.len(), 1, "{}", lines.join("\n"));
        assert!(seen[0].starts_with(&format!("▸ h:{place} ")), "{seen:?}");
        view.choose(1);
    }
    assert_eq!(view.chosen(), 0);
}

#[test]
fn no_terminal_is_too_small_or_too_big() {
    let begin = Instant::now();
    let mut view = three(begin);
    for _ in 0..3 {
        for columns in [0, 1, 2, 5, 13, 29, 53, 80, 99, 104, 500] {
            for rows in [0, 1, 2, 3, 5, 8, 13, 24, 30, 200] {
                drawn(&view, columns, rows, begin);
            }
        }
        view.choose(1);
    }
}

//! The fan-out path over real sockets: a server on one core, members on the other.
//!
//! `cargo bench --bench sockets -- [--rooms 20] [--members 50] [--windows 1,16,256] [--seconds 5] [--frame 200] [--store none]
//! [--reference]`
//!
//! It starts the release server (built before: `cargo build --release -p chatflow-server`, or `--server PATH`) pinned to core 0
//! and itself to core 1. One member of each room publishes; message k of a room goes out once every member has received
//! message k − W. A delivery is one broadcast frame read by one member. Reported: deliveries per second, per second of the server's
//! CPU, and the slowest room against the mean.
//!
//! With `--reference` ChatFlow takes turns with the [floor]: a server that only reads and writes. Three rounds of both, and what part
//! of the floor's deliveries per CPU second ChatFlow has, the median of the rounds. `--test` runs the floor alone, for a moment.

mod floor;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

struct Options {
    rooms: usize,
    members: usize,
    windows: Vec<u64>,
    seconds: f64,
    frame: usize,
    store: String,
    server: PathBuf,
    reference: bool,
    test: bool,
    /// To be the floor, not the bench.
    serve: bool,
}

fn options() -> Options {
    let mut options = Options {
        rooms: 20,
        members: 50,
        windows: vec![1, 16, 256],
        seconds: 5.0,
        frame: 200,
        store: "none".into(),
        // Benches and release programs are built into one folder, this one into `deps` in it.
        server: myself().ancestors().nth(2).expect("a folder").join("chatflow-server"),
        reference: false,
        test: false,
        serve: false,
    };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(name) = args.next() {
        match name.as_str() {
            "--reference" => options.reference = true,
            "--test" => (options.test, options.rooms, options.members, options.seconds) = (true, 2, 3, 0.2),
            SERVE => options.serve = true,
            _ => {}
        }
        if ["--reference", "--test", SERVE].contains(&name.as_str()) {
            continue;
        }
        let value = args.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--rooms" => options.rooms = value.parse().expect("a number"),
            "--members" => options.members = value.parse().expect("a number"),
            "--windows" => options.windows = value.split(',').map(|w| w.parse().expect("a number")).collect(),
            "--seconds" => options.seconds = value.parse().expect("a number"),
            "--frame" => options.frame = value.parse().expect("a number"),
            "--store" => options.store = value,
            "--server" => options.server = value.into(),
            _ => panic!("unknown option {name}"),
        }
    }
    options
}

/// Makes this program the floor.
const SERVE: &str = "--serve-the-floor";

fn myself() -> PathBuf {
    std::env::current_exe().expect("this program")
}

/// Who is measured.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    ChatFlow,
    Floor,
}

/// The server, ended when dropped.
struct Server {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(options: &Options, who: Who) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = options.store.replace("sqlite:", &format!("sqlite:{}/", dir.path().display()));
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]);
        match who {
            Who::ChatFlow => {
                command.arg(&options.server).args(["--listen", "127.0.0.1:0", "--store", &store]);
                command.args(["--set", "limits.publish_rate_anonymous=0", "--set", "log.level=error"]);
            }
            Who::Floor => drop(command.arg(myself()).args(["--bench", SERVE, "--frame", &options.frame.to_string()])),
        }
        let started = command.stdout(Stdio::piped()).current_dir(dir.path()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("the server does not start: {error}"));
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = loop {
            let line = lines.next().expect("the server says where it listens").expect("text");
            if let Some(at) = line.find("http://") {
                let rest = &line[at + 7..];
                break rest.split(|c: char| c == '/' || c.is_whitespace()).next().unwrap_or(rest).to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _dir: dir }
    }

    /// Seconds of CPU that the server has used.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the server runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
        ticks / 100.0
    }

    fn resident_kib(&self) -> u64 {
        let mut status = String::new();
        std::fs::File::open(format!("/proc/{}/status", self.child.id())).and_then(|mut f| f.read_to_string(&mut status)).expect("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn join(address: &str, room: usize) -> (OwnedReadHalf, OwnedWriteHalf) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.set_nodelay(true).expect("nodelay");
    let request = format!(
        "GET /chat/{room} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.into_split()
}

/// One masked frame of a message of `len` bytes; the mask is zero, which every server has to take.
fn message(len: usize) -> Vec<u8> {
    let json = |text: &str| {
        format!(r#"{{"userId":"1","username":"bench","message":"{text}","timestamp":"2026-11-20T11:02:10.123Z","messageType":"TEXT"}}"#)
    };
    let text = json(&"x".repeat(len.saturating_sub(json("").len()).max(1)));
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend((text.len() as u16).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

struct Room {
    counts: Vec<u64>,
    least: u64,
    sent: u64,
    writer: OwnedWriteHalf,
    /// The other members' writing sides: dropping one would close it.
    _silent: Vec<OwnedWriteHalf>,
    /// What the socket did not take.
    unsent: VecDeque<u8>,
}

impl Room {
    fn received(&mut self, member: usize, frames: u64) {
        let before = self.counts[member];
        self.counts[member] += frames;
        if before == self.least {
            self.least = self.counts.iter().copied().min().unwrap_or_default();
        }
    }

    /// Sends what the window allows.
    fn publish(&mut self, window: u64, frame: &[u8]) {
        let n = (self.least + window).saturating_sub(self.sent);
        self.sent += n;
        for _ in 0..n {
            self.unsent.extend(frame);
        }
        while !self.unsent.is_empty() {
            match self.writer.try_write(self.unsent.as_slices().0) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(_) => break,
            }
        }
    }
}

/// Counts the broadcast frames that came in, hopping from header to header.
async fn read_member(mut reader: OwnedReadHalf, member: usize, room: Rc<RefCell<Room>>, window: Rc<RefCell<u64>>, frame: Rc<Vec<u8>>) {
    let mut buffer = vec![0u8; 256 << 10];
    let mut filled = 0;
    loop {
        match reader.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(n) => filled += n,
        }
        let (mut at, mut frames) = (0, 0);
        while filled - at >= 10 {
            let head = &buffer[at..filled];
            let (header, len) = match head[1] {
                126 => (4, usize::from(u16::from_be_bytes([head[2], head[3]]))),
                127 => panic!("no frame is that long"),
                len => (2, usize::from(len)),
            };
            if head.len() < header + len {
                break;
            }
            // `{"messageId"` begins a broadcast, `{"status"` an answer.
            frames += u64::from(head[0] == 0x81 && head[header + 2] == b'm');
            at += header + len;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        let mut room = room.borrow_mut();
        room.received(member, frames);
        let window = *window.borrow();
        room.publish(window, &frame);
    }
}

/// What a run came to.
struct Outcome {
    per_second: f64,
    per_cpu_second: f64,
    /// The slowest room's deliveries against the mean.
    slowest: f64,
    resident_kib: u64,
}

/// Rooms full of members that keep `w` messages on their way.
async fn run(options: &Options, who: Who, w: u64) -> Outcome {
    let frame = Rc::new(message(options.frame));
    let server = Server::start(options, who);
    let window = Rc::new(RefCell::new(0));
    let mut rooms = Vec::new();
    let mut tasks = Vec::new();
    for r in 0..options.rooms {
        let (mut readers, mut writers) = (Vec::new(), Vec::new());
        for _ in 0..options.members {
            let (reader, writer) = join(&server.address, r + 1).await;
            readers.push(reader);
            writers.push(writer);
        }
        rooms.push((readers, writers));
    }
    let rooms: Vec<_> = rooms
        .into_iter()
        .map(|(readers, mut writers)| {
            let writer = writers.swap_remove(0);
            let room = Room { counts: vec![0; readers.len()], least: 0, sent: 0, writer, _silent: writers, unsent: VecDeque::new() };
            let room = Rc::new(RefCell::new(room));
            for (member, reader) in readers.into_iter().enumerate() {
                let reading = read_member(reader, member, Rc::clone(&room), Rc::clone(&window), Rc::clone(&frame));
                tasks.push(tokio::task::spawn_local(reading));
            }
            room
        })
        .collect();
    *window.borrow_mut() = w;
    for room in &rooms {
        room.borrow_mut().publish(w, &frame);
    }
    let count = |room: &Rc<RefCell<Room>>| room.borrow().counts.iter().sum::<u64>();
    // The first moments belong to caches and buffers.
    tokio::time::sleep(Duration::from_secs_f64(options.seconds.min(1.0))).await;
    let before: Vec<u64> = rooms.iter().map(count).collect();
    let (start, cpu) = (Instant::now(), server.cpu());
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), server.cpu() - cpu);
    let done: Vec<u64> = rooms.iter().zip(&before).map(|(room, before)| count(room) - before).collect();
    tasks.iter().for_each(|task| task.abort());
    let total = done.iter().sum::<u64>() as f64;
    let slowest = *done.iter().min().expect("rooms") as f64 / (total / done.len() as f64);
    Outcome { per_second: total / elapsed, per_cpu_second: total / cpu, slowest, resident_kib: server.resident_kib() }
}

async fn measure(options: &Options) {
    let bytes = message(options.frame).len() - 8;
    println!("{} rooms × {} members, frames of {bytes} bytes, --store {}", options.rooms, options.members, options.store);
    println!(
        "{:>8} {:>8} {:>14} {:>22} {:>14} {:>12}",
        "window", "", "deliveries/s", "per server-CPU-second", "slowest room", "server RSS"
    );
    for &w in &options.windows {
        let show = |name: &str, outcome: &Outcome| {
            let Outcome { per_second, per_cpu_second, slowest, resident_kib } = outcome;
            println!("{w:>8} {name:>8} {per_second:>14.0} {per_cpu_second:>22.0} {:>13.1}% {resident_kib:>8} KiB", slowest * 100.0);
        };
        if options.test {
            let floor = run(options, Who::Floor, w).await;
            assert!(floor.per_second > 0.0, "nothing was delivered");
            show("floor", &floor);
            continue;
        }
        let mut ratios = Vec::new();
        for _ in 0..if options.reference { 3 } else { 1 } {
            let chatflow = run(options, Who::ChatFlow, w).await;
            show("ChatFlow", &chatflow);
            if options.reference {
                let floor = run(options, Who::Floor, w).await;
                show("floor", &floor);
                ratios.push(chatflow.per_cpu_second / floor.per_cpu_second);
            }
        }
        ratios.sort_by(f64::total_cmp);
        if let [_, median, _] = ratios[..] {
            println!("{w:>8} ChatFlow has {:.0}% of the floor's deliveries per CPU second", median * 100.0);
        }
    }
}

fn main() {
    // `cargo test` builds every bench and starts it without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return println!("measured by cargo bench --bench sockets");
    }
    let options = options();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    if options.serve {
        return local.block_on(&runtime, floor::serve(&message(options.frame)));
    }
    if !options.test && !options.server.exists() {
        return println!("sockets: not measured, {} is not there: cargo build --release -p chatflow-server", options.server.display());
    }
    // This process's one thread goes to core 1, away from the server's.
    let _ = Command::new("taskset").args(["-cp", "1", &std::process::id().to_string()]).stdout(Stdio::null()).status();
    local.block_on(&runtime, measure(&options));
}

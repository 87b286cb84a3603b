//! Reading the whole history back, and holding it against what members were shown.

use std::time::{Duration, Instant};

use chatflow_core::Position;
use http_body_util::{BodyExt, Empty};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

use super::frame::Frame;
use super::ledger::{Places, Reader};
use super::run::Run;
use super::violation::Kind;

/// Messages of one page: the most that the API gives.
const PAGE: usize = 1_000;
/// How long a response may take.
const RESPONSE: Duration = Duration::from_secs(10);
/// Pause before a page is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// How the comparison went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// So many messages were read and compared.
    Compared(u64),
    /// It was not compared: why.
    Skipped(String),
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    messages: Vec<Frame<'a>>,
    next: Option<Position>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
}

enum Fetched {
    Body(Bytes),
    NotKept,
}

/// The way through one room's history beside the sequence that its members saw.
#[derive(Default)]
struct Walk {
    /// How far along the members' sequence.
    at: usize,
    last: Option<Position>,
    places: Places,
    /// In the members' sequence, and passed over by the history so far: position and number.
    missing: Vec<(Position, u32)>,
    read: u64,
}

/// Compares every room's history, from where it stood before the run.
pub(super) async fn check(run: &Run) -> Verdict {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let mut read = 0;
    for room in 0..run.setup.rooms {
        let Some(start) = run.baseline.lock()[room as usize] else {
            return Verdict::Skipped(format!("where room {} stood before the run is not known", room + 1));
        };
        match check_room(run, &client, room, start).await {
            Ok(Some(count)) => read += count,
            Ok(None) => return Verdict::Skipped("not kept".into()),
            Err(why) => {
                run.violations.add(Kind::HistoryUnreadable, || format!("room {}: {why}", room + 1));
                return Verdict::Skipped("unreadable".into());
            }
        }
    }
    Verdict::Compared(read)
}

async fn check_room(run: &Run, client: &Client<HttpConnector, Empty<Bytes>>, room: u32, start: Position) -> Result<Option<u64>, String> {
    let target = run.ledger.with_sequence(room, |sequence, answers| {
        let shown = sequence.last().map(|e| e.seen.position);
        shown.max(answers.iter().filter_map(|a| a.position).max())
    });
    let mut walk = Walk::default();
    let mut reader = Reader::default();
    let mut after = start;
    let mut progress = Instant::now();
    loop {
        let path = format!("/api/v1/rooms/{}/messages?limit={PAGE}&after={after}", room + 1);
        let Fetched::Body(body) = fetch(run, client, &path).await? else { return Ok(None) };
        let page: Page<'_> = serde_json::from_slice(&body).map_err(|e| format!("{path}: {e}"))?;
        if let Some(last) = page.messages.iter().filter_map(|m| m.position).max() {
            after = after.max(last);
            progress = Instant::now();
        }
        for message in &page.messages {
            walk.step(run, &mut reader, room, message);
        }
        if run.setup.shared && target.is_none_or(|target| after >= target) {
            break;
        }
        match page.next {
            Some(next) if page.messages.is_empty() && next <= after => return Err(format!("{path}: a page that leads nowhere")),
            Some(next) => after = after.max(next),
            // The writer may be a moment behind.
            None if target.is_some_and(|target| target > after) && progress.elapsed() < run.setup.patience => {
                tokio::time::sleep(PAUSE).await
            }
            None => break,
        }
    }
    walk.conclude(run, room);
    Ok(Some(walk.read))
}

/// A page, asked for again for a while at the next server if it fails.
async fn fetch(run: &Run, client: &Client<HttpConnector, Empty<Bytes>>, path: &str) -> Result<Fetched, String> {
    let begin = Instant::now();
    let mut server = 0;
    loop {
        let target = &run.setup.targets[server % run.setup.targets.len()];
        let why = match get(client, &target.http(path)).await {
            Ok((StatusCode::OK, body)) => return Ok(Fetched::Body(body)),
            Ok((status, body)) => {
                let problem = serde_json::from_slice(&body).unwrap_or(Problem { code: String::new() });
                if matches!(status, StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED) || problem.code == "no_history" {
                    return Ok(Fetched::NotKept);
                }
                format!("{path}: {status} {}", problem.code)
            }
            Err(why) => format!("{path}: {why}"),
        };
        if begin.elapsed() > run.setup.patience {
            return Err(why);
        }
        server += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn get(client: &Client<HttpConnector, Empty<Bytes>>, url: &str) -> Result<(StatusCode, Bytes), String> {
    let url = url.parse().map_err(|e| format!("{e}"))?;
    let request = async {
        let response = client.get(url).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|e| e.to_string())?;
        Ok((status, body.to_bytes()))
    };
    tokio::time::timeout(RESPONSE, request).await.unwrap_or_else(|_| Err("no response within 10 s".into()))
}

impl Walk {
    /// The next message of the history.
    fn step(&mut self, run: &Run, reader: &mut Reader, room: u32, message: &Frame<'_>) {
        self.read += 1;
        let violations = &run.violations;
        let (Some(id), Some(position)) = (message.message_id, message.position) else {
            return violations.add(Kind::HistoryUnreadable, || format!("room {}: a message without messageId or position", room + 1));
        };
        let place = || format!("room {}: the history has {id} at {position}", room + 1);
        let (content, number) = match run.ledger.check_history(run.truth(), reader, room, message, id) {
            Ok((content, number)) => (Some(content), number),
            Err((kind, number, why)) => {
                let kind = if kind == Kind::Altered { Kind::HistoryDifferent } else { kind };
                violations.add(kind, || format!("{}: {why}", place()));
                (None, number)
            }
        };
        if let Some(number) = number {
            if let Some(first) = self.places.get(&number) {
                return violations.add(Kind::HistoryRepeated, || format!("{}, and at {first}", place()));
            }
            self.places.insert(number, position);
        }
        if let Some(last) = self.last.filter(|last| *last >= position) {
            violations.add(Kind::HistoryOutOfOrder, || format!("{} after {last}", place()));
            self.missing.retain(|(p, _)| *p != position);
            return;
        }
        self.last = Some(position);
        run.ledger.with_sequence(room, |sequence, _| {
            while let Some(entry) = sequence.get(self.at).filter(|e| e.seen.position < position) {
                self.missing.push((entry.seen.position, entry.number));
                self.at += 1;
            }
            match sequence.get(self.at).filter(|e| e.seen.position == position) {
                Some(entry) => {
                    self.at += 1;
                    if entry.seen.id != id {
                        violations.add(Kind::HistoryDifferent, || format!("{}, where members were shown {}", place(), entry.seen.id));
                    } else if content.is_some_and(|content| content != entry.seen.content) && !entry.suspect {
                        violations.add(Kind::HistoryDifferent, || format!("{}, in other words than members were shown", place()));
                    }
                }
                // In a shared room others go on after the listeners have left.
                None if run.setup.listeners > 0 && (number.is_some() || !run.setup.shared || self.at < sequence.len()) => {
                    violations.add(Kind::HistoryUnseen, || format!("{}, which no listener was shown", place()))
                }
                None => {}
            }
        });
    }

    /// The history has come to its end.
    fn conclude(&mut self, run: &Run, room: u32) {
        let violations = &run.violations;
        run.ledger.with_sequence(room, |sequence, answers| {
            self.missing.extend(sequence[self.at..].iter().map(|e| (e.seen.position, e.number)));
            // What stands elsewhere in the history was noted there.
            self.missing.retain(|(_, number)| !self.places.contains_key(number));
            for (position, number) in &self.missing {
                let answered = if run.sent.answered(*number) { "acknowledged and " } else { "" };
                let detail =
                    || format!("room {}: the history has nothing at {position}, where members were {answered}shown a message", room + 1);
                violations.add(Kind::HistoryMissing, detail);
            }
            let shown: std::collections::HashSet<u32> = self.missing.iter().map(|(_, number)| *number).collect();
            for answer in answers {
                let id = || run.plan.id(answer.number, run.sent.made_ms(answer.number).unwrap_or_default());
                match (self.places.get(&answer.number), answer.position) {
                    (None, _) if !shown.contains(&answer.number) => {
                        violations.add(Kind::HistoryMissing, || {
                            format!("room {}: {} was acknowledged and is not in the history", room + 1, id())
                        });
                    }
                    (Some(place), Some(position)) if *place != position => {
                        let detail =
                            || format!("room {}: {} was answered with {position} and is in the history at {place}", room + 1, id());
                        violations.add(Kind::WrongPosition, detail);
                    }
                    _ => {}
                }
            }
        });
    }
}

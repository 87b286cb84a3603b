//! The reference server: rooms in memory, both dialects, the history over HTTP; correct unless a [`Fault`] is asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};

/// How the server is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answers early and loses the message.
    Lose,
    /// Doesn't show one member a message.
    Drop,
    /// Shows one member two messages in swapped order.
    Swap,
    /// Shows one member a message twice.
    Repeat,
    /// Gives a repeated id a second position.
    Duplicate,
    /// Shows everybody another text than was sent.
    Alter,
    /// Shows one member another text than the others.
    AlterForOne,
    /// Gives two messages the same position.
    ReusePosition,
    /// Answers with another position than it shows.
    WrongAnswer,
    /// Shows a message that nobody sent.
    Invent,
    /// Swaps two neighbours in the history, with their positions.
    HistorySwap,
    /// Swaps what two neighbours say in the history, positions apart.
    HistorySwapCommits,
    /// Has a message twice in the history.
    HistoryRepeat,
    /// Doesn't have a message in the history.
    HistoryDrop,
    /// Has another text in the history.
    HistoryAlter,
    /// Shows a connection's messages in another order than they were sent.
    SenderOrder,
}

/// What the server is like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behaviour {
    /// Wrong with every so many-th message.
    pub(crate) fault: Option<(Fault, u64)>,
    /// Cuts a connection with every so many-th message: its sender's before or after taking it, or a listener's.
    pub(crate) cut_every: Option<u64>,
    /// Refuses every so many-th message once, retryably.
    pub(crate) refuse_every: Option<u64>,
    /// Can't go on after a position: says so, as the dialect has it.
    pub(crate) forgets: bool,
    /// Answers, and shows nobody anything.
    pub(crate) answers_only: bool,
    /// Keeps no history.
    pub(crate) no_history: bool,
}

enum Out {
    Frame(Utf8Bytes),
    Cut,
    PositionLost,
}

struct Member {
    connection: u64,
    listener: bool,
    out: mpsc::UnboundedSender<Out>,
    /// Held back by [`Fault::Swap`].
    held: Option<Utf8Bytes>,
}

#[derive(Default)]
struct Room {
    /// Broadcasts and their offsets, in order.
    log: Vec<(u64, Utf8Bytes)>,
    ids: HashMap<String, u64>,
    members: Vec<Member>,
    /// Held back by [`Fault::SenderOrder`].
    held: Option<Value>,
}

#[derive(Default)]
struct State {
    rooms: HashMap<String, Room>,
    connections: u64,
    messages: u64,
    offset: u64,
    /// Who came: at which node, into which room; listeners into none.
    came: Vec<(usize, Option<String>)>,
}

/// A running reference server, or several nodes of one; it ends with the test's runtime.
pub(crate) struct Reference {
    pub(crate) addresses: Vec<SocketAddr>,
    state: Arc<Mutex<State>>,
}

impl Reference {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        Self::several(1, behaviour).await
    }

    pub(crate) async fn several(nodes: usize, behaviour: Behaviour) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let mut addresses = Vec::new();
        for node in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let shared = Arc::clone(&state);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&shared), behaviour, node));
                }
            });
        }
        Self { addresses, state }
    }

    /// Who came: at which node, into which room; listeners into none.
    pub(crate) fn came(&self) -> Vec<(usize, Option<String>)> {
        self.state.lock().unwrap().came.clone()
    }

    /// How many messages have come so far.
    pub(crate) fn messages(&self) -> u64 {
        self.state.lock().unwrap().messages
    }

    pub(crate) fn url(&self) -> String {
        self.addresses.iter().map(|address| format!("ws://{address}")).collect::<Vec<_>>().join(",")
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>, behaviour: Behaviour, node: usize) {
    let mut head = [0; 16];
    while stream.peek(&mut head).await.is_ok_and(|n| n > 0 && n < head.len()) {
        tokio::task::yield_now().await;
    }
    match head.starts_with(b"GET /chat") {
        true => chat(stream, state, behaviour, node).await,
        false => history(stream, state, behaviour).await,
    }
}

#[allow(clippy::result_large_err, reason = "the library's callback type")]
async fn chat(stream: TcpStream, state: Arc<Mutex<State>>, behaviour: Behaviour, node: usize) {
    let _ = stream.set_nodelay(true);
    let mut path = String::new();
    let mut v1 = false;
    let look = |request: &Request, mut response: Response| {
        path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        v1 = request.headers().contains_key("sec-websocket-protocol");
        if v1 {
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chatflow.v1"));
        }
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, look).await else { return };
    let (mut sink, mut source) = socket.split();
    let (out, mut queue) = mpsc::unbounded_channel();
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let own_room = path.strip_prefix("/chat/").map(str::to_owned);
    let connection = {
        let mut state = state.lock().unwrap();
        state.connections += 1;
        state.came.push((node, own_room.clone()));
        let connection = state.connections;
        if let Some(room) = &own_room
            && !query.contains("deliver=none")
        {
            let after = query.split('&').find_map(|q| q.strip_prefix("after=")).map(offset);
            match after {
                Some(_) if behaviour.forgets => drop(out.send(Out::PositionLost)),
                _ => state.join(connection, room, None, after, &out),
            }
        }
        connection
    };
    loop {
        tokio::select! {
            frame = source.next() => match frame {
                Some(Ok(Frame::Text(text))) => {
                    let answer = state.lock().unwrap().take(&text, connection, own_room.as_deref(), &out, behaviour);
                    match answer {
                        Ok(Some(answer)) => drop(out.send(Out::Frame(answer_text(answer).into()))),
                        Ok(None) => {}
                        Err(Cut) => break,
                    }
                }
                Some(Ok(Frame::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            next = queue.recv() => {
                let mut next = next;
                while let Some(Out::Frame(text)) = &next {
                    if sink.feed(Frame::Text(text.clone())).await.is_err() { break }
                    next = queue.try_recv().ok();
                }
                if matches!(next, Some(Out::PositionLost)) {
                    let lost = CloseFrame { code: 3010.into(), reason: "position lost".into() };
                    let _ = sink.send(Frame::Close(Some(lost))).await;
                    break;
                }
                if matches!(next, Some(Out::Cut)) || sink.flush().await.is_err() { break }
            }
        }
    }
    state.lock().unwrap().rooms.values_mut().for_each(|r| r.members.retain(|m| m.connection != connection));
}

struct Cut;

/// The status first, as in the real server; half of the time elsewhere, as in the older ones.
fn answer_text(mut answer: Value) -> String {
    let status_first = answer["messageId"].as_str().is_some_and(|id| id.bytes().next_back().is_some_and(|b| b % 2 == 0));
    let Some(status) = answer.as_object_mut().filter(|_| status_first).and_then(|fields| fields.remove("status")) else {
        return answer.to_string();
    };
    answer.to_string().replacen('{', &format!(r#"{{"status":{status},"#), 1)
}

fn offset(position: &str) -> u64 {
    position.rsplit(':').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

impl State {
    fn join(&mut self, connection: u64, room: &str, recovered: Option<bool>, after: Option<u64>, out: &mpsc::UnboundedSender<Out>) {
        let head = self.offset;
        let room_log = self.rooms.entry(room.to_owned()).or_default();
        if let Some(recovered) = recovered {
            let position = format!("1:{}", after.unwrap_or(head));
            // The key that tells an event comes first, as in the real server.
            let text = format!(
                r#"{{"event":"welcome","session":"s","roomId":"{room}","position":"{position}","recovered":{recovered},"durable":false}}"#
            );
            let _ = out.send(Out::Frame(text.into()));
        }
        if let Some(after) = after {
            let from = room_log.log.partition_point(|(offset, _)| *offset <= after);
            for (_, text) in &room_log.log[from..] {
                let _ = out.send(Out::Frame(text.clone()));
            }
        }
        room_log.members.push(Member { connection, listener: recovered.is_some(), out: out.clone(), held: None });
    }

    fn take(
        &mut self,
        text: &str,
        connection: u64,
        own_room: Option<&str>,
        out: &mpsc::UnboundedSender<Out>,
        behaviour: Behaviour,
    ) -> Result<Option<Value>, Cut> {
        let message: Value = serde_json::from_str(text).unwrap();
        if message["op"] == "join" {
            let after = message["after"].as_str().map(offset).filter(|_| !behaviour.forgets);
            let recovered = after.is_some() == message["after"].is_string();
            self.join(connection, message["roomId"].as_str().unwrap(), Some(recovered), after, out);
            return Ok(None);
        }
        let room = own_room.unwrap();
        let id = message["messageId"].as_str().unwrap().to_owned();
        self.messages += 1;
        let hits = |every: Option<u64>| every.is_some_and(|n| self.messages.is_multiple_of(n));
        let (cut, refuse) = (hits(behaviour.cut_every), hits(behaviour.refuse_every));
        let fault = behaviour.fault.filter(|(_, n)| self.messages.is_multiple_of(*n)).map(|(fault, _)| fault);
        let kind_of_cut = self.messages / behaviour.cut_every.unwrap_or(1) % 3;
        if refuse {
            return Ok(Some(
                json!({"status": "error", "code": "overloaded", "errors": ["full"], "messageId": id, "retryable": true, "retryAfterMs": 20}),
            ));
        }
        if cut && kind_of_cut == 0 {
            return Err(Cut);
        }
        let log = self.rooms.entry(room.to_owned()).or_default();
        let answer = |offset: u64| json!({"status": "SUCCESS", "messageId": id, "roomId": room, "position": format!("1:{offset}")});
        if let Some(first) = log.ids.get(&id) {
            return Ok(Some(answer(*first)));
        }
        if fault == Some(Fault::Lose) {
            return Ok(Some(answer(self.offset + 1)));
        }
        self.offset += 1;
        let mut offset = self.offset;
        if fault == Some(Fault::ReusePosition) {
            offset = log.log.last().map_or(offset, |(last, _)| *last);
        }
        log.ids.insert(id.clone(), offset);
        if cut && kind_of_cut == 2 {
            for member in log.members.iter().filter(|m| m.listener).take(1) {
                let _ = member.out.send(Out::Cut);
            }
        }
        let mut wrong_answer = offset;
        match fault {
            Some(Fault::SenderOrder) if log.held.is_none() => {
                // Acknowledged now; shown, and given its place, only after the next one.
                log.held = Some(message);
                return Ok(None);
            }
            Some(Fault::Invent) => {
                let mut invented = message.clone();
                invented["messageId"] = "01890000-0000-7000-8000-00000000abcd".into();
                log.publish(room, &invented, offset, None);
                self.offset += 1;
                offset = self.offset;
                wrong_answer = offset;
            }
            Some(Fault::WrongAnswer) => wrong_answer += 1_000_000,
            _ => {}
        }
        if behaviour.answers_only {
            return Ok(Some(answer(offset)));
        }
        log.publish(room, &message, offset, fault);
        if fault == Some(Fault::Duplicate) {
            self.offset += 1;
            log.publish(room, &message, self.offset, None);
        }
        if let Some(held) = log.held.take_if(|held| held["messageId"] != id) {
            self.offset += 1;
            log.publish(room, &held, self.offset, None);
            let late =
                json!({"status": "SUCCESS", "messageId": held["messageId"], "roomId": room, "position": format!("1:{}", self.offset)});
            let _ = out.send(Out::Frame(late.to_string().into()));
        }
        if cut && kind_of_cut == 1 {
            return Err(Cut);
        }
        Ok(Some(answer(wrong_answer)))
    }
}

impl Room {
    fn publish(&mut self, room: &str, message: &Value, offset: u64, fault: Option<Fault>) {
        let mut shown = message.clone();
        shown["roomId"] = room.into();
        shown["position"] = format!("1:{offset}").into();
        shown["serverTimestamp"] = format!("2026-11-20T11:02:10.{:03}Z", offset % 1000).into();
        if fault == Some(Fault::Alter) {
            shown["message"] = "something else".into();
        }
        let text: Utf8Bytes = shown.to_string().into();
        let odd_one = self.members.iter().position(|m| m.listener);
        for (at, member) in self.members.iter_mut().enumerate() {
            let send = |member: &Member, text: &Utf8Bytes| drop(member.out.send(Out::Frame(text.clone())));
            let fault = fault.filter(|_| Some(at) == odd_one);
            match fault {
                Some(Fault::Drop) => continue,
                Some(Fault::Swap) => {
                    member.held = Some(text.clone());
                    continue;
                }
                Some(Fault::AlterForOne) => {
                    let mut altered = shown.clone();
                    altered["message"] = "something else".into();
                    send(member, &altered.to_string().into());
                }
                Some(Fault::Repeat) => {
                    send(member, &text);
                    send(member, &text);
                }
                _ => send(member, &text),
            }
            if let Some(held) = member.held.take() {
                send(member, &held);
            }
        }
        self.log.push((offset, text));
    }
}

/// One request, one response, and that is all.
async fn history(mut stream: TcpStream, state: Arc<Mutex<State>>, behaviour: Behaviour) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8_lossy(&request);
    let target = request.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let after = query.split('&').find_map(|q| q.strip_prefix("after=")).map_or(0, offset);
    let limit: usize = query.split('&').find_map(|q| q.strip_prefix("limit=")?.parse().ok()).unwrap_or(100);
    let room = path.split('/').nth(4).unwrap_or_default();
    let (status, body) = match behaviour.no_history {
        true => ("404 Not Found", json!({"code": "no_history"}).to_string()),
        false => ("200 OK", page(&state.lock().unwrap(), room, after, limit, behaviour)),
    };
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

fn page(state: &State, room: &str, after: u64, limit: usize, behaviour: Behaviour) -> String {
    let log = state.rooms.get(room).map_or(&[][..], |r| &r.log);
    let from = log.partition_point(|(offset, _)| *offset <= after);
    let mut texts: Vec<&str> = log[from..].iter().take(limit).map(|(_, text)| text.as_str()).collect();
    let more = log.len() > from + limit;
    let next = log.get(from + limit - 1).filter(|_| more).map(|(offset, _)| format!("1:{offset}"));
    let mut rewritten = [String::new(), String::new()];
    if let Some((fault, _)) = behaviour.fault.filter(|_| texts.len() > 4) {
        let json = |at: usize| -> Value { serde_json::from_str(texts[at]).unwrap() };
        let [mut a, mut b] = [json(2), json(3)];
        match fault {
            Fault::HistorySwap => texts.swap(2, 3),
            Fault::HistoryRepeat => texts.insert(2, texts[2]),
            Fault::HistoryDrop => drop(texts.remove(2)),
            Fault::HistoryAlter => {
                a["message"] = "something else".into();
                rewritten[0] = a.to_string();
                texts[2] = &rewritten[0];
            }
            Fault::HistorySwapCommits => {
                let swapped = a["position"].take();
                a["position"] = b["position"].take();
                b["position"] = swapped;
                rewritten = [b.to_string(), a.to_string()];
                texts[2] = &rewritten[0];
                texts[3] = &rewritten[1];
            }
            _ => {}
        }
    }
    format!(r#"{{"messages":[{}],"next":{}}}"#, texts.join(","), json!(next))
}

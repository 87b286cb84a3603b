//! The suite for [`RoomRegistry`]s.

mod sink;

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use self::sink::Sink;
use crate::broker::Delivered;
use crate::protocol::{Dialect, MemberInfo};
use crate::registry::{Encoder, Member, NotThere, Outlet, Pressure, RoomRegistry, Start};
use crate::{LogId, Message, MessageId, Position, RoomId, Timestamp, kind};

/// A registry to be tested, made anew for each case.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The registry; it has at least one log.
    pub registry: Arc<dyn RoomRegistry>,
    /// Messages that may wait for a member; the policy is to disconnect.
    pub slow_messages: usize,
    /// Messages that stay in memory for members that come back.
    pub recent_messages: usize,
}

/// Makes a test of every case: `registry_suite!(local, async { Subject { … } })`.
#[macro_export]
macro_rules! registry_suite {
    ($name:ident, $subject:expr) => {
        mod $name {
            use super::*;
            $crate::registry_suite!(@cases $subject,
                g1_a_slow_member_costs_the_others_nothing, g2_frames_come_in_order_each_once, g2_a_socket_that_takes_little_gets_the_same_bytes,
                g2_own_messages_are_passed_over_when_asked, g3_joining_after_a_position_continues_there, g3_what_is_not_in_memory_is_said,
                g3_what_came_before_the_node_began_is_not_in_memory, g3_the_last_messages_first, g4_a_member_that_waits_for_too_much_is_closed, g5_rooms_are_served_alike,
                g6_what_the_history_has_goes_though_nothing_more_comes,
                members_and_rooms_are_told, a_gap_in_the_log_sends_members_off);
        }
    };
    (@cases $subject:expr, $($case:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::registry::$case($subject.await).await;
            }
        )*
    };
}

const PATIENCE: Duration = Duration::from_secs(30);

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A frame is the message's body.
struct Bodies;

impl Encoder for Bodies {
    fn encode(&self, entry: &Delivered, out: &mut BytesMut) -> Option<u64> {
        let message = Message::decode(entry.bytes.clone()).ok()?;
        crate::protocol::put_text_frame(out, |out| out.put_slice(&message.body));
        Some(message.session)
    }
}

const LOG: LogId = LogId(0);

/// A log that is fed into the registry by hand.
struct Feed {
    registry: Arc<dyn RoomRegistry>,
    next: u128,
    /// How far the history is.
    history: Position,
}

impl Feed {
    fn new(subject: &Subject) -> Self {
        Self::after(subject, 0, Position::MAX)
    }

    /// One that begins after the entry at `offset`.
    fn after(subject: &Subject, offset: u128, history: Position) -> Self {
        subject.registry.begin(LOG, Position::new(1, offset));
        Self { registry: Arc::clone(&subject.registry), next: offset + 1, history }
    }

    fn entry(&mut self, room: &str, text: &str, session: u64) -> Delivered {
        let message = Message {
            id: MessageId::now_v7(),
            room: room_id(room),
            sender: "1".into(),
            kind: kind::TEXT,
            body: text.to_owned().into(),
            digest: 0,
            at: Timestamp(0),
            node: "n".into(),
            session,
            origin: "".into(),
        };
        self.next += 1;
        Delivered { position: Position::new(1, self.next - 1), bytes: message.encode() }
    }

    fn advance(&self, entries: Vec<Delivered>) {
        let through = Position::new(1, self.next - 1);
        self.registry.advance(LOG, &mut entries.into_iter(), through, self.history, &Bodies);
    }

    fn say(&mut self, room: &str, text: &str) -> Position {
        let entry = self.entry(room, text, 0);
        let position = entry.position;
        self.advance(vec![entry]);
        position
    }

    fn say_many(&mut self, room: &str, n: usize) -> Vec<String> {
        let texts: Vec<String> = (0..n).map(|i| format!("{room}:{i}:{}", "x".repeat(i % 200))).collect();
        texts.iter().for_each(|text| {
            self.say(room, text);
        });
        texts
    }
}

fn room_id(name: &str) -> RoomId {
    RoomId::new(name).expect("a valid name")
}

/// A member of `room` that writes to `sink`, not joined yet.
fn member(subject: &Subject, session: u64, room: &str, sink: &Sink, others_only: bool) -> Arc<Member> {
    let outlet = Outlet::new(session, Dialect::Plain, Box::new(sink.clone()), Arc::clone(subject.registry.fanout()));
    let who = MemberInfo { session: session.to_string(), user_id: None, username: None, node: None };
    Member::new(room_id(room), LOG, outlet, Dialect::Plain, others_only, who)
}

fn join(subject: &Subject, member: &Arc<Member>, start: Start) -> Result<Position, NotThere> {
    let mut at = None;
    subject.registry.join(member, start, &Bodies, &mut |position| at = Some(position))?;
    Ok(at.expect("told where it stands"))
}

fn present(subject: &Subject, session: u64, room: &str, sink: &Sink) -> Arc<Member> {
    let member = member(subject, session, room, sink, false);
    join(subject, &member, Start::Present).expect("joined");
    member
}

/// Guarantee 1.
pub async fn g1_a_slow_member_costs_the_others_nothing(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let (stuck, free) = (Sink::taking(10, usize::MAX), Sink::open());
    let _slow = present(&subject, 1, "a", &stuck);
    let _quick = present(&subject, 2, "a", &free);
    let texts = feed.say_many("a", 10 * subject.slow_messages);
    free.has(&texts).await;
    assert!(stuck.writes() <= 2, "a full socket is left alone");
}

/// Guarantee 2.
pub async fn g2_frames_come_in_order_each_once(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let sinks: Vec<_> = (0..300).map(|_| Sink::open()).collect();
    let _members: Vec<_> = sinks.iter().zip(1..).map(|(sink, session)| present(&subject, session, "a", sink)).collect();
    let texts = feed.say_many("a", 500);
    for sink in &sinks {
        sink.has(&texts).await;
    }
}

/// Guarantee 2: whatever the socket takes at once, whenever it is full.
pub async fn g2_a_socket_that_takes_little_gets_the_same_bytes(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let sinks: Vec<_> = (1..40).map(|bite| Sink::taking(0, bite)).collect();
    let members: Vec<_> = sinks.iter().zip(1..).map(|(sink, session)| present(&subject, session, "a", sink)).collect();
    let n = subject.slow_messages / 2;
    let texts = feed.say_many("a", n);
    // Answers of the connection's own come in between, at frame boundaries.
    for member in &members {
        member.outlet.push_text(|out| out.put_slice(b"answer"));
    }
    for round in 0.. {
        for (i, sink) in sinks.iter().enumerate() {
            sink.allow(1 + (round * 7 + i * 13) % 301);
        }
        tokio::task::yield_now().await;
        if sinks.iter().all(|sink| sink.frames().len() > n) {
            break;
        }
        assert!(round < 1_000_000, "every socket gets everything");
    }
    for sink in &sinks {
        let (answers, frames): (Vec<_>, Vec<_>) = sink.frames().into_iter().partition(|frame| frame == "answer");
        assert_eq!((answers.len(), &frames), (1, &texts));
    }
}

/// Guarantee 2, for members that asked for the others' messages only.
pub async fn g2_own_messages_are_passed_over_when_asked(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let (sink, all) = (Sink::taking(0, 33), Sink::open());
    let picky = member(&subject, 1, "a", &sink, true);
    join(&subject, &picky, Start::Present).expect("joined");
    let _other = present(&subject, 2, "a", &all);
    let (mut texts, mut wanted) = (Vec::new(), Vec::new());
    for i in 0..subject.slow_messages / 2 {
        let session = [1, 2, 1, 1, 0, 2][i % 6];
        let text = format!("{session} said {i}");
        let entry = feed.entry("a", &text, session);
        feed.advance(vec![entry]);
        if session != 1 {
            wanted.push(text.clone());
        }
        texts.push(text);
        sink.allow(20);
    }
    sink.allow(usize::MAX);
    sink.has(&wanted).await;
    all.has(&texts).await;
}

/// Guarantee 3.
pub async fn g3_joining_after_a_position_continues_there(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let _keeps_the_room = present(&subject, 1, "a", &Sink::open());
    let positions: Vec<_> = (0..subject.recent_messages).map(|i| feed.say("a", &i.to_string())).collect();
    feed.say("b", "another room of the same log");
    for (i, position) in positions.iter().enumerate() {
        let sink = Sink::open();
        let back = member(&subject, 10 + i as u64, "a", &sink, false);
        assert_eq!(join(&subject, &back, Start::After(*position)), Ok(*position));
        let rest: Vec<_> = (i + 1..positions.len()).map(|i| i.to_string()).collect();
        sink.has(&rest).await;
        subject.registry.leave(&back);
    }
}

/// Guarantee 3: before memory and after the present.
pub async fn g3_what_is_not_in_memory_is_said(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let free = Sink::open();
    let _keeps_the_room = present(&subject, 1, "a", &free);
    for i in 0..4 * (subject.recent_messages + subject.slow_messages) {
        feed.say("a", &i.to_string());
        if i % 16 == 0 {
            eventually("it is written", || free.frames().len() > i).await;
        }
    }
    let late = member(&subject, 2, "a", &Sink::open(), false);
    let result = join(&subject, &late, Start::After(Position::new(1, 1)));
    let Err(NotThere::Behind { memory, progress }) = result else { panic!("{result:?}") };
    assert!(memory > Position::new(1, 1) && memory < progress);
    assert_eq!(join(&subject, &late, Start::After(memory)), Ok(memory));
    let early = member(&subject, 3, "a", &Sink::open(), false);
    assert_eq!(join(&subject, &early, Start::After(Position::new(2, 0))), Err(NotThere::Ahead { progress }));
}

/// Guarantee 3: a node that began after what the history has yet knows nothing of what lies between.
pub async fn g3_what_came_before_the_node_began_is_not_in_memory(subject: Subject) {
    let begun = Position::new(1, 100);
    let mut feed = Feed::after(&subject, begun.offset, Position::new(1, 10));
    let said = feed.say("a", "after");
    let back = member(&subject, 1, "a", &Sink::open(), false);
    let behind = Err(NotThere::Behind { memory: begun, progress: said });
    assert_eq!(join(&subject, &back, Start::After(Position::new(1, 50))), behind);
    assert_eq!(join(&subject, &back, Start::After(begun)), Ok(begun));
}

/// Guarantee 3.
pub async fn g3_the_last_messages_first(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let _keeps_the_room = present(&subject, 1, "a", &Sink::open());
    let positions: Vec<_> = (0..8).map(|i| feed.say("a", &i.to_string())).collect();
    let sink = Sink::open();
    let late = member(&subject, 2, "a", &sink, false);
    assert_eq!(join(&subject, &late, Start::Last(3)), Ok(positions[4]));
    sink.has(&["5", "6", "7"].map(String::from)).await;
}

/// Guarantee 4.
pub async fn g4_a_member_that_waits_for_too_much_is_closed(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let stuck = Sink::taking(100, usize::MAX);
    let _slow = present(&subject, 1, "a", &stuck);
    let mut said = 0;
    eventually("it is counted", || {
        feed.say("a", &said.to_string());
        said += 1;
        subject.registry.stats().slow == 1
    })
    .await;
    assert!(said > subject.slow_messages, "not before it waits for as much as it may: {said}");
    stuck.allow(usize::MAX);
    eventually("it is told", || stuck.close_code() == Some(crate::protocol::close::TOO_SLOW)).await;
    let frames = stuck.frames();
    assert_eq!(frames, (0..frames.len()).map(|i| i.to_string()).collect::<Vec<_>>(), "what came before the close is whole");
}

/// Guarantee 5: a room with a thousand members does not keep one with a single member waiting for long.
pub async fn g5_rooms_are_served_alike(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let crowd: Vec<_> = (0..1_000).map(|_| Sink::open()).collect();
    let _members: Vec<_> = crowd.iter().zip(1..).map(|(sink, session)| present(&subject, session, "crowd", sink)).collect();
    let few = Sink::open();
    let _one = present(&subject, 5_000, "few", &few);
    let entries = (0..200).flat_map(|i| [feed.entry("crowd", &i.to_string(), 0), feed.entry("few", &i.to_string(), 0)]).collect::<Vec<_>>();
    for entry in entries {
        feed.advance(vec![entry]);
    }
    let all: Vec<_> = (0..200).map(|i| i.to_string()).collect();
    few.has(&all).await;
    for sink in &crowd {
        sink.has(&all).await;
    }
}

/// Guarantee 6: a history that stood still goes on, when the registry is so full that nothing more is given to it.
pub async fn g6_what_the_history_has_goes_though_nothing_more_comes(subject: Subject) {
    const MOST: usize = 1 << 30;
    let mut feed = Feed::after(&subject, 0, Position::ZERO);
    let only_publishes = member(&subject, 1, "a", &Sink::open(), false);
    join(&subject, &only_publishes, Start::Never).expect("joined");
    let text = "x".repeat(1 << 20);
    let mut met = vec![subject.registry.pressure()];
    for _ in 0..MOST / text.len() {
        feed.say("a", &text);
        met.push(subject.registry.pressure());
        if met.last() == Some(&Pressure::Full) {
            break;
        }
    }
    met.dedup();
    assert_eq!(met, [Pressure::None, Pressure::High, Pressure::Full]);
    feed.history = Position::MAX;
    feed.advance(Vec::new());
    eventually("there is room again", || {
        subject.registry.tick();
        subject.registry.pressure() == Pressure::None
    })
    .await;
}

/// Who is there.
pub async fn members_and_rooms_are_told(subject: Subject) {
    let _feed = Feed::new(&subject);
    let (ada, bob) = (present(&subject, 1, "a", &Sink::open()), present(&subject, 2, "a", &Sink::open()));
    let only_publishes = member(&subject, 3, "b", &Sink::open(), false);
    join(&subject, &only_publishes, Start::Never).expect("joined");
    assert!(ada.rename("7", "ada"));
    subject.registry.renamed(&ada);
    assert_eq!(subject.registry.rooms(), [(room_id("a"), 2), (room_id("b"), 1)]);
    assert_eq!(subject.registry.members(&room_id("a"))[0].username.as_deref(), Some("ada"));
    for member in [&ada, &bob, &bob, &only_publishes] {
        subject.registry.leave(member);
    }
    assert!(subject.registry.rooms().is_empty());
    assert_eq!(subject.registry.stats().members, 0);
}

/// When the log does not go on where it was, nobody sees a silent gap.
pub async fn a_gap_in_the_log_sends_members_off(subject: Subject) {
    let mut feed = Feed::new(&subject);
    let sink = Sink::open();
    let _member = present(&subject, 1, "a", &sink);
    feed.say("a", "before");
    sink.has(&["before".to_owned()]).await;
    subject.registry.begin(LOG, Position::new(2, 0));
    eventually("it is told", || sink.close_code() == Some(crate::protocol::close::RESTARTING)).await;
}

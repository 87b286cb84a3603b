//! One connection: any number of rooms, frames in and out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::answers::{put_error, refusal};
use crate::auth::{Action, Identity};
use crate::catchup::{Past, catch_up};
use crate::engine::{Ack, ConnectRequest, Deliver, Inner};
use crate::protocol::{self, Dialect, ERRORS_IN_A_ROW, ErrorFrame, Event, MemberInfo, Op, close, code};
use crate::rate::Bucket;
use crate::registry::{Member, NotThere, Outlet, Start, put_event};
use crate::{BadFrame, Draft, Position, RoomId, Violation, kind};

/// How long this node may be behind another that a member comes from.
const AHEAD: Duration = Duration::from_secs(5);

/// One connection's state, kept by the task that reads from it. Dropping it leaves every room.
pub(crate) struct Session {
    engine: Arc<Inner>,
    outlet: Arc<Outlet>,
    who: Identity,
    dialect: Dialect,
    ack: Ack,
    deliver: Deliver,
    origin: ByteString,
    /// The room of the connection's path, which frames without a `roomId` mean.
    home: Option<RoomId>,
    rooms: HashMap<RoomId, Joined>,
    errors: u32,
    rate: Arc<Mutex<Bucket>>,
}

struct Joined {
    member: Arc<Member>,
    /// Reads the past; ends with the membership.
    past: Option<JoinHandle<()>>,
}

impl Session {
    pub(crate) fn new(engine: Arc<Inner>, outlet: Arc<Outlet>, who: Identity, request: &ConnectRequest) -> Self {
        let publish_rate = engine.settings.publish_rate_of(&who);
        let rate = match &who.user {
            Some(user) => engine.user_rates.of(user, publish_rate),
            None => Arc::new(Mutex::new(Bucket::new(publish_rate))),
        };
        Self {
            engine,
            outlet,
            who,
            dialect: request.dialect,
            ack: request.ack,
            deliver: request.deliver,
            origin: request.credentials.address.map(|address| address.to_string()).unwrap_or_default().into(),
            home: None,
            rooms: HashMap::new(),
            errors: 0,
            rate,
        }
    }

    /// Joins the room of the connection's path, or says hello on a connection without one.
    pub(crate) fn open(&mut self, request: &ConnectRequest) {
        match &request.room {
            Some(room) => match self.engine.allows_room(room) {
                Some(room) => {
                    self.home = Some(room.clone());
                    self.join(room, request.after.as_deref(), request.history, None);
                }
                None => self.outlet.close(close::UNACCEPTABLE, "there is no such room"),
            },
            None if self.dialect == Dialect::V1 => {
                let rate = self.engine.settings.publish_rate_of(&self.who);
                let welcome = welcome(&self.engine, &self.outlet, rate, None, None, None);
                self.outlet.push_text(|out| put_event(out, &welcome));
            }
            None => self.outlet.close(close::UNACCEPTABLE, "a connection without a room needs the subprotocol chatflow.v1"),
        }
    }

    /// A text frame came.
    pub(crate) fn text(&mut self, frame: ByteString) {
        if self.dialect == Dialect::V1
            && let Some(op) = Op::of(&frame)
        {
            return match op {
                Ok(op) => self.operate(op),
                Err(bad) => self.refuse_frame(&bad),
            };
        }
        match self.engine.codec.decode(&frame) {
            Ok(draft) => self.publish(draft),
            Err(bad) => self.refuse_frame(&bad),
        }
    }

    fn operate(&mut self, op: Op) {
        match op {
            Op::Join { room_id, after, history, reference } => {
                let about = |frame: ErrorFrame| ErrorFrame { room_id: Some(room_id.clone()), reference: reference.clone(), ..frame };
                let Some(room) = self.engine.allows_room(&room_id) else {
                    return self.refuse(about(ErrorFrame::new(code::BAD_ROOM, vec!["roomId: there is no such room".into()])));
                };
                if !self.rooms.contains_key(&room) && self.rooms.len() >= self.engine.settings.rooms {
                    let problem = format!("roomId: a connection has at most {} rooms", self.engine.settings.rooms);
                    return self.refuse(about(ErrorFrame::new(code::OVERLOADED, vec![problem])));
                }
                if !self.engine.authorizer.allows(&self.who, Action::Join, &room) {
                    return self.refuse(about(ErrorFrame::new(code::FORBIDDEN, vec!["roomId: you may not join this room".into()])));
                }
                self.errors = 0;
                self.join(room, after.as_deref(), history, reference);
            }
            Op::Leave { room_id, reference } => match self.rooms.remove(room_id.as_str()) {
                Some(joined) => {
                    self.errors = 0;
                    self.leave(joined);
                    let left = Event::Left { room_id, reference };
                    self.outlet.push_text(|out| put_event(out, &left));
                }
                None => {
                    let error = ErrorFrame::new(code::WRONG_ROOM, vec!["roomId: you are not a member of this room".into()]);
                    self.refuse(ErrorFrame { room_id: Some(room_id), reference, ..error });
                }
            },
        }
    }

    /// Becomes a member. A room that was joined before is joined afresh.
    fn join(&mut self, room: RoomId, after: Option<&str>, history: Option<usize>, reference: Option<String>) {
        if !self.engine.authorizer.allows(&self.who, Action::Join, &room) {
            return self.outlet.close(close::FORBIDDEN, "you may not join this room");
        }
        if let Some(joined) = self.rooms.remove(&room) {
            self.leave(joined);
        }
        let who = MemberInfo {
            session: format!("{:x}", self.outlet.session()),
            user_id: self.who.user.as_ref().map(ToString::to_string),
            username: self.who.name.as_ref().map(ToString::to_string),
            node: Some(self.engine.node.clone()),
        };
        let log = self.engine.broker.profile().log_of(&room);
        let others_only = self.deliver == Deliver::Others;
        let member = Member::new(room.clone(), log, Arc::clone(&self.outlet), self.dialect, others_only, who);
        let past = self.start(&member, after, history, reference);
        self.engine.hooks.on_join(self.outlet.session(), &self.who, &room);
        self.rooms.insert(room, Joined { member, past });
    }

    /// Joins where the client asked, or reads the past first, or says that what it asked for can't be had.
    fn start(
        &self,
        member: &Arc<Member>,
        after: Option<&str>,
        history: Option<usize>,
        reference: Option<String>,
    ) -> Option<JoinHandle<()>> {
        let publish_rate = self.engine.settings.publish_rate_of(&self.who);
        let join = Join { engine: Arc::clone(&self.engine), member: Arc::clone(member), publish_rate, reference };
        let history = history.unwrap_or(0).min(self.engine.settings.history);
        // Someone who only publishes has nowhere to resume from.
        let (after, history) = if self.deliver == Deliver::None { (None, 0) } else { (after, history) };
        let past = match (after.map(str::parse::<Position>), &self.engine.store) {
            (None, _) if history == 0 => {
                let start = if self.deliver == Deliver::None { Start::Never } else { Start::Present };
                let _ = join.now(start, None);
                return None;
            }
            (None, None) => {
                let _ = join.now(Start::Last(history), None);
                return None;
            }
            (None, Some(_)) => Past::Newest(history),
            (Some(Err(_)), _) => {
                join.afresh("bad_position");
                return None;
            }
            (Some(Ok(position)), store) => match join.now(Start::After(position), None) {
                Ok(()) => return None,
                Err(NotThere::Behind { .. }) if store.is_some() => Past::After(position),
                // Another node may have shown what this one is about to read.
                Err(NotThere::Ahead { .. }) if self.engine.broker.profile().shared => {
                    return Some(tokio::spawn(join.once_there(position)));
                }
                Err(lost) => {
                    let ahead = matches!(lost, NotThere::Ahead { .. });
                    join.afresh(if ahead { "unknown_position" } else { "not_kept" });
                    return None;
                }
            },
        };
        Some(tokio::spawn(join.with(past)))
    }

    fn leave(&self, Joined { member, past }: Joined) {
        if let Some(past) = past {
            past.abort();
        }
        self.engine.registry.leave(&member);
        self.engine.hooks.on_leave(self.outlet.session(), &self.who, &member.room);
    }

    fn publish(&mut self, mut draft: Draft) {
        let (id, reference) = (draft.id, draft.reference.clone());
        let refusal = self.submit(&mut draft);
        match refusal {
            Ok(()) => self.errors = 0,
            Err(frame) => self.refuse(frame.about(id.map(|id| id.to_string()), reference)),
        }
    }

    /// Checks a draft against everything that can be known here, and gives it to the broker.
    fn submit(&mut self, draft: &mut Draft) -> Result<(), Box<ErrorFrame>> {
        let room = self.room_of(draft)?;
        let Some(Joined { member, .. }) = self.rooms.get(&room) else {
            return Err(error(code::WRONG_ROOM, "roomId: you are not a member of this room"));
        };
        if let Some(problem) = self.spoofs(draft) {
            return Err(Box::new(ErrorFrame::violations(code::FORBIDDEN, &[problem])));
        }
        if !self.engine.authorizer.allows(&self.who, Action::Publish, &room) {
            return Err(error(code::FORBIDDEN, "roomId: you may not publish in this room"));
        }
        self.engine.validate(draft)?;
        let at = crate::Timestamp::now();
        if let Err(ms) = self.rate.lock().take(at) {
            return Err(Box::new(error(code::RATE_LIMITED, "more messages a second than you may publish").retry_after(ms.max(1))));
        }
        // Who an anonymous member is, is what it said first, and what it says on joining.
        if self.who.user.is_none() && (member.is_unnamed() || draft.kind == kind::JOIN) && member.rename(&draft.sender, &draft.name) {
            self.engine.registry.renamed(member);
        }
        let message = self.engine.message(draft, room, at, self.outlet.session(), self.origin.clone());
        self.engine.submit(message, draft, self.ack, &self.outlet)
    }

    fn room_of(&self, draft: &Draft) -> Result<RoomId, Box<ErrorFrame>> {
        match (&draft.room, &self.home) {
            (None, Some(home)) => Ok(home.clone()),
            (Some(named), Some(home)) if **named == *home.as_str() => Ok(home.clone()),
            (None, None) => Err(error(code::WRONG_ROOM, "roomId: is needed on a connection without a room")),
            (Some(named), home) => {
                let room = self.engine.allows_room(named);
                let room = room.ok_or_else(|| error(code::BAD_ROOM, "roomId: there is no such room"))?;
                match (self.dialect, home) {
                    (Dialect::Plain, Some(home)) if room != *home => {
                        Err(error(code::WRONG_ROOM, format!("roomId: must be {home}, the room of this connection")))
                    }
                    _ => Ok(room),
                }
            }
        }
    }

    /// A message in somebody else's name.
    fn spoofs(&self, draft: &Draft) -> Option<Violation> {
        let user = self.who.user.as_ref().filter(|user| **user != draft.sender);
        let name = self.who.name.as_ref().filter(|name| **name != draft.name);
        match (user, name) {
            (Some(_), _) => Some(Violation::new("userId", "is not yours")),
            (None, Some(_)) => Some(Violation::new("username", "is not yours")),
            (None, None) => None,
        }
    }

    fn refuse_frame(&mut self, bad: &BadFrame) {
        let id = bad.id.as_ref().map(ToString::to_string);
        self.refuse(ErrorFrame::violations(bad.code, &bad.violations).about(id, bad.reference.clone()));
    }

    /// Tells the client what was wrong. Ten in a row end the connection, unless the state of the server was the reason.
    fn refuse(&mut self, frame: ErrorFrame) {
        let counters = &self.engine.counters;
        self.outlet.push_text(|out| put_error(out, &frame));
        if frame.retryable {
            return counters.refused.add(1);
        }
        counters.rejected.add(1);
        self.errors += 1;
        if self.errors >= ERRORS_IN_A_ROW {
            self.outlet.close(close::POLICY, "ten errors in a row");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for (_, joined) in std::mem::take(&mut self.rooms) {
            self.leave(joined);
        }
    }
}

impl Inner {
    /// Every rule that the draft breaks, as an error frame.
    fn validate(&self, draft: &Draft) -> Result<(), Box<ErrorFrame>> {
        self.validator.validate(draft).map_err(|violations| Box::new(ErrorFrame::violations(code::INVALID, &violations)))
    }

    fn submit(&self, message: crate::Message, draft: &Draft, ack: Ack, outlet: &Arc<Outlet>) -> Result<(), Box<ErrorFrame>> {
        self.hooks.on_message(&message).map_err(|violations| Box::new(ErrorFrame::violations(code::INVALID, &violations)))?;
        let reply = crate::answers::Reply::Session(Arc::clone(outlet));
        let result = self.give(message, draft, ack, reply, || outlet.expect_answer());
        result.map_err(|error| Box::new(refusal(&error)))
    }
}

fn error(code: &str, problem: impl Into<String>) -> Box<ErrorFrame> {
    Box::new(ErrorFrame::new(code, vec![problem.into()]))
}

/// One join under way: the client is greeted once it is known where it stands.
struct Join {
    engine: Arc<Inner>,
    member: Arc<Member>,
    publish_rate: u32,
    reference: Option<String>,
}

impl Join {
    fn now(&self, start: Start, lost: Option<&str>) -> Result<(), NotThere> {
        let Self { engine, member, .. } = self;
        engine.registry.join(member, start, &engine.show, &mut |position| self.greet(position, lost))
    }

    /// Reads the past first.
    async fn with(self, past: Past) {
        let Some(store) = self.engine.store.clone() else { return self.afresh("not_kept") };
        let (engine, member) = (Arc::clone(&self.engine), Arc::clone(&self.member));
        let begins = move |begins| match begins {
            Some(position) => self.greet(position, None),
            None => self.afresh("not_kept"),
        };
        catch_up(engine, store, member, past, begins).await;
    }

    /// Joins after `position` once this node has read it, or afresh when that does not happen soon.
    async fn once_there(self, position: Position) {
        let until = Instant::now() + AHEAD;
        loop {
            sleep(Duration::from_millis(10)).await;
            match self.now(Start::After(position), None) {
                Ok(()) => return,
                Err(NotThere::Behind { .. }) => return self.with(Past::After(position)).await,
                Err(NotThere::Ahead { .. }) if Instant::now() < until => {}
                Err(NotThere::Ahead { .. }) => return self.afresh("unknown_position"),
            }
        }
    }

    /// The position can't be resumed from: the member starts with the present and is told so.
    fn afresh(&self, reason: &str) {
        match self.member.dialect {
            Dialect::V1 => drop(self.now(Start::Present, Some(reason))),
            Dialect::Plain => self.member.outlet.close(close::POSITION_LOST, reason),
        }
    }

    fn greet(&self, position: Position, lost: Option<&str>) {
        let Self { engine, member, publish_rate, reference } = self;
        if member.dialect == Dialect::V1 {
            let event = welcome(engine, &member.outlet, *publish_rate, Some((&member.room, position)), lost, reference.clone());
            member.outlet.push_text(|out| put_event(out, &event));
        }
    }
}

fn welcome(
    engine: &Inner,
    outlet: &Outlet,
    publish_rate: u32,
    room: Option<(&RoomId, Position)>,
    lost: Option<&str>,
    reference: Option<String>,
) -> Event {
    Event::Welcome {
        session: format!("{:x}", outlet.session()),
        room_id: room.map(|(room, _)| room.to_string()),
        position: room.map(|(_, position)| position),
        recovered: lost.is_none(),
        reason: lost.map(str::to_owned),
        durable: engine.is_durable(),
        limits: protocol::WelcomeLimits {
            frame: engine.settings.frame,
            publish_rate,
            rooms: engine.settings.rooms,
            in_flight: engine.settings.in_flight,
        },
        reference,
    }
}

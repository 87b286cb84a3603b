//! How things look: one event, one line.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chatflow_client::{Incoming, MemberInfo, Message, RoomId, kind};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::terminal::{Paint, harmless};

/// Shows events to a person.
#[derive(Debug)]
pub(super) struct View {
    paint: Paint,
    zone: TimeZone,
    was_connected: bool,
    outage: bool,
    entered: HashSet<RoomId>,
    members: HashMap<RoomId, Members>,
}

/// Who is in a room, as far as its node tells.
#[derive(Debug, Default)]
struct Members {
    count: usize,
    by_session: HashMap<String, MemberInfo>,
}

impl View {
    pub(super) fn new(paint: Paint, zone: TimeZone) -> Self {
        Self { paint, zone, was_connected: false, outage: false, entered: HashSet::new(), members: HashMap::new() }
    }

    /// The line for an event, if it is worth one. `here` is the room that is being looked at.
    pub(super) fn show(&mut self, event: &Incoming, here: Option<&RoomId>) -> Option<String> {
        let line = match event {
            Incoming::Message(message) => return Some(self.message(message, here)),
            Incoming::Connected { url, durable, .. } => {
                let again = if std::mem::replace(&mut self.was_connected, true) { " again" } else { "" };
                self.outage = false;
                let warning = if *durable { "" } else { " (nothing that is said there survives the server)" };
                format!("connected{again} to {url}{warning}")
            }
            Incoming::Disconnected { reason, retry_in: Some(wait), .. } => {
                // An outage is one line, and one more for each long wait.
                if std::mem::replace(&mut self.outage, true) && *wait < Duration::from_secs(1) {
                    return None;
                }
                let soon = if wait.as_millis() < 100 { "at once".to_owned() } else { format!("in {:.1} s", wait.as_secs_f32()) };
                format!("disconnected ({}); reconnecting {soon}", harmless(reason))
            }
            Incoming::Welcome { room, recovered: false, reason, .. } => {
                self.members.remove(room);
                let reason = reason.as_deref().map(|r| format!(" ({})", harmless(r))).unwrap_or_default();
                format!("messages in {room} may be missing here{reason}")
            }
            Incoming::Welcome { room, .. } => {
                self.members.remove(room);
                // Coming back without a loss is nothing to talk about.
                if !self.entered.insert(room.clone()) {
                    return None;
                }
                format!("in room {room}")
            }
            Incoming::Left { room } => {
                self.members.remove(room);
                self.entered.remove(room);
                format!("left room {room}")
            }
            Incoming::Gap { room, .. } => format!("messages in {room} were skipped: this terminal was too slow for them"),
            Incoming::Presence { room, count, joined, left } => {
                self.note_presence(room, *count, joined, left);
                return None;
            }
            Incoming::Reconnect { delay, .. } => format!("the server will restart; moving in {:.1} s", delay.as_secs_f32()),
            Incoming::Refused { room: Some(room), error } => {
                format!("room {room} can't be entered any more: {}", harmless(&error.errors.join("; ")))
            }
            Incoming::Refused { room: None, error } => format!("the server says: {}", harmless(&error.errors.join("; "))),
            _ => return None,
        };
        Some(self.note(&line))
    }

    /// A line about the chat, not of it.
    pub(super) fn note(&self, text: &str) -> String {
        self.paint.dim(&format!("· {text}"))
    }

    /// A line about something that failed.
    pub(super) fn complaint(&self, text: &str) -> String {
        self.paint.bad(&format!("✗ {text}"))
    }

    /// A line that somebody says at `time`.
    pub(super) fn said(&self, time: Timestamp, name: &str, text: &str) -> String {
        let time = self.paint.dim(&time.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string());
        format!("{time} {}: {}", self.paint.name(&harmless(name)), harmless(text))
    }

    /// Who is in `room`.
    pub(super) fn who(&self, room: &RoomId) -> String {
        let Some(members) = self.members.get(room) else {
            return self.note("the server does not tell who is here (the room is large, or presence is off)");
        };
        let mut names: Vec<_> = members.by_session.values().filter_map(|m| m.username.as_deref()).map(harmless).collect();
        names.sort();
        names.dedup();
        let silent = members.count.saturating_sub(members.by_session.values().filter(|m| m.username.is_some()).count());
        if silent > 0 {
            names.push(format!("{silent} who said nothing yet"));
        }
        self.note(&format!("{} here: {}", members.count, names.join(", ")))
    }

    fn message(&self, message: &Message, here: Option<&RoomId>) -> String {
        let room = if here == Some(message.room()) { String::new() } else { self.paint.dim(&format!("[{}] ", message.room())) };
        let Ok(chat) = message.chat() else { return format!("{room}{}", harmless(message.raw())) };
        let time = chat.server_timestamp.parse().unwrap_or(Timestamp::UNIX_EPOCH);
        let name = match chat.kind.as_ref() {
            word if *word == *kind::TEXT => chat.username.to_string(),
            word if *word == *kind::JOIN => format!("→ {}", chat.username),
            word if *word == *kind::LEAVE => format!("← {}", chat.username),
            other => format!("{other} {}", chat.username),
        };
        format!("{room}{}", self.said(time, &name, &chat.text))
    }

    fn note_presence(&mut self, room: &RoomId, count: usize, joined: &[MemberInfo], left: &[String]) {
        let members = self.members.entry(room.clone()).or_default();
        members.count = count;
        for session in left {
            members.by_session.remove(session);
        }
        for member in joined {
            members.by_session.insert(member.session.clone(), member.clone());
        }
    }
}

/// A message as a line of a pipe: `TIME NAME: TEXT`, in UTC.
pub(super) fn plain_line(message: &Message) -> String {
    match message.chat() {
        Ok(chat) => format!("{} {}: {}", harmless(&chat.server_timestamp), harmless(&chat.username), harmless(&chat.text)),
        Err(_) => harmless(message.raw()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View::new(Paint::never(), TimeZone::UTC)
    }

    fn lost(ms: u64) -> Incoming {
        Incoming::Disconnected { code: None, reason: "cut\x1b[2J".into(), retry_in: Some(Duration::from_millis(ms)) }
    }

    #[test]
    fn an_outage_is_one_line_and_one_for_each_long_wait() {
        let mut view = view();
        assert_eq!(view.show(&lost(40), None).unwrap(), r"· disconnected (cut\u{1b}[2J); reconnecting at once");
        assert_eq!(view.show(&lost(300), None), None);
        assert!(view.show(&lost(2_300), None).unwrap().ends_with("reconnecting in 2.3 s"));
        let connected = Incoming::Connected { url: "ws://h".into(), session: "s".into(), durable: true };
        assert_eq!(view.show(&connected, None).unwrap(), "· connected to ws://h");
        assert!(view.show(&lost(40), None).is_some());
        assert_eq!(view.show(&connected, None).unwrap(), "· connected again to ws://h");
    }

    #[test]
    fn who_is_here_follows_presence() {
        let (mut view, room) = (view(), RoomId::new("7").unwrap());
        let member = |session: &str, name: Option<&str>| MemberInfo {
            session: session.into(),
            user_id: None,
            username: name.map(Into::into),
            node: None,
        };
        assert!(view.who(&room).contains("does not tell"));
        let everybody = vec![member("1", Some("bob")), member("2", None), member("3", Some("ada"))];
        view.show(&Incoming::Presence { room: room.clone(), count: 3, joined: everybody, left: vec![] }, None);
        assert_eq!(view.who(&room), "· 3 here: ada, bob, 1 who said nothing yet");
        view.show(&Incoming::Presence { room: room.clone(), count: 1, joined: vec![], left: vec!["1".into(), "2".into()] }, None);
        assert_eq!(view.who(&room), "· 1 here: ada");
    }

    #[test]
    fn texts_are_shown_harmless() {
        let line = view().said(Timestamp::UNIX_EPOCH, "a\x07", "x\x1b]0;title\x07");
        assert_eq!(line, r"00:00:00 a\u{7}: x\u{1b}]0;title\u{7}");
    }
}

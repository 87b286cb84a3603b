//! What is asked, and how long each answer may take.

use std::fmt::Write;

use crate::history::{Dice, History};

/// A question of which every asking is about something else.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    pub(crate) name: &'static str,
    /// What the older systems allow themselves with a million rows, milliseconds. Aimed at is a tenth.
    pub(crate) limit: Option<f64>,
    /// The path that is asked for.
    pub(crate) path: fn(&History, &mut Dice) -> String,
}

/// All of them.
pub(crate) const QUESTIONS: [Question; 8] = [
    Question { name: "a room's messages in a range, 1,000 at most", limit: Some(100.0), path: room_messages },
    Question { name: "a user's messages, half in a range, 1,000 at most", limit: Some(200.0), path: user_messages },
    Question { name: "active users in a range", limit: Some(500.0), path: |history, dice| ranged("active-users?", history, dice) },
    Question { name: "a user's rooms, with the last activity", limit: Some(50.0), path: user_rooms },
    Question {
        name: "messages per minute in a range",
        limit: None,
        path: |history, dice| ranged("message-rate?limit=1000", history, dice),
    },
    Question { name: "top 100 users in a range", limit: None, path: |history, dice| ranged("top-users?limit=100", history, dice) },
    Question { name: "top 20 rooms in a range", limit: None, path: |history, dice| ranged("top-rooms?limit=20", history, dice) },
    Question { name: "participation in a range", limit: None, path: |history, dice| ranged("participation?limit=20", history, dice) },
];

fn ranged(what: &str, history: &History, dice: &mut Dice) -> String {
    in_range(format!("/api/v1/analytics/{what}"), history, dice)
}

fn in_range(mut path: String, history: &History, dice: &mut Dice) -> String {
    if let Some((start, end)) = history.range(dice) {
        let _ = write!(path, "&start={start}&end={end}");
    }
    path
}

fn room_messages(history: &History, dice: &mut Dice) -> String {
    in_range(format!("/api/v1/rooms/{}/messages?limit=1000", history.room(dice)), history, dice)
}

fn user_messages(history: &History, dice: &mut Dice) -> String {
    let path = format!("/api/v1/users/{}/messages?limit=1000", history.user(dice));
    if dice.below(2) == 0 { path } else { in_range(path, history, dice) }
}

fn user_rooms(history: &History, dice: &mut Dice) -> String {
    format!("/api/v1/users/{}/rooms", history.user(dice))
}

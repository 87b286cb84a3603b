//! What the history has: as the HTTP API tells it, and as it stands in the file.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chatflow_core::Position;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use uuid::Uuid;

use crate::http;

/// One message as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the room.
    pub position: Position,
    /// Its id.
    pub id: Uuid,
    /// What was said.
    pub text: String,
}

impl Row {
    /// The row in a broadcast, or in a page of the history.
    ///
    /// # Panics
    /// It lacks a field.
    pub fn of(message: &Value) -> Self {
        let field = |name: &str| message[name].as_str().unwrap_or_else(|| panic!("no {name} in {message}"));
        Self { position: field("position").parse().unwrap(), id: field("messageId").parse().unwrap(), text: field("message").to_owned() }
    }
}

/// Every row of each room, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History(pub BTreeMap<String, Vec<Row>>);

impl History {
    /// Walks through the rooms' history over HTTP, forward, by `next`.
    ///
    /// # Panics
    /// The server does not answer with pages.
    pub async fn over_http(address: SocketAddr, rooms: &[String], limit: usize) -> Self {
        Self::if_readable(address, rooms, limit).await.unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// The same; where the server refuses a page, which one, and its words.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn if_readable(address: SocketAddr, rooms: &[String], limit: usize) -> Result<Self, String> {
        let mut history = Self::default();
        for room in rooms {
            let (mut rows, mut after) = (Vec::new(), Position::ZERO.to_string());
            loop {
                let path = format!("/api/v1/rooms/{room}/messages?limit={limit}&after={after}");
                let answer = http::get(address, &path).await.unwrap();
                if answer.status != 200 {
                    return Err(format!("{path}: {} {}", answer.status, answer.body));
                }
                let page = answer.json();
                rows.extend(page["messages"].as_array().unwrap().iter().map(Row::of));
                let Some(next) = page["next"].as_str() else { break };
                after = next.to_owned();
            }
            history.0.insert(room.clone(), rows);
        }
        Ok(history)
    }

    /// Reads the file, past all of the server's code.
    ///
    /// # Panics
    /// It is not the database of a ChatFlow server.
    pub fn in_file(path: &std::path::Path) -> Self {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let sql = "SELECT rooms.name, epoch, \"offset\", messages.id, body FROM messages JOIN rooms ON rooms.id = messages.room
                   ORDER BY messages.rowid";
        let mut statement = db.prepare(sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut history = Self::default();
        while let Some(row) = rows.next().unwrap() {
            let number = |column| match row.get_ref(column).unwrap() {
                ValueRef::Integer(number) => u64::try_from(number).unwrap(),
                other => panic!("a position holds {other:?}"),
            };
            let body = String::from_utf8(row.get(4).unwrap()).unwrap();
            let body: Value = serde_json::from_str(&format!("{{{body}}}")).unwrap();
            let found = Row {
                position: Position::new(number(1), number(2).into()),
                id: Uuid::from_slice(row.get_ref(3).unwrap().as_blob().unwrap()).unwrap(),
                text: body["message"].as_str().unwrap().to_owned(),
            };
            history.0.entry(row.get(0).unwrap()).or_default().push(found);
        }
        history
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

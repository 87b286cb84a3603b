//! What became of messages that another node has taken into the history: this node was told how far that is, and looks the rest up.

use futures::future::BoxFuture;

use super::repeats::find;
use super::{Gate, Relay};
use crate::answers::Fate;
use crate::store::{Exception, LARGEST_PAGE, Located};
use crate::{Message, MessageId, Position, Result, RoomId};

/// A message whose fate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) position: Position,
    pub(crate) id: MessageId,
    pub(crate) digest: u64,
    pub(crate) room: RoomId,
}

/// Looking up is done beside reading the log: where the log alone decides what is shown, a history that is away holds up nobody.
#[derive(Default)]
pub(super) struct Judging {
    /// Up to here another node wrote.
    foreign: Position,
    /// Up to here the fates are known.
    judged: Position,
    /// What is absent before this was lost with the log.
    lost: Position,
    looking: Option<Looking>,
}

pub(super) struct Looking {
    asked: Vec<Asked>,
    through: Position,
    found: BoxFuture<'static, Result<Vec<Option<Located>>>>,
}

impl Judging {
    /// Another node has written up to `through`.
    pub(super) fn heard(&mut self, through: Position, lost: Option<Position>) {
        self.foreign = self.foreign.max(through);
        self.lost = self.lost.max(lost.unwrap_or_default());
    }

    /// This node itself has written up to `through`.
    pub(super) fn knows(&mut self, through: Position) {
        self.judged = self.judged.max(through);
    }

    /// Whether there is something of another node's whose fate is not known yet: news of this node's own have to queue up behind it.
    pub(super) fn is_behind(&self) -> bool {
        self.judged < self.foreign
    }

    /// What is found, once it is; never while nothing is looked up.
    pub(super) async fn found(&mut self) -> Option<(Looking, Result<Vec<Option<Located>>>)> {
        let found = (&mut self.looking.as_mut()?.found).await;
        Some((self.looking.take()?, found))
    }
}

impl Relay {
    /// Looks up what this node has read by now of what another has written.
    pub(super) fn judge(&mut self) {
        loop {
            let Judging { foreign, judged, looking, .. } = &self.state.judging;
            let (through, judged) = ((*foreign).min(self.state.read), *judged);
            let Some(history) = self.history.clone() else { return };
            if looking.is_some() || through <= judged {
                return;
            }
            let asked = match self.gate {
                Gate::Accepted(..) => self.answers.waiting_through(self.log, through),
                Gate::Committed(_) => self.held(judged, through),
            };
            if asked.is_empty() {
                self.judged(through, Vec::new());
                continue;
            }
            let ids: Vec<_> = asked.iter().map(|asked| asked.id).collect();
            let found = Box::pin(async move {
                let mut found = Vec::with_capacity(ids.len());
                for ids in ids.chunks(LARGEST_PAGE) {
                    found.extend(find(&*history, ids).await?);
                }
                Ok(found)
            });
            self.state.judging.looking = Some(Looking { asked, through, found });
        }
    }

    /// Messages that were read and not shown, after one position and through another.
    fn held(&self, after: Position, through: Position) -> Vec<Asked> {
        let held = self.state.held.iter().filter(|entry| after < entry.position && entry.position <= through);
        held.filter_map(|entry| {
            let header = Message::peek(&entry.bytes)?;
            let room = RoomId::new(header.room).ok()?;
            Some(Asked { position: entry.position, id: header.id, digest: header.digest, room })
        })
        .collect()
    }

    /// The history has answered.
    pub(super) fn take_found(&mut self, (looking, found): (Looking, Result<Vec<Option<Located>>>)) {
        let Looking { asked, through, .. } = looking;
        match found {
            Ok(found) => {
                let lost = self.state.judging.lost;
                let fates = asked.iter().zip(found).filter_map(|(asked, found)| Some((asked.position, fate(asked, found, lost)?)));
                self.judged(through, fates.collect());
                self.judge();
            }
            Err(error) => tracing::warn!(log = self.log.0, %error, "the history does not say what became of messages"),
        }
    }

    fn judged(&mut self, through: Position, fates: Vec<(Position, Fate)>) {
        self.state.judging.judged = through;
        self.settled(through, fates);
    }
}

/// What became of a message that the history has passed; `None` when it is a row.
fn fate(Asked { position, digest, room, .. }: &Asked, found: Option<Located>, lost: Position) -> Option<Fate> {
    match found {
        Some(row) if row.position == *position && row.room == *room => None,
        Some(row) if row.digest == *digest && row.room == *room => Some(Fate::Excepted(Exception::Repeat { first: row.position })),
        Some(row) => Some(Fate::Excepted(Exception::Conflict { first: row.position })),
        None if *position < lost => Some(Fate::Lost),
        None => Some(Fate::Dead),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Position = Position::new(2, 0);

    fn asked(position: Position) -> Asked {
        Asked { position, id: MessageId::nil(), digest: 7, room: RoomId::new("a").expect("a name") }
    }

    fn row(offset: u128, room: &str, digest: u64) -> Option<Located> {
        Some(Located::new(Position::new(1, offset), RoomId::new(room).expect("a name"), digest))
    }

    #[test]
    fn each_has_the_fate_that_the_history_shows() {
        let (at, first) = (Position::new(1, 5), Position::new(1, 3));
        for (found, expected) in [
            (row(5, "a", 7), None),
            (row(3, "a", 7), Some(Fate::Excepted(Exception::Repeat { first }))),
            (row(3, "a", 8), Some(Fate::Excepted(Exception::Conflict { first }))),
            (row(3, "b", 7), Some(Fate::Excepted(Exception::Conflict { first }))),
            (row(5, "b", 7), Some(Fate::Excepted(Exception::Conflict { first: at }))),
            (None, Some(Fate::Lost)),
        ] {
            assert_eq!(fate(&asked(at), found.clone(), LOST), expected, "{found:?}");
        }
        assert_eq!(fate(&asked(Position::new(2, 1)), None, LOST), Some(Fate::Dead));
    }
}

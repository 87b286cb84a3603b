//! Telling repeats where the log alone decides what is shown: by what is remembered of it, and by the history for what is older.

use std::collections::HashMap;
use std::time::Duration;

use super::{Gate, Relay};
use crate::answers::Fate;
use crate::broker::Delivered;
use crate::dedup::{First, Recall};
use crate::store::{LARGEST_PAGE, Located, MessageStore};
use crate::{ErrorKind, Message, MessageId, Position, Result};

/// How long the history's news are waited for before its watermark is looked up.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Relay {
    /// Tells repeats, where the log alone decides.
    pub(super) async fn fold(&mut self, batch: &[Delivered]) -> Vec<(Position, Fate)> {
        let mut fates = Vec::new();
        let Gate::Accepted(dedup, _) = &mut self.gate else { return fates };
        if self.history.is_some() {
            dedup.settle(self.state.watermark);
        }
        for batch in batch.chunks(dedup.reach()) {
            let found = self.find_firsts(batch).await;
            let Gate::Accepted(dedup, _) = &mut self.gate else { return fates };
            for entry in batch {
                self.state.cleared = entry.position;
                match Message::peek(&entry.bytes) {
                    Some(header) => {
                        let exception = dedup.admit(&header, entry.position, found.get(&header.id));
                        fates.extend(exception.map(|exception| (entry.position, Fate::Excepted(exception))));
                    }
                    None => dedup.pass(),
                }
            }
        }
        fates
    }

    /// The first copies of messages in `batch`, at most what the fold remembers: those that it knows by now, and those that the
    /// history has of what it has forgotten.
    async fn find_firsts(&mut self, batch: &[Delivered]) -> HashMap<MessageId, First> {
        let mut firsts = HashMap::new();
        let (Gate::Accepted(dedup, _), Some(history)) = (&self.gate, self.history.clone()) else { return firsts };
        let mut ids = Vec::new();
        for header in batch.iter().filter_map(|entry| Message::peek(&entry.bytes)) {
            match dedup.recall(&header) {
                Recall::Known(first) => _ = firsts.insert(header.id, first),
                Recall::Old => ids.push(header.id),
                Recall::New => {}
            }
        }
        let since = dedup.since();
        if !ids.is_empty() && self.is_in_history(&*history, since).await {
            match futures::future::try_join_all(ids.chunks(LARGEST_PAGE).map(|ids| find(&*history, ids))).await {
                Ok(found) => {
                    let found = ids.into_iter().zip(found.into_iter().flatten());
                    firsts.extend(found.filter_map(|(id, located)| Some((id, First::from(&located?)))));
                }
                Err(error) => {
                    tracing::warn!(log = self.log.0, %error, "the history was not asked; a repeat of an old message may be shown")
                }
            }
        }
        firsts
    }

    /// Waits until the history has the log up to there, taking in its news meanwhile. Not while the node starts: its writers begin
    /// after the relays, and nobody is shown anything yet. False when the history takes nothing any more.
    async fn is_in_history(&mut self, history: &dyn MessageStore, since: Position) -> bool {
        while self.state.starting.is_none() && self.state.watermark < since {
            match history.watermark(self.log).await {
                Ok(watermark) if watermark >= since => break,
                Err(error) if error.kind() == ErrorKind::Closed => return false,
                Ok(_) | Err(_) => {}
            }
            let Gate::Accepted(_, Some(news)) = &mut self.gate else { return false };
            match tokio::time::timeout(LOOK_AGAIN, news.recv()).await {
                Ok(Some(committed)) => self.committed(committed),
                Ok(None) => return false,
                Err(_) => {}
            }
        }
        true
    }
}

/// Looks ids up until the history answers, or is closed.
pub(super) async fn find(history: &dyn MessageStore, ids: &[MessageId]) -> Result<Vec<Option<Located>>> {
    loop {
        match history.locate(ids).await {
            Err(error) if error.is_transient() => tokio::time::sleep(LOOK_AGAIN).await,
            found => return found,
        }
    }
}

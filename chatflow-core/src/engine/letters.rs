//! Messages that can't be stored or published.

use super::{Engine, PublishError, Published, ended};
use crate::answers::is_buried;
use crate::letters::Shelf;
use crate::{DeadLetter, LogId, Message, Position, Result};

impl Engine {
    /// Puts a message aside that can't be published.
    ///
    /// # Errors
    /// It could not be kept.
    pub(crate) async fn bury(&self, letter: DeadLetter) -> Result<()> {
        self.inner.letters.put(letter).await?;
        self.inner.counters.dead_letters.add(1);
        Ok(())
    }

    /// Dead letters on one shelf whose place is after `after`, by log and position, at most `limit`. A letter on its way from the
    /// node into the database may be on both.
    ///
    /// # Errors
    /// They can't be read.
    pub async fn dead_letters(&self, shelf: Shelf, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
        self.inner.letters.list(shelf, after, limit).await
    }

    /// Publishes a dead letter again, under the id that it has, and forgets it once the history has it (without a history: once the
    /// broker holds it). Again, or at the same time on another node, the message is in the history once.
    ///
    /// # Cancel safety
    /// When dropped, the message may or may not be published, and the letter may still be there: replay it again.
    ///
    /// # Errors
    /// As of [`publish`](Self::publish), with [`Corrupt`](crate::ErrorKind::Corrupt) for an entry that is no message; the letter stays. A message that the
    /// history refuses again is a letter of another place by then, in place of this one.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<Published, PublishError> {
        let message = Message::decode(letter.entry.clone())?;
        let (_, answer) = self.submit(message)?;
        let outcome = answer.await.unwrap_or_else(|_| Err(ended().into()));
        if outcome.is_ok() || matches!(&outcome, Err(PublishError::Failed(error)) if is_buried(error)) {
            self.discard_dead_letter(letter.log, letter.position).await?;
        }
        outcome
    }

    /// Forgets a dead letter, on both shelves; `false` when there is none.
    ///
    /// # Errors
    /// It may still be on one of them.
    pub async fn discard_dead_letter(&self, log: LogId, position: Position) -> Result<bool> {
        self.inner.letters.discard(log, position).await
    }
}

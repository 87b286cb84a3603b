//! Dead letters of a node: those in its own keeping, and those in the history's database.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::store::MessageStore;
use crate::{Backoff, DeadLetter, DeadLetters, ErrorKind, LogId, Position, Result};

/// How often the node's own letters are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Pauses while the database does not take them.
const AWAY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
/// Letters that are moved at a time.
const STEP: usize = 100;

/// Where a dead letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// In the node's own keeping: a file, which works while the database does not.
    Node,
    /// In the history's database, where every node sees it that uses it.
    Store,
}

/// The dead letters that a node can get at.
///
/// They are put into its own keeping first, and moved into the database as soon as that takes them. On the way a letter may be in both:
/// it has one place, which tells that it is one.
#[derive(Debug)]
pub(crate) struct Letters {
    own: Arc<dyn DeadLetters>,
    store: Option<Arc<dyn MessageStore>>,
    /// Held while letters are moved or discarded: what is discarded on its way must not arrive.
    moving: Mutex<()>,
}

impl Letters {
    pub(crate) fn new(own: Arc<dyn DeadLetters>, store: Option<Arc<dyn MessageStore>>) -> Self {
        Self { own, store, moving: Mutex::default() }
    }

    fn shelf(&self, shelf: Shelf) -> Option<&dyn DeadLetters> {
        match shelf {
            Shelf::Node => Some(&*self.own),
            Shelf::Store => self.store.as_ref()?.dead_letters(),
        }
    }

    /// Keeps a letter here.
    pub(crate) async fn put(&self, letter: DeadLetter) -> Result<()> {
        self.own.put(&[letter]).await
    }

    /// See [`DeadLetters::list`].
    pub(crate) async fn list(&self, shelf: Shelf, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
        match self.shelf(shelf) {
            Some(letters) => letters.list(after, limit).await,
            None => Ok(Vec::new()),
        }
    }

    /// Forgets a letter wherever it is; whether it was anywhere.
    pub(crate) async fn discard(&self, log: LogId, position: Position) -> Result<bool> {
        let _moving = self.moving.lock().await;
        let own = self.own.discard(log, position).await?;
        Ok(match self.shelf(Shelf::Store) {
            Some(letters) => letters.discard(log, position).await? || own,
            None => own,
        })
    }

    /// Moves letters into the database for as long as it is polled.
    pub(crate) async fn keep_moving(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            match self.move_all().await {
                Ok(()) => failures = 0,
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => {
                    tracing::debug!(%error, "dead letters stay where they are for now");
                    failures += 1;
                }
            }
            sleep(if failures == 0 { LOOK } else { LOOK + AWAY.delay(failures) }).await;
        }
    }

    /// Moves what the database takes. A letter that it will never take, as it did not take the message, stays here.
    async fn move_all(&self) -> Result<()> {
        let Some(store) = self.shelf(Shelf::Store) else { return Ok(()) };
        let mut after = None;
        loop {
            let _moving = self.moving.lock().await;
            let letters = self.own.list(after, STEP).await?;
            let Some(last) = letters.last() else { return Ok(()) };
            after = Some(last.place());
            match store.put(&letters).await {
                Ok(()) => self.forget(&letters).await?,
                Err(error) if error.kind() == ErrorKind::Invalid => {
                    for letter in letters {
                        match store.put(std::slice::from_ref(&letter)).await {
                            Ok(()) => self.forget(&[letter]).await?,
                            Err(error) if error.kind() == ErrorKind::Invalid => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn forget(&self, letters: &[DeadLetter]) -> Result<()> {
        for letter in letters {
            self.own.discard(letter.log, letter.position).await?;
        }
        Ok(())
    }
}

/// The place right before this one of [letters](DeadLetter::place), or `None`: what is listed after it begins with this one.
pub fn place_before(log: LogId, Position { epoch, offset }: Position) -> Option<(LogId, Position)> {
    let log_before = || Some((LogId(log.0.checked_sub(1)?), Position::MAX));
    match (epoch, offset) {
        (0, 0) => log_before(),
        (_, 0) => Some((log, Position::new(epoch - 1, u128::MAX))),
        (_, _) => Some((log, Position::new(epoch, offset - 1))),
    }
}

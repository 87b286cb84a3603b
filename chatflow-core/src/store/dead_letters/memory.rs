//! Dead letters that go with the process.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{MOST, full};
use crate::store::{DeadLetter, DeadLetters};
use crate::{LogId, Position, Result};

/// [`DeadLetters`] in memory: for tests, and beside a store that is no more durable itself.
#[derive(Debug, Default)]
pub struct MemoryDeadLetters {
    letters: Mutex<BTreeMap<(LogId, Position), DeadLetter>>,
}

impl MemoryDeadLetters {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl DeadLetters for MemoryDeadLetters {
    async fn put(&self, letters: &[DeadLetter]) -> Result<()> {
        let mut kept = self.letters.lock();
        if kept.len() + letters.len() > MOST {
            return Err(full("memory dead letters"));
        }
        for letter in letters {
            kept.entry(letter.place()).or_insert_with(|| letter.clone());
        }
        Ok(())
    }

    async fn list(&self, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.letters.lock().range((from, Bound::Unbounded)).take(limit).map(|(_, letter)| letter.clone()).collect())
    }

    async fn discard(&self, log: LogId, position: Position) -> Result<bool> {
        Ok(self.letters.lock().remove(&(log, position)).is_some())
    }
}

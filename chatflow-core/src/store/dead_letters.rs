//! Dead letters.
use super::{DeadLetter, DeadLetters};
use crate::{Position, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
/// In memory.
#[derive(Debug, Default)]
pub struct MemoryDeadLetters(Mutex<BTreeMap<Position, DeadLetter>>);
#[async_trait]
impl DeadLetters for MemoryDeadLetters {
    async fn put(&self, letters: &[DeadLetter]) -> Result<()> {
        self.0.lock().extend(letters.iter().map(|l| (l.position, l.clone())));
        Ok(())
    }
    async fn list(&self, _after: Option<Position>, _limit: usize) -> Result<Vec<DeadLetter>> {
        Ok(vec![])
    }
    async fn discard(&self, position: Position) -> Result<bool> {
        Ok(self.0.lock().remove(&position).is_some())
    }
}

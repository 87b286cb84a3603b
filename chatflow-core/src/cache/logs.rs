//! Something of each log.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::LogId;

/// One for each log, as soon as somebody asks; there are as many as the broker has.
#[derive(Debug, Default)]
pub(super) struct Logs<T>(RwLock<Vec<Arc<T>>>);

impl<T: Default> Logs<T> {
    pub(super) fn of(&self, log: LogId) -> Arc<T> {
        let index = usize::from(log.0);
        if let Some(of) = self.0.read().get(index) {
            return Arc::clone(of);
        }
        let mut logs = self.0.write();
        if logs.len() <= index {
            logs.resize_with(index + 1, Arc::default);
        }
        Arc::clone(&logs[index])
    }
}

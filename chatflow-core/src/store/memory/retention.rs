//! Letting go of what is old.

use async_trait::async_trait;

use super::MemoryStore;
use crate::store::retention::removable;
use crate::store::{LARGEST_PAGE, Lease, Retention};
use crate::{Result, RoomId, Timestamp};

#[async_trait]
impl Retention for MemoryStore {
    async fn remove(&self, lease: &Lease, room: &RoomId, before: Timestamp, limit: usize) -> Result<usize> {
        let limit = limit.min(LARGEST_PAGE);
        self.write(|history| {
            let through = history.held(lease)?.through.min(lease.through);
            let Some(messages) = history.rooms.get(room) else { return Ok(0) };
            let times: Vec<_> = messages.range(..=through).take(limit + 1).map(|(_, message)| message.at).collect();
            let count = removable(&times, before, limit);
            history.forget(room, count);
            Ok(count)
        })
    }
}

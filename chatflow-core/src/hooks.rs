//! Places where an application looks on or steps in.

use crate::auth::Identity;
use crate::{Message, Position, RoomId, Violation};

/// Called by the engine as things happen. Every method has a default that does nothing.
///
/// # Guarantees
/// 1. Hooks run on the engine's own tasks and must not wait: hand long work to a task.
/// 2. `on_message` may refuse; once `on_published` is called for a message, members of this node are about to see it,
///    in log order, each once. Without members on this node it is not called.
pub trait Hooks: Send + Sync + 'static {
    /// A session became a member of a room.
    fn on_join(&self, _session: u64, _who: &Identity, _room: &RoomId) {}

    /// A session is no longer a member of a room.
    fn on_leave(&self, _session: u64, _who: &Identity, _room: &RoomId) {}

    /// A valid message is about to be submitted.
    ///
    /// # Errors
    /// Refuses it; the sender is told why.
    fn on_message(&self, _message: &Message) -> Result<(), Vec<Violation>> {
        Ok(())
    }

    /// A message is being shown to the members on this node.
    fn on_published(&self, _message: &Message, _position: Position) {}
}

/// No hooks.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}

//! One session in one room.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::outlet::Outlet;
use super::room::Room;
use crate::protocol::{Dialect, MemberInfo};
use crate::{LogId, RoomId};

/// One session's membership of one room: a cursor into the room's log.
pub struct Member {
    /// The session.
    pub session: u64,
    /// The room.
    pub room: RoomId,
    /// The log that the room lives in.
    pub log: LogId,
    /// Whether its own messages are passed over.
    pub others_only: bool,
    /// Which dialect its connection speaks.
    pub dialect: Dialect,
    /// Where its frames go.
    pub outlet: Arc<Outlet>,
    who: Mutex<MemberInfo>,
    /// How much of the room's log was written: bytes and messages since the room began. Only the holder of the
    /// room's turn, or whoever makes it a member, moves them.
    offset: AtomicU64,
    index: AtomicU64,
    gone: AtomicBool,
    /// Whether it reads the past before it can be joined.
    pub(super) parked: AtomicBool,
    /// Whether it stands in its outlet's list of members to serve once the socket takes more.
    pub(super) waits: AtomicBool,
    /// Whether its socket is full and it stands behind; the holder of the room's turn keeps it.
    pub(super) lagging: AtomicBool,
    /// Whether it was told who else is there.
    greeted: AtomicBool,
    pub(super) home: Mutex<Option<Arc<Room>>>,
}

impl Member {
    /// A membership to be joined.
    pub fn new(room: RoomId, log: LogId, outlet: Arc<Outlet>, dialect: Dialect, others_only: bool, who: MemberInfo) -> Arc<Self> {
        Arc::new(Self {
            session: outlet.session(),
            room,
            log,
            others_only,
            dialect,
            outlet,
            who: Mutex::new(who),
            offset: AtomicU64::new(0),
            index: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            lagging: AtomicBool::new(false),
            greeted: AtomicBool::new(false),
            home: Mutex::new(None),
        })
    }

    /// Who it is, as far as is known.
    pub fn who(&self) -> MemberInfo {
        self.who.lock().clone()
    }

    /// Whether nobody knows who it is.
    pub fn is_unnamed(&self) -> bool {
        self.who.lock().user_id.is_none()
    }

    /// Notes who it is; whether that is news.
    pub fn rename(&self, user: &str, name: &str) -> bool {
        let mut who = self.who.lock();
        if who.user_id.as_deref() == Some(user) && who.username.as_deref() == Some(name) {
            return false;
        }
        who.user_id = Some(user.to_owned());
        who.username = Some(name.to_owned());
        true
    }

    /// Whether it was not told before who else is there; from now on it was.
    pub(crate) fn greet(&self) -> bool {
        !self.greeted.swap(true, Relaxed)
    }

    pub(super) fn cursor(&self) -> (u64, u64) {
        (self.offset.load(Relaxed), self.index.load(Relaxed))
    }

    pub(super) fn set_cursor(&self, offset: u64, index: u64) {
        self.offset.store(offset, Relaxed);
        self.index.store(index, Relaxed);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Whether it had not gone before.
    pub(super) fn go(&self) -> bool {
        !self.gone.swap(true, Relaxed)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("session", &self.session).field("room", &self.room).finish_non_exhaustive()
    }
}

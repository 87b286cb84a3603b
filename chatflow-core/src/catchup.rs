//! The past, for a member that is behind what is in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::engine::Inner;
use crate::protocol::close;
use crate::registry::{Member, NotThere, Start};
use crate::store::{MessageStore, Page};
use crate::{LogId, PageQuery, Position, Result, RoomId};

/// Messages of one page.
const PAGE: usize = 500;
/// Bytes that may wait for the member before the next page is read.
const WAITING: usize = 256 << 10;
/// How long the history may be away before the member is sent off to come back later.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the past begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Past {
    /// With the first message after this position.
    After(Position),
    /// With the last so many.
    Newest(usize),
}

/// Leaves the past in the member's outlet, page by page, and joins it where memory begins.
///
/// Each page ends at what the node has seen, at most, so that nothing is sent here that the room will send again; and the
/// member only joins where everything after the last page is in memory. What is removed between two pages closes the connection (3010). `begins` is told the position before the first page, or
/// `None` when the history does not reach back to it: then nothing was sent, and the member was not joined.
///
/// # Cancel safety
/// When dropped, the member is not joined, or joined and behaves like any other; leave it either way.
pub(crate) async fn catch_up(
    engine: Arc<Inner>,
    store: Arc<dyn MessageStore>,
    member: Arc<Member>,
    past: Past,
    begins: impl FnOnce(Option<Position>) + Send,
) {
    let pages = Pages { engine: &engine, store: &*store, log: member.log, room: &member.room };
    let Some(place) = member.outlet.place_for_a_page(WAITING).await else { return };
    let first = match past {
        Past::After(position) => pages.after(&member, position).await,
        Past::Newest(n) => pages.read(&member, |end| PageQuery { before: Some(end), ..PageQuery::latest(n) }).await,
    };
    let Some((page, seen)) = first else { return };
    let since = page.since;
    let oldest = page.messages.first().map(|stored| stored.position);
    let (mut last, more) = match past {
        Past::After(position) if position < page.since => return begins(None),
        Past::After(position) => (position, page.more),
        Past::Newest(_) => (oldest.map_or(seen, |p| Position::new(p.epoch, p.offset.saturating_sub(1))), false),
    };
    begins(Some(last));
    last = engine.show_page(&member, &page, last, more, seen);
    drop(place);
    loop {
        match engine.registry.join(&member, Start::After(last), &engine.show, &mut |_| ()) {
            Ok(()) | Err(NotThere::Ahead { .. }) => return,
            Err(NotThere::Behind { .. }) => {}
        }
        let Some(place) = member.outlet.place_for_a_page(WAITING).await else { return };
        let Some((page, seen)) = pages.after(&member, last).await else { return };
        if since < page.since && last < page.since {
            // What is old was removed meanwhile. In the middle of a room there is no other word for it, in either dialect.
            return member.outlet.close(close::POSITION_LOST, "not_kept");
        }
        let next = engine.show_page(&member, &page, last, page.more, seen);
        drop(place);
        if next == last {
            // The history has not reached what memory begins with: the writer is behind.
            sleep(Duration::from_millis(20)).await;
        }
        last = next;
    }
}

impl Inner {
    /// Leaves a page in a member's outlet. Answers with the position up to which the member then has everything, if it had up
    /// to `last`: with `more` to come, that of the last message; else what the node had `seen` when the page was read.
    fn show_page(&self, member: &Member, page: &Page, last: Position, more: bool, seen: Position) -> Position {
        member.outlet.push(|out| {
            for stored in &page.messages {
                self.show.frame(&stored.message, stored.position, out);
            }
        });
        let shown = page.messages.last().map_or(last, |stored| stored.position);
        if more { shown } else { shown.max(seen.min(page.through)) }
    }
}

struct Pages<'a> {
    engine: &'a Inner,
    store: &'a dyn MessageStore,
    log: LogId,
    room: &'a RoomId,
}

impl Pages<'_> {
    /// The page after `last`.
    async fn after(&self, member: &Member, last: Position) -> Option<(Page, Position)> {
        self.read(member, |end| PageQuery { before: Some(end), ..PageQuery::after(last, PAGE) }).await
    }

    /// Reads a page that ends, at most, at what the node has seen. `None`: the history is away, and the member was sent off.
    async fn read(&self, member: &Member, query: impl Fn(Position) -> PageQuery) -> Option<(Page, Position)> {
        let until = Instant::now() + PATIENCE;
        loop {
            // What is shown here must not be shown by the room again: the page ends where the node is.
            let seen = self.engine.registry.progress(self.log);
            let end = Position::new(seen.epoch, seen.offset.saturating_add(1));
            match self.page(&query(end)).await {
                Ok(page) => return Some((page, seen)),
                Err(error) if error.is_transient() && Instant::now() < until => sleep(Duration::from_millis(100)).await,
                Err(error) => {
                    tracing::warn!(room = %self.room, %error, "the past can't be read");
                    member.outlet.close(close::OVERLOADED, "the history is away: come back later");
                    return None;
                }
            }
        }
    }

    /// The gate: so many read at the same time, whoever comes back.
    async fn page(&self, query: &PageQuery) -> Result<Page> {
        let _turn = self.engine.catch_ups.acquire().await;
        let page = self.store.page(self.log, self.room, query).await?;
        self.engine.counters.caught_up.add(page.messages.len() as u64);
        Ok(page)
    }
}

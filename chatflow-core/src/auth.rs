//! Who is there, and what they may do.

#[cfg(feature = "accounts")]
mod accounts;
#[cfg(feature = "accounts")]
mod passwords;
#[cfg(feature = "accounts")]
mod token;

#[cfg(feature = "accounts")]
pub use accounts::{AccountAuthenticator, AccountSettings, Issued};
#[cfg(feature = "accounts")]
pub use passwords::{LONGEST_PASSWORD, Passwords, SHORTEST_PASSWORD};

use std::fmt::{self, Debug};
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use crate::{Error, ErrorKind, Result, RoomId, UserId};

/// What a client shows to say who it is. Its `Debug` hides token and ticket.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Credentials {
    /// A bearer token, from the header or the subprotocol.
    pub token: Option<String>,
    /// A ticket, from the URL: good for one connection.
    pub ticket: Option<String>,
    /// Where the client connects from.
    pub address: Option<IpAddr>,
}

impl Credentials {
    /// These credentials.
    pub fn new(token: Option<String>, address: Option<IpAddr>) -> Self {
        Self { token, ticket: None, address }
    }

    /// With a ticket.
    #[must_use]
    pub fn with_ticket(mut self, ticket: Option<String>) -> Self {
        self.ticket = ticket;
        self
    }
}

impl Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "…");
        let (token, ticket) = (hidden(&self.token), hidden(&self.ticket));
        f.debug_struct("Credentials").field("token", &token).field("ticket", &ticket).field("address", &self.address).finish()
    }
}

/// Who is connected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Identity {
    /// The authenticated user; `None` for an anonymous connection, which may claim any `userId`.
    pub user: Option<UserId>,
    /// The name that goes with it, if the authenticator knows one; then messages must carry it.
    pub name: Option<bytestring::ByteString>,
}

impl Identity {
    /// An authenticated user.
    pub fn user(id: impl Into<UserId>) -> Self {
        Self { user: Some(id.into()), name: None }
    }
}

/// Finds out who is connecting.
///
/// # Cancel safety
/// A call is dropped when it takes longer than the engine's `authentication` time-out.
#[async_trait]
pub trait Authenticator: Debug + Send + Sync + 'static {
    /// Who shows these credentials.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`]: the connection is closed with 3500. Anything else: 1011, come back later.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity>;
}

#[async_trait]
impl<A: Authenticator + ?Sized> Authenticator for Arc<A> {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity> {
        (**self).authenticate(credentials).await
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Be a member, and read the room's history.
    Join,
    /// Publish into the room.
    Publish,
}

/// Decides what an identity may do. Called for each join and each publish, so it must not wait.
pub trait Authorizer: Debug + Send + Sync + 'static {
    /// Whether `who` may do `action` in `room`.
    fn allows(&self, who: &Identity, action: Action, room: &RoomId) -> bool;
}

/// Everybody is anonymous. A token or ticket is refused: who shows one expects it to count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

#[async_trait]
impl Authenticator for Anonymous {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity> {
        match (&credentials.token, &credentials.ticket) {
            (None, None) => Ok(Identity::default()),
            _ => Err(Error::new(ErrorKind::Unauthenticated, "auth", "this server takes no tokens")),
        }
    }
}

/// Everybody may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _who: &Identity, _action: Action, _room: &RoomId) -> bool {
        true
    }
}

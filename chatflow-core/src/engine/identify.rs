//! Who connects.

use std::sync::Arc;

use tokio::time::timeout;

use super::{Authentication, ConnectRequest, Engine};
use crate::ErrorKind;
use crate::auth::{Credentials, Identity};
use crate::protocol::close;
use crate::registry::Outlet;

impl Engine {
    /// Who is connecting; `None` when it was told to go.
    pub(super) async fn identify(&self, outlet: &Arc<Outlet>, request: &ConnectRequest) -> Option<Identity> {
        if self.is_draining() {
            outlet.close(close::RESTARTING, "the server is shutting down");
            return None;
        }
        let Authentication(found) = match &request.authentication {
            Some(known) => known.clone(),
            None => self.authenticate(&request.credentials).await,
        };
        found.map_err(|(code, reason)| outlet.close(code, reason)).ok()
    }

    /// Finds out who shows `credentials`, for a [`ConnectRequest`] that has more to be decided before it is let in. Takes as long as
    /// [`Settings::authentication`](crate::Settings) allows, at most. Whoever is to be told to go is told by [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// A ticket may have been used up.
    pub async fn authenticate(&self, credentials: &Credentials) -> Authentication {
        let inner = &self.inner;
        let asked = Box::pin(timeout(inner.settings.authentication, inner.authenticator.authenticate(credentials))).await;
        Authentication(match asked {
            Ok(Ok(who)) => Ok(who),
            Ok(Err(error)) if error.kind() == ErrorKind::Unauthenticated => Err((close::BAD_TOKEN, "the token is not valid")),
            Ok(Err(error)) => {
                tracing::error!(%error, "the authenticator failed");
                Err((close::INTERNAL, "who you are can't be found out now"))
            }
            Err(_) => Err((close::INTERNAL, "finding out who you are took too long")),
        })
    }
}

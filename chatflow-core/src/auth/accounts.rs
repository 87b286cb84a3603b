//! Who is connecting, by the accounts of a store.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::passwords::Passwords;
use super::token::{Claims, Signer, Use};
use super::{Authenticator, Credentials, Identity};
use crate::accounts::{self, Account, Accounts, MOST_ENDED};
use crate::{ByteString, Error, ErrorKind, MessageStore, Result, Timestamp, UserId};

/// Accounts of which it is remembered what they are like.
const REMEMBERED: usize = 10_000;

/// Tickets that were used and have not run out.
const USED_TICKETS: usize = 100_000;

/// How often a change is tried anew that another one came before.
const TRIES: usize = MOST_ENDED;

const ORIGIN: &str = "auth";

/// How an [`AccountAuthenticator`] behaves. Its `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountSettings {
    /// Whether everybody must show a token. Default: no, and whoever shows none is anonymous.
    pub required: bool,
    /// How long a token is good. Default 12 hours.
    pub token_ttl: Duration,
    /// How long a ticket is good. Default 30 seconds.
    pub ticket_ttl: Duration,
    /// How long a node may take to notice that a session was ended, an account removed or its password changed. Default 5 seconds.
    pub notice: Duration,
    /// What tokens are signed with; the store's own secret unless it is given.
    pub secret: Option<String>,
}

impl Default for AccountSettings {
    fn default() -> Self {
        let (token_ttl, ticket_ttl, notice) = (Duration::from_secs(12 * 3_600), Duration::from_secs(30), Duration::from_secs(5));
        Self { required: false, token_ttl, ticket_ttl, notice, secret: None }
    }
}

impl AccountSettings {
    /// With everybody having to show a token, or not.
    #[must_use]
    pub fn with_required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// With tokens and tickets that are good for so long.
    #[must_use]
    pub fn with_ttl(mut self, token: Duration, ticket: Duration) -> Self {
        (self.token_ttl, self.ticket_ttl) = (token, ticket);
        self
    }

    /// With what was ended elsewhere noticed after so long at the latest.
    #[must_use]
    pub fn with_notice(mut self, notice: Duration) -> Self {
        self.notice = notice;
        self
    }

    /// With tokens signed with this, the same on all nodes, instead of the store's own secret.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(secret.into());
        self
    }
}

impl Debug for AccountSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { required, token_ttl, ticket_ttl, notice, secret } = self;
        f.debug_struct("AccountSettings")
            .field("required", required)
            .field("token_ttl", token_ttl)
            .field("ticket_ttl", ticket_ttl)
            .field("notice", notice)
            .field("secret", &secret.as_ref().map(|_| "…"))
            .finish()
    }
}

/// What was issued: a token or a ticket. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// What to show from now on.
    pub token: String,
    /// Whose it is.
    pub user: UserId,
    /// The name that the user's messages must carry.
    pub name: ByteString,
    /// Until when it is good.
    pub expires: Timestamp,
}

impl Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("name", &self.name).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Knows users by the accounts of a store: logs them in with name and password, gives them signed tokens and takes those from then on, on
/// every node that uses the store or has the same [secret](AccountSettings::secret).
///
/// A token is good until it runs out, its session is [ended](Self::logout), or its account is removed or gets another password; nodes
/// notice within [`AccountSettings::notice`], the one that was told at once. Who is connected by then stays so. Where the store
/// can't be asked, nobody is let in by a token that was not looked up within that time, and none is called invalid for it.
#[derive(Debug)]
pub struct AccountAuthenticator {
    store: Arc<dyn MessageStore>,
    settings: AccountSettings,
    passwords: Passwords,
    signer: Signer,
    /// Neither is held across a wait.
    known: Mutex<HashMap<String, (Option<Standing>, Instant)>>,
    used: Mutex<HashMap<Uuid, Timestamp>>,
}

/// What decides on an account's tokens.
#[derive(Debug, Clone)]
struct Standing {
    stamp: Uuid,
    ended: Arc<[(Uuid, Timestamp)]>,
}

impl Standing {
    fn of(account: &Account) -> Self {
        Self { stamp: account.stamp, ended: account.ended.clone().into() }
    }

    fn allows(&self, claims: &Claims) -> bool {
        self.stamp == claims.stamp && !self.ended.iter().any(|(session, _)| *session == claims.sid)
    }
}

impl AccountAuthenticator {
    /// One that asks `store`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the store keeps no accounts; otherwise it could not be read.
    pub async fn open(store: Arc<dyn MessageStore>, settings: AccountSettings) -> Result<Self> {
        let none = || Error::new(ErrorKind::Config, ORIGIN, "this store keeps no accounts");
        let secret = match &settings.secret {
            Some(secret) => secret.clone().into(),
            None => store.accounts().ok_or_else(none)?.secret().await?,
        };
        store.accounts().ok_or_else(none)?;
        let signer = Signer::new(secret.as_bytes());
        Ok(Self { store, settings, passwords: Passwords::default(), signer, known: Mutex::default(), used: Mutex::default() })
    }

    /// Begins a session. A name that there isn't takes as long as a wrong password.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`]: name or password is wrong; [`ErrorKind::Full`]: too many log in at once; otherwise the store's.
    pub async fn login(&self, name: &str, password: &str) -> Result<Issued> {
        let asked = Instant::now();
        let account = if accounts::is_name(name) { self.accounts()?.find(name).await? } else { None };
        let kept = account.as_ref().map(|account| &account.password[..]);
        let is_right = self.passwords.are_equal(kept, password).await?;
        let account = account.filter(|_| is_right).ok_or_else(|| unauthenticated("name or password is wrong"))?;
        self.remember(&account.key(), Some(Standing::of(&account)), asked);
        let session = Uuid::new_v4();
        let (user, name) = (account.user, account.name);
        Ok(self.issue(user, name, session, session, account.stamp, Use::Session, self.settings.token_ttl))
    }

    /// Ends the session that `token` belongs to. One account remembers [`MOST_ENDED`] of them; one more ends all that it has.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthenticated`]: the token was worth nothing already; otherwise the store's.
    pub async fn logout(&self, token: &str) -> Result<()> {
        let claims = self.session(token).await?;
        let key = accounts::key(&claims.name);
        for _ in 0..TRIES {
            let found = self.accounts()?.find(&key).await?;
            let Some(account) = found.filter(|account| Standing::of(account).allows(&claims)) else {
                // Somebody else has done it already.
                self.known.lock().remove(&key);
                return Ok(());
            };
            let next = account.with_ended(claims.sid, claims.until(), Timestamp::now());
            if self.accounts()?.replace(account.edition, &next).await? {
                // As of now, so that an answer that was on its way to this node does not undo it.
                self.remember(&key, Some(Standing::of(&next)), Instant::now());
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Unavailable, ORIGIN, "the account is changed all the time"))
    }

    /// A ticket to open one connection with, for clients that can put nothing but a URL together. It goes with its session. Any node takes
    /// it, and each takes it once.
    ///
    /// # Errors
    /// As for [`Authenticator::authenticate`].
    pub async fn ticket(&self, token: &str) -> Result<Issued> {
        let claims = self.session(token).await?;
        let until = Duration::from_millis(u64::try_from(claims.until().0 - Timestamp::now().0).unwrap_or_default());
        let ttl = self.settings.ticket_ttl.min(until);
        Ok(self.issue(claims.sub, claims.name, Uuid::new_v4(), claims.sid, claims.stamp, Use::Ticket, ttl))
    }

    #[expect(clippy::too_many_arguments, reason = "it is what a token says")]
    fn issue(&self, user: UserId, name: ByteString, id: Uuid, session: Uuid, stamp: Uuid, purpose: Use, ttl: Duration) -> Issued {
        let now = Timestamp::now().0 / 1_000;
        let exp = now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)).min(i64::MAX / 1_000);
        let claims = Claims { sub: user.clone(), name: name.clone(), iat: now, exp, jti: id, sid: session, stamp, purpose };
        Issued { token: self.signer.sign(&claims), user, name, expires: claims.until() }
    }

    /// What a session's token says, if it is good.
    async fn session(&self, token: &str) -> Result<Claims> {
        let claims = self.signer.read(token, Use::Session);
        self.good(claims).await
    }

    /// What a ticket says, if it is good and was not used here.
    async fn once(&self, ticket: &str) -> Result<Claims> {
        let claims = self.good(self.signer.read(ticket, Use::Ticket)).await?;
        let mut used = self.used.lock();
        if used.len() >= USED_TICKETS {
            let now = Timestamp::now();
            used.retain(|_, until| *until > now);
        }
        if used.len() >= USED_TICKETS {
            return Err(Error::new(ErrorKind::Full, ORIGIN, "more tickets were used than are remembered"));
        }
        match used.insert(claims.jti, claims.until()) {
            None => Ok(claims),
            Some(_) => Err(unauthenticated("the ticket was used")),
        }
    }

    async fn good(&self, claims: Option<Claims>) -> Result<Claims> {
        let claims = claims.ok_or_else(|| unauthenticated("the token is not one of ours"))?;
        if claims.until() <= Timestamp::now() {
            return Err(unauthenticated("the token has run out"));
        }
        match self.standing(&accounts::key(&claims.name)).await? {
            Some(standing) if standing.allows(&claims) => Ok(claims),
            _ => Err(unauthenticated("the session was ended")),
        }
    }

    /// What the account is like, or was a moment ago; `None`: there is none.
    async fn standing(&self, key: &str) -> Result<Option<Standing>> {
        let known = self.known.lock().get(key).filter(|(_, at)| at.elapsed() < self.settings.notice).cloned();
        if let Some((standing, _)) = known {
            return Ok(standing);
        }
        // As of before the question: what is changed meanwhile is noticed in time.
        let asked = Instant::now();
        let standing = self.accounts()?.find(key).await?.as_ref().map(Standing::of);
        self.remember(key, standing.clone(), asked);
        Ok(standing)
    }

    fn remember(&self, key: &str, standing: Option<Standing>, at: Instant) {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED && !known.contains_key(key) {
            known.retain(|_, (_, at)| at.elapsed() < self.settings.notice);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        let newest = known.entry(key.to_owned()).or_insert_with(|| (standing.clone(), at));
        if newest.1 <= at {
            *newest = (standing, at);
        }
    }

    fn accounts(&self) -> Result<&dyn Accounts> {
        self.store.accounts().ok_or_else(|| Error::new(ErrorKind::Unavailable, ORIGIN, "this store keeps no accounts"))
    }
}

fn unauthenticated(why: &'static str) -> Error {
    Error::new(ErrorKind::Unauthenticated, ORIGIN, why)
}

#[async_trait]
impl Authenticator for AccountAuthenticator {
    /// The token counts where there is one, else the ticket; whoever shows neither is anonymous, or refused where accounts are
    /// [required](AccountSettings::required).
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity> {
        let claims = match (&credentials.token, &credentials.ticket) {
            (Some(token), _) => self.session(token).await?,
            (None, Some(ticket)) => self.once(ticket).await?,
            (None, None) if self.settings.required => return Err(unauthenticated("a token is needed")),
            (None, None) => return Ok(Identity::default()),
        };
        Ok(Identity { user: Some(claims.sub), name: Some(claims.name) })
    }
}

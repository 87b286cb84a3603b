//! Accounts: who may log in, kept by a store.

use std::fmt::{self, Debug};

use async_trait::async_trait;
use bytestring::ByteString;
use uuid::Uuid;

use crate::{Error, ErrorKind, Result, Timestamp, UserId};

/// Sessions of one account that were ended before their time, of which it is remembered: one more ends all that the account has.
pub const MOST_ENDED: usize = 64;

/// The longest id of a user, in bytes.
pub const LONGEST_USER_ID: usize = 128;

const ORIGIN: &str = "accounts";

/// Somebody who may log in. Its `Debug` hides the password's hash.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// What is logged in with and what messages carry: 3 to 20 of `[A-Za-z0-9]`, as it was written when the account was made. Names
    /// that differ in nothing but case are the same name: nobody can pass for `ada` as `Ada`.
    pub name: ByteString,
    /// Whose messages these are; no two accounts have one user. 1 to [`LONGEST_USER_ID`] bytes without control characters.
    pub user: UserId,
    /// The password's hash, a PHC string.
    pub password: ByteString,
    /// Tokens carry it. Where it is another by now, they are worth nothing.
    pub stamp: Uuid,
    /// The sessions that were ended while their tokens still ran, and until when those run. At most [`MOST_ENDED`].
    pub ended: Vec<(Uuid, Timestamp)>,
    /// When it was made.
    pub created: Timestamp,
    /// When its password was last set.
    pub changed: Timestamp,
    /// Another after every change: see [`Accounts::replace`].
    pub edition: Uuid,
}

impl Account {
    /// A new account.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the name or the user's id breaks its rule.
    pub fn new(name: &str, user: impl Into<UserId>, password: impl Into<ByteString>) -> Result<Self> {
        let (user, now) = (user.into(), Timestamp::now());
        if !is_name(name) {
            return Err(Error::new(ErrorKind::Invalid, ORIGIN, "a name is 3 to 20 of A-Z a-z 0-9"));
        }
        if user.is_empty() || user.len() > LONGEST_USER_ID || user.chars().any(char::is_control) {
            return Err(Error::new(ErrorKind::Invalid, ORIGIN, "a user's id is 1 to 128 bytes without control characters"));
        }
        let (stamp, edition) = (Uuid::new_v4(), Uuid::new_v4());
        let (name, password) = (name.into(), password.into());
        Ok(Self { name, user, password, stamp, ended: Vec::new(), created: now, changed: now, edition })
    }

    /// What its name is looked up by.
    pub fn key(&self) -> String {
        key(&self.name)
    }

    /// The same account with another password: all tokens are worth nothing.
    #[must_use]
    pub fn with_password(&self, password: impl Into<ByteString>) -> Self {
        Self { password: password.into(), changed: Timestamp::now(), ..self.with_all_ended() }
    }

    /// The same account without the session, whose token runs until `until`. What has run out by `now` is forgotten.
    #[must_use]
    pub fn with_ended(&self, session: Uuid, until: Timestamp, now: Timestamp) -> Self {
        let mut next = Self { edition: Uuid::new_v4(), ..self.clone() };
        next.ended.retain(|(_, until)| *until > now);
        if next.ended.len() >= MOST_ENDED {
            return self.with_all_ended();
        }
        next.ended.push((session, until));
        next
    }

    /// The same account without any session.
    #[must_use]
    pub fn with_all_ended(&self) -> Self {
        Self { stamp: Uuid::new_v4(), ended: Vec::new(), edition: Uuid::new_v4(), ..self.clone() }
    }

    /// [`ended`](Self::ended), as stores keep it: 24 bytes for each.
    #[cfg(any(test, feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn ended_bytes(&self) -> Vec<u8> {
        self.ended.iter().flat_map(|(session, until)| session.into_bytes().into_iter().chain(until.0.to_be_bytes())).collect()
    }

    /// The reverse of [`ended_bytes`](Self::ended_bytes); a rest of fewer bytes is nothing.
    #[cfg(any(test, feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn ended_from(bytes: &[u8]) -> Vec<(Uuid, Timestamp)> {
        let ended = |bytes: &[u8]| {
            let (session, until) = bytes.split_first_chunk()?;
            Some((Uuid::from_bytes(*session), Timestamp(i64::from_be_bytes(until.try_into().ok()?))))
        };
        bytes.chunks(24).filter_map(ended).collect()
    }
}

impl Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Whether `name` can be an account's.
pub fn is_name(name: &str) -> bool {
    (3..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// What a name is looked up by: itself in lower case.
pub fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// What became of a new account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    Done,
    /// Another has its name, in whatever case.
    NameTaken,
    /// Another has its user.
    UserTaken,
}

/// Keeps accounts: the part of a store that [`MessageStore::accounts`](crate::MessageStore::accounts) gives.
///
/// # Guarantees
/// The conformance suite's cases cite these numbers.
/// 1. **One name, one user.** Of accounts that are added at once, one gets the name, whatever its case, and one the user.
/// 2. **A change is of what was seen.** [`replace`](Self::replace) writes nothing where the account was changed, removed or made anew
///    since it was read; of changes at once, one is made.
/// 3. **Seen at once.** What a call that returned has done is seen by every later one, on whichever node: no copy that lags is asked.
/// 4. **Durable** as the store's commits are.
/// 5. **One secret.** [`secret`](Self::secret) is the same for everybody who uses the store, and nobody else's.
///
/// # Cancel safety
/// A dropped call that changes something may or may not have done so.
///
/// # Errors
/// Every call fails where the store can't be read or written.
#[async_trait]
pub trait Accounts: Debug + Send + Sync + 'static {
    /// Adds an account.
    async fn add(&self, account: &Account) -> Result<Added>;

    /// The account of that name, in whatever case.
    async fn find(&self, name: &str) -> Result<Option<Account>>;

    /// Puts `now` in the place of the account that is of `now`'s name and still of the edition `was`. Its name and user stay as they are.
    /// `false`: there is none.
    async fn replace(&self, was: Uuid, now: &Account) -> Result<bool>;

    /// Removes the account of that name; `false` when there is none.
    async fn remove(&self, name: &str) -> Result<bool>;

    /// Accounts by [key](Account::key), after `after`, at most `limit`.
    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>>;

    /// A random text of at least 32 bytes that was made with the store, to sign tokens with.
    async fn secret(&self) -> Result<ByteString>;
}

/// A random text for a new store to keep.
pub(crate) fn new_secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_follow_their_rules() {
        let long = "x".repeat(21);
        for bad in ["", "ab", &long, "ada lovelace", "ada\0", "Ädä", "ada-1"] {
            assert!(Account::new(bad, "1", "").is_err(), "{bad:?}");
        }
        let long = "x".repeat(129);
        for bad in ["", &long, "a\nb", "\0"] {
            assert!(Account::new("ada", bad, "").is_err(), "{bad:?}");
        }
        let ada = Account::new("Ada", "漢", "$argon2id$x").unwrap();
        assert_eq!((ada.key(), ada.user.as_ref()), ("ada".into(), "漢"));
        assert!(!format!("{ada:?}").contains("argon2id"));
    }

    #[test]
    fn what_is_remembered_of_ended_sessions_is_bounded() {
        let mut ada = Account::new("ada", "1", "").unwrap();
        let (stamp, now) = (ada.stamp, Timestamp(1_000));
        for n in 0..MOST_ENDED as i64 {
            ada = ada.with_ended(Uuid::new_v4(), Timestamp(2_000 + n), now);
        }
        assert_eq!((ada.ended.len(), ada.stamp), (MOST_ENDED, stamp));
        assert_eq!(Account::ended_from(&ada.ended_bytes()), ada.ended);
        // Some have run out.
        let later = ada.with_ended(Uuid::new_v4(), Timestamp(9_000), Timestamp(2_010));
        assert_eq!((later.ended.len(), later.stamp), (MOST_ENDED - 10, stamp));
        // None has.
        let all = ada.with_ended(Uuid::new_v4(), Timestamp(9_000), now);
        assert!(all.ended.is_empty() && all.stamp != stamp && all.edition != ada.edition);
    }

    #[test]
    fn a_new_password_ends_everything() {
        let ada = Account::new("ada", "1", "old").unwrap().with_ended(Uuid::new_v4(), Timestamp(i64::MAX), Timestamp(0));
        let next = ada.with_password("new");
        assert!(next.password == "new" && next.ended.is_empty() && next.stamp != ada.stamp && next.created == ada.created);
    }
}

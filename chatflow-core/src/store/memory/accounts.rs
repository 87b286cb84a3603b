//! Accounts in memory.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::ops::Bound;

use async_trait::async_trait;
use bytestring::ByteString;
use parking_lot::RwLock;
use uuid::Uuid;

use crate::accounts::{self, Account, Accounts, Added};
use crate::{Result, UserId};

/// Accounts that go with the process, by their keys.
pub(super) struct MemoryAccounts {
    secret: ByteString,
    accounts: RwLock<BTreeMap<String, Account>>,
}

impl Default for MemoryAccounts {
    fn default() -> Self {
        Self { secret: accounts::new_secret().into(), accounts: RwLock::default() }
    }
}

impl Debug for MemoryAccounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAccounts").finish_non_exhaustive()
    }
}

#[async_trait]
impl Accounts for MemoryAccounts {
    async fn add(&self, account: &Account) -> Result<Added> {
        let mut accounts = self.accounts.write();
        let has_user = |user: &UserId| accounts.values().any(|account| account.user == *user);
        Ok(match (accounts.contains_key(&account.key()), has_user(&account.user)) {
            (true, _) => Added::NameTaken,
            (false, true) => Added::UserTaken,
            (false, false) => {
                accounts.insert(account.key(), account.clone());
                Added::Done
            }
        })
    }

    async fn find(&self, name: &str) -> Result<Option<Account>> {
        Ok(self.accounts.read().get(&accounts::key(name)).cloned())
    }

    async fn replace(&self, was: Uuid, now: &Account) -> Result<bool> {
        let mut accounts = self.accounts.write();
        let Some(kept) = accounts.get_mut(&now.key()).filter(|kept| kept.edition == was) else { return Ok(false) };
        *kept = Account { name: kept.name.clone(), user: kept.user.clone(), created: kept.created, ..now.clone() };
        Ok(true)
    }

    async fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.accounts.write().remove(&accounts::key(name)).is_some())
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.accounts.read().range::<str, _>((from, Bound::Unbounded)).take(limit).map(|(_, account)| account.clone()).collect())
    }

    async fn secret(&self) -> Result<ByteString> {
        Ok(self.secret.clone())
    }
}

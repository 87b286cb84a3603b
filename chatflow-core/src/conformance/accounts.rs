//! The suite for [`Accounts`]: each case cites the guarantee that it tests. It takes the subjects of the
//! [store suite](crate::conformance::store).
//!
//! ```
//! use std::sync::Arc;
//!
//! use chatflow_core::conformance::store::Subject;
//! use chatflow_core::store::MemoryStore;
//!
//! async fn fresh() -> Subject {
//!     Subject::new(Arc::new(MemoryStore::new()))
//! }
//!
//! chatflow_core::accounts_suite!(memory_accounts, fresh);
//! # fn main() {}
//! ```

use std::sync::Arc;

use uuid::Uuid;

use super::store::Subject;
use crate::accounts::{Account, Accounts, Added, MOST_ENDED};
use crate::{MessageStore, Timestamp};

fn account(name: &str, user: &str) -> Account {
    Account::new(name, user.to_owned(), "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA").expect("cases name their accounts well")
}

fn accounts(store: &dyn MessageStore) -> &dyn Accounts {
    store.accounts().expect("the store keeps accounts")
}

/// What another node sees, or this one where there is none.
fn elsewhere(subject: &Subject) -> &dyn Accounts {
    accounts(subject.second().unwrap_or(&*subject.store))
}

async fn add(to: &dyn Accounts, account: &Account) -> Added {
    to.add(account).await.expect("a healthy store can be written")
}

async fn find(of: &dyn Accounts, name: &str) -> Option<Account> {
    of.find(name).await.expect("a healthy store can be read")
}

async fn keys(of: &dyn Accounts, after: Option<&str>, limit: usize) -> Vec<String> {
    let listed = of.list(after, limit).await.expect("a healthy store can be read");
    listed.iter().map(Account::key).collect()
}

/// Guarantee 1: a name is one name whatever its case, and a user has one account.
pub async fn g1_a_name_and_a_user_are_one_accounts(subject: &Subject) {
    let here = accounts(&*subject.store);
    let ada = account("Ada", "7");
    assert_eq!(add(here, &ada).await, Added::Done);
    assert_eq!(add(here, &account("ada", "8")).await, Added::NameTaken);
    assert_eq!(add(here, &account("aDA", "7")).await, Added::NameTaken);
    assert_eq!(add(here, &account("grace", "7")).await, Added::UserTaken);
    for name in ["Ada", "ada", "ADA"] {
        assert_eq!(find(here, name).await.as_ref(), Some(&ada), "as it was made");
    }
    assert_eq!(find(here, "grace").await, None);
    // Users are compared to the byte.
    for (name, user) in
        [("eve", "seven"), ("mallory", "Seven"), ("trent", "seven "), ("oscar", "a\\b"), ("peggy", "a\\\\b"), ("victor", "漢")]
    {
        assert_eq!(add(here, &account(name, user)).await, Added::Done, "{user:?}");
        assert_eq!(find(here, name).await.expect("added").user, user);
    }
}

/// Guarantee 1: of accounts that are added at once, one gets the name.
pub async fn g1_of_accounts_added_at_once_one_is(subject: &Subject) {
    let adding = (0..8).map(|n| {
        let store =
            if n % 2 == 0 { Arc::clone(&subject.store) } else { subject.second_store().unwrap_or_else(|| Arc::clone(&subject.store)) };
        tokio::spawn(async move {
            let name = if n % 4 < 2 { "Ada" } else { "aDa" };
            add(accounts(&*store), &account(name, &n.to_string())).await
        })
    });
    let mut done = 0;
    for added in adding.collect::<Vec<_>>() {
        match added.await.expect("no panic") {
            Added::Done => done += 1,
            other => assert_eq!(other, Added::NameTaken),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(keys(elsewhere(subject), None, 10).await, ["ada"]);
}

/// Guarantee 2: what was changed, removed or made anew since it was read stays as it is.
pub async fn g2_a_change_is_of_what_was_seen(subject: &Subject) {
    let (here, there) = (accounts(&*subject.store), elsewhere(subject));
    let first = account("ada", "7");
    add(here, &first).await;
    let second = find(there, "ada").await.expect("added").with_password("second");
    assert!(there.replace(first.edition, &second).await.expect("healthy"));
    assert!(!here.replace(first.edition, &first.with_password("late")).await.expect("healthy"));
    assert_eq!(find(here, "ada").await, Some(second.clone()));
    assert!(here.remove("ADA").await.expect("healthy"));
    assert!(!here.replace(second.edition, &second.with_password("late")).await.expect("healthy"));
    assert!(!here.remove("ada").await.expect("healthy"));
    let anew = account("ada", "7");
    assert_eq!(add(there, &anew).await, Added::Done, "name and user are free again");
    assert!(!here.replace(second.edition, &second.with_password("late")).await.expect("healthy"));
    assert_eq!(find(here, "ada").await, Some(anew));
}

/// Guarantee 2: of changes at once one is made, so that none is lost when each is tried until it is.
pub async fn g2_changes_at_once_are_all_made_in_the_end(subject: &Subject) {
    let mut kept = account("ada", "7");
    add(accounts(&*subject.store), &kept).await;
    let ending = (0..8u128).map(|n| {
        let store =
            if n % 2 == 0 { Arc::clone(&subject.store) } else { subject.second_store().unwrap_or_else(|| Arc::clone(&subject.store)) };
        tokio::spawn(async move {
            loop {
                let was = find(accounts(&*store), "ada").await.expect("added");
                let now = was.with_ended(Uuid::from_u128(n), Timestamp(i64::MAX), Timestamp(0));
                if accounts(&*store).replace(was.edition, &now).await.expect("healthy") {
                    break;
                }
            }
        })
    });
    for ended in ending.collect::<Vec<_>>() {
        ended.await.expect("no panic");
    }
    kept = find(elsewhere(subject), "ada").await.expect("added");
    let mut ended: Vec<_> = kept.ended.iter().map(|(session, _)| session.as_u128()).collect();
    ended.sort_unstable();
    assert_eq!(ended, (0..8).collect::<Vec<_>>());
}

/// Guarantee 3: whatever a call has done is seen on another node by the next one.
pub async fn g3_what_was_done_is_seen_at_once(subject: &Subject) {
    let (here, there) = (accounts(&*subject.store), elsewhere(subject));
    let mut ada = account("ada", "7");
    for n in 0..10 {
        assert_eq!(add(here, &ada).await, Added::Done);
        assert_eq!(find(there, "ada").await.as_ref(), Some(&ada), "round {n}");
        let next = ada.with_password(format!("round {n}"));
        assert!(there.replace(ada.edition, &next).await.expect("healthy"));
        assert_eq!(find(here, "ada").await, Some(next));
        assert!(here.remove("ada").await.expect("healthy"));
        assert_eq!(find(there, "ada").await, None);
        ada = account("ada", "7");
    }
}

/// Guarantee 4: accounts, and the absence of removed ones, outlive the process where the store does.
pub async fn g4_accounts_are_there_after_reopening(subject: &Subject) {
    let here = accounts(&*subject.store);
    let mut ada = account("Ada", "7");
    for n in 0..MOST_ENDED as u128 {
        ada = ada.with_ended(Uuid::from_u128(n), Timestamp(i64::MAX - 1), Timestamp(0));
    }
    ada.password = "x".repeat(200).into();
    add(here, &ada).await;
    add(here, &account("eve", "8")).await;
    assert!(here.remove("eve").await.expect("healthy"));
    let secret = here.secret().await.expect("healthy");
    let Some(store) = subject.reopened().await else { return };
    assert_eq!(accounts(&*store).list(None, 10).await.expect("readable"), [ada]);
    assert_eq!(accounts(&*store).secret().await.expect("readable"), secret);
}

/// Guarantee 5: all nodes have one secret.
pub async fn g5_the_secret_is_the_stores(subject: &Subject) {
    let secret = accounts(&*subject.store).secret().await.expect("readable");
    assert!(secret.len() >= 32);
    assert_eq!(elsewhere(subject).secret().await.expect("readable"), secret);
}

/// Accounts are listed by name, page by page.
pub async fn accounts_are_listed_by_name(subject: &Subject) {
    let here = accounts(&*subject.store);
    assert_eq!(keys(here, None, 10).await, [""; 0]);
    for (name, user) in [("Zoe", "1"), ("ada", "2"), ("Bob", "3"), ("bob2", "4"), ("0zero", "5")] {
        add(here, &account(name, user)).await;
    }
    assert_eq!(keys(here, None, 10).await, ["0zero", "ada", "bob", "bob2", "zoe"]);
    assert_eq!(keys(here, None, 2).await, ["0zero", "ada"]);
    assert_eq!(keys(here, Some("ada"), 2).await, ["bob", "bob2"]);
    assert_eq!(keys(here, Some("bob2"), 10).await, ["zoe"]);
}

/// Makes a `#[tokio::test]` of each case of the [accounts suite](crate::conformance::accounts), in a module `$name`. `$fresh` is an async
/// function that gives an empty store as a [`Subject`](crate::conformance::store::Subject). With `if: $there`, a case passes over what it
/// needs when that expression is false.
#[macro_export]
macro_rules! accounts_suite {
    ($name:ident, $fresh:ident) => {
        $crate::accounts_suite!($name, $fresh, if: true);
    };
    ($name:ident, $fresh:ident, if: $there:expr) => {
        $crate::accounts_suite!(@cases $name, $fresh, $there,
            g1_a_name_and_a_user_are_one_accounts
            g1_of_accounts_added_at_once_one_is
            g2_a_change_is_of_what_was_seen
            g2_changes_at_once_are_all_made_in_the_end
            g3_what_was_done_is_seen_at_once
            g4_accounts_are_there_after_reopening
            g5_the_secret_is_the_stores
            accounts_are_listed_by_name
        );
    };
    (@cases $name:ident, $fresh:ident, $there:expr, $($case:ident)*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    #[allow(unused_imports)]
                    use super::*;
                    if !$there {
                        return;
                    }
                    $crate::conformance::accounts::$case(&super::$fresh().await).await;
                }
            )*
        }
    };
}

//! Logging in: what a token is good for, until when, and on which node.

#![allow(clippy::unwrap_used)]

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use chatflow_core::accounts::Added;
use chatflow_core::auth::{AccountAuthenticator, AccountSettings, Issued, Passwords};
use chatflow_core::protocol::close;
use chatflow_core::store::MemoryStore;
use chatflow_core::{Account, Authenticator, Credentials, Engine, ErrorKind, Identity, MessageStore, Result};
use faulty::Faulty;
use serde_json::json;
use support::{Client, text};

const PASSWORD: &str = "correct horse";

async fn add(store: &dyn MessageStore, name: &str, user: &str) {
    let hash = Passwords::default().hash(PASSWORD).await.unwrap();
    let account = Account::new(name, user.to_owned(), hash).unwrap();
    assert_eq!(store.accounts().unwrap().add(&account).await.unwrap(), Added::Done);
}

async fn node(store: &Arc<MemoryStore>, settings: AccountSettings) -> AccountAuthenticator {
    AccountAuthenticator::open(Arc::clone(store) as Arc<dyn MessageStore>, settings).await.unwrap()
}

/// Two nodes on one store that keeps ada's account, both of which ask it each time.
async fn two_nodes() -> (Arc<MemoryStore>, AccountAuthenticator, AccountAuthenticator) {
    let store = Arc::new(MemoryStore::new());
    add(&*store, "Ada", "7").await;
    let settings = AccountSettings::default().with_notice(Duration::ZERO);
    let (one, two) = (node(&store, settings.clone()).await, node(&store, settings).await);
    (store, one, two)
}

async fn shows(node: &AccountAuthenticator, token: &str) -> Result<Identity> {
    node.authenticate(&Credentials::new(Some(token.to_owned()), None)).await
}

async fn shows_ticket(node: &AccountAuthenticator, ticket: &Issued) -> Result<Identity> {
    node.authenticate(&Credentials::default().with_ticket(Some(ticket.token.clone()))).await
}

fn is_refused<T: std::fmt::Debug>(result: Result<T>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn whoever_knows_the_password_gets_a_token_that_every_node_takes() {
    let (_, one, two) = two_nodes().await;
    let issued = one.login("ADA", PASSWORD).await.unwrap();
    assert_eq!((&*issued.user, &*issued.name), ("7", "Ada"));
    assert!(!format!("{issued:?}").contains(&issued.token));
    let who = shows(&two, &issued.token).await.unwrap();
    assert_eq!((who.user.as_deref(), who.name.as_deref()), (Some("7"), Some("Ada")));
    for (name, password) in
        [("Ada", "Correct horse"), ("Ada", ""), ("nobody", PASSWORD), ("", PASSWORD), ("a\0b", PASSWORD), ("Ada", &*"x".repeat(1 << 20))]
    {
        is_refused(one.login(name, password).await);
    }
    is_refused(shows(&two, "").await);
    is_refused(shows(&two, &issued.token[..issued.token.len() - 1]).await);
    assert_eq!(two.authenticate(&Credentials::default()).await.unwrap(), Identity::default(), "without a token one is anonymous");
}

#[tokio::test]
async fn a_name_that_there_isnt_takes_as_long_as_a_wrong_password() {
    let (_, one, _) = two_nodes().await;
    let mut least = [Duration::MAX; 2];
    for _ in 0..8 {
        for (name, least) in ["Ada", "nobody"].into_iter().zip(&mut least) {
            let begun = Instant::now();
            is_refused(one.login(name, "a wrong one").await);
            *least = begun.elapsed().min(*least);
        }
    }
    let [known, unknown] = least;
    assert!(unknown * 2 > known && known * 2 > unknown, "{known:?} {unknown:?}");
}

#[tokio::test]
async fn a_session_that_was_ended_is_ended_on_every_node_and_no_other_is() {
    let (store, one, two) = two_nodes().await;
    let (first, second) = (one.login("Ada", PASSWORD).await.unwrap(), two.login("Ada", PASSWORD).await.unwrap());
    let ticket = one.ticket(&first.token).await.unwrap();
    two.logout(&first.token).await.unwrap();
    is_refused(shows(&one, &first.token).await);
    is_refused(shows(&two, &first.token).await);
    is_refused(shows_ticket(&one, &ticket).await);
    is_refused(one.ticket(&first.token).await);
    is_refused(one.logout(&first.token).await);
    shows(&one, &second.token).await.unwrap();
    // Nothing grows without an end: the account is logged out as a whole at some time.
    for _ in 0..chatflow_core::accounts::MOST_ENDED {
        let token = one.login("Ada", PASSWORD).await.unwrap().token;
        one.logout(&token).await.unwrap();
    }
    is_refused(shows(&one, &second.token).await);
    assert!(store.accounts().unwrap().find("ada").await.unwrap().unwrap().ended.is_empty());
}

#[tokio::test]
async fn another_password_and_another_account_of_the_name_end_all_sessions() {
    let (store, one, two) = two_nodes().await;
    let accounts = store.accounts().unwrap();
    let token = one.login("Ada", PASSWORD).await.unwrap().token;
    let account = accounts.find("ada").await.unwrap().unwrap();
    assert!(accounts.replace(account.edition, &account.with_password(account.password.clone())).await.unwrap());
    is_refused(shows(&two, &token).await);
    let token = one.login("Ada", PASSWORD).await.unwrap().token;
    assert!(accounts.remove("ada").await.unwrap());
    is_refused(shows(&two, &token).await);
    add(&*store, "Ada", "7").await;
    is_refused(shows(&two, &token).await);
}

#[tokio::test]
async fn what_changed_elsewhere_is_noticed_in_time() {
    let (store, one, _) = two_nodes().await;
    let slow = node(&store, AccountSettings::default().with_notice(Duration::from_secs(3_600))).await;
    let quick = node(&store, AccountSettings::default().with_notice(Duration::from_millis(50))).await;
    let token = one.login("Ada", PASSWORD).await.unwrap().token;
    shows(&slow, &token).await.unwrap();
    shows(&quick, &token).await.unwrap();
    one.logout(&token).await.unwrap();
    shows(&slow, &token).await.unwrap();
    support::eventually("it is noticed", async || shows(&quick, &token).await.is_err()).await;
    // Whoever is told itself knows at once.
    slow.logout(&token).await.unwrap();
    is_refused(shows(&slow, &token).await);
}

#[tokio::test]
async fn tokens_run_out() {
    let store = Arc::new(MemoryStore::new());
    add(&*store, "Ada", "7").await;
    let brief = node(&store, AccountSettings::default().with_ttl(Duration::from_secs(1), Duration::from_secs(3_600))).await;
    let issued = brief.login("Ada", PASSWORD).await.unwrap();
    let ticket = brief.ticket(&issued.token).await.unwrap();
    assert!(ticket.expires <= issued.expires, "a ticket does not outlive its session");
    support::eventually("it runs out", async || shows(&brief, &issued.token).await.is_err()).await;
    is_refused(shows_ticket(&brief, &ticket).await);
}

#[tokio::test]
async fn a_ticket_opens_one_connection_and_nothing_else() {
    let (_, one, two) = two_nodes().await;
    let token = one.login("Ada", PASSWORD).await.unwrap().token;
    let ticket = one.ticket(&token).await.unwrap();
    let who = shows_ticket(&two, &ticket).await.unwrap();
    assert_eq!(who.user.as_deref(), Some("7"), "whichever node comes next");
    is_refused(shows_ticket(&two, &ticket).await);
    is_refused(shows(&one, &ticket.token).await);
    is_refused(one.ticket(&ticket.token).await);
    is_refused(one.authenticate(&Credentials::default().with_ticket(Some(token.clone()))).await);
    let both = Credentials::new(Some("nonsense".into()), None).with_ticket(Some(one.ticket(&token).await.unwrap().token));
    is_refused(one.authenticate(&both).await);
}

#[tokio::test]
async fn nodes_with_another_secret_take_no_token() {
    let (store, one, _) = two_nodes().await;
    let settings = AccountSettings::default().with_secret("a secret of the configuration's own");
    assert!(!format!("{settings:?}").contains("own"));
    let (other, same) = (node(&store, settings.clone()).await, node(&store, settings).await);
    is_refused(shows(&other, &one.login("Ada", PASSWORD).await.unwrap().token).await);
    let token = other.login("Ada", PASSWORD).await.unwrap().token;
    is_refused(shows(&one, &token).await);
    shows(&same, &token).await.unwrap();
}

#[tokio::test]
async fn where_accounts_are_required_nobody_is_anonymous() {
    let (store, one, _) = two_nodes().await;
    let strict = Arc::new(node(&store, AccountSettings::default().with_required(true)).await);
    is_refused(strict.authenticate(&Credentials::default()).await);
    let engine = Engine::builder().authenticator(Arc::clone(&strict)).build().await.unwrap();
    let mut stranger = Client::connect(&engine, support::request("7")).await;
    assert_eq!(stranger.closed().await, close::BAD_TOKEN);
    let mut request = support::request("7");
    request.credentials = Credentials::new(Some(one.login("Ada", PASSWORD).await.unwrap().token), None);
    let mut ada = Client::connect(&engine, request).await;
    let mut own = text("in my own name");
    (own["userId"], own["username"]) = (json!(7), json!("Ada"));
    ada.send(own).await;
    assert_eq!(ada.answer().await["status"], "SUCCESS");
    ada.send(text("in another's")).await;
    assert_eq!(ada.answer().await["code"], "forbidden");
}

#[tokio::test]
async fn while_the_store_is_away_no_token_is_called_invalid_and_nobody_is_let_in_unseen() {
    let store = Arc::new(Faulty::default());
    add(&*store, "Ada", "7").await;
    let dynamic = Arc::clone(&store) as Arc<dyn MessageStore>;
    let open = |notice| AccountAuthenticator::open(Arc::clone(&dynamic), AccountSettings::default().with_notice(notice));
    let (forgets, knows) = (open(Duration::ZERO).await.unwrap(), open(Duration::from_secs(3_600)).await.unwrap());
    let token = knows.login("Ada", PASSWORD).await.unwrap().token;
    store.away.store(true, SeqCst);
    assert_eq!(shows(&forgets, &token).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(forgets.login("Ada", PASSWORD).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(forgets.logout(&token).await.unwrap_err().kind(), ErrorKind::Unavailable);
    is_refused(shows(&forgets, "nonsense").await);
    shows(&knows, &token).await.unwrap();
    store.away.store(false, SeqCst);
    shows(&forgets, &token).await.unwrap();
}

#[tokio::test]
async fn a_store_that_keeps_no_accounts_is_a_mistake_in_the_settings() {
    let none = Faulty { no_accounts: true, ..Faulty::default() };
    let none = Arc::new(none) as Arc<dyn MessageStore>;
    for settings in [AccountSettings::default(), AccountSettings::default().with_secret("x".repeat(32))] {
        let refused = AccountAuthenticator::open(Arc::clone(&none), settings).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    }
}

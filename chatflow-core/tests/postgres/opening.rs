//! What is found when a database is opened.

use chatflow_core::analytics::{Counted, Minutes};
use chatflow_core::store::{DatabaseConfig, PostgresStore};
use chatflow_core::{Error, ErrorKind, MessageStore};
use chatflow_testkit::{Postgres, Service, needs};

use super::database::Database;
use super::older;

async fn refused(config: DatabaseConfig) -> Error {
    let error = PostgresStore::open(config).await.expect_err("refused");
    let line = error.to_string();
    assert!(!line.contains("s3cret") && !line.contains("wr0ng") && !line.contains('\n'), "{line}");
    error
}

#[tokio::test]
async fn what_does_not_fit_is_refused_in_one_line_without_the_password() {
    needs!(Postgres);
    let database = Database::new().await;
    let url = database.url();
    let away = refused(DatabaseConfig::new("postgres://ada:s3cret@127.0.0.1:1/x")).await;
    assert!(away.kind() == ErrorKind::Unavailable && away.to_string().contains("127.0.0.1:1"), "{away}");
    for (config, why) in [
        (DatabaseConfig::new(database.url_of("chatflow", "wr0ng")), "does not let this user in"),
        (DatabaseConfig::new(database.url_of("nobody", "s3cret")), "does not let this user in"),
        (DatabaseConfig::new(url.replace(&database.name, "elsewhere")), "no such database"),
        (DatabaseConfig::new("postgres://ada:s3cret@127.0.0.1:port/x"), "the URL can't be used"),
        (DatabaseConfig::new(format!("{url}?sslmode=perhaps")), "the URL can't be used"),
        (DatabaseConfig::new(format!("{url}?sslmode=require")), "TLS"),
        (DatabaseConfig::new(&url).without_migrations(), "chatflow-server migrate"),
        (DatabaseConfig::new(&url).with_connections(0, 1), "writers = 0"),
        (DatabaseConfig::new(&url).with_connections(1, 1_000), "readers = 1000"),
    ] {
        let error = refused(config.clone()).await;
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(why), "{config:?}: {error}");
        assert!(!format!("{config:?}").contains("s3cret") && !format!("{config:?}").contains("secret"), "{config:?}");
    }
}

#[tokio::test]
async fn a_database_that_does_not_sync_says_so() {
    needs!(Postgres);
    let database = Database::new().await;
    let server = Service::start_new(Postgres::new().set("fsync", "off")).await;
    for (url, says) in [(database.url(), "synced at every commit"), (server.url(), "not synced: fsync is off")] {
        let status = PostgresStore::open(DatabaseConfig::new(url)).await.unwrap().status().await;
        assert!(status.healthy && status.detail.starts_with(says), "{status:?}");
    }
}

#[tokio::test]
async fn nodes_that_start_together_make_the_tables_once() {
    needs!(Postgres);
    let database = Database::new().await;
    let opening = (0..8).map(|_| PostgresStore::open(DatabaseConfig::new(database.url()).with_connections(1, 1)));
    let stores: Vec<_> = futures::future::join_all(opening).await.into_iter().map(Result::unwrap).collect();
    assert!(stores.iter().all(|store| store.identity() == stores[0].identity()));
    assert_eq!(PostgresStore::migrate(&DatabaseConfig::new(database.url())).await.unwrap(), 0);
    let other = Database::new().await;
    assert_eq!(PostgresStore::migrate(&DatabaseConfig::new(other.url())).await.unwrap(), 6);
    let apart = PostgresStore::open(DatabaseConfig::new(other.url()).without_migrations()).await.unwrap();
    assert_ne!(apart.identity(), stores[0].identity());
    let error = refused(DatabaseConfig::new(database.url()).with_reader_url(other.url())).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("replica"), "{error}");
    database.run("UPDATE chatflow_meta SET value = '1000' WHERE name = 'version'").await;
    let error = refused(DatabaseConfig::new(database.url())).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("version 1000"), "{error}");
}

#[tokio::test]
async fn a_user_needs_no_more_rights_than_it_uses() {
    needs!(Postgres);
    let database = Database::new().await;
    let name = &database.name;
    database.run(&format!("CREATE USER {name} PASSWORD 's3cret'; REVOKE CREATE ON SCHEMA public FROM PUBLIC")).await;
    let config = DatabaseConfig::new(database.url_of(name, "s3cret"));
    let error = refused(config.clone()).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("lacks a right"), "{error}");
    PostgresStore::migrate(&DatabaseConfig::new(database.url())).await.unwrap();
    let error = refused(config.clone()).await;
    assert!(error.kind() == ErrorKind::Config, "{error}");
    let tables = "chatflow_logs, chatflow_rooms, chatflow_counted, chatflow_summaries";
    database
        .run(&format!(
            "GRANT SELECT, INSERT, UPDATE ON {tables} TO {name}; GRANT SELECT, INSERT ON chatflow_users, chatflow_user_rooms, chatflow_times TO {name}"
        ))
        .await;
    database.run(&format!("GRANT SELECT, UPDATE ON chatflow_meta TO {name}; GRANT SELECT ON chatflow_messages TO {name}")).await;
    database.run(&format!("GRANT SELECT, INSERT, DELETE ON chatflow_dead_letters TO {name}")).await;
    let error = refused(config.clone()).await;
    let lacking = "lacks rights on chatflow_messages (SELECT, INSERT), chatflow_accounts (SELECT, INSERT, UPDATE, DELETE)";
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains(lacking), "{error}");
    database.run(&format!("GRANT INSERT ON chatflow_messages TO {name}")).await;
    database.run(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON chatflow_accounts TO {name}")).await;
    let store = PostgresStore::open(config).await.unwrap();
    let writer = store.claim(chatflow_core::LogId(0), &"n".into()).await.unwrap();
    let rows = chatflow_core::conformance::store::batch("a", 1..=3);
    assert_eq!(store.commit(&writer, &rows, rows[2].position).await.unwrap(), []);
    assert!(store.status().await.healthy);
    let lease = store.claim(chatflow_core::store::SUMMARIES, &"n".into()).await.unwrap();
    let active = async || store.analytics().unwrap().active_users(Minutes::default()).await.unwrap();
    let expected = Counted::new(3, None);
    for _ in 0..2 {
        assert!(active().await.as_of.is_some());
        while store.projections().unwrap().project(&lease, 10).await.unwrap() {}
        assert_eq!(active().await, expected);
        PostgresStore::rebuild_summaries(&DatabaseConfig::new(database.url())).await.unwrap();
    }
    // Removing is asked for by name, and takes more.
    while store.projections().unwrap().project(&lease, 10).await.unwrap() {}
    let retention = store.retention().unwrap();
    for right in ["DELETE ON chatflow_messages", "INSERT ON chatflow_meta"] {
        let error = retention.may_remove().await.expect_err("refused");
        let lacking = "lacks rights: DELETE on chatflow_messages, INSERT on chatflow_meta";
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(lacking), "{error}");
        database.run(&format!("GRANT {right} TO {name}")).await;
    }
    retention.may_remove().await.unwrap();
    let room = chatflow_core::RoomId::new("a").unwrap();
    let all = chatflow_core::Timestamp(i64::MAX);
    assert_eq!(retention.remove(&writer.at(rows[2].position), &room, all, 10).await.unwrap(), 2, "the newest stays");
    // What is copied takes no other right than what is inserted.
    let many = chatflow_core::conformance::store::batch("b", 4..=500);
    assert_eq!(store.commit(&writer, &many, many[496].position).await.unwrap(), []);
}

#[tokio::test]
async fn tables_of_the_version_before_become_current_with_what_they_hold() {
    needs!(Postgres);
    let database = Database::new().await;
    let open = async || std::sync::Arc::new(PostgresStore::open(DatabaseConfig::new(database.url())).await.unwrap());
    let age = async || {
        database.run("DROP TABLE chatflow_user_rooms; DELETE FROM chatflow_summaries WHERE level = 4").await;
        database.run("DELETE FROM chatflow_logs WHERE log = 65535").await;
        database.run("UPDATE chatflow_meta SET value = regexp_replace(value, ' [^ ]+$', '') WHERE name = 'rolled'").await;
        database.run("UPDATE chatflow_meta SET value = '5' WHERE name = 'version'").await;
    };
    older::becomes_current(open, age).await;
}

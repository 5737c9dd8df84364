//! What is found at the start: each with its remedy, and none with the password.

use onlyonce_core::{StoreError, StoreErrorKind};
use onlyonce_postgres::{PostgresStore, Warning};
use onlyonce_servers::postgres::{PASSWORD, start_postgres, start_postgres_with};

use crate::support::{assert_hides, connect, open, sql};

pub(crate) async fn refused(url: &str) -> StoreError {
    match PostgresStore::connect(url).await {
        Ok(_) => panic!("{url} should have been refused"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start_with_the_remedy() {
    let server = start_postgres();
    let (url, address) = (server.url(), server.address());
    let user = format!("postgres://onlyonce:{PASSWORD}@{address}");
    let as_guest = format!("postgres://guest:{PASSWORD}@{address}/postgres");
    sql(
        &url,
        &format!("CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE picky LOGIN SUPERUSER PASSWORD '{PASSWORD}'; ALTER ROLE picky SET default_transaction_isolation = 'serializable'; CREATE ROLE reader LOGIN SUPERUSER PASSWORD '{PASSWORD}'; ALTER ROLE reader SET default_transaction_read_only = on"),
    )
    .await;
    let missing = refused(&url).await;
    assert!(
        missing.to_string().contains("`onlyonce migrate`"),
        "{missing}"
    );
    let there_is = PostgresStore::migration(&url).await.unwrap();
    assert_eq!((there_is.from, there_is.to), (0, 4));
    let did = PostgresStore::migrate(&url).await.unwrap();
    assert_eq!((did.from, did.to), (0, 4));
    assert_eq!(PostgresStore::migrate(&url).await.unwrap().from, 4);

    let picky = format!("postgres://picky:{PASSWORD}@{address}/postgres");
    let reader = format!("postgres://reader:{PASSWORD}@{address}/postgres");
    for (url, expected) in [
        (
            format!("postgres://onlyonce:{PASSWORD}x@{address}/postgres"),
            "the password of the URL",
        ),
        (
            format!("postgres://onlyonce@{address}/postgres"),
            "the URL has none",
        ),
        (format!("{user}/nowhere"), "no database"),
        (format!("{user}/postgres?schema=other"), "no schema `other`"),
        (format!("{user}/postgres?sslmode=require"), "`sslmode`"),
        (as_guest.clone(), "lacks a right"),
        (picky, "`read committed`"),
        (reader, "`default_transaction_read_only` is on"),
    ] {
        let error = refused(&url).await;
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains(expected), "{url}: {error}");
        assert_hides(&error, PASSWORD);
    }
    let some = "GRANT USAGE ON SCHEMA onlyonce TO guest; GRANT SELECT ON ALL TABLES IN SCHEMA onlyonce TO guest";
    sql(&url, some).await;
    let error = refused(&as_guest).await.to_string();
    assert!(
        error.contains("`guest` lacks rights") && error.contains("GRANT"),
        "{error}"
    );
}

/// A schema that a newer version has made is neither worked with nor changed.
#[tokio::test]
async fn hazard_47_a_newer_schema_is_refused() {
    let server = start_postgres();
    let url = server.url();
    PostgresStore::migrate(&url).await.unwrap();
    sql(&url, "INSERT INTO onlyonce.migration (version) VALUES (99)").await;
    for error in [
        refused(&url).await,
        PostgresStore::migrate(&url).await.unwrap_err(),
        PostgresStore::migration(&url).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("too old"), "{error}");
    }
}

#[tokio::test]
async fn what_may_lose_records_is_said() {
    let server = start_postgres_with(&["fsync=off"]);
    let url = server.url();
    sql(&url, "ALTER ROLE onlyonce SET synchronous_commit = off").await;
    let store = connect(&url).await;
    assert_eq!(
        store.warnings(),
        [Warning::AsynchronousCommit, Warning::NotDurable]
    );
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let port = onlyonce_servers::Port::take();
    let url = format!("postgres://a:b@127.0.0.1:{}/c", port.number());
    let error = refused(&url).await;
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
}

/// Eight gateways that start at once: one of them makes the schema.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_do_not_collide() {
    let server = start_postgres();
    let starts = (0..8).map(|_| {
        let url = server.url();
        tokio::spawn(async move { open(PostgresStore::builder(&url).connections(1)).await })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap();
    }
    let versions = sql(&server.url(), "SELECT version FROM onlyonce.migration").await;
    assert_eq!(
        versions,
        ["1", "2", "3", "4"].map(|version| Some(version.to_owned()))
    );
}

//! Sessions and tickets on a real server.

#![cfg(feature = "tokens")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::cell::RefCell;

use onlyonce_core::StoreErrorKind;
use onlyonce_pipeline_postgres::PostgresTokenStore;
use onlyonce_servers::postgres::{Postgres, start_postgres};

#[path = "../../pipeline/testing/token_store.rs"]
mod alike;

fn url_of(server: &Postgres) -> String {
    format!("{}?migrate=auto&timeout_ms=10000", server.url())
}

async fn open(url: &str) -> PostgresTokenStore {
    PostgresTokenStore::connect(url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_what_every_store_does() {
    let server = start_postgres();
    let url = url_of(&server);
    let (here, there) = (open(&url).await, open(&url).await);
    alike::keeps_sessions_for_all(&here, &there).await;
    alike::gives_a_ticket_to_one(&here, &there).await;
    alike::lets_one_refresh(&here, &there).await;
    alike::works_under_contention(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_lets_nobody_in_and_forgets_nobody() {
    let server = RefCell::new(start_postgres());
    let url = url_of(&server.borrow());
    let (here, there) = (open(&url).await, open(&url).await);
    let (stop, start) = (
        || server.borrow_mut().kill(),
        || server.borrow_mut().start(),
    );
    alike::serves_tokens(&here, &there, stop, start).await;
}

#[tokio::test]
async fn without_its_tables_it_refuses_to_start_with_the_remedy() {
    let server = start_postgres();
    let error = PostgresTokenStore::connect(&server.url())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(error.to_string().contains("onlyonce migrate"), "{error}");
    PostgresTokenStore::migrate(&server.url()).await.unwrap();
    PostgresTokenStore::migrate(&server.url()).await.unwrap();
    PostgresTokenStore::connect(&server.url()).await.unwrap();
}

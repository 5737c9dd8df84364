//! Tests that need PostgreSQL.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_access_log_sqlx::PostgresSink;
use onlyonce_pipeline::access_log::{RowFilter, RowSink, RowWriter, WriterOptions};
use onlyonce_servers::postgres::start_postgres;
use sqlx::{Connection as _, PgConnection};

use crate::contract::{self, ids, row};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    let server = start_postgres();
    let sink = PostgresSink::connect(&server.url()).await.unwrap();
    contract::holds(&sink).await;
    sink.close().await;

    // Several at once, on a database without tables.
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::raw_sql("DROP TABLE onlyonce_access_log, onlyonce_access_log_version")
        .execute(&mut connection)
        .await
        .unwrap();
    PostgresSink::examine(&server.url()).await.unwrap();
    let made: bool = sqlx::query_scalar("SELECT to_regclass('onlyonce_access_log') IS NOT NULL")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!made, "looking changes nothing");
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let url = server.url();
            tokio::spawn(async move { PostgresSink::connect(&url).await })
        })
        .collect();
    for opening in opening {
        let sink = opening.await.unwrap().unwrap();
        sink.write(&[row(1)]).await.unwrap();
        sink.close().await;
    }

    sqlx::raw_sql("UPDATE onlyonce_access_log_version SET version = 99")
        .execute(&mut connection)
        .await
        .unwrap();
    for error in [
        PostgresSink::connect(&server.url()).await.unwrap_err(),
        PostgresSink::examine(&server.url()).await.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "the access log could not be opened");
        let source = error.source().unwrap().to_string();
        assert!(source.contains("newer version"), "{source}");
    }
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let server = start_postgres();
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let make = "CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    sqlx::raw_sql(make).execute(&mut connection).await.unwrap();
    let url = server.url();
    let (rest, query) = url.split_once('?').unwrap_or((&url, ""));
    let host = &rest[..rest.rfind('/').unwrap()];
    let url = format!("{host}/narrow?{query}");
    // One row with a sign that it lacks would keep a whole batch out.
    for error in [
        PostgresSink::connect(&url).await.unwrap_err(),
        PostgresSink::examine(&url).await.unwrap_err(),
    ] {
        let source = error.source().unwrap().to_string();
        assert!(
            source.contains("LATIN1") && source.contains("ENCODING 'UTF8'"),
            "{source}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_wait_while_the_database_is_away_and_come_once() {
    let mut server = start_postgres();
    let sink = Arc::new(PostgresSink::connect(&server.url()).await.unwrap());
    let options = WriterOptions {
        attempts: u32::MAX,
        backoff: Duration::from_millis(20),
        batch: 3,
        retention: None,
        timeout: Duration::from_secs(5),
        ..WriterOptions::default()
    };
    let writer = RowWriter::start(sink.clone(), options);
    let queue = writer.queue();
    for n in 0..5 {
        assert!(queue.offer(move || row(n)));
    }
    server.kill();
    for n in 5..10 {
        assert!(queue.offer(move || row(n)));
    }
    server.start();
    let flushed = writer.shutdown(Duration::from_secs(60)).await;
    assert_eq!(flushed.lost, 0);
    assert_eq!(ids(&*sink, RowFilter::default()).await.len(), 10);
}

#[tokio::test]
async fn a_wrong_url_is_said() {
    for url in ["mysql://a/b", "postgres://a:x/b"] {
        let error = PostgresSink::connect(url).await.unwrap_err();
        assert_eq!(error.to_string(), "the access log could not be opened");
        assert!(error.source().is_some(), "{url}");
    }
}

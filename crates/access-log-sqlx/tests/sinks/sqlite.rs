//! Tests on SQLite, which is built in.

use std::error::Error as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_access_log_sqlx::SqliteSink;
use onlyonce_pipeline::access_log::{RowFilter, RowSink, RowWriter, WriterOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use crate::contract::{self, ids, row};

async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn scalar(path: &Path, sql: &'static str) -> String {
    let mut connection = raw(path).await;
    let value = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
    connection.close().await.unwrap();
    value.unwrap()
}

/// The message of its deepest cause.
async fn refusal(path: &Path) -> String {
    let error = SqliteSink::open(path).await.unwrap_err();
    assert_eq!(error.to_string(), "the access log could not be opened");
    error.source().unwrap().to_string()
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(folder.path().join("a.db")).await.unwrap();
    contract::holds(&sink).await;
    sink.close().await;
}

#[tokio::test]
async fn rows_are_there_after_a_restart_and_nobody_else_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let sink = SqliteSink::open(&path).await.unwrap();
    sink.write(&[row(1)]).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
    sink.close().await;
    assert_eq!(scalar(&path, "PRAGMA journal_mode").await, "wal");
    let sink = SqliteSink::open(&path).await.unwrap();
    assert_eq!(ids(&sink, RowFilter::default()).await.len(), 1);
    sink.close().await;
}

#[tokio::test]
async fn another_program_s_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let mut connection = raw(&path).await;
    sqlx::raw_sql("CREATE TABLE orders (id INTEGER)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let refused = refusal(&path).await;
    assert!(refused.contains("shop.db"), "{refused}");
    assert!(refused.contains("another program's"), "{refused}");

    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "these are no pages of SQLite, however long they are").unwrap();
    let refused = refusal(&text).await;
    assert!(refused.contains("notes.txt"), "{refused}");
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("these"));
    let refused = refusal(&folder.path().join("missing/a.db")).await;
    assert!(refused.contains("missing/a.db"), "{refused}");
}

#[tokio::test]
async fn a_newer_version_s_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    SqliteSink::open(&path).await.unwrap().close().await;
    let mut connection = raw(&path).await;
    sqlx::raw_sql("PRAGMA user_version = 99")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let refused = refusal(&path).await;
    assert!(refused.contains("newer version"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_may_open_one_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let opening: Vec<_> = (0..4)
        .map(|_| tokio::spawn(SqliteSink::open(path.clone())))
        .collect();
    let mut sinks = Vec::new();
    for opening in opening {
        sinks.push(opening.await.unwrap().unwrap());
    }
    let writing: Vec<_> = sinks
        .iter()
        .cloned()
        .map(|sink| {
            tokio::spawn(async move {
                for n in 0..20 {
                    sink.write(&[row(n)]).await.unwrap();
                }
            })
        })
        .collect();
    for writing in writing {
        writing.await.unwrap();
    }
    assert_eq!(ids(&sinks[0], RowFilter::default()).await.len(), 80);
}

#[tokio::test]
async fn readers_do_not_wait_for_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let sink = SqliteSink::open(&path).await.unwrap();
    sink.write(&[row(1)]).await.unwrap();
    let mut other = raw(&path).await;
    let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // Somebody is in the middle of writing, and stays there.
    let reading = ids(&sink, RowFilter::default());
    let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert_eq!(read.expect("no wait").len(), 1);
    held.rollback().await.unwrap();
}

#[tokio::test]
async fn the_file_shrinks_when_rows_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let sink = SqliteSink::open(&path).await.unwrap();
    let rows: Vec<_> = (0..2000).map(row).collect();
    sink.write(&rows).await.unwrap();
    let pages = async || {
        let mut connection = raw(&path).await;
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        pages
    };
    let full = pages().await;
    let end = onlyonce_core::Timestamp::from_millis(u64::MAX);
    while sink.purge(end, 500).await.unwrap() > 0 {}
    let left = pages().await;
    assert!(left * 4 < full, "{left} of {full}");
}

#[tokio::test]
async fn the_writer_fills_it() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Arc::new(SqliteSink::open(folder.path().join("a.db")).await.unwrap());
    let options = WriterOptions {
        retention: None,
        ..WriterOptions::default()
    };
    let writer = RowWriter::start(sink.clone(), options);
    for n in 0..500 {
        assert!(writer.queue().offer(move || row(n)));
    }
    let flushed = writer.shutdown(Duration::from_secs(60)).await;
    assert_eq!(flushed.lost, 0);
    assert_eq!(ids(&*sink, RowFilter::default()).await.len(), 500);
}

#[tokio::test]
async fn each_filter_has_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let sink = SqliteSink::open(&path).await.unwrap();
    sink.write(&[row(1)]).await.unwrap();
    let mut connection = raw(&path).await;
    for (condition, index) in [
        ("trace_id = 'x'", "onlyonce_access_log_trace_id"),
        ("module = 'x'", "onlyonce_access_log_module"),
        ("method = 'x'", "onlyonce_access_log_method"),
        ("user_id = 'x'", "onlyonce_access_log_user_id"),
        ("ip = 'x'", "onlyonce_access_log_ip"),
        ("code = 1", "onlyonce_access_log_code"),
        ("id < x'00'", "sqlite_autoindex_onlyonce_access_log_1"),
    ] {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT id FROM onlyonce_access_log WHERE TRUE AND {condition} ORDER BY id DESC LIMIT 50"
        );
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let plan: Vec<_> = plan.into_iter().map(|(.., step)| step).collect();
        assert!(
            plan.len() == 1 && plan[0].contains(index),
            "{condition}: {plan:?}"
        );
    }
}

/// What a full disk does: it ends a transaction by itself, and has the end of another fail.
const FAULTS: &str = "
    CREATE TABLE parent (id PRIMARY KEY);
    CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    CREATE TRIGGER ended AFTER INSERT ON onlyonce_access_log WHEN NEW.module = 'ended'
        BEGIN SELECT RAISE(ROLLBACK, 'no room'); END;
    CREATE TRIGGER late AFTER INSERT ON onlyonce_access_log WHEN NEW.module = 'late'
        BEGIN INSERT INTO child VALUES (1); END;
";

#[tokio::test]
async fn what_is_said_to_be_written_after_a_fault_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let sink = SqliteSink::open(&path).await.unwrap();
    let mut connection = raw(&path).await;
    sqlx::raw_sql(FAULTS)
        .execute(&mut connection)
        .await
        .unwrap();
    // A small batch, and one of several statements.
    for (round, size) in [(0, 1), (1, 3000)] {
        for module in ["ended", "late", "ended", "late", "late"] {
            let mut rows: Vec<_> = (0..size).map(|n| row(10_000 + n)).collect();
            rows[0].module = module.to_owned();
            sink.write(&rows).await.unwrap_err();
        }
        sink.write(&[row(round)]).await.unwrap();
        let found = ids(&sink, RowFilter::default()).await;
        assert_eq!(found.len() as u64, round + 1, "round {round}");
    }
    connection.close().await.unwrap();
    sink.close().await;
}

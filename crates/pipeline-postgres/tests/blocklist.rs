//! The blocklist on a real server.

#![cfg(feature = "blocklist")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::net::IpAddr;
use std::time::Duration;

use onlyonce_core::{Clock as _, StoreErrorKind, SystemClock};
use onlyonce_pipeline::blocklist::{
    Blocklist, BlocklistOptions, BlocklistStore as _, Draft, Entry, EntryId, Status,
};
use onlyonce_pipeline_postgres::PostgresBlocklist;
use onlyonce_servers::postgres::{Postgres, start_postgres, start_postgres_with};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn url_of(server: &Postgres) -> String {
    format!("{}?migrate=auto&timeout_ms=10000", server.url())
}

async fn open(url: &str) -> PostgresBlocklist {
    PostgresBlocklist::connect(url).await.unwrap()
}

/// A node that never looks by itself: what it knows it was told.
async fn node(url: &str) -> Blocklist {
    let options = BlocklistOptions::new()
        .with_poll(Duration::from_secs(3600))
        .with_flush(Duration::from_millis(20));
    Blocklist::load_with(open(url).await, options)
        .await
        .unwrap()
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(30);
    let waited = tokio::time::timeout(limit, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"));
}

/// Asks the server something itself.
async fn sql(server: &Postgres, statements: &str) {
    let connected = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(statements).await.unwrap();
    drop(client);
    let _ = connection.await;
}

#[tokio::test]
async fn a_change_on_one_node_is_in_force_on_another() {
    let server = start_postgres_with(&["fsync=off"]);
    let (here, there) = (node(&url_of(&server)).await, node(&url_of(&server)).await);
    let draft = Draft::new("203.0.113.0/24").with_remark("探测");
    let entry = here.add(&draft).await.unwrap();
    assert_eq!(here.find(ip("203.0.113.9")), Some(entry.id));
    until("added", async || {
        there.find(ip("203.0.113.9")) == Some(entry.id)
    })
    .await;

    let off = draft.clone().with_status(Status::Off);
    let changed = there.update(entry.id, &off).await.unwrap().unwrap();
    assert_eq!(
        (changed.created, changed.remark),
        (entry.created, entry.remark)
    );
    until("off", async || here.find(ip("203.0.113.9")).is_none()).await;
    there.update(entry.id, &draft).await.unwrap();
    until("on", async || here.find(ip("203.0.113.9")).is_some()).await;

    assert!(there.remove(entry.id).await.unwrap());
    until("removed", async || here.find(ip("203.0.113.9")).is_none()).await;
    assert!(!here.remove(entry.id).await.unwrap());
    assert_eq!(here.update(entry.id, &draft).await.unwrap(), None);
}

#[tokio::test]
async fn hits_of_all_nodes_add_up() {
    let server = start_postgres_with(&["fsync=off"]);
    let (here, there) = (node(&url_of(&server)).await, node(&url_of(&server)).await);
    let entry = here.add(&Draft::new("203.0.113.0/24")).await.unwrap();
    until("added", async || there.find(ip("203.0.113.9")).is_some()).await;
    for _ in 0..3 {
        assert!(here.hit(ip("203.0.113.9")).is_some());
        assert!(there.hit(ip("203.0.113.1")).is_some());
    }
    let all = [Entry {
        hits: 6,
        ..entry.clone()
    }];
    until("six", async || here.entries(None, 10).await.unwrap() == all).await;
    let store = open(&url_of(&server)).await;
    store
        .add_hits(&[(entry.id, 1), (EntryId(99), 1)])
        .await
        .unwrap();
    assert_eq!(
        store.look_up(&[entry.id, EntryId(99)]).await.unwrap()[0].hits,
        7
    );
}

#[tokio::test]
async fn a_server_that_comes_back_is_listened_to_again() {
    let mut server = start_postgres();
    let (here, there) = (node(&url_of(&server)).await, node(&url_of(&server)).await);
    here.add(&Draft::new("203.0.113.1")).await.unwrap();
    until("added", async || there.find(ip("203.0.113.1")).is_some()).await;
    server.kill();
    assert!(there.find(ip("203.0.113.1")).is_some());
    server.start();
    // A connection that broke is told of by the first who uses it.
    until("added again", async || {
        here.add(&Draft::new("203.0.113.2")).await.is_ok()
    })
    .await;
    until("heard of", async || there.find(ip("203.0.113.2")).is_some()).await;
    assert!(there.find(ip("203.0.113.1")).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_write_at_once_come_to_the_same_state() {
    let server = start_postgres_with(&["fsync=off"]);
    let nodes = [node(&url_of(&server)).await, node(&url_of(&server)).await];
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u8 {
        let node = nodes[usize::from(writer) % 2].clone();
        writers.spawn(async move {
            for round in 0..25_u8 {
                let one = node
                    .add(&Draft::new(format!("10.{writer}.{round}.1")))
                    .await
                    .unwrap();
                assert_eq!(
                    node.find(ip(&format!("10.{writer}.{round}.1"))),
                    Some(one.id)
                );
                if round % 2 == 0 {
                    assert!(node.remove(one.id).await.unwrap());
                    assert_eq!(node.find(ip(&format!("10.{writer}.{round}.1"))), None);
                }
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    for node in &nodes {
        until("the same state", async || node.stats().entries == 4 * 12).await;
        for (writer, round) in (0..4).flat_map(|writer| (0..25).map(move |round| (writer, round))) {
            let found = node.find(ip(&format!("10.{writer}.{round}.1")));
            assert_eq!(found.is_some(), round % 2 == 1, "10.{writer}.{round}.1");
        }
    }
}

/// By hand, into the table: all nodes are told, and what is wrong is left out.
#[tokio::test]
async fn rows_written_by_hand_are_in_force_unless_they_are_wrong() {
    let server = start_postgres_with(&["fsync=off"]);
    let here = node(&url_of(&server)).await;
    let good = here.add(&Draft::new("203.0.113.1")).await.unwrap();
    sql(
        &server,
        "INSERT INTO onlyonce.blocklist (id, ip, status, expires) VALUES
            (70, '10.0.0.300', 1, NULL), (71, '', 1, NULL), (72, '10.0.0.72', 0, NULL),
            (73, '10.0.0.73', 1, 'infinity'), (74, '10.0.0.74', 1, '-infinity'),
            (75, '10.0.0.75', 1, '1960-01-01'), (-1, '10.0.0.99', 1, NULL)",
    )
    .await;
    until("heard of", async || {
        here.find(ip("10.0.0.73")) == Some(EntryId(73))
    })
    .await;
    let there = node(&url_of(&server)).await;
    for node in [&here, &there] {
        assert_eq!(node.find(ip("203.0.113.1")), Some(good.id));
        for last in [72, 74, 75, 99] {
            assert_eq!(node.find(ip(&format!("10.0.0.{last}"))), None, "{last}");
        }
        let left_out: Vec<_> = node
            .unreadable()
            .into_iter()
            .filter_map(|one| one.id)
            .collect();
        assert_eq!(left_out, [70, 71].map(EntryId));
    }
    there
        .update(EntryId(71), &Draft::new("10.0.0.71"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(there.find(ip("10.0.0.71")), Some(EntryId(71)));

    sql(
        &server,
        "UPDATE onlyonce.blocklist SET ip = '10.0.1.73' WHERE id = 73",
    )
    .await;
    until("moved", async || here.find(ip("10.0.1.73")).is_some()).await;
    assert_eq!(here.find(ip("10.0.0.73")), None);
    sql(&server, "DELETE FROM onlyonce.blocklist WHERE id > 70").await;
    until("gone", async || here.find(ip("10.0.1.73")).is_none()).await;
    sql(&server, "TRUNCATE onlyonce.blocklist CASCADE").await;
    until("empty", async || here.stats().entries == 0).await;
    assert_eq!(here.find(ip("203.0.113.1")), None);
}

/// More entries than a page, and more removals than are remembered.
#[tokio::test]
async fn who_missed_too_much_reads_everything() {
    let server = start_postgres_with(&["fsync=off"]);
    let store = open(&url_of(&server)).await;
    let now = SystemClock::new().now();
    let (first, _) = store.add(&Draft::new("203.0.113.1"), now).await.unwrap();
    let fill = "INSERT INTO onlyonce.blocklist (ip) \
                SELECT '10.' || n / 62500 || '.' || n / 250 % 250 || '.' || n % 250 \
                FROM generate_series(1, 25000) n";
    sql(&server, fill).await;
    let told = store.list(Some(first)).await.unwrap();
    assert_eq!((told.complete, told.entries.len()), (false, 25_000));
    let told = store.list(None).await.unwrap();
    assert_eq!((told.complete, told.entries.len()), (true, 25_001));
    let before = told.revision;
    sql(&server, "DELETE FROM onlyonce.blocklist WHERE id <= 10").await;
    let told = store.list(Some(before)).await.unwrap();
    assert_eq!((told.complete, told.removed.len()), (false, 10));
    sql(&server, "DELETE FROM onlyonce.blocklist WHERE id <= 10020").await;
    let told = store.list(Some(before)).await.unwrap();
    assert_eq!((told.complete, told.entries.len()), (true, 25_001 - 10_020));
}

/// What `PgBouncer` leaves over in transaction mode.
#[tokio::test]
async fn without_listening_a_node_looks_each_second() {
    let server = start_postgres_with(&["fsync=off"]);
    let url = format!("{}&listen=off", url_of(&server));
    let (here, there) = (node(&url).await, node(&url).await);
    here.add(&Draft::new("203.0.113.1")).await.unwrap();
    until("seen", async || there.find(ip("203.0.113.1")).is_some()).await;
}

#[tokio::test]
async fn tables_that_are_missing_are_an_error_with_the_remedy() {
    let server = start_postgres_with(&["fsync=off"]);
    let url = server.url();
    let error = PostgresBlocklist::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(
        error.to_string().contains("run `onlyonce migrate`"),
        "{error}"
    );
    assert!(!PostgresBlocklist::is_migrated(&url).await.unwrap());
    // All who migrate at once find the tables made.
    let mut migrating = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        migrating.spawn(async move { PostgresBlocklist::migrate(&url).await });
    }
    while let Some(done) = migrating.join_next().await {
        done.unwrap().unwrap();
    }
    assert!(PostgresBlocklist::is_migrated(&url).await.unwrap());
    PostgresBlocklist::connect(&url).await.unwrap();
    sql(&server, "UPDATE onlyonce.component SET version = 9").await;
    let error = PostgresBlocklist::migrate(&url).await.unwrap_err();
    assert!(error.to_string().contains("has version 9"), "{error}");
}

//! A client's clock that is off by an hour, as long as records live: nothing changes.

use std::time::Duration;

use onlyonce_checker::{History, Losses, story};
use onlyonce_core::{Clock, OnUnknown, Store, SystemClock, Timestamp};
use onlyonce_postgres::PostgresStore;
use onlyonce_redis::RedisStore;
use onlyonce_servers::postgres::start_postgres;
use onlyonce_servers::redis::start_redis;

use crate::generator::{LIFETIME, Load, executions, patient, policies};
use crate::node::{Handler, Node};

/// With it, a lease that were counted on a client's clock would be over at once.
const RETRY: OnUnknown = OnUnknown::Retry;

/// A slow machine lets no lease run out, and no step fail: that would be another matter.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Ahead(SystemClock);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now().plus(LIFETIME)
    }
}

async fn one_clock_is_an_hour_ahead<S: Store>([right, wrong]: [S; 2]) {
    let history = History::new();
    let handler = Handler::new(&history);
    let [first, second] = patient(policies(RETRY), PATIENCE);
    let ahead = Ahead(SystemClock::new());
    let nodes = [
        Node::new(right, "on time", &handler, first),
        Node::on(ahead, wrong, "ahead", &handler, second),
    ];
    let load = Load::on(nodes, &history);
    load.more("enough of it is done", 150, executions).await;
    let [right, wrong] = load.expiries().await;
    let between = wrong.duration_since(right).unwrap();
    let minute = Duration::from_secs(60);
    assert!(between.abs_diff(LIFETIME) < minute, "{between:?}");

    let report = load.judge(RETRY).await.expect_none();
    assert_eq!(report.losses, Losses::NONE);
    assert!(report.counts.replayed > report.counts.keys, "{report}");
    let log = history.log();
    for execution in &log.executions {
        let name = &log.requests[execution.request.0].name;
        assert_eq!(execution.attempt, 1, "{}", story(&log, name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_13_a_clients_clock_is_no_matter_on_redis() {
    let server = start_redis();
    let open = || async {
        let builder = RedisStore::builder(&server.url()).timeout(PATIENCE);
        builder.connect().await.unwrap()
    };
    one_clock_is_an_hour_ahead([open().await, open().await]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_13_a_clients_clock_is_no_matter_on_postgres() {
    let server = start_postgres();
    let open = || async {
        let builder = PostgresStore::builder(&server.url()).timeout(PATIENCE);
        builder.migrate(true).connect().await.unwrap()
    };
    one_clock_is_an_hour_ahead([open().await, open().await]).await;
}

//! Several nodes on one server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use onlyonce_core::{
    Inspect as _, InvalidationListener, Invalidations as _, Resolution, Resolved, Store as _,
};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::{start_postgres, start_postgres_with};
use onlyonce_servers::proxy::Proxy;

use crate::support::{bid, complete, connect, eventually, held, new_id, open, sql, win};

/// What one node does, the waiters of another hear of.
#[tokio::test]
async fn a_change_on_one_node_wakes_the_waiters_of_another() {
    let server = start_postgres();
    let (here, there) = (connect(&server.url()).await, connect(&server.url()).await);
    let woken = async |watch: onlyonce_core::Changes| {
        let woken = tokio::time::timeout(Duration::from_secs(30), watch).await;
        woken.expect("the change is heard of");
    };
    let bid = bid(new_id());
    let lease = win(&here, &bid).await;
    let watch = there.watch(&bid.id).await.unwrap();
    complete(&here, &lease, "done").await;
    woken(watch).await;
    let watch = there.watch(&bid.id).await.unwrap();
    assert_eq!(here.forget(&bid.id).await.unwrap(), Resolved::Applied);
    woken(watch).await;
    let second = win(&there, &bid).await;
    assert!(second.fence > lease.fence);
    let refused = here.resolve(&bid.id, &Resolution::NotExecuted).await;
    assert_eq!(refused.unwrap(), Resolved::Refused);
    // Who waits is remembered no longer than anybody waits.
    let waiting = sql(&server.url(), "SELECT count(*) FROM onlyonce.watch").await;
    assert_eq!(waiting, [Some("0".to_owned())]);
}

/// Without a session to listen on, and without prepared statements: what `PgBouncer` leaves over in
/// transaction mode.
#[tokio::test]
async fn without_listening_a_node_hears_of_its_own_changes() {
    let server = start_postgres();
    let url = format!("{}?listen=off", server.url());
    let store = connect(&url).await;
    let bid = bid(new_id());
    let lease = win(&store, &bid).await;
    let watch = store.watch(&bid.id).await.unwrap();
    complete(&store, &lease, "done").await;
    let woken = tokio::time::timeout(Duration::from_secs(30), watch).await;
    woken.expect("its own change is heard of");
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    assert_eq!(sql(&server.url(), sessions).await, [Some("0".to_owned())]);
}

/// One exchange with the server for each step: two for a first execution, one for a replay.
#[tokio::test]
async fn each_step_is_one_round_trip() {
    let server = start_postgres();
    let proxy = Proxy::start(server.port());
    let url = server.url_by(&format!("127.0.0.1:{}", proxy.port()));
    let builder = PostgresStore::builder(&url).connections(1).listen(false);
    let store = open(builder.timeout(Duration::from_secs(20))).await;
    // The connection is there, and its functions are compiled.
    let warm = bid(new_id());
    let lease = win(&store, &warm).await;
    complete(&store, &lease, "warm").await;

    let mut seen = proxy.replies();
    let mut trips = || {
        let before = std::mem::replace(&mut seen, proxy.replies());
        proxy.replies() - before
    };
    let bid = bid(new_id());
    let lease = win(&store, &bid).await;
    assert_eq!(trips(), 1, "the claim");
    complete(&store, &lease, "done").await;
    assert_eq!(trips(), 1, "the completion");
    held(&store, &bid).await;
    assert_eq!(trips(), 1, "the replay");
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl InvalidationListener for Heard {
    fn connected(&self, trust: Duration) {
        assert!(trust <= Duration::from_secs(15));
        self.0.lock().unwrap().push("connected".to_owned());
    }

    fn lost(&self) {
        self.0.lock().unwrap().push("lost".to_owned());
    }

    fn void(&self, id: &onlyonce_core::RecordId) {
        self.0.lock().unwrap().push(id.to_string());
    }
}

impl Heard {
    async fn hears(&self, what: &str) {
        let hearing = async {
            while !self.0.lock().unwrap().iter().any(|heard| heard == what) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(30), hearing).await;
        heard.unwrap_or_else(|_| panic!("{what} not among {:?}", self.0.lock().unwrap()));
        self.0.lock().unwrap().clear();
    }
}

/// Whoever keeps copies hears of what an operator does on another node, and when it may have missed
/// something.
#[tokio::test]
async fn what_an_operator_does_is_announced_to_every_node() {
    let mut server = start_postgres();
    let (here, there) = (connect(&server.url()).await, connect(&server.url()).await);
    let heard = Arc::new(Heard::default());
    let listener: Arc<dyn InvalidationListener> = heard.clone();
    let subscription = there.subscribe(listener);
    heard.hears("connected").await;
    let bid = bid(new_id());
    let lease = win(&here, &bid).await;
    complete(&here, &lease, "done").await;
    assert_eq!(here.forget(&bid.id).await.unwrap(), Resolved::Applied);
    heard.hears(&bid.id.to_string()).await;
    server.kill();
    heard.hears("lost").await;
    server.start();
    heard.hears("connected").await;
    drop(subscription);
}

/// A session that made its plans while the table was empty does not read all of it later.
#[tokio::test]
async fn hazard_45_plans_made_on_an_empty_table_still_use_the_index() {
    let server = start_postgres_with(&["fsync=off", "autovacuum=off"]);
    let url = server.url();
    // Making an index reads the table, too.
    PostgresStore::migrate(&url).await.unwrap();
    let builder = PostgresStore::builder(&url).connections(1).listen(false);
    let store = open(builder.timeout(Duration::from_secs(20))).await;
    let steps = async || {
        let (finished, given_up) = (bid(new_id()), bid(new_id()));
        let lease = win(&store, &finished).await;
        complete(&store, &lease, "done").await;
        held(&store, &finished).await;
        assert_eq!(store.forget(&finished.id).await.unwrap(), Resolved::Applied);
        let lease = win(&store, &given_up).await;
        let _ = store.release(&lease).await.unwrap();
    };
    // It is known to be empty, and each statement has had its plan made for good.
    sql(&url, "VACUUM ANALYZE onlyonce.record").await;
    for _ in 0..10 {
        steps().await;
    }
    let fill = "INSERT INTO onlyonce.record
            (id, state, status, attempt, fence, created, expires, sweep, nonce, label)
        SELECT decode(md5(n::text) || md5('x' || n), 'hex'), 3, 200, 1, 0, 0, 9e15, 1, '', ''
        FROM generate_series(1, 50000) n";
    sql(&url, fill).await;
    let scans = async || {
        let scans = "SELECT seq_scan FROM pg_stat_user_tables
                     WHERE schemaname = 'onlyonce' AND relname = 'record'";
        sql(&url, scans).await[0].clone().unwrap()
    };
    // The session tells of its scans when it ends.
    let before = scans().await;
    for _ in 0..10 {
        steps().await;
    }
    drop(store);
    let ended = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'onlyonce'";
    while sql(&url, ended).await != [Some("0".to_owned())] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let after = scans().await;
    let (before, after): (u64, u64) = (before.parse().unwrap(), after.parse().unwrap());
    assert_eq!(before, after, "times that the whole table was read");
}

/// Expired records go, and nothing else does.
#[tokio::test]
async fn hazard_38_expired_records_are_swept() {
    let server = start_postgres_with(&["fsync=off"]);
    let store = connect(&server.url()).await;
    let kept = bid(new_id());
    win(&store, &kept).await;
    // As if they had expired an hour ago, more than a batch of them.
    let old = "INSERT INTO onlyonce.record (id, state, attempt, fence, created, expires, sweep, nonce, label)
         SELECT decode(md5(n::text) || md5('x' || n), 'hex'), 2, 1, 0, 0, v.then,
                onlyonce.sweep_of(v.then), '', ''
         FROM generate_series(1, 2500) n,
              (SELECT onlyonce.millis(NULL) - 3600000 AS then) v";
    sql(&server.url(), old).await;
    let count = || async {
        let left = sql(&server.url(), "SELECT count(*) FROM onlyonce.record").await;
        left[0].clone()
    };
    assert_eq!(count().await.as_deref(), Some("2501"));
    eventually("the sweep", async || match count().await.as_deref() {
        Some("1") => Ok(()),
        left => Err(onlyonce_core::StoreError::new(
            onlyonce_core::Operation::Inspect,
            onlyonce_core::StoreErrorKind::Unavailable,
            format!("{left:?} left"),
        )),
    })
    .await;
    held(&store, &kept).await;
}

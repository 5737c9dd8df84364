//! Claims that come when nobody waits for them any more: they would be held for nothing.

use std::process::Command;
use std::time::Duration;

use onlyonce_core::{Claim, Fenced, Inspect as _, Renewal, Store as _, StoreErrorKind};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::start_postgres;
use onlyonce_servers::proxy::{Fault, Proxy};

use crate::support::{LONG, bid, connect, eventually, new_id, open, sql, win};

const PATIENCE: Duration = Duration::from_secs(30);

async fn in_time(mut done: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !done().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.unwrap();
}

/// It was given up while there was no connection to send it on.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_03_a_claim_that_was_given_up_before_it_was_sent_is_not_sent() {
    let server = start_postgres();
    let url = server.url();
    let builder = PostgresStore::builder(&url).connections(1).listen(false);
    let store = open(builder.timeout(PATIENCE)).await;
    let held = win(&store, &bid(new_id())).await;

    // The only connection waits for a lock.
    let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
    let (locker, connection) = connected.unwrap();
    let connection = tokio::spawn(connection);
    let lock = format!(
        "BEGIN; SELECT FROM onlyonce.record WHERE id = '\\x{}' FOR UPDATE",
        held.id
    );
    locker.batch_execute(&lock).await.unwrap();
    let renewing = tokio::spawn({
        let (store, held) = (store.clone(), held.clone());
        let renewal = Renewal {
            extend: LONG,
            fingerprint: None,
        };
        async move { store.renew(&held, &renewal).await }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    in_time(async || sql(&url, waiting).await == [Some("1".to_owned())]).await;

    let given_up = bid(new_id());
    let claim = tokio::time::timeout(Duration::from_millis(200), store.claim(&given_up)).await;
    assert!(claim.is_err(), "there is no connection: {claim:?}");
    locker.batch_execute("COMMIT").await.unwrap();
    assert_eq!(renewing.await.unwrap().unwrap(), Fenced::Applied);
    // What came before this one has gone before it.
    win(&store, &bid(new_id())).await;
    let record = store.show(&given_up.id).await.unwrap();
    assert!(record.is_none(), "nobody wanted it any more: {record:?}");
    drop(locker);
    let _ = connection.await;
}

/// A server's process that was held up runs a claim whose connection is long gone: a claim that was
/// answered has no such twin, so that whoever was answered knows all there is to know.
#[tokio::test]
async fn hazard_03_an_answered_claim_has_no_twin_that_is_still_to_come() {
    let server = start_postgres();
    connect(&server.url()).await;
    let proxy = Proxy::start(server.port());
    let url = server.url_by(&format!("127.0.0.1:{}", proxy.port()));
    let builder = PostgresStore::builder(&format!("{url}?application_name=held_up"));
    let store = open(builder.connections(1).listen(false).timeout(PATIENCE)).await;
    win(&store, &bid(new_id())).await;
    let process = "SELECT pid FROM pg_stat_activity WHERE application_name = 'held_up'";
    let pids = sql(&server.url(), process).await;
    let [Some(pid)] = &pids[..] else {
        panic!("one connection: {pids:?}");
    };
    let signal = |signal: &str| {
        let sent = Command::new("kill").args([signal, pid]).status().unwrap();
        assert!(sent.success());
    };

    signal("-STOP");
    let attempt = bid(new_id());
    let before = proxy.requests();
    let cut = async {
        while proxy.requests() == before {
            tokio::task::yield_now().await;
        }
        proxy.set(Fault::Down);
        proxy.set(Fault::None);
    };
    let (claim, ()) = tokio::join!(store.claim(&attempt), cut);
    let answered = claim.is_ok();
    if let Ok(Claim::Won(lease)) = &claim {
        assert_eq!(store.release(lease).await.unwrap(), Fenced::Applied);
    }
    signal("-CONT");
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    in_time(async || sql(&server.url(), &gone).await == [Some("0".to_owned())]).await;
    let record = store.show(&attempt.id).await.unwrap();
    assert!(!answered || record.is_none(), "it came back: {record:?}");
    // That it may have landed was said, and it is found by its nonce.
    let error = claim.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(record.is_some(), "the server ran it");
    assert_eq!(win(&store, &attempt).await.attempt, 1);
}

/// What is given up while the server can't get on with it (here for a lock on the table) is not left
/// behind on the server: one session for each would take all that the database has.
#[tokio::test]
async fn steps_that_are_given_up_leave_no_sessions_behind() {
    let server = start_postgres();
    let url = server.url();
    connect(&url).await;
    let short = format!("{url}?application_name=short&connections=2&listen=off&timeout_ms=100");
    let store = PostgresStore::builder(&short);
    let store = eventually("it connects", async || store.clone().connect().await).await;
    let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
    let (locker, connection) = connected.unwrap();
    let connection = tokio::spawn(connection);
    let lock = "BEGIN; LOCK TABLE onlyonce.record IN ACCESS EXCLUSIVE MODE";
    locker.batch_execute(lock).await.unwrap();

    let first = bid(new_id());
    for number in 0..20 {
        let attempt = if number == 0 { &first } else { &bid(new_id()) };
        let error = store.claim(attempt).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'short'";
    in_time(async || {
        let sessions: u32 = sql(&url, sessions).await[0]
            .clone()
            .unwrap()
            .parse()
            .unwrap();
        sessions <= 2
    })
    .await;
    locker.batch_execute("COMMIT").await.unwrap();
    let record = store.show(&first.id).await.unwrap();
    assert!(record.is_none(), "it was given up: {record:?}");
    drop(locker);
    let _ = connection.await;
}

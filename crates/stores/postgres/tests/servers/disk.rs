//! A server whose disk is full to the last byte, and which gets room again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onlyonce::{Engine, Fingerprint, Key, Outcome, Policy, Profile, RunError};
use onlyonce_core::{Fenced, Store as _, StoreErrorKind};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::{Disk, PASSWORD, Postgres, Setup, start_postgres_from};
use tokio::sync::watch;

use crate::support::{
    LONG, assert_hides, bid, complete, done, eventually, held, new_id, result_of, sql, win,
};

/// Too long for the pages that there are: it needs new ones.
const LONG_RESULT: usize = 100_000;

/// A server with records for more than a mebibyte, where files are limited to that if no disk can
/// be mounted.
async fn start(disk: Disk) -> (Postgres, PostgresStore) {
    let server = start_postgres_from(&Setup {
        settings: &["autovacuum=off", "max_wal_size=4MB", "min_wal_size=2MB"],
        disk: Some(disk),
        ..Setup::default()
    });
    let builder = PostgresStore::builder(&server.url()).timeout(Duration::from_secs(2));
    let store = builder.migrate(true).connect().await.unwrap();
    let records = "INSERT INTO onlyonce.record \
         (id, state, status, attempt, fence, created, expires, sweep, nonce, label, result) \
         SELECT sha256(n::text::bytea), 2, 200, 1, 0, 0, 1::bigint << 50, 2147483647, '', '', \
                repeat('x', 500)::bytea \
         FROM generate_series(1, 4000) n; \
         INSERT INTO onlyonce.record \
         (id, state, status, attempt, fence, created, expires, sweep, nonce, label, result) \
         SELECT sha256(n::text::bytea), 2, 200, 1, 0, 0, 1::bigint << 50, 2147483647, '', '', \
                repeat('x', 100000)::bytea \
         FROM generate_series(5001, 5011) n; \
         CHECKPOINT";
    sql(&server.url(), records).await;
    (server, store)
}

/// New claims are refused as soon as there is no page for them; who has claimed before gets its
/// record in, at once or when there is room.
#[tokio::test]
async fn hazard_46_a_full_disk_refuses_claims_and_keeps_what_is_under_way() {
    let (server, store) = start(Disk::ForData).await;
    let mut under_way = Vec::new();
    for _ in 0..10 {
        let bid = bid(new_id());
        let lease = win(&store, &bid).await;
        under_way.push((bid, lease));
    }
    let long = bid(new_id());
    let long_lease = win(&store, &long).await;
    server.fill_disk();

    let mut refusal = None;
    let mut last = Vec::new();
    for _ in 0..20_000 {
        let bid = bid(new_id());
        match store.claim(&bid).await {
            Ok(_) => last.push(bid),
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    let refusal = refusal.expect("the disk is full");
    let (kind, said) = if server.disk_is_mounted() {
        (StoreErrorKind::Full, "disk is full")
    } else {
        (StoreErrorKind::Unavailable, "refuses the step")
    };
    assert_eq!(refusal.kind(), kind, "{refusal}");
    assert!(refusal.to_string().contains(said), "{refusal}");
    assert_hides(&refusal, PASSWORD);

    // There is room on the pages for most; what does not fit is tried again.
    let mut landed = 0;
    for (bid, lease) in &under_way {
        match store.complete(lease, &done("done"), LONG).await {
            Ok(Fenced::Applied) => {
                landed += 1;
                assert_eq!(result_of(&held(&store, bid).await), Some(&b"done"[..]));
            }
            Ok(Fenced::Superseded) => panic!("nobody else is there"),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    assert!(landed > 0, "completions land on a full disk");
    let result: &'static str = "x".repeat(LONG_RESULT).leak();
    let late = store.complete(&long_lease, &done(result), LONG).await;
    let late = late.unwrap_err();
    assert!(late.is_retryable(), "{late}");
    // What was refused is nowhere, what is there can be read.
    assert!(result_of(&held(&store, &long).await).is_none());

    server.free_disk();
    for (bid, lease) in &under_way {
        let landed = eventually("there is room", async || {
            store.complete(lease, &done("done"), LONG).await
        });
        assert_eq!(landed.await, Fenced::Applied);
        assert_eq!(result_of(&held(&store, bid).await), Some(&b"done"[..]));
    }
    complete(&store, &long_lease, result).await;
    assert_eq!(
        result_of(&held(&store, &long).await),
        Some(result.as_bytes())
    );
    for bid in &last {
        let _ = held(&store, bid).await;
    }
    let _ = win(&store, &bid(new_id())).await;
}

/// Writes to the server's log until that finds no room, which is the end of the server.
async fn fill_log(server: &Postgres) {
    if !server.disk_is_mounted() {
        // A limit that stopped the log would stop it at once, even where there is room in it.
        return;
    }
    let connected = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    let message = "SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 900000))";
    let writing = async { while client.batch_execute(message).await.is_ok() {} };
    let limit = Duration::from_secs(60);
    let full = tokio::time::timeout(limit, writing).await;
    full.unwrap_or_else(|_| panic!("there was room for all of it, for {limit:?}"));
    let log = std::fs::read_to_string(server.folder().join("log")).unwrap();
    assert!(log.contains("PANIC:"), "the log is full: {log}");
}

/// How often each key was executed.
#[derive(Default)]
struct Executions(Mutex<HashMap<String, usize>>);

impl Executions {
    fn note(&self, key: &str) {
        *self.0.lock().unwrap().entry(key.to_owned()).or_default() += 1;
    }

    fn of(&self, key: &str) -> usize {
        self.0.lock().unwrap().get(key).copied().unwrap_or(0)
    }
}

/// The whole engine on a disk that fills up under it, with the server's log on it or not: no key is
/// executed twice, and each has its result in the end.
async fn nothing_is_executed_twice(disk: Disk) {
    let (mut server, store) = start(disk).await;
    let engine = Engine::new(store);
    let mut policy = Policy::new(Profile::Standard);
    policy.store_timeout = Duration::from_secs(2);
    policy.lease = Duration::from_secs(10);
    let executions = Arc::new(Executions::default());
    let (go, may_go) = watch::channel(false);
    let run = |key: String, waits: bool| {
        let (engine, policy) = (engine.clone(), policy.clone());
        let (executions, mut may_go) = (Arc::clone(&executions), may_go.clone());
        async move {
            let work = {
                let key = key.clone();
                async move {
                    executions.note(&key);
                    if waits {
                        let _ = may_go.wait_for(|go| *go).await;
                    }
                    // Of different lengths: some fit on a page that is there, some do not.
                    Ok::<_, String>(format!("{key}{}", "x".repeat(key.len() * 40 % 3000)))
                }
            };
            let key = Key::new(key).unwrap();
            engine.run(key, Fingerprint::OFF, &policy, work).await
        }
    };
    // Under way when the disk fills up.
    let keys: Vec<String> = (0..20)
        .map(|n| format!("early-{}", "y".repeat(n)))
        .collect();
    let early: Vec<_> = keys
        .iter()
        .map(|key| tokio::spawn(run(key.clone(), true)))
        .collect();
    while keys.iter().any(|key| executions.of(key) == 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.fill_disk();
    if disk == Disk::ForAll {
        fill_log(&server).await;
    }
    go.send_replace(true);

    // New ones, until one is refused, and some more.
    let mut keys = keys;
    let mut refused = 0;
    for number in 0..20_000 {
        let key = format!("late-{number}");
        let before = executions.of(&key);
        match run(key.clone(), false).await {
            Ok(ran) => assert_eq!(ran.outcome, Outcome::Executed),
            Err(RunError::Store(_)) => {
                assert_eq!(executions.of(&key), before, "nothing ran");
                refused += 1;
            }
            Err(other) => panic!("{key}: {other}"),
        }
        keys.push(key);
        if refused == 5 {
            break;
        }
    }
    assert_eq!(refused, 5, "the disk is full");
    for call in early {
        let ran = call.await.unwrap();
        let ran = ran.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ran.outcome, Outcome::Executed);
    }

    server.free_disk();
    // A server that could not write its log may have given up.
    if server.has_ended() {
        server.kill();
        server.start();
    }
    for key in &keys {
        let mut answer = run(key.clone(), false).await;
        for _ in 0..600 {
            match &answer {
                Ok(_) => break,
                // Unknown as long as its lease could not be renewed, and its result is still on its way.
                Err(RunError::Store(_) | RunError::InProgress | RunError::Unknown) => {}
                Err(other) => panic!("{key}: {other}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            if server.has_ended() {
                server.kill();
                server.start();
            }
            answer = run(key.clone(), false).await;
        }
        let ran = answer.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert!(ran.value.starts_with(key.as_str()), "{key}");
        assert_eq!((executions.of(key), ran.attempt), (1, 1), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_46_nothing_is_executed_twice_when_the_disk_was_full() {
    nothing_is_executed_twice(Disk::ForData).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_46_nothing_is_executed_twice_when_the_servers_log_found_no_room() {
    nothing_is_executed_twice(Disk::ForAll).await;
}

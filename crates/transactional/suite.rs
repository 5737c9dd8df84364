//! Effects and record together, or neither: on a real server, with every exchange cut once.
//!
//! The same tests for every driver: each crate of the transactional mode includes this file, and has
//! a module `bank` that does what differs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use axum::{Router, routing::post};
use onlyonce::{Concurrent, Engine, Fingerprint, IdempotencyLayer, Key, Policy, Profile, RunError};
use onlyonce_core::{Inspect as _, Page, StateKind};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::{Disk, Postgres, Setup, start_postgres, start_postgres_from};
use onlyonce_servers::proxy::{Fault, Proxy};
use tower::ServiceExt as _;

use crate::bank::{Pool, TransactionalStore, Tx, numbers, pool, run, run_raw, script, store};

/// What the handler is asked to do, by the request's body.
async fn transfer(
    State(app): State<App>,
    mut tx: Tx,
    body: String,
) -> Result<String, (StatusCode, &'static str)> {
    let number = app.executions.fetch_add(1, Ordering::SeqCst) + 1;
    let failed = |_| (StatusCode::INTERNAL_SERVER_ERROR, "failed");
    for step in [
        "UPDATE account SET balance = balance - 10 WHERE name = 'alice'",
        "UPDATE account SET balance = balance + 10 WHERE name = 'bob'",
        "INSERT INTO transfer (amount) VALUES (10)",
    ] {
        if body == "unprepared" {
            run_raw(&mut tx, step).await.map_err(failed)?;
        } else {
            run(&mut tx, step).await.map_err(failed)?;
        }
    }
    match body.as_str() {
        "fail" if number == 1 => Err((StatusCode::INTERNAL_SERVER_ERROR, "try again")),
        "panic" if number == 1 => panic!("as ordered"),
        "refuse" => {
            tx.undo().await.unwrap();
            Err((StatusCode::CONFLICT, "refused"))
        }
        "conflict" => {
            let twice = "INSERT INTO account VALUES ('alice', 0)";
            assert!(run(&mut tx, twice).await.is_err());
            Err((StatusCode::CONFLICT, "there is one"))
        }
        "lie" if number == 1 => {
            let twice = "INSERT INTO account VALUES ('alice', 0)";
            assert!(run(&mut tx, twice).await.is_err());
            Ok("all is well".to_owned())
        }
        "deferred" if number == 1 => {
            let broken = "INSERT INTO late (of) VALUES ('nobody')";
            run(&mut tx, broken).await.map_err(failed)?;
            Ok("all is well".to_owned())
        }
        "commit" | "commit and fail" | "commit and begin" | "commit and panic"
        | "commit and break" => {
            run_raw(&mut tx, "COMMIT").await.map_err(failed)?;
            match body.as_str() {
                "commit and panic" => panic!("as ordered"),
                "commit and break" => {
                    run_raw(&mut tx, "BEGIN").await.map_err(failed)?;
                    assert!(run_raw(&mut tx, "SELECT 1 / 0").await.is_err());
                    Err((StatusCode::INTERNAL_SERVER_ERROR, "failed"))
                }
                "commit and fail" => Err((StatusCode::INTERNAL_SERVER_ERROR, "failed")),
                "commit and begin" => {
                    run_raw(&mut tx, "BEGIN").await.map_err(failed)?;
                    Ok("all is well".to_owned())
                }
                _ => Ok("all is well".to_owned()),
            }
        }
        "read-only" if number == 1 => {
            let setting = "SET LOCAL transaction_read_only = on";
            run_raw(&mut tx, setting).await.map_err(failed)?;
            Ok("all is well".to_owned())
        }
        "ended" if number == 1 => {
            // As by a time-out of the server's.
            let end = "SELECT pg_terminate_backend(pg_backend_pid())";
            assert!(run_raw(&mut tx, end).await.is_err());
            Ok("all is well".to_owned())
        }
        "slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(format!("transferred by execution {number}"))
        }
        _ => Ok(format!("transferred by execution {number}")),
    }
}

#[derive(Clone)]
struct App {
    store: TransactionalStore,
    executions: Arc<AtomicUsize>,
}

impl axum::extract::FromRef<App> for TransactionalStore {
    fn from_ref(app: &App) -> Self {
        app.store.clone()
    }
}

/// One node: its own pool, its own store.
pub(crate) struct Node {
    router: Router,
    app: App,
}

pub(crate) fn policy() -> Policy {
    let mut policy = Policy::new(Profile::Standard);
    policy.store_timeout = Duration::from_secs(3);
    policy
}

impl Node {
    pub(crate) async fn new(url: &str, policy: Policy) -> Self {
        Self::of(store(url, false).await, policy)
    }

    pub(crate) fn of(store: TransactionalStore, policy: Policy) -> Self {
        let app = App {
            store: store.clone(),
            executions: Arc::default(),
        };
        let layer = IdempotencyLayer::new(store).with_policy(policy).unwrap();
        let router = Router::new()
            .route("/transfers", post(transfer))
            .layer(layer)
            .with_state(app.clone());
        Self { router, app }
    }

    pub(crate) fn executions(&self) -> usize {
        self.app.executions.load(Ordering::SeqCst)
    }

    pub(crate) async fn send(&self, key: &str, body: &'static str) -> (u16, String) {
        let request = Request::post("/transfers")
            .header("idempotency-key", key)
            .body(Body::from(body))
            .unwrap();
        let response = self.router.clone().oneshot(request).await;
        let response = response.into_response();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        let body = body.map_or_else(|_| "cut".to_owned(), |b| String::from_utf8_lossy(&b).into());
        (status, body)
    }
}

pub(crate) async fn bank() -> (Postgres, Pool) {
    bank_on(start_postgres()).await
}

async fn bank_on(server: Postgres) -> (Postgres, Pool) {
    PostgresStore::migrate(&server.url()).await.unwrap();
    let pool = pool(&server.url()).await;
    let tables = "CREATE TABLE account (name text PRIMARY KEY, balance bigint NOT NULL);
         CREATE TABLE transfer (id bigserial, amount bigint);
         CREATE TABLE late (of text REFERENCES account DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO account VALUES ('alice', 1000), ('bob', 0);";
    script(&pool, tables).await;
    (server, pool)
}

/// How often money has moved; and that none was lost or made.
pub(crate) async fn transfers(pool: &Pool) -> i64 {
    let count = numbers(pool, "SELECT count(*) FROM transfer").await[0];
    let balances = numbers(pool, "SELECT balance FROM account ORDER BY name").await;
    assert_eq!(balances, [1000 - 10 * count, 10 * count]);
    count
}

#[tokio::test]
async fn effects_and_record_are_committed_together() {
    let (server, pool) = bank().await;
    let node = Node::new(&server.url(), policy()).await;
    let first = node.send("a", "").await;
    assert_eq!(first, (200, "transferred by execution 1".to_owned()));
    assert_eq!(node.send("a", "").await, first);
    assert_eq!(node.send("a", "other").await.0, 422);
    assert_eq!((node.executions(), transfers(&pool).await), (1, 1));
    assert_eq!(node.app.store.open_transactions(), 0);
    // The record is one as any other.
    let inspect = PostgresStore::connect(&server.url()).await.unwrap();
    let listed = inspect.list(&Page::default()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(StateKind::of(&listed[0].record), StateKind::Completed);
    assert_eq!(&*listed[0].record.label, "POST /transfers");
}

/// Each row of the table in the crate's documentation.
#[tokio::test]
async fn what_is_not_committed_has_not_happened() {
    let (server, pool) = bank().await;
    // (asked, first answer, whether the retry executes, transfers in the end)
    for (asked, status, again, moved) in [
        ("refuse", 409, false, 0),
        ("conflict", 409, false, 0),
        ("fail", 500, true, 1),
        ("lie", 503, true, 1),
        ("deferred", 503, true, 1),
        ("ended", 503, true, 1),
        ("read-only", 503, true, 1),
    ] {
        let node = Node::new(&server.url(), policy()).await;
        let before = transfers(&pool).await;
        let (first, body) = node.send(asked, asked).await;
        assert_eq!(first, status, "{asked}: {body}");
        assert_eq!(transfers(&pool).await, before, "{asked}");
        let retry = node.send(asked, asked).await;
        assert_eq!(
            node.executions(),
            if again { 2 } else { 1 },
            "{asked}: {retry:?}"
        );
        assert_eq!(
            retry.0,
            if again { 200 } else { status },
            "{asked}: {retry:?}"
        );
        assert_eq!(transfers(&pool).await, before + moved, "{asked}");
        assert_eq!(node.app.store.open_transactions(), 0, "{asked}");
    }
    // A failure that is kept leaves no effects behind.
    let node = Node::new(&server.url(), Policy::new(Profile::Stripe)).await;
    let before = transfers(&pool).await;
    for _ in 0..2 {
        let failed = (500, "try again".to_owned());
        assert_eq!(node.send("kept", "fail").await, failed);
    }
    assert_eq!((node.executions(), transfers(&pool).await), (1, before));
}

/// A handler must not end its transaction: if it does, nobody knows what stands, and the key is
/// held rather than executed again.
#[tokio::test]
async fn a_handler_that_ends_its_transaction_is_found_out() {
    let (server, pool) = bank().await;
    // `stripe` keeps failures too.
    let node = Node::new(&server.url(), Policy::new(Profile::Stripe)).await;
    for (number, key) in ["commit", "commit and fail", "commit and begin"]
        .into_iter()
        .enumerate()
    {
        let first = node.send(key, key).await;
        assert_eq!(first.0, 503, "{key}: {first:?}");
        let (status, body) = node.send(key, key).await;
        assert_eq!(status, 409, "{key}: {body}");
        assert!(body.contains("outcome-unknown"), "{key}: {body}");
        assert_eq!(node.executions(), number + 1);
        assert_eq!(transfers(&pool).await, number as i64 + 1);
    }
    // This one would release the key of a failure.
    let node = Arc::new(Node::new(&server.url(), policy()).await);
    let before = transfers(&pool).await;
    for (number, what) in ["commit and fail", "commit and break", "commit and panic"]
        .into_iter()
        .enumerate()
    {
        let key = if number == 0 { "first" } else { what };
        let sending = Arc::clone(&node);
        let first = tokio::spawn(async move { sending.send(key, what).await });
        assert!(first.await.map_or_else(|e| e.is_panic(), |it| it.0 == 500));
        let (status, body) = node.send(key, what).await;
        assert_eq!(status, 409, "{what}: {body}");
        assert!(body.contains("outcome-unknown"), "{what}: {body}");
        assert_eq!(node.executions(), number + 1);
        assert_eq!(transfers(&pool).await, before + number as i64 + 1);
    }
}

#[tokio::test]
async fn a_panic_undoes_what_was_done() {
    let (server, pool) = bank().await;
    let node = Node::new(&server.url(), policy()).await;
    let router = node.router.clone();
    let request = Request::post("/transfers")
        .header("idempotency-key", "a")
        .body(Body::from("panic"))
        .unwrap();
    let panicked = tokio::spawn(async move { router.oneshot(request).await.map(drop) });
    assert!(panicked.await.unwrap_err().is_panic());
    assert_eq!(transfers(&pool).await, 0);
    assert_eq!(node.send("a", "panic").await.0, 200);
    assert_eq!(transfers(&pool).await, 1);
}

#[tokio::test]
async fn a_request_without_a_key_has_no_transaction() {
    let (server, pool) = bank().await;
    let node = Node::new(&server.url(), policy()).await;
    let request = Request::post("/transfers").body(Body::empty()).unwrap();
    let response = node.router.clone().oneshot(request).await.into_response();
    assert_eq!(response.status(), 400);
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await;
    assert!(String::from_utf8_lossy(&body.unwrap()).contains("key-missing"));
    assert_eq!((node.executions(), transfers(&pool).await), (0, 0));
}

/// A hundred at once on two nodes: one executes, whoever waits gets its answer, the others 409.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hazard_01_of_a_hundred_at_once_one_executes() {
    let (server, pool) = bank().await;
    for (round, concurrent) in [Concurrent::Reject, Concurrent::Wait]
        .into_iter()
        .enumerate()
    {
        let mut policy = policy()
            .with_concurrent(concurrent)
            .with_wait_timeout(Duration::from_secs(60))
            .with_max_waiters(100);
        // A hundred at once, on a machine that may have other things to do.
        policy.lease = Duration::from_secs(90);
        policy.store_timeout = Duration::from_secs(30);
        let nodes = [
            Arc::new(Node::new(&server.url(), policy.clone()).await),
            Arc::new(Node::new(&server.url(), policy).await),
        ];
        let key: &'static str = ["reject", "wait"][round];
        let calls: Vec<_> = (0..100)
            .map(|number| {
                let node = Arc::clone(&nodes[number % 2]);
                tokio::spawn(async move { node.send(key, "slow").await })
            })
            .collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        let executions = nodes[0].executions() + nodes[1].executions();
        assert_eq!(executions, 1, "{answers:?}");
        let done = (200, "transferred by execution 1".to_owned());
        let others: Vec<_> = answers.iter().filter(|answer| **answer != done).collect();
        match concurrent {
            Concurrent::Wait => assert_eq!(others, Vec::<&(u16, String)>::new()),
            Concurrent::Reject => assert!(others.iter().all(|answer| answer.0 == 409)),
        }
        assert_eq!(transfers(&pool).await, round as i64 + 1);
    }
}

/// Every exchange with the server cut once, before it reaches the server and before its answer
/// reaches us: money never moves twice, never half, and whoever was told 200 is told the same again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hazard_45_a_connection_cut_at_any_point_leaves_both_or_nothing() {
    let (server, pool) = bank().await;
    let mut done = 0;
    for replies in [false, true] {
        for step in 1.. {
            let proxy = Proxy::start(server.port());
            let url = server.url_by(&format!("127.0.0.1:{}", proxy.port()));
            let node = Node::new(&url, policy()).await;
            // The connection is there, its statements are prepared.
            let warm = format!("warm-{replies}-{step}");
            assert_eq!(node.send(&warm, "").await.0, 200);
            let (before, seen) = (transfers(&pool).await, proxy.replies() + proxy.requests());
            proxy.set(if replies {
                Fault::CutAtReply(proxy.replies() + step)
            } else {
                Fault::CutAtRequest(proxy.requests() + step)
            });
            let key = format!("key-{replies}-{step}");
            let first = node.send(&key, "").await;
            proxy.set(Fault::None);
            let moved = transfers(&pool).await - before;
            match first.0 {
                200 => assert_eq!(moved, 1, "step {step}: {first:?}"),
                // A commit whose answer was lost has been looked for.
                _ => assert_eq!(moved, 0, "step {step}: {first:?}"),
            }
            let mut last = first.clone();
            for _ in 0..100 {
                last = node.send(&key, "").await;
                if last.0 == 200 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(last.0, 200, "step {step}: {last:?} after {first:?}");
            if first.0 == 200 {
                assert_eq!(first, last, "step {step}");
            }
            assert_eq!(node.send(&key, "").await, last);
            assert_eq!(transfers(&pool).await, before + 1, "step {step}");
            done += 1;
            // Behind the last exchange there was nothing left to cut.
            let used = (proxy.replies() + proxy.requests() - seen) / 2;
            if first.0 == 200 && step > used.min(40) {
                break;
            }
            assert!(step < 40, "a request has fewer exchanges");
        }
    }
    assert!(done > 12, "{done} points were tried");
}

/// The server crashes in the middle, and at the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_of_the_server_leaves_both_or_nothing() {
    let (mut server, pool) = bank().await;
    let node = Arc::new(Node::new(&server.url(), policy()).await);
    let running = {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.send("a", "slow").await })
    };
    while node.executions() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.kill();
    let (status, body) = running.await.unwrap();
    assert!(status >= 500, "{status} {body}");
    server.start();
    let mut last = (0, String::new());
    for _ in 0..100 {
        last = node.send("a", "slow").await;
        if last.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(last.0, 200, "{last:?}");
    assert_eq!(transfers(&pool).await, 1);
}

/// Two transactions that can't both be: one is undone, and its retry executes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_serialized_is_to_be_tried_again() {
    let (server, pool) = bank().await;
    let node = Arc::new(Node::of(store(&server.url(), true).await, policy()));
    let mut refused = 0;
    let calls: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|key| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { (key, node.send(key, "slow").await) })
        })
        .collect();
    for call in calls {
        let (key, (mut status, mut body)) = call.await.unwrap();
        while status != 200 {
            assert!(status >= 500, "{status} {body}");
            refused += 1;
            (status, body) = node.send(key, "slow").await;
        }
    }
    assert!(refused > 0, "they were at work at the same time");
    assert_eq!(transfers(&pool).await, 4);
}

#[tokio::test]
async fn a_job_has_its_transaction_too() {
    let (server, pool) = bank().await;
    let store = store(&server.url(), false).await;
    let engine = Engine::new(store.clone());
    let run = async |fail: bool| {
        let store = store.clone();
        let key = Key::new("job-1").unwrap();
        let policy = policy();
        let work = engine.run_with(key, Fingerprint::OFF, &policy, move |claimed| async move {
            let mut tx = store.transaction(&claimed).map_err(|e| e.to_string())?;
            assert!(store.transaction(&claimed).is_err(), "one at a time");
            run(&mut tx, "INSERT INTO transfer (amount) VALUES (0)").await?;
            if fail { Err("no".to_owned()) } else { Ok(7) }
        });
        work.await
    };
    assert!(matches!(run(true).await, Err(RunError::Failed(_))));
    assert_eq!(run(false).await.unwrap().value, 7);
    assert_eq!(run(false).await.unwrap().value, 7);
    let count = numbers(&pool, "SELECT count(*) FROM transfer").await;
    assert_eq!(count, [1]);
}

/// The server's disk is full to the last byte: what can't be committed has not happened, and its
/// retry executes once there is room.
#[tokio::test]
async fn hazard_46_a_full_disk_undoes_what_it_can_not_keep() {
    let (server, pool) = bank_on(start_postgres_from(&Setup {
        settings: &["autovacuum=off"],
        disk: Some(Disk::ForData),
        ..Setup::default()
    }))
    .await;
    let records = "INSERT INTO onlyonce.record \
         (id, state, status, attempt, fence, created, expires, sweep, nonce, label, result) \
         SELECT sha256(n::text::bytea), 2, 200, 1, 0, 0, 1::bigint << 50, 2147483647, '', '', \
                repeat('x', 500)::bytea FROM generate_series(1, 4000) n";
    script(&pool, records).await;
    let node = Node::new(&server.url(), policy()).await;
    server.fill_disk();
    let mut answers = Vec::new();
    // Each moves 10 of 1000.
    for number in 0..90 {
        let key = format!("key-{number}");
        let answer = node.send(&key, "").await;
        assert!(matches!(answer.0, 200 | 500..), "{answer:?}");
        let refused = answer.0 != 200;
        answers.push((key, answer));
        if refused && number > 3 {
            break;
        }
    }
    let done = answers.iter().filter(|(_, answer)| answer.0 == 200).count();
    assert!(done < answers.len(), "the disk is full");
    assert_eq!(transfers(&pool).await, done as i64);
    server.free_disk();
    for (key, first) in &answers {
        let answer = node.send(key, "").await;
        assert_eq!(answer.0, 200, "{key}: {answer:?} after {first:?}");
        assert!(first.0 != 200 || *first == answer, "{key}: {answer:?}");
    }
    assert_eq!(transfers(&pool).await, answers.len() as i64);
}

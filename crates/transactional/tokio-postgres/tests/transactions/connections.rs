//! What becomes of connections: of those that break off in the midst of a transaction above all.

use std::sync::Arc;
use std::time::Duration;

use onlyonce::{Concurrent, Engine, Fingerprint, Key};
use onlyonce_core::{
    Attempt, Claim, Completion, Done, Fenced, Nonce, OnUnknown, RecordId, Store as _,
    StoreErrorKind,
};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::{start_pgbouncer, start_postgres};
use onlyonce_servers::proxy::{Fault, Proxy};
use onlyonce_tokio_postgres::TransactionalStore;
use tokio::sync::Notify;
use tokio_postgres::NoTls;

use crate::bank::{config, pool_of};
use crate::suite::{Node, bank, policy, transfers};

fn bid(id: u8) -> Attempt {
    Attempt {
        id: RecordId::from_bytes([id; 32]),
        nonce: Nonce::random(),
        fingerprint: None,
        lease: Duration::from_secs(10),
        keep: Duration::from_secs(100),
        on_unknown: OnUnknown::Hold,
        label: "test".into(),
    }
}

fn done() -> Completion {
    let result = "done".into();
    Completion {
        fingerprint: None,
        done: Done::Kept {
            status: 200,
            result,
        },
    }
}

/// Asks until the claim is won: the server notices that a client is gone when it next listens to it.
async fn wins_soon(store: &TransactionalStore, bid: &Attempt) {
    for _ in 0..500 {
        if let Ok(Claim::Won(lease)) = store.claim(bid).await {
            assert_eq!(store.release(&lease).await.unwrap(), Fenced::Applied);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the claim is held for ever");
}

/// The pool never sees a connection again whose transaction has not ended.
#[tokio::test]
async fn a_connection_in_the_midst_of_a_transaction_is_closed() {
    let (server, watching) = bank().await;
    let single = pool_of(&server.url(), 1);
    let store = TransactionalStore::new(single.clone()).await.unwrap();
    let pid = "SELECT pg_backend_pid()";
    let before: i32 = single
        .get()
        .await
        .unwrap()
        .query_one(pid, &[])
        .await
        .unwrap()
        .get(0);
    let Claim::Won(_) = store.claim(&bid(1)).await.unwrap() else {
        panic!("nobody else is there");
    };
    assert_eq!(store.open_transactions(), 1);
    // The process forgets all about it, as when a task is dropped.
    drop(store);
    let client = single.get().await.unwrap();
    let after: i32 = client.query_one(pid, &[]).await.unwrap().get(0);
    assert_ne!(before, after);
    // What is done on it now is done at once, not in somebody's transaction.
    client
        .execute("INSERT INTO account VALUES ('new', 0)", &[])
        .await
        .unwrap();
    let seen = "SELECT count(*) FROM account WHERE name = 'new'";
    let seen = watching
        .get()
        .await
        .unwrap()
        .query_one(seen, &[])
        .await
        .unwrap();
    assert_eq!(seen.get::<_, i64>(0), 1);
    drop(client);
    wins_soon(&TransactionalStore::new(single).await.unwrap(), &bid(1)).await;
}

/// One that ended is used again, whatever its end was.
#[tokio::test]
async fn a_connection_whose_transaction_ended_is_used_again() {
    let (server, _) = bank().await;
    let single = pool_of(&server.url(), 1);
    let node = Node::of(
        TransactionalStore::new(single.clone()).await.unwrap(),
        policy(),
    );
    let pid = "SELECT pg_backend_pid()";
    let before: i32 = single
        .get()
        .await
        .unwrap()
        .query_one(pid, &[])
        .await
        .unwrap()
        .get(0);
    // (key, asked, answer)
    for (key, asked, status) in [
        ("a", "", 200),
        ("a", "", 200),
        ("b", "refuse", 409),
        ("c", "conflict", 409),
    ] {
        assert_eq!(node.send(key, asked).await.0, status, "{key} {asked}");
    }
    let deferred = Node::of(
        TransactionalStore::new(single.clone()).await.unwrap(),
        policy(),
    );
    assert_eq!(deferred.send("d", "deferred").await.0, 503);
    let after: i32 = single
        .get()
        .await
        .unwrap()
        .query_one(pid, &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(before, after);
}

/// A task that a handler did not wait for can't be committed half-way.
#[tokio::test]
async fn a_transaction_that_somebody_holds_on_to_is_undone() {
    let (server, watching) = bank().await;
    let store = TransactionalStore::new(pool_of(&server.url(), 12))
        .await
        .unwrap();
    let engine = Engine::new(store.clone());
    let policy = policy();
    let let_go = Arc::new(Notify::new());
    let run = async |holds_on: bool| {
        let (store, let_go) = (store.clone(), Arc::clone(&let_go));
        let key = Key::new("job").unwrap();
        let work = engine.run_with(key, Fingerprint::OFF, &policy, move |claimed| async move {
            let tx = store.transaction(&claimed).unwrap();
            let paid = tx.execute("INSERT INTO transfer (amount) VALUES (0)", &[]);
            paid.await.unwrap();
            if holds_on {
                tokio::spawn(async move {
                    let_go.notified().await;
                    drop(tx);
                });
            }
            Ok::<_, String>(1)
        });
        work.await.map(|done| done.value)
    };
    assert!(run(true).await.is_err());
    let_go.notify_one();
    let mut answer = run(false).await;
    while answer.is_err() {
        answer = run(false).await;
    }
    assert_eq!(answer.unwrap(), 1);
    let count = "SELECT count(*) FROM transfer";
    let client = watching.get().await.unwrap();
    let count: i64 = client.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(count, 1);
}

/// A claim that is dropped while its answer is under way leaves nothing behind, neither a lock nor
/// a connection that another one could be answered on in its place.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_03_a_claim_that_is_dropped_holds_nothing() {
    let (server, _) = bank().await;
    let proxy = Proxy::start(server.port());
    let url = server.url_by(&format!("127.0.0.1:{}", proxy.port()));
    let store = TransactionalStore::new(pool_of(&url, 1)).await.unwrap();
    let other = TransactionalStore::new(pool_of(&server.url(), 12))
        .await
        .unwrap();
    proxy.set(Fault::HoldAtReply(proxy.replies() + 1));
    let seen = proxy.replies();
    let attempt = bid(1);
    tokio::select! {
        answer = store.claim(&attempt) => panic!("nothing comes through: {answer:?}"),
        () = async {
            while proxy.replies() == seen {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } => {}
    }
    proxy.set(Fault::None);
    wins_soon(&other, &bid(1)).await;
    wins_soon(&store, &bid(1)).await;
}

/// One that breaks when it is next used is passed over: nothing has been done on it yet.
#[tokio::test]
async fn a_connection_that_broke_in_the_pool_does_no_harm() {
    let (server, _) = bank().await;
    let proxy = Proxy::start(server.port());
    let url = server.url_by(&format!("127.0.0.1:{}", proxy.port()));
    let store = TransactionalStore::new(pool_of(&url, 2)).await.unwrap();
    for round in 1..=5 {
        proxy.set(Fault::CutAtRequest(proxy.requests() + 1));
        let claim = store.claim(&bid(round)).await.unwrap();
        let Claim::Won(lease) = claim else {
            panic!("round {round}: {claim:?}");
        };
        assert_eq!(store.release(&lease).await.unwrap(), Fenced::Applied);
    }
}

/// Whoever gets no connection is refused, and nothing has happened; waiting takes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hazard_39_a_pool_that_is_dry_refuses_and_goes_on() {
    let (server, watching) = bank().await;
    let single = pool_of(&server.url(), 1);
    let store = TransactionalStore::new(single.clone()).await.unwrap();
    let waiting = policy()
        .with_concurrent(Concurrent::Wait)
        .with_wait_timeout(Duration::from_secs(30))
        .with_max_waiters(100);
    let mut impatient = waiting.clone();
    impatient.store_timeout = Duration::from_millis(300);
    let node = Node::of(store.clone(), impatient);
    let taken = single.get().await.unwrap();
    let refused = node.send("a", "").await;
    assert_eq!(refused.0, 503, "{refused:?}");
    assert_eq!((node.executions(), transfers(&watching).await), (0, 0));
    drop(taken);
    // One works, forty wait for it, and the pool has one connection.
    let node = Arc::new(Node::of(store, waiting));
    let first = {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.send("a", "slow").await })
    };
    while node.executions() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.send("a", "slow").await })
        })
        .collect();
    for call in std::iter::once(first).chain(calls) {
        assert_eq!(
            call.await.unwrap(),
            (200, "transferred by execution 1".to_owned())
        );
    }
    assert_eq!(transfers(&watching).await, 1);
}

/// Who waits on one node is woken by the commit on another.
#[tokio::test]
async fn a_commit_wakes_who_waits_elsewhere() {
    let (server, _) = bank().await;
    let url = server.url();
    let listening = async || {
        let builder = TransactionalStore::builder(pool_of(&url, 12)).listen(config(&url), NoTls);
        builder.build().await.unwrap()
    };
    let (here, there) = (listening().await, listening().await);
    for released in [false, true] {
        let bid = bid(u8::from(released));
        let Claim::Won(lease) = here.claim(&bid).await.unwrap() else {
            panic!("nobody else is there");
        };
        let changes = there.watch(&bid.id).await.unwrap();
        let ended = if released {
            here.release(&lease).await
        } else {
            here.complete(&lease, &done(), Duration::from_secs(60))
                .await
        };
        assert_eq!(ended.unwrap(), Fenced::Applied);
        let woken = tokio::time::timeout(Duration::from_secs(30), changes).await;
        woken.unwrap_or_else(|_| panic!("nobody is told; released: {released}"));
    }
}

/// A pooler in transaction mode: fewer sessions than executions, and none is anybody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pooler_may_stand_in_between() {
    let (server, watching) = bank().await;
    let pooler = start_pgbouncer(&server);
    let url = server.url_by(&pooler.address());
    let store = TransactionalStore::new(pool_of(&url, 12)).await.unwrap();
    let node = Arc::new(Node::of(store, policy()));
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let node = Arc::clone(&node);
            let key = format!("key-{}", number % 10);
            tokio::spawn(async move { node.send(&key, "unprepared").await })
        })
        .collect();
    for call in calls {
        let (status, body) = call.await.unwrap();
        assert!(matches!(status, 200 | 409), "{status} {body}");
    }
    assert_eq!((node.executions(), transfers(&watching).await), (10, 10));
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start_with_the_remedy() {
    let server = start_postgres();
    let (url, address) = (server.url(), server.address());
    let secret = "hunter2";
    let wrong = format!("postgres://onlyonce:{secret}@{address}/postgres");
    let port = onlyonce_servers::Port::take();
    let nobody = format!(
        "postgres://onlyonce:{secret}@127.0.0.1:{}/postgres",
        port.number()
    );
    for (url, schema, kind, expected) in [
        (
            &url,
            "onlyonce",
            StoreErrorKind::Misconfigured,
            "`onlyonce migrate`",
        ),
        (&url, "On", StoreErrorKind::Misconfigured, "lower-case"),
        (
            &wrong,
            "onlyonce",
            StoreErrorKind::Misconfigured,
            "password",
        ),
        (
            &nobody,
            "onlyonce",
            StoreErrorKind::Unavailable,
            "none comes about",
        ),
    ] {
        let store = TransactionalStore::builder(pool_of(url, 12))
            .schema(schema)
            .build();
        let error = store.await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
    }
    PostgresStore::migrate(&url).await.unwrap();
    TransactionalStore::new(pool_of(&url, 12)).await.unwrap();
}

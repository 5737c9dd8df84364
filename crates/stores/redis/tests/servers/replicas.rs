//! Waiting for replicas.

use std::time::Duration;

use onlyonce_core::{Claim, Fenced, Inspect as _, Store as _, StoreErrorKind};
use onlyonce_redis::{RedisStore, Warning};
use onlyonce_servers::redis::{Redis, start_redis, start_redis_with};

use crate::support::{LONG, bid, done, eventually, held, new_id, open, result_of, retry_of, win};

fn pair() -> (Redis, Redis) {
    let master = start_redis();
    let port = master.port().to_string();
    let replica = start_redis_with(&["--replicaof", "127.0.0.1", &port]);
    master.await_replicas(1);
    (master, replica)
}

/// Hazard 44: what too few replicas have is not acknowledged, be it written or only seen; the
/// count that `WAIT` gives is looked at.
#[tokio::test]
async fn hazard_44_too_few_replicas_are_an_error() {
    let (master, replica) = pair();
    let limit = Duration::from_millis(600);
    let builder = || RedisStore::builder(&master.url()).timeout(limit);
    let store = open(builder().replicas(1)).await;
    assert_eq!(store.warnings(), []);
    let careless = open(builder()).await;
    let expected = |warning: &Warning| matches!(warning, Warning::ReplicasNotAwaited { .. });
    assert!(careless.warnings().iter().any(expected));

    let (before, during) = (bid(new_id()), bid(new_id()));
    let lease = win(&store, &before).await;
    replica.freeze();
    let error = store.claim(&during).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("of 1 replicas"), "{error}");
    let error = store.complete(&lease, &done("done"), LONG).await;
    assert!(error.is_err_and(|error| error.is_retryable()));
    // The record is there, and is not shown to anybody whom it could be taken from again.
    let error = store.claim(&retry_of(&before)).await;
    assert!(error.is_err_and(|error| error.is_retryable()));
    assert!(result_of(&held(&careless, &before).await).is_some());

    replica.thaw();
    let claim = eventually("the claim", || store.claim(&during)).await;
    assert!(matches!(claim, Claim::Won(_)), "it was its own: {claim:?}");
    let completion = done("done");
    let again = eventually("the record", || store.complete(&lease, &completion, LONG)).await;
    assert_eq!(again, Fenced::Applied);
    assert!(result_of(&held(&store, &before).await).is_some());
}

#[tokio::test]
async fn too_many_replicas_asked_for_are_warned_of() {
    let server = start_redis();
    let url = format!("{}?replicas=2", server.url());
    let store = open(RedisStore::builder(&url).timeout(Duration::from_millis(200))).await;
    assert!(
        matches!(
            store.warnings()[..],
            [Warning::TooFewReplicas {
                connected: 0,
                wanted: 2,
                ..
            }]
        ),
        "{:?}",
        store.warnings()
    );
    let error = store.claim(&bid(new_id())).await.unwrap_err();
    assert!(error.to_string().contains("of 2 replicas"), "{error}");
}

/// Many at once, each waiting for the replica: they wait side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_wait_side_by_side() {
    let (master, replica) = pair();
    let store = open(
        RedisStore::builder(&master.url())
            .replicas(1)
            .timeout(Duration::from_secs(10)),
    )
    .await;
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { win(&store, &bid(new_id())).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let count = |server: &Redis| server.client().command(&["DBSIZE"]);
    assert_eq!(count(&replica), count(&master));
}

/// Hazard 44: a master that has become a replica answers nothing, not even what it could read: it
/// may be old.
#[tokio::test]
async fn hazard_44_replicas_are_not_read_from() {
    let (master, other) = pair();
    let store = open(RedisStore::builder(&master.url()).timeout(Duration::from_millis(300))).await;
    let bid = bid(new_id());
    let lease = win(&store, &bid).await;
    let mut client = master.client();
    let port = other.port().to_string();
    other.client().expect_ok(&["REPLICAOF", "NO", "ONE"]);
    client.expect_ok(&["REPLICAOF", "127.0.0.1", &port]);
    let completion = done("done");
    let errors = [
        store.claim(&retry_of(&bid)).await.map(drop),
        store.complete(&lease, &completion, LONG).await.map(drop),
        store.release(&lease).await.map(drop),
        store.show(&bid.id).await.map(drop),
    ];
    for error in errors {
        let kind = error.map_err(|error| error.kind());
        assert_eq!(kind, Err(StoreErrorKind::Unavailable));
    }
    client.expect_ok(&["REPLICAOF", "NO", "ONE"]);
    let completed = eventually("the record", || store.complete(&lease, &completion, LONG)).await;
    assert_eq!(completed, Fenced::Applied);
}

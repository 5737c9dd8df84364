//! Answers that don't come: lost, late, cut off.

use std::time::Duration;

use onlyonce_core::{Claim, Fenced, Renewal, Store as _, StoreErrorKind};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::{Postgres, start_postgres};
use onlyonce_servers::proxy::{Fault, Proxy};

use crate::support::{
    LONG, bid, complete, connect, done, eventually, held, new_id, open, result_of, retry_of, win,
};

const SHORT: Duration = Duration::from_millis(400);

async fn through(server: &Postgres, proxy: &Proxy, limit: Duration) -> PostgresStore {
    let url = server.url_by(&format!("127.0.0.1:{}", proxy.port()));
    // First with patience: the schema is made, and each connection has its key stretched.
    open(PostgresStore::builder(&server.url()).timeout(Duration::from_secs(20))).await;
    open(PostgresStore::builder(&url).timeout(limit)).await
}

/// The claim lands, and its answer is lost: sent again it wins, with the same fence.
#[tokio::test]
async fn hazard_03_claim_whose_answer_is_lost_can_be_sent_again() {
    let server = start_postgres();
    let proxy = Proxy::start(server.port());
    let store = through(&server, &proxy, SHORT).await;
    let other = connect(&server.url()).await;
    let bid = bid(new_id());
    proxy.set(Fault::SwallowReplies);
    let error = store.claim(&bid).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout, "{error}");
    let landed = held(&other, &bid).await;
    proxy.set(Fault::None);
    let lease = eventually("the claim", async || store.claim(&bid).await).await;
    let Claim::Won(lease) = lease else {
        panic!("it is its own: {lease:?}");
    };
    assert_eq!((lease.fence, lease.attempt), (landed.fence, 1));
}

/// The connection breaks in place of an answer: each step but a claim is sent again by itself, and
/// the answer is the one that was lost. A claim is found by its nonce.
#[tokio::test]
async fn hazard_41_steps_are_repeated_when_the_connection_breaks() {
    let server = start_postgres();
    let proxy = Proxy::start(server.port());
    let store = through(&server, &proxy, Duration::from_secs(20)).await;
    let bid = bid(new_id());
    let cut_once = || {
        proxy.set(Fault::CutInsteadOfReply);
        let before = proxy.replies();
        // Heals as soon as one answer has been cut off.
        async move |proxy: &Proxy| {
            while proxy.replies() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            proxy.set(Fault::None);
        }
    };
    let heal = cut_once();
    let (claimed, ()) = tokio::join!(store.claim(&bid), heal(&proxy));
    let error = claimed.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    let lease = win(&store, &bid).await;
    assert_eq!(lease.attempt, 1);
    let heal = cut_once();
    let renewal = Renewal {
        extend: LONG,
        fingerprint: None,
    };
    let (renewed, ()) = tokio::join!(store.renew(&lease, &renewal), heal(&proxy));
    assert_eq!(renewed.unwrap(), Fenced::Applied);
    let heal = cut_once();
    let completion = done("once");
    let (completed, ()) = tokio::join!(store.complete(&lease, &completion, LONG), heal(&proxy));
    assert_eq!(completed.unwrap(), Fenced::Applied);
    assert_eq!(result_of(&held(&store, &bid).await), Some(&b"once"[..]));
}

/// A server that is gone without a word: the step ends in time, and so does every later one; the
/// connections that hang are not used again.
#[tokio::test]
async fn a_silent_server_takes_no_longer_than_the_limit() {
    let server = start_postgres();
    let proxy = Proxy::start(server.port());
    let store = through(&server, &proxy, SHORT).await;
    let bid = bid(new_id());
    let lease = win(&store, &bid).await;
    proxy.set(Fault::HalfOpen);
    for _ in 0..10 {
        let error = store.claim(&retry_of(&bid)).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    proxy.set(Fault::None);
    let _ = eventually("the server is back", async || {
        store.claim(&retry_of(&bid)).await
    })
    .await;
    complete(&store, &lease, "done").await;
}

/// As many requests as have no connection wait for one, and each gets its own answer.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many() {
    let server = start_postgres();
    let builder = PostgresStore::builder(&server.url()).connections(1);
    let store = open(builder.timeout(Duration::from_secs(30))).await;
    let tasks = (0..64).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let bid = bid(new_id());
            let lease = win(&store, &bid).await;
            assert_eq!(lease.id, bid.id);
            complete(&store, &lease, "mine").await;
            assert_eq!(held(&store, &bid).await.fence, lease.fence);
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// With all connections taken and silent, the next request fails in time.
#[tokio::test]
async fn an_exhausted_pool_fails_in_time() {
    let server = start_postgres();
    let proxy = Proxy::start(server.port());
    let url = server.url_by(&format!("127.0.0.1:{}", proxy.port()));
    connect(&server.url()).await;
    let store = open(PostgresStore::builder(&url).connections(1).timeout(SHORT)).await;
    let bid = bid(new_id());
    win(&store, &bid).await;
    proxy.set(Fault::Delay(Duration::from_secs(5)));
    let (one, other) = (retry_of(&bid), retry_of(&bid));
    let (one, other) = tokio::join!(store.claim(&one), store.claim(&other));
    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert!(error.is_retryable(), "{error}");
    }
}

//! A server that is killed, and comes back.

use std::time::Duration;

use onlyonce_core::{Fenced, Store as _};
use onlyonce_servers::postgres::start_postgres;

use crate::support::{bid, complete, connect, eventually, held, new_id, result_of, retry_of, win};

/// What was acknowledged is there after a crash, in each step of a request; and the same store
/// goes on with it.
#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_of_the_server() {
    let mut server = start_postgres();
    let store = connect(&server.url()).await;
    let (claimed, completed) = (bid(new_id()), bid(new_id()));
    let lease = win(&store, &completed).await;
    complete(&store, &lease, "kept").await;
    let open = win(&store, &claimed).await;
    server.kill();
    let error = store.claim(&retry_of(&claimed)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    server.start();

    let _ = eventually("the server is back", async || {
        store.claim(&retry_of(&claimed)).await
    })
    .await;
    assert_eq!(held(&store, &claimed).await.fence, open.fence);
    assert_eq!(
        result_of(&held(&store, &completed).await),
        Some(&b"kept"[..])
    );
    complete(&store, &open, "late").await;
    server.kill();
    server.start();
    let record = eventually("the server is back", async || {
        store.claim(&retry_of(&claimed)).await
    })
    .await;
    assert!(matches!(record, onlyonce_core::Claim::Held(_)));
    assert_eq!(result_of(&held(&store, &claimed).await), Some(&b"late"[..]));
    // Fences don't go back with a crash.
    assert!(win(&store, &bid(new_id())).await.fence > open.fence);
}

/// A watch over a crash resolves: whoever waits looks again.
#[tokio::test]
async fn a_crash_wakes_who_waits() {
    let mut server = start_postgres();
    let store = connect(&server.url()).await;
    let bid = bid(new_id());
    let lease = win(&store, &bid).await;
    let watch = store.watch(&bid.id).await.unwrap();
    server.kill();
    let woken = tokio::time::timeout(Duration::from_secs(30), watch).await;
    woken.expect("the connection that listened is gone");
    server.start();
    let watch = eventually("a watch", async || store.watch(&bid.id).await).await;
    let released = eventually("a release", async || store.release(&lease).await).await;
    assert_eq!(released, Fenced::Applied);
    let woken = tokio::time::timeout(Duration::from_secs(30), watch).await;
    woken.expect("the release is heard of");
}

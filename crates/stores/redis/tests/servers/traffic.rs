//! How much goes to and fro.

use onlyonce_core::{Fenced, Store as _};
use onlyonce_servers::redis::{Reply, start_redis_with};

use crate::support::{bid, connect, new_id, open, win};

/// One connection for all requests, and one for all watches.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_requests_share_a_connection() {
    let server = start_redis_with(&[]);
    let store = connect(&server.url()).await;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let bid = bid(new_id());
                let lease = win(&store, &bid).await;
                let watch = store.watch(&bid.id).await.unwrap();
                assert_eq!(store.release(&lease).await.unwrap(), Fenced::Applied);
                watch.await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let Reply::Text(clients) = server.client().command(&["CLIENT", "LIST"]) else {
        panic!("a list of clients");
    };
    let ours = clients.lines().filter(|line| !line.contains("cmd=client"));
    assert_eq!(ours.count(), 2, "{clients}");
}

/// Two stores with different prefixes on one server see nothing of each other.
#[tokio::test]
async fn prefixes_keep_stores_apart() {
    use onlyonce_core::{Inspect as _, Page};
    let server = start_redis_with(&[]);
    let store = |prefix: &str| {
        let url = format!("{}?prefix={prefix}", server.url());
        async move { open(onlyonce_redis::RedisStore::builder(&url)).await }
    };
    let (one, two) = (store("one:").await, store("two:").await);
    let bid = bid(new_id());
    win(&one, &bid).await;
    assert_eq!(two.show(&bid.id).await.unwrap(), None);
    assert!(two.list(&Page::default()).await.unwrap().is_empty());
    win(&two, &bid).await;
    assert_eq!(one.count().await.unwrap().in_progress, 1);
}

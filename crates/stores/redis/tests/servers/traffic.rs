//! How much goes to and fro.

use onlyonce_core::{Fenced, Store as _};
use onlyonce_servers::redis::{Client, Reply, start_redis_with};

use crate::support::{bid, complete, connect, held, new_id, open, result_of, win};

/// Commands that came over the wire since the last `CONFIG RESETSTAT`, without our own.
fn commands(client: &mut Client) -> i64 {
    let stats = client.command(&["INFO", "commandstats"]);
    let calls = |line: &str| -> Option<(String, i64)> {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let calls = rest.strip_prefix("calls=")?.split(',').next()?;
        Some((name.to_owned(), calls.parse().ok()?))
    };
    let counted = stats.text().lines().filter_map(calls);
    // What scripts do within the server counts as well, and is no traffic.
    let over_the_wire = ["evalsha", "eval", "script", "wait", "ping", "subscribe"];
    counted
        .filter(|(name, _)| over_the_wire.iter().any(|one| name.starts_with(one)))
        .map(|(_, calls)| calls)
        .sum()
}

/// A first execution costs two round trips, a replay one.
#[tokio::test]
async fn first_execution_takes_two_round_trips_and_a_replay_one() {
    let server = start_redis_with(&[]);
    let store = connect(&server.url()).await;
    let mut client = server.client();
    let bid = bid(new_id());
    client.expect_ok(&["CONFIG", "RESETSTAT"]);
    let lease = win(&store, &bid).await;
    assert_eq!(commands(&mut client), 1);
    complete(&store, &lease, "done").await;
    assert_eq!(commands(&mut client), 2);
    client.expect_ok(&["CONFIG", "RESETSTAT"]);
    assert!(result_of(&held(&store, &bid).await).is_some());
    assert_eq!(commands(&mut client), 1);
}

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
    let ours = clients.lines().filter(|line| line.contains("resp=3"));
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

//! A near cache in front of Redis: no traffic for a hot replay, and nothing that was forgotten.

use std::time::Duration;

use onlyonce_core::{Attempt, Claim, Inspect as _, Resolved, State, Store as _};
use onlyonce_near::Near;
use onlyonce_redis::RedisStore;
use onlyonce_servers::proxy::{Fault, Proxy};
use onlyonce_servers::redis::{Redis, start_cluster, start_redis_with};

use crate::support::{bid, complete, connect, new_id, open, retry_of, win};

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(waited.is_ok(), "{what}: not within a minute");
}

/// How many scripts the server has run.
fn scripts(server: &Redis) -> String {
    let stats = server.client().command(&["INFO", "commandstats"]);
    let runs = stats
        .text()
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:"));
    let calls = runs.and_then(|line| line.split(',').next());
    calls.unwrap_or("none").to_owned()
}

async fn is_replayed(near: &Near<RedisStore>, bid: &Attempt) -> bool {
    match near.claim(&retry_of(bid)).await {
        Ok(Claim::Held(record)) => matches!(record.state, State::Completed { .. }),
        Ok(Claim::Won(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_hot_replay_costs_no_command_and_a_forgotten_record_is_gone_on_every_node() {
    let server = start_redis_with(&[]);
    let [one, two] = [connect(&server.url()).await, connect(&server.url()).await];
    let (plain, one, two) = (
        one.clone(),
        Near::new(one, 1 << 24),
        Near::new(two, 1 << 24),
    );
    until("subscriptions", || one.is_connected() && two.is_connected()).await;
    let bid = bid(new_id());
    let lease = win(&plain, &bid).await;
    complete(&plain, &lease, "once").await;
    for near in [&one, &two] {
        assert!(is_replayed(near, &bid).await);
    }
    let before = scripts(&server);
    for near in [&one, &two] {
        assert!(is_replayed(near, &bid).await);
    }
    assert_eq!(scripts(&server), before);
    let copies = two.bytes();
    assert_eq!(one.forget(&bid.id).await.unwrap(), Resolved::Applied);
    // The other node's cache empties without being asked.
    until("the announcement", || two.bytes() < copies).await;
    assert!(!is_replayed(&two, &bid).await, "executed anew");
}

#[tokio::test]
async fn a_server_that_is_gone_is_noticed_and_found_again() {
    let mut server = start_redis_with(&["--appendonly", "yes"]);
    let near = Near::new(connect(&server.url()).await, 1 << 24);
    until("the subscription", || near.is_connected()).await;
    server.kill();
    until("the loss", || !near.is_connected()).await;
    server.start();
    until("the subscription again", || near.is_connected()).await;
}

/// The other side is gone and nobody was told: trust ends by itself.
#[tokio::test]
async fn a_half_open_connection_is_not_trusted_for_long() {
    let server = start_redis_with(&[]);
    let proxy = Proxy::start(server.port());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let store = open(RedisStore::builder(&url).timeout(Duration::from_millis(300))).await;
    let near = Near::new(store, 1 << 24);
    until("the subscription", || near.is_connected()).await;
    proxy.set(Fault::HalfOpen);
    until("the end of trust", || !near.is_connected()).await;
    proxy.set(Fault::None);
    until("the subscription again", || near.is_connected()).await;
}

#[tokio::test]
async fn in_a_cluster_every_node_hears_of_every_shard() {
    let cluster = start_cluster();
    let [one, two] = [connect(&cluster.url()).await, connect(&cluster.url()).await];
    let (plain, one, two) = (
        one.clone(),
        Near::new(one, 1 << 24),
        Near::new(two, 1 << 24),
    );
    until("subscriptions", || one.is_connected() && two.is_connected()).await;
    for _ in 0..24 {
        let bid = bid(new_id());
        let lease = win(&plain, &bid).await;
        complete(&plain, &lease, "once").await;
        assert!(is_replayed(&two, &bid).await);
        let copies = two.bytes();
        assert_eq!(one.forget(&bid.id).await.unwrap(), Resolved::Applied);
        until("the announcement", || two.bytes() < copies).await;
    }
}

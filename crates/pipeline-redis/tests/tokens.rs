//! Sessions and tickets on a real server.

#![cfg(feature = "tokens")]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::cell::RefCell;
use std::time::Duration;

use onlyonce_pipeline::auth::store::{SessionKey, TokenKey, TokenStore as _, UserKey};
use onlyonce_pipeline_redis::RedisTokenStore;
use onlyonce_redis::RedisStore;
use onlyonce_servers::redis::{Reply, start_cluster, start_redis, start_redis_with};

#[path = "../../pipeline/testing/token_store.rs"]
mod alike;

const PERSISTENT: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

async fn open(url: &str) -> RedisTokenStore {
    let store = RedisStore::builder(url).timeout(Duration::from_secs(10));
    RedisTokenStore::new(&store.connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_what_every_store_does() {
    let server = start_redis();
    let (here, there) = (open(&server.url()).await, open(&server.url()).await);
    alike::keeps_sessions_for_all(&here, &there).await;
    alike::gives_a_ticket_to_one(&here, &there).await;
    alike::lets_one_refresh(&here, &there).await;
    alike::works_under_contention(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_on_a_cluster() {
    let cluster = start_cluster();
    let (here, there) = (open(&cluster.url()).await, open(&cluster.url()).await);
    alike::keeps_sessions_for_all(&here, &there).await;
    alike::gives_a_ticket_to_one(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_lets_nobody_in_and_forgets_nobody() {
    let server = RefCell::new(start_redis_with(&PERSISTENT));
    let url = server.borrow().url();
    let (here, there) = (open(&url).await, open(&url).await);
    let (stop, start) = (
        || server.borrow_mut().kill(),
        || server.borrow_mut().start(),
    );
    alike::serves_tokens(&here, &there, stop, start).await;
}

#[tokio::test]
async fn all_that_is_kept_expires_by_itself_and_what_is_not_ours_is_a_failure() {
    let server = start_redis();
    let store = open(&server.url()).await;
    let session = SessionKey {
        user: UserKey::from_bytes([1; 32]),
        token: TokenKey::from_bytes([2; 32]),
    };
    store.begin(&session, alike::DAY, 10).await.unwrap();
    store.begin(&session, alike::DAY / 2, 10).await.unwrap();
    store
        .put_ticket(&session.token, b"x", alike::DAY)
        .await
        .unwrap();
    let mut client = server.client();
    let Reply::Array(keys) = client.command(&["KEYS", "*"]) else {
        panic!("keys are a list")
    };
    assert_eq!(keys.len(), 2);
    for key in &keys {
        let Reply::Number(left) = client.command(&["TTL", key.text()]) else {
            panic!("a time is a number")
        };
        assert!(left > 60 * 60 * 23, "{key:?} lasts {left} s");
        let token = session.token.to_string();
        if client.command(&["TYPE", key.text()]).text() == "hash" {
            client.command(&["HSET", key.text(), &token, "?"]);
        }
    }
    assert!(
        store.look(&session).await.is_err(),
        "never taken for absent"
    );
}

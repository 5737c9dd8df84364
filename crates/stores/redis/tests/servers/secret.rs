//! The secret that all who share the servers go by.

use onlyonce_core::{
    KeptSecret, Pepper as _, Secret, SecretError, Store as _, StoreErrorKind, check_secret,
    settle_secret,
};
use onlyonce_redis::RedisStore;
use onlyonce_servers::redis::{start_cluster, start_redis, start_redis_with, start_sentinel_group};

use crate::support::{bid, complete, connect, eventually, held, new_id, open, win};

/// Many at once, on an empty store, and whoever comes later.
async fn all_agree(url: &str) -> Secret {
    let starting = (0..8).map(|_| async {
        let store = connect(url).await;
        settle_secret(&store, None).await.unwrap()
    });
    let secrets = futures_util::future::join_all(starting).await;
    let secret = secrets[0].clone();
    assert!(secrets.iter().all(|one| *one == secret));
    assert_ne!(secret, Secret::well_known());
    secret
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_starts_at_the_same_time_goes_by_the_same_secret() {
    let server = start_redis();
    let one = all_agree(&server.url()).await;
    let other = all_agree(&format!("{}?prefix=other:", server.url())).await;
    assert_ne!(one, other, "two installations");
    let cluster = start_cluster();
    all_agree(&cluster.url()).await;
    let group = start_sentinel_group();
    all_agree(&format!("{}?replicas=1", group.url())).await;
}

#[tokio::test]
async fn the_secret_is_there_after_a_restart_and_no_other_is_let_in() {
    let mut server = start_redis();
    let store = connect(&server.url()).await;
    let secret = settle_secret(&store, None).await.unwrap();
    server.kill();
    server.start();
    let store = connect(&server.url()).await;
    assert_eq!(settle_secret(&store, None).await.unwrap(), secret);
    let other = Secret::random();
    for refused in [
        settle_secret(&store, Some(&other)).await.map(drop),
        check_secret(&store, Some(&other)).await,
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, SecretError::OfItsOwn { .. }), "{refused}");
        assert!(
            refused.to_string().contains("`oo:{000}secret`"),
            "{refused}"
        );
    }
    // It never expires, and is no record.
    let mut client = server.client();
    let ttl = client.command(&["TTL", "oo:{000}secret"]);
    assert_eq!(ttl, onlyonce_servers::redis::Reply::Number(-1));
    use onlyonce_core::{Inspect as _, Page};
    assert!(store.list(&Page::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_given_secret_is_not_kept_itself() {
    let server = start_redis_with(&[]);
    let store = connect(&server.url()).await;
    let given = Secret::from_passphrase("the one in the settings");
    check_secret(&store, Some(&given)).await.unwrap();
    assert_eq!(
        store.keep(None).await.unwrap(),
        None,
        "a look keeps nothing"
    );
    assert_eq!(settle_secret(&store, Some(&given)).await.unwrap(), given);
    assert_eq!(
        store.keep(None).await.unwrap(),
        Some(KeptSecret::sign(&given))
    );
    let missing = settle_secret(&store, None).await.unwrap_err();
    assert!(matches!(missing, SecretError::Missing { .. }), "{missing}");
}

#[tokio::test]
async fn records_from_before_there_was_a_secret_are_found() {
    let server = start_redis_with(&[]);
    let store = connect(&server.url()).await;
    let before = bid(new_id());
    let lease = win(&store, &before).await;
    complete(&store, &lease, "done").await;
    let secret = settle_secret(&store, None).await.unwrap();
    assert_eq!(secret, Secret::well_known());
}

/// What a server without persistence loses when it restarts, those who run give back to it; so that
/// nobody begins anew with another secret beside them.
#[tokio::test]
async fn a_server_that_has_lost_the_secret_is_given_it_again() {
    let mut server = start_redis_with(&[]);
    let running = connect(&server.url()).await;
    let secret = settle_secret(&running, None).await.unwrap();
    server.kill();
    server.start();
    let bid = bid(new_id());
    let _ = eventually("a claim", || running.claim(&bid)).await;
    let late = connect(&server.url()).await;
    let given = eventually("the secret is back", || async {
        let kept = late.keep(None).await?;
        kept.ok_or_else(|| {
            onlyonce_core::StoreError::new(
                onlyonce_core::Operation::Open,
                StoreErrorKind::Unavailable,
                "not yet",
            )
        })
    });
    assert_eq!(given.await, KeptSecret::Whole(secret));
}

/// Where somebody else has begun anew, whoever goes by the old secret executes nothing any more.
#[tokio::test]
async fn a_store_that_was_begun_anew_with_another_secret_takes_no_claims_of_old() {
    let mut server = start_redis_with(&[]);
    let running = connect(&server.url()).await;
    settle_secret(&running, None).await.unwrap();
    let seen = bid(new_id());
    let lease = win(&running, &seen).await;
    complete(&running, &lease, "done").await;
    server.kill();
    server.start();
    // Nobody uses the connection in the meantime.
    let anew = open(RedisStore::builder(&server.url())).await;
    settle_secret(&anew, None).await.unwrap();
    let claiming = async {
        loop {
            match running.claim(&bid(new_id())).await {
                Err(error) if error.kind() == StoreErrorKind::Misconfigured => return error,
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    let limit = std::time::Duration::from_secs(20);
    let refused = tokio::time::timeout(limit, claiming).await;
    let refused = refused.expect("it finds out");
    assert!(refused.to_string().contains("another secret"), "{refused}");
    let fresh = bid(new_id());
    win(&anew, &fresh).await;
    held(&anew, &fresh).await;
}

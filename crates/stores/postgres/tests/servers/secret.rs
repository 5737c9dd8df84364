//! The secret that all who share a schema go by.

use onlyonce_core::{KeptSecret, Pepper as _, Secret, SecretError, check_secret, settle_secret};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::{start_postgres, start_postgres_with};

use crate::support::{bid, complete, connect, new_id, sql, win};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_starts_at_the_same_time_goes_by_the_same_secret() {
    let server = start_postgres_with(&["fsync=off"]);
    let agreed = async |url: &str| {
        PostgresStore::migrate(url).await.unwrap();
        let starting: Vec<_> = (0..8)
            .map(|_| {
                let url = url.to_owned();
                tokio::spawn(async move { settle_secret(&connect(&url).await, None).await })
            })
            .collect();
        let mut secrets = Vec::new();
        for one in starting {
            secrets.push(one.await.unwrap().unwrap());
        }
        assert!(secrets.iter().all(|one| *one == secrets[0]));
        secrets.remove(0)
    };
    let one = agreed(&server.url()).await;
    let other = agreed(&format!("{}?schema=other", server.url())).await;
    assert_ne!(one, other, "two installations");
    assert_ne!(one, Secret::well_known());
}

#[tokio::test]
async fn the_secret_is_there_after_a_crash_and_no_other_is_let_in() {
    let mut server = start_postgres();
    let store = connect(&server.url()).await;
    let secret = settle_secret(&store, None).await.unwrap();
    server.kill();
    server.start();
    let store = connect(&server.url()).await;
    assert_eq!(settle_secret(&store, None).await.unwrap(), secret);
    assert_eq!(settle_secret(&store, Some(&secret)).await.unwrap(), secret);
    let other = Secret::random();
    for refused in [
        settle_secret(&store, Some(&other)).await.map(drop),
        check_secret(&store, Some(&other)).await,
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, SecretError::OfItsOwn { .. }), "{refused}");
        assert!(
            refused.to_string().contains("`onlyonce.secret`"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_given_secret_is_not_kept_itself() {
    let server = start_postgres_with(&["fsync=off"]);
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
    let kept = sql(&server.url(), "SELECT count(*) FROM onlyonce.secret").await;
    assert_eq!(kept, [Some("1".to_owned())]);
}

#[tokio::test]
async fn records_from_before_there_was_a_secret_are_found() {
    let server = start_postgres_with(&["fsync=off"]);
    let store = connect(&server.url()).await;
    let before = bid(new_id());
    let lease = win(&store, &before).await;
    complete(&store, &lease, "done").await;
    let secret = settle_secret(&store, None).await.unwrap();
    assert_eq!(secret, Secret::well_known());
}

/// What this version can't read is no reason to begin anew.
#[tokio::test]
async fn hazard_47_a_secret_of_another_version_refuses_the_start() {
    let server = start_postgres_with(&["fsync=off"]);
    let store = connect(&server.url()).await;
    let other = "INSERT INTO onlyonce.secret (kept) VALUES ('\\x5009')";
    sql(&server.url(), other).await;
    let refused = settle_secret(&store, None).await.unwrap_err();
    assert!(matches!(refused, SecretError::Store(_)), "{refused}");
}

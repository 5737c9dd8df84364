//! Steps of concurrent requests, in one statement.

use std::time::Duration;

use onlyonce_core::{Claim, Store as _, StoreErrorKind};
use onlyonce_postgres::PostgresStore;
use onlyonce_servers::postgres::{start_postgres, start_postgres_with};
use onlyonce_servers::proxy::{Fault, Proxy};

use crate::support::{bid, complete, connect, held, new_id, open, result_of, sql, win};

/// What comes while a statement is under way goes together with the next.
#[tokio::test(flavor = "multi_thread")]
async fn steps_that_come_together_go_together() {
    let server = start_postgres();
    let proxy = Proxy::start(server.port());
    let url = server.url_by(&format!("127.0.0.1:{}", proxy.port()));
    let builder = PostgresStore::builder(&url).connections(2).listen(false);
    let store = open(builder.timeout(Duration::from_secs(30))).await;
    let warm = bid(new_id());
    let lease = win(&store, &warm).await;
    complete(&store, &lease, "warm").await;

    // The first is on its way for long enough for all others to come.
    proxy.set(Fault::Delay(Duration::from_millis(300)));
    let before = proxy.replies();
    let tasks = (0..64).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let bid = bid(new_id());
            let lease = win(&store, &bid).await;
            assert_eq!(lease.id, bid.id, "its own answer");
            (bid, lease)
        })
    });
    let mut won = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        won.push(task.await.unwrap());
    }
    let claims = proxy.replies() - before;
    assert!(claims <= 8, "64 claims in {claims} answers");

    let before = proxy.replies();
    let tasks = won.iter().map(|(_, lease)| {
        let (store, lease) = (store.clone(), lease.clone());
        tokio::spawn(async move { complete(&store, &lease, "together").await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let completions = proxy.replies() - before;
    assert!(completions <= 8, "64 completions in {completions} answers");
    proxy.set(Fault::None);
    for (bid, lease) in &won {
        let record = held(&store, bid).await;
        assert_eq!(record.fence, lease.fence);
        assert_eq!(result_of(&record), Some(&b"together"[..]));
    }
}

/// A step that the server refuses (here as if its disk were full) takes nobody with it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_one_is_no_concern_of_the_others() {
    let server = start_postgres_with(&["fsync=off"]);
    let url = server.url();
    let builder = PostgresStore::builder(&url).connections(2);
    let store = open(builder.timeout(Duration::from_secs(30))).await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.label = 'bad' THEN RAISE 'no room' USING ERRCODE = '53100'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON onlyonce.record
            FOR EACH ROW EXECUTE FUNCTION refuse()";
    sql(&url, refuse).await;
    let tasks = (0..64).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut bid = bid(new_id());
            if number % 16 == 5 {
                bid.label = "bad".into();
            }
            store.claim(&bid).await
        })
    });
    let mut refused = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(Claim::Won(_)) => {}
            Ok(other) => panic!("each key is new: {other:?}"),
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 4);
}

/// Two nodes whose requests are about the same keys, in opposite orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hazard_45_batches_of_two_nodes_do_not_wait_for_each_other() {
    let server = start_postgres();
    let (here, there) = (connect(&server.url()).await, connect(&server.url()).await);
    for _ in 0..10 {
        let ids: Vec<_> = (0..64).map(|_| new_id()).collect();
        let claim = |store: &PostgresStore, id| {
            let (store, bid) = (store.clone(), bid(id));
            tokio::spawn(async move { (store.claim(&bid).await, store) })
        };
        let ours: Vec<_> = ids.iter().map(|id| claim(&here, *id)).collect();
        let theirs: Vec<_> = ids.iter().rev().map(|id| claim(&there, *id)).collect();
        let mut won = 0;
        for task in ours.into_iter().chain(theirs) {
            // A deadlock would be an error of the server's.
            if let (Claim::Won(lease), store) = {
                let (claim, store) = task.await.unwrap();
                (claim.unwrap(), store)
            } {
                won += 1;
                complete(&store, &lease, "done").await;
            }
        }
        assert_eq!(won, 64, "each key has one winner");
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'";
    assert_eq!(sql(&server.url(), deadlocks).await, [Some("0".to_owned())]);
}

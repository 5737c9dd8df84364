//! Parts that are undone alone.

use onlyonce::{Engine, Fingerprint, Key};
use onlyonce_tokio_postgres::TransactionalStore;

use crate::bank::pool_of;
use crate::suite::{bank, policy};

#[tokio::test]
async fn a_part_is_undone_alone() {
    let (server, pool_of_ours) = bank().await;
    let store = TransactionalStore::new(pool_of(&server.url(), 12))
        .await
        .unwrap();
    let engine = Engine::new(store.clone());
    let policy = policy();
    let work = engine.run_with(
        Key::new("parts").unwrap(),
        Fingerprint::OFF,
        &policy,
        move |claimed| async move {
            let insert = "INSERT INTO account VALUES ($1, 7)";
            let broken = "INSERT INTO account VALUES ('alice', 7)";
            let mut tx = store.transaction(&claimed).unwrap();
            let part = tx.savepoint().await.unwrap();
            part.execute(insert, &[&"kept"]).await.unwrap();
            part.commit().await.unwrap();
            // Dropped, given up, failed: none takes the transaction with it.
            let part = tx.savepoint().await.unwrap();
            part.execute(insert, &[&"dropped"]).await.unwrap();
            drop(part);
            let part = tx.savepoint().await.unwrap();
            part.execute(insert, &[&"given up"]).await.unwrap();
            part.rollback().await.unwrap();
            let part = tx.savepoint().await.unwrap();
            part.execute(insert, &[&"failed"]).await.unwrap();
            part.execute(broken, &[]).await.unwrap_err();
            part.commit().await.unwrap_err();
            // A part of a part that is kept goes with it, one that is left open too.
            let mut part = tx.savepoint().await.unwrap();
            part.execute(insert, &[&"outer"]).await.unwrap();
            let inner = part.savepoint().await.unwrap();
            inner.execute(insert, &[&"inner"]).await.unwrap();
            inner.commit().await.unwrap();
            let inner = part.savepoint().await.unwrap();
            inner.execute(broken, &[]).await.unwrap_err();
            drop(inner);
            part.execute(insert, &[&"outer still"]).await.unwrap();
            drop(part);
            let mut part = tx.savepoint().await.unwrap();
            let inner = part.savepoint().await.unwrap();
            inner.execute(insert, &[&"inner gone"]).await.unwrap();
            drop(inner);
            part.execute(insert, &[&"kept too"]).await.unwrap();
            part.commit().await.unwrap();
            Ok::<_, String>(1)
        },
    );
    assert_eq!(work.await.unwrap().value, 1);
    let client = pool_of_ours.get().await.unwrap();
    let names = client.query(
        "SELECT name FROM account WHERE balance = 7 ORDER BY name",
        &[],
    );
    let names = names.await.unwrap();
    let names: Vec<&str> = names.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["kept", "kept too"]);
}

//! What the suite does by the driver.

use deadpool_postgres::Manager;
pub(crate) use deadpool_postgres::Pool;
pub(crate) use onlyonce_tokio_postgres::{TransactionalStore, Tx};
use tokio_postgres::{Config, NoTls};

pub(crate) async fn pool(url: &str) -> Pool {
    pool_of(url, 12)
}

pub(crate) fn config(url: &str) -> Config {
    url.parse().unwrap()
}

pub(crate) fn pool_of(url: &str, most: usize) -> Pool {
    let manager = Manager::new(config(url), NoTls);
    Pool::builder(manager).max_size(most).build().unwrap()
}

pub(crate) async fn store(url: &str, serializable: bool) -> TransactionalStore {
    let mut store = TransactionalStore::builder(pool(url).await).listen(config(url), NoTls);
    if serializable {
        store = store.serializable();
    }
    store.build().await.unwrap()
}

pub(crate) async fn run(tx: &mut Tx, statement: &str) -> Result<(), String> {
    let done = async {
        let statement = tx.prepare_cached(statement).await?;
        tx.execute(&statement, &[]).await
    };
    let done: Result<u64, tokio_postgres::Error> = done.await;
    done.map(drop).map_err(|error| error.to_string())
}

pub(crate) async fn run_raw(tx: &mut Tx, statement: &str) -> Result<(), String> {
    let done = tx.batch_execute(statement).await;
    done.map_err(|error| error.to_string())
}

pub(crate) async fn script(pool: &Pool, statements: &str) {
    let client = pool.get().await.unwrap();
    client.batch_execute(statements).await.unwrap();
}

pub(crate) async fn numbers(pool: &Pool, statement: &str) -> Vec<i64> {
    let client = pool.get().await.unwrap();
    let rows = client.query(statement, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

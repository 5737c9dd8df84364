//! What the suite does by the driver.

use std::time::Duration;

pub(crate) use onlyonce_sqlx::{TransactionalStore, Tx};
use sqlx::AssertSqlSafe;
pub(crate) use sqlx::PgPool as Pool;
use sqlx::postgres::PgPoolOptions;

pub(crate) async fn pool(url: &str) -> Pool {
    let options = PgPoolOptions::new().max_connections(12);
    let options = options.acquire_timeout(Duration::from_secs(5));
    options.connect(url).await.unwrap()
}

pub(crate) async fn store(url: &str, serializable: bool) -> TransactionalStore {
    let mut store = TransactionalStore::builder(pool(url).await);
    if serializable {
        store = store.serializable();
    }
    store.build().await.unwrap()
}

pub(crate) async fn run(tx: &mut Tx, statement: &str) -> Result<(), String> {
    let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut **tx);
    done.await.map(drop).map_err(|error| error.to_string())
}

pub(crate) async fn run_raw(tx: &mut Tx, statement: &str) -> Result<(), String> {
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut **tx);
    done.await.map(drop).map_err(|error| error.to_string())
}

pub(crate) async fn script(pool: &Pool, statements: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(pool);
    done.await.unwrap();
}

pub(crate) async fn numbers(pool: &Pool, statement: &str) -> Vec<i64> {
    let asked = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(pool);
    asked.await.unwrap()
}

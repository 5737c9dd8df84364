//! The transfer of money of `money_transfer`, with tokio-postgres and a pool of deadpool-postgres.
//!
//! ```sh
//! export DATABASE_URL=postgres://shop:password@127.0.0.1/shop
//! cargo run -p onlyonce-examples --example money_transfer_tokio_postgres
//! curl -i http://127.0.0.1:3000/transfers -H 'Idempotency-Key: rent-may' \\
//!      -H 'Content-Type: application/json' -d '{"from":"alice","to":"bob","amount":10}'
//! ```
//!
//! Kill it with `kill -9` whenever you like, start it again, and send the same request.

use std::net::SocketAddr;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use deadpool_postgres::{Manager, Pool};
use onlyonce::{IdempotencyLayer, Policy, Profile};
use onlyonce_postgres::PostgresStore;
use onlyonce_tokio_postgres::{TransactionalStore, Tx};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Config, NoTls};

/// Killed at every statement: the same test for both drivers.
#[cfg(test)]
#[path = "../money_transfer/outside.rs"]
mod outside;

#[derive(Deserialize)]
struct Order {
    from: String,
    to: String,
    amount: i64,
}

#[derive(Serialize)]
struct Receipt {
    transfer: i64,
    balance: i64,
}

/// Why no money was moved.
enum Refusal {
    /// Kept as the answer to this key, as any 4xx is.
    Funds,
    /// Undone; the retry executes.
    Database(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Refusal {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Funds => (StatusCode::CONFLICT, "not enough money").into_response(),
            Self::Database(error) => {
                eprintln!("database: {error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// Nothing in here knows of retries: it works in the transaction that it is given.
async fn transfer(tx: Tx, Json(order): Json<Order>) -> Result<Json<Receipt>, Refusal> {
    let take = tx
        .prepare_cached(
            "UPDATE account SET balance = balance - $1 WHERE name = $2 AND balance >= $1
             RETURNING balance",
        )
        .await?;
    let taken = tx.query_opt(&take, &[&order.amount, &order.from]).await?;
    let balance = taken.ok_or(Refusal::Funds)?.try_get(0)?;
    let give = "UPDATE account SET balance = balance + $1 WHERE name = $2";
    tx.execute(give, &[&order.amount, &order.to]).await?;
    let note = "INSERT INTO transfer (sender, receiver, amount) VALUES ($1, $2, $3) RETURNING id";
    let noted = tx
        .query_one(note, &[&order.from, &order.to, &order.amount])
        .await?;
    let transfer = noted.try_get(0)?;
    // Committed with this very answer, once it is there.
    Ok(Json(Receipt { transfer, balance }))
}

/// The tables of the example, and those of Onlyonce.
async fn prepare(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    PostgresStore::migrate(url).await?;
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, balance bigint NOT NULL);
             CREATE TABLE IF NOT EXISTS transfer (
                 id bigserial PRIMARY KEY, sender text, receiver text, amount bigint
             );
             INSERT INTO account VALUES ('alice', 1000), ('bob', 0) ON CONFLICT DO NOTHING;",
        )
        .await?;
    Ok(())
}

async fn app(url: &str) -> Result<Router, Box<dyn std::error::Error>> {
    let config: Config = url.parse()?;
    let pool = Pool::builder(Manager::new(config.clone(), NoTls)).build()?;
    let store = TransactionalStore::builder(pool)
        .listen(config, NoTls)
        .build()
        .await?;
    // A transfer without a key is refused.
    let mut policy = Policy::new(Profile::Standard);
    policy.required = true;
    let layer = IdempotencyLayer::new(store.clone()).with_policy(policy)?;
    Ok(Router::new()
        .route("/transfers", post(transfer))
        .layer(layer)
        .with_state(store))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL")
        .map_err(|_| "set DATABASE_URL, such as postgres://shop:password@127.0.0.1/shop")?;
    prepare(&url).await?;
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 3000))).await?;
    println!("http://{}/transfers", listener.local_addr()?);
    axum::serve(listener, app(&url).await?).await?;
    Ok(())
}

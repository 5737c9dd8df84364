//! A transfer of money that happens exactly once for its key, whatever is killed, and when.
//!
//! ```sh
//! export DATABASE_URL=postgres://shop:password@127.0.0.1/shop
//! cargo run -p onlyonce-examples --example money_transfer
//! curl -i http://127.0.0.1:3000/transfers -H 'Idempotency-Key: rent-may' \\
//!      -H 'Content-Type: application/json' -d '{"from":"alice","to":"bob","amount":10}'
//! ```
//!
//! Kill it with `kill -9` whenever you like, start it again, and send the same request.

use std::net::SocketAddr;

use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use onlyonce::{IdempotencyLayer, Policy, Profile};
use onlyonce_postgres::PostgresStore;
use onlyonce_sqlx::{TransactionalStore, Tx};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection, PgPool};

#[cfg(test)]
mod outside;

#[derive(Clone)]
struct App {
    pool: PgPool,
    store: TransactionalStore,
}

/// What the extractor [`Tx`] asks for.
impl FromRef<App> for TransactionalStore {
    fn from_ref(app: &App) -> Self {
        app.store.clone()
    }
}

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
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
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
async fn transfer(mut tx: Tx, Json(order): Json<Order>) -> Result<Json<Receipt>, Refusal> {
    let taken = sqlx::query_scalar(
        "UPDATE account SET balance = balance - $1 WHERE name = $2 AND balance >= $1
         RETURNING balance",
    )
    .bind(order.amount)
    .bind(&order.from)
    .fetch_optional(&mut *tx)
    .await?;
    let balance = taken.ok_or(Refusal::Funds)?;
    sqlx::query("UPDATE account SET balance = balance + $1 WHERE name = $2")
        .bind(order.amount)
        .bind(&order.to)
        .execute(&mut *tx)
        .await?;
    let transfer = sqlx::query_scalar(
        "INSERT INTO transfer (sender, receiver, amount) VALUES ($1, $2, $3) RETURNING id",
    )
    .bind(&order.from)
    .bind(&order.to)
    .bind(order.amount)
    .fetch_one(&mut *tx)
    .await?;
    // Committed with this very answer, once it is there.
    Ok(Json(Receipt { transfer, balance }))
}

async fn transfers(State(app): State<App>) -> Result<String, Refusal> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM transfer")
        .fetch_one(&app.pool)
        .await?;
    Ok(format!("{count} transfers\n"))
}

/// The tables of the example, and those of Onlyonce.
async fn prepare(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    PostgresStore::migrate(url).await?;
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, balance bigint NOT NULL);
         CREATE TABLE IF NOT EXISTS transfer (
             id bigserial PRIMARY KEY, sender text, receiver text, amount bigint
         );
         INSERT INTO account VALUES ('alice', 1000), ('bob', 0) ON CONFLICT DO NOTHING;",
    )
    .execute(&mut connection)
    .await?;
    Ok(())
}

async fn app(url: &str) -> Result<Router, Box<dyn std::error::Error>> {
    let pool = PgPool::connect(url).await?;
    let store = TransactionalStore::new(pool.clone()).await?;
    // A transfer without a key is refused.
    let mut policy = Policy::new(Profile::Standard);
    policy.required = true;
    let layer = IdempotencyLayer::new(store.clone()).with_policy(policy)?;
    Ok(Router::new()
        .route("/transfers", post(transfer))
        .layer(layer)
        .route("/transfers", get(transfers))
        .with_state(App { pool, store }))
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

//! Onlyonce's transactional mode for [sqlx](https://docs.rs/sqlx) and PostgreSQL: the handler gets
//! the transaction, and its own writes and the record of its key are committed together, or not at
//! all.
//!
//! ```no_run
//! use axum::{Router, extract::State, routing::post};
//! use onlyonce::{IdempotencyLayer, Policy, Profile};
//! use onlyonce_sqlx::{TransactionalStore, Tx};
//!
//! async fn transfer(mut tx: Tx) -> Result<&'static str, http::StatusCode> {
//!     sqlx::query("UPDATE account SET balance = balance - 10 WHERE name = 'alice'")
//!         .execute(&mut *tx)
//!         .await
//!         .map_err(|_| http::StatusCode::INTERNAL_SERVER_ERROR)?;
//!     Ok("transferred") // committed with this response, after the handler has returned
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = sqlx::PgPool::connect("postgres://shop:password@127.0.0.1/shop").await?;
//! let store = TransactionalStore::new(pool).await?;
//! let layer = IdempotencyLayer::new(store.clone())
//!     .with_policy(Policy::new(Profile::Payments))?; // a key is required
//! let app: Router = Router::new()
//!     .route("/transfers", post(transfer))
//!     .layer(layer)
//!     .with_state(store);
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//! **Effects in this database happen exactly once for a key.** A crash of this process, of the
//! server or of the connection between them, at any point, leaves either the effects and the record,
//! or neither; a retry then replays the one or executes the other. There is no unknown outcome, and
//! no lease that could run out: the transaction itself is the claim.
//!
//! Why: the record is inserted by the transaction that made the effects, under a primary key. Were
//! there effects of two executions, two transactions would have inserted the same key; the database
//! lets one of them commit. Were there a record without effects, or effects without a record, half a
//! transaction would have been committed. And a response leaves only after the commit, so whoever
//! has seen one will be given the same one again.
//!
//! It does not cover what the handler does elsewhere: mail, payments, other databases. For those,
//! hand on a key of [`Claimed::derive`](onlyonce::Claimed::derive), the same on every attempt.
//!
//! # What happens to a response
//! | response | effects | record |
//! |---|---|---|
//! | below 500, and the policy stores it | committed | kept |
//! | 400 or above after a statement has failed, or after [`Tx::undo`] | undone | kept |
//! | 500 or above, and the policy stores it | undone | kept |
//! | 400 or above, and the policy does not store it; a panic; an error | undone | none |
//! | below 400 after a statement has failed, or not stored by the policy | undone | none; the client gets 503 |
//! | the commit fails (a serialization failure, a deferred constraint) | undone | none; the client gets 503 |
//! | any, after the handler has ended the transaction by itself (`COMMIT`, `ROLLBACK`) | whatever it did | unknown: 503, then 409 until it is resolved |
//!
//! A response longer than the policy keeps, and an event stream, goes to the client as it comes, and
//! is cut short if the commit fails.
//!
//! # A concurrent request with the same key
//! gets 409 or waits, as the policy says. Its request is compared with that of the first once there
//! is a record; in the same process at once.
//!
//! # Connections
//! Each execution holds a connection of the pool until it has ended. A handler that takes another
//! one from the same pool can wait for itself: give it a pool of its own, or work in [`Tx`] alone.
//!
//! The schema is that of `onlyonce-postgres`: run `onlyonce migrate`, or
//! [`PostgresStore::migrate`](onlyonce_postgres::PostgresStore::migrate). Its records are listed,
//! resolved, forgotten and swept as others are, by any store or gateway on the same schema.

mod driver;
#[cfg(feature = "axum")]
mod extract;
mod listen;
mod store;
mod tx;

pub use onlyonce_postgres::transactional::NoTransaction;
pub use store::{Builder, TransactionalStore};
pub use tx::Tx;

//! Onlyonce's transactional mode for [tokio-postgres](https://docs.rs/tokio-postgres) with a pool of
//! [deadpool-postgres](https://docs.rs/deadpool-postgres): the handler gets the transaction, and its
//! own writes and the record of its key are committed together, or not at all.
//!
//! ```no_run
//! use axum::{Router, routing::post};
//! use deadpool_postgres::{Manager, Pool};
//! use onlyonce::{IdempotencyLayer, Policy, Profile};
//! use onlyonce_tokio_postgres::{TransactionalStore, Tx};
//! use tokio_postgres::{Config, NoTls};
//!
//! async fn transfer(tx: Tx) -> Result<&'static str, http::StatusCode> {
//!     tx.execute("UPDATE account SET balance = balance - 10 WHERE name = $1", &[&"alice"])
//!         .await
//!         .map_err(|_| http::StatusCode::INTERNAL_SERVER_ERROR)?;
//!     Ok("transferred") // committed with this response, after the handler has returned
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config: Config = "postgres://shop:password@127.0.0.1/shop".parse()?;
//! let pool = Pool::builder(Manager::new(config.clone(), NoTls)).build()?;
//! let store = TransactionalStore::builder(pool)
//!     .listen(config, NoTls) // whoever waits hears at once of what other nodes commit
//!     .build()
//!     .await?;
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
//! lets one of them commit. And a response leaves only after the commit, so whoever has seen one
//! will be given the same one again.
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
//! Each execution holds a connection of the pool until it has ended: give the pool room for as many
//! as are to work at once. When none is free, a claim waits as long as the policy's `store_timeout`
//! and the pool's own limit allow, then it is refused with 503, and nothing has happened. A handler
//! that takes another connection from the same pool can wait for itself: give it a pool of its own,
//! or work in [`Tx`] alone.
//!
//! A connection whose transaction did not end for certain is closed, never given back. Nothing of
//! ours is prepared, so that a pooler in transaction mode may stand in between; statements that the
//! handler prepares need one that knows of them (`PgBouncer` 1.21 or newer).
//!
//! The schema is that of `onlyonce-postgres`: run `onlyonce migrate`, or
//! [`PostgresStore::migrate`](onlyonce_postgres::PostgresStore::migrate). Its records are listed,
//! resolved, forgotten and swept as others are, by any store or gateway on the same schema.

mod driver;
#[cfg(feature = "axum")]
mod extract;
mod savepoint;
mod store;
mod tx;

pub use onlyonce_postgres::transactional::NoTransaction;
pub use savepoint::Savepoint;
pub use store::{Builder, TransactionalStore};
pub use tx::Tx;

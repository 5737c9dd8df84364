//! What machines share of the request pipeline, on PostgreSQL: the blocklist (feature `blocklist`),
//! and sessions and tickets of logins (feature `tokens`). Both are on by default.
//!
//! ```no_run
//! use onlyonce_pipeline::auth::{SharedTokenStore, TokenKeys, Tokens};
//! use onlyonce_pipeline::blocklist::Blocklist;
//! use onlyonce_pipeline_postgres::{PostgresBlocklist, PostgresTokenStore};
//!
//! # async fn example(keys: TokenKeys) -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://onlyonce:password@127.0.0.1/shop";
//! PostgresBlocklist::migrate(url).await?; // or once, by `onlyonce migrate`
//! PostgresTokenStore::migrate(url).await?;
//! let blocklist = Blocklist::load(PostgresBlocklist::connect(url).await?).await?;
//!
//! let sessions = SharedTokenStore::new(PostgresTokenStore::connect(url).await?);
//! let admin = Tokens::builder("admin", keys.clone()).with_store(sessions.clone()).build()?;
//! let api = Tokens::builder("api", keys).with_store(sessions).build()?;
//! # let _ = (blocklist, admin, api); Ok(()) }
//! ```
//!
//! URLs are those of [`onlyonce_postgres`](onlyonce_postgres#urls). Each step is atomic, and counts time
//! on the server's clock.
//!
//! # When the server fails
//! The blocklist goes on with the last good state, and looks again. Auth lets nobody in that it
//! would have to ask about.
//!
//! What was acknowledged survives a crash of the server, as
//! [`onlyonce_postgres`](onlyonce_postgres#what-it-promises) says.

#[cfg(feature = "blocklist")]
mod blocklist;
#[cfg(feature = "tokens")]
mod tokens;

#[cfg(feature = "blocklist")]
pub use blocklist::PostgresBlocklist;
#[cfg(feature = "tokens")]
pub use tokens::PostgresTokenStore;

//! What machines share of the request pipeline, on Redis and Valkey: the blocklist (feature
//! `blocklist`), and sessions and tickets of logins (feature `tokens`). Both are on by default.
//!
//! ```no_run
//! use onlyonce_pipeline::auth::{SharedTokenStore, TokenKeys, Tokens};
//! use onlyonce_pipeline::blocklist::Blocklist;
//! use onlyonce_pipeline_redis::{RedisBlocklist, RedisTokenStore};
//!
//! # async fn example(keys: TokenKeys) -> Result<(), Box<dyn std::error::Error>> {
//! let url = "redis://:password@127.0.0.1:6379/0";
//! let blocklist = Blocklist::load(RedisBlocklist::connect(url).await?).await?;
//!
//! let sessions = SharedTokenStore::new(RedisTokenStore::connect(url).await?);
//! let admin = Tokens::builder("admin", keys.clone()).with_store(sessions.clone()).build()?;
//! let api = Tokens::builder("api", keys).with_store(sessions).build()?;
//! # let _ = (blocklist, admin, api); Ok(()) }
//! ```
//!
//! URLs are those of [`onlyonce_redis`](onlyonce_redis#urls). Each step is atomic, and counts time
//! on the server's clock.
//!
//! # When the server fails
//! The blocklist goes on with the last good state, and looks again. Auth lets nobody in that it
//! would have to ask about.
//!
//! A login, a logout or a change of the blocklist is as safe as the server makes it: what a failover
//! can lose, and what `replicas` in the URL does about it, is said in
//! [`onlyonce_redis`](onlyonce_redis#what-it-can-lose).

#[cfg(feature = "blocklist")]
mod blocklist;
#[cfg(feature = "tokens")]
mod tokens;

#[cfg(feature = "blocklist")]
pub use blocklist::RedisBlocklist;
#[cfg(feature = "tokens")]
pub use tokens::RedisTokenStore;

//! An Onlyonce store on PostgreSQL 13 or newer.
//!
//! ```no_run
//! use onlyonce_postgres::PostgresStore;
//!
//! # async fn example() -> Result<(), onlyonce_core::StoreError> {
//! let url = "postgres://onlyonce:password@127.0.0.1/shop";
//! PostgresStore::migrate(url).await?;
//! let store = PostgresStore::connect(url).await?;
//! for warning in store.warnings() {
//!     eprintln!("{warning}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # URLs
//! `postgres://[USER[:PASSWORD]@]HOST[:PORT][,…]/DATABASE[?OPTION=VALUE&…]`. Characters of a user
//! or a password that have a meaning in URLs are written `%XX`. Options of our own:
//!
//! | option | default | |
//! |---|---|---|
//! | `schema` | `onlyonce` | where the table lies; lower-case letters, digits, `_` |
//! | `migrate` | `check` | `auto` brings the schema up to date at the start |
//! | `connections` | 8 | how many connections the pool has at most |
//! | `timeout_ms` | 1000 | how long a step may take, with waiting for a connection |
//! | `listen` | `on` | `off` where a pooler gives no session to itself (`LISTEN` needs one) |
//! | `sslmode` | `prefer` | `disable`, `prefer`, `require`, `verify-ca`, `verify-full`, as libpq has them |
//! | `sslrootcert` | the system's | a PEM file of the authorities that are trusted |
//!
//! All others (`application_name`, `connect_timeout`, `target_session_attrs`, `options`, …) are
//! those of [`tokio_postgres::Config`].
//!
//! # How it works
//! Each step is a function in the database, called by one statement that is a transaction of its
//! own: atomic, on the server's clock, one round trip. Nothing is prepared, so that a pooler in
//! transaction mode (`PgBouncer`) may stand in between; only waiting needs a session, and is turned
//! off by `listen=off`: then waiters look each second.
//!
//! Fences come from a sequence, which transactions that are rolled back don't turn back, nor does a
//! crash. Expired records are removed in the background, some at a time, skipping what is locked.
//!
//! # What it promises
//! What was acknowledged survives a crash of the server, as long as `synchronous_commit` and
//! `fsync` are on; connecting [warns](Warning) if they are not. With asynchronous replicas, what
//! they did not have yet is lost when one is promoted: `synchronous_standby_names` closes that gap.

mod announce;
mod batch;
mod builder;
mod error;
mod examine;
mod inspect;
mod link;
mod listener;
mod migrate;
mod pepper;
mod query;
mod record;
mod store;
mod tls;
#[doc(hidden)]
pub mod transactional;
mod upkeep;
mod url;

#[cfg(test)]
mod tests;

pub use builder::Builder;
pub use examine::Warning;
#[doc(hidden)]
pub use link::{Heard, Link, Listening};
pub use migrate::Migrated;
pub use store::PostgresStore;

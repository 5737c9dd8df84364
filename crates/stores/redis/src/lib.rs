//! An Onlyonce store on Redis 6.2 or newer, and on Valkey: one server, Sentinel, Cluster.
//!
//! ```no_run
//! use onlyonce_redis::RedisStore;
//!
//! # async fn example() -> Result<(), onlyonce_core::StoreError> {
//! let store = RedisStore::connect("redis://:password@127.0.0.1:6379/0").await?;
//! for warning in store.warnings() {
//!     eprintln!("{warning}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # URLs
//! | URL | servers |
//! |---|---|
//! | `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]` | one server |
//! | `redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/SERVICE[/DATABASE]` | the master that these Sentinels name |
//! | `redis+cluster://[USER:PASSWORD@]HOST[:PORT],…` | a Cluster, found by any of these |
//!
//! `rediss` in place of `redis` means TLS, `valkey` is another name for `redis`. Characters of a
//! user or a password that have a meaning in URLs are written `%XX`. Options follow a `?`, with
//! `&` in between: `prefix`, `replicas` and `timeout_ms` as in the [`Builder`]; `ca_file`,
//! `cert_file` and `key_file` (PEM) for TLS; `sentinel_user` and `sentinel_password`.
//!
//! # How it works
//! Each step is one script on the record's key: atomic, on the server's clock, in one round trip.
//! All requests share a connection (eight, with [`replicas`](Builder::replicas)), and all watches
//! of a server another. Claims, renewals and completions are sent again when a connection breaks,
//! within [`timeout`](Builder::timeout); releases are not, as their second answer would not tell
//! whose doing it was.
//!
//! A record is the value of the key `oo:{abc}…` (its identifier in hexadecimal digits, of which the
//! first three are the hash tag). The key expires with the record. A lease's deadline lies in the
//! value: a vanished owner leaves its evidence.
//!
//! # Fences
//! A fence is the greater of two numbers: the server's time in microseconds, and one more than the
//! last fence of its sequence. The sequence is a key that never expires: one for all records
//! (`oo:fence`), in a Cluster one for each hash tag. So fences grow even when the clock goes back,
//! and when the sequence is lost (a flush, a failover that lost the last steps) they grow as long
//! as the server's clock has not gone back by more than that took. In a Cluster two records may
//! have the same fence; those of one record always grow.
//!
//! # Announcements
//! What an operator forgets or resolves is published on the channel `oo:void`, in the same step, for
//! caches on every node ([`Invalidations`](onlyonce_core::Invalidations)). It is not done when it
//! can't be published. Whoever listens has a connection to each master, and trusts what it heard for
//! 5 s and one [`timeout`](Builder::timeout) from each sign of life. After a failover that has left
//! the old master within reach, trust in it is as good as the store itself: until it is shut off.
//!
//! # What it can lose
//! Redis acknowledges before it has replicated, and mostly before it has written to disk: an
//! acknowledged claim can be lost in a failover, and its request then executes again. `replicas`
//! and `appendfsync always` close these gaps; connecting [warns](Warning) of them.

mod announce;
mod attend;
mod builder;
mod call;
mod dial;
mod error;
mod examine;
mod inspect;
mod link;
mod listen;
mod node;
mod pepper;
mod place;
mod rights;
mod route;
mod scripts;
mod store;
mod subscriber;
mod url;
mod value;
mod warning;

#[cfg(test)]
mod tests;

pub use builder::Builder;
#[doc(hidden)]
pub use link::{Heard, Link, LinkScript, Listening};
pub use store::RedisStore;
pub use warning::Warning;

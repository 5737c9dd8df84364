//! A near cache: completed records of a remote store, replayed without a round trip.
//!
//! ```
//! use onlyonce_memory::MemoryStore;
//! use onlyonce_near::Near;
//!
//! let store = MemoryStore::new(); // in earnest: a store on Redis or PostgreSQL
//! let near = Near::new(store, 64 << 20);
//! assert_eq!(near.bytes(), 0);
//! ```
//!
//! # What is kept
//! Copies of completed records, with their responses, up to a number of bytes; the least useful go
//! first. A claim that meets such a copy is answered from it, whatever its fingerprint: telling a
//! retry from another request is the caller's business, as ever. All else goes to the store: a
//! claim that is won, a record in progress or unknown, and everything an operator looks at.
//! A copy is made of what a claim met, and of what was completed through this cache. An owner
//! works through one cache: it claims, renews and completes through the same one, as the engine
//! does.
//!
//! # How old a copy can be
//! A completed record does not change. It ends in two ways:
//!
//! - **It expires.** A copy ends earlier than its record: its time is counted from when the
//!   request that brought it was sent, on this machine's monotonic clock, and is shortened by a
//!   thousandth for clocks that do not go alike.
//! - **It is forgotten.** The store announces it to every node
//!   ([`Invalidations`](onlyonce_core::Invalidations)). One that goes through this cache voids the
//!   copy before it returns. On the others the copy goes when the announcement arrives. While
//!   announcements may be missed, nothing is served from the cache and nothing is kept; after that
//!   it starts empty.
//!
//! When a connection dies without a word, a forgotten record may be replayed for as long as the
//! store's trust lasts (with Redis: 5 s between two signs of life, and the time limit of one).
//! That limit is held by whoever reads the cache, so that a process that was stopped for a while
//! serves nothing old when it goes on. A machine that was suspended with its clocks is the
//! exception: its monotonic clock doesn't know.
//!
//! A store that announces nothing is never cached.
//!
//! # Metrics
//! `onlyonce_near_claims_total` with `result` = `hit`, `miss` or `off` (announcements are not to be
//! had). [`describe_metrics`] gives it a help text.

mod shelf;
mod store;

pub use store::{Builder, Near, describe_metrics};

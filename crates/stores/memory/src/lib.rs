//! An Onlyonce store in memory: sharded, bounded, with exact expiry.
//!
//! For tests, for one process that need not remember across restarts, and as the plainest example
//! of a store. Records are gone with the process: where a retry may come after a restart, use a
//! durable store.
//!
//! # Example
//! ```
//! use onlyonce_core::{Attempt, Claim, Completion, Done, Fenced, Fingerprint, Key, Nonce};
//! use onlyonce_core::{OnUnknown, RecordId, Scope, Secret, State, Store, StoreError};
//! use onlyonce_memory::MemoryStore;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), StoreError> {
//! let store = MemoryStore::new();
//! let id = RecordId::new(
//!     &Secret::well_known(),
//!     &Scope::principal("alice"),
//!     &Key::new("order-1").unwrap(),
//! );
//! let attempt = Attempt {
//!     id,
//!     nonce: Nonce::random(),
//!     fingerprint: Some(Fingerprint::of(b"amount=100")),
//!     lease: Duration::from_secs(10),
//!     keep: Duration::from_secs(24 * 3600),
//!     on_unknown: OnUnknown::Hold,
//!     label: "POST /v1/charges".into(),
//! };
//!
//! // The first request owns the key, does the work and records what came of it.
//! let Claim::Won(lease) = store.claim(&attempt).await? else {
//!     unreachable!("the store was empty");
//! };
//! let done = Completion {
//!     fingerprint: None,
//!     done: Done::Kept { status: 201, result: "charged".into() },
//! };
//! let lifetime = Duration::from_secs(24 * 3600);
//! assert_eq!(store.complete(&lease, &done, lifetime).await?, Fenced::Applied);
//!
//! // Its retry is told.
//! let retry = Attempt { nonce: Nonce::random(), ..attempt };
//! let Claim::Held(record) = store.claim(&retry).await? else {
//!     unreachable!("the key has a record");
//! };
//! assert!(matches!(record.state, State::Completed { status: 201, kept: Some(_) }));
//! # Ok(())
//! # }
//! ```
//!
//! # Bounds
//! The store holds at most [`max_records`](Builder::max_records) and
//! [`max_bytes`](Builder::max_bytes). At a bound, expired records go first; when there are none, new
//! claims fail with [`Full`](onlyonce_core::StoreErrorKind::Full) until some expire, are released
//! or forgotten. A live record is never evicted, and what was claimed can always be completed: its
//! result lands even beyond the bound, so that an execution is never lost to its neighbours.
//!
//! ```
//! use onlyonce_memory::MemoryStore;
//!
//! let store = MemoryStore::builder()
//!     .max_records(100_000)
//!     .max_bytes(64 * 1024 * 1024)
//!     .build();
//! assert!(store.is_empty());
//! ```
//!
//! # Expiry
//! A record is as good as absent from the millisecond of its deadline on, on the store's
//! [clock](Builder::clock). Its memory is given back by the operations that follow: each removes a
//! few expired records from the shard that it works on and from one other, more than it can add.
//! There is no background task, and no operation stops the others to sweep.
//!
//! # Fences
//! They count up from the microseconds since the Unix epoch at which the store was made. So they
//! do not go back across a restart of the process, as long as its wall clock does not, and it
//! drew fewer than a million a second. Services that refuse old fences rely on that.

mod budget;
mod builder;
mod inspect;
mod shard;
mod store;

pub use builder::Builder;
pub use store::MemoryStore;

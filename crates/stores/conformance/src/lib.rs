//! The suite that every store of Onlyonce passes, wrappers too.
//!
//! The contract is [`Store`](onlyonce_core::Store) and [`Inspect`](onlyonce_core::Inspect); this
//! is its test. A store's own tests say how to come by a store and how time passes for it (a
//! [`Harness`]) and what it is capable of; [`conformance!`] makes a named test of each check.
//!
//! # Testing a store of your own
//! Depend on this crate under `[dev-dependencies]`, and in a file under `tests/`:
//!
//! ```
//! # use std::collections::BTreeMap;
//! # use std::sync::Mutex;
//! # use onlyonce_core::*;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use onlyonce_conformance::{ExactTime, Harness, conformance};
//!
//! # struct MyStore {
//! #     clock: Arc<ManualClock>,
//! #     entries: Mutex<(BTreeMap<RecordId, Entry>, u64)>,
//! #     watchers: Watchers,
//! # }
//! # impl MyStore {
//! #     fn new(clock: Arc<ManualClock>) -> Self {
//! #         Self { clock, entries: Mutex::default(), watchers: Watchers::new() }
//! #     }
//! # }
//! # impl Store for MyStore {
//! #     async fn claim(&self, _: &Attempt) -> Result<Claim, StoreError> { unimplemented!() }
//! #     async fn renew(&self, _: &Lease, _: &Renewal) -> Result<Fenced, StoreError> { unimplemented!() }
//! #     async fn complete(&self, _: &Lease, _: &Completion, _: Duration) -> Result<Fenced, StoreError> { unimplemented!() }
//! #     async fn release(&self, _: &Lease) -> Result<Fenced, StoreError> { unimplemented!() }
//! #     async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> { Ok(self.watchers.watch(id)) }
//! # }
//! # impl Inspect for MyStore {
//! #     fn list<'a>(&'a self, _: &'a Page) -> InspectFuture<'a, Vec<Listed>> { unimplemented!() }
//! #     fn show<'a>(&'a self, _: &'a RecordId) -> InspectFuture<'a, Option<Record>> { unimplemented!() }
//! #     fn resolve<'a>(&'a self, _: &'a RecordId, _: &'a Resolution) -> InspectFuture<'a, Resolved> { unimplemented!() }
//! #     fn forget<'a>(&'a self, _: &'a RecordId) -> InspectFuture<'a, Resolved> { unimplemented!() }
//! #     fn count(&self) -> InspectFuture<'_, Counts> { unimplemented!() }
//! # }
//! struct Subject {
//!     clock: Arc<ManualClock>,
//!     store: Arc<MyStore>,
//! }
//!
//! impl Harness for Subject {
//!     type Store = MyStore;
//!     const TICK: Duration = Duration::from_secs(1);
//!     const PATIENCE: Duration = Duration::from_secs(10);
//!
//!     async fn fresh() -> Self {
//!         let clock = Arc::new(ManualClock::new());
//!         let store = Arc::new(MyStore::new(Arc::clone(&clock)));
//!         Self { clock, store }
//!     }
//!
//!     fn store(&self) -> Arc<MyStore> {
//!         Arc::clone(&self.store)
//!     }
//!
//!     async fn advance(&self, by: Duration) {
//!         self.clock.advance(by);
//!     }
//!
//!     fn open_watches(&self) -> usize {
//!         self.store.watchers.len()
//!     }
//! }
//!
//! impl ExactTime for Subject {}
//!
//! conformance! {
//!     harness: Subject,
//!     exact_time: yes,
//!     reopen: no("its records are gone with the process"),
//! }
//! ```
//!
//! # What is checked
//! Every row of the decision table; fencing after each way in which an owner can lose its record;
//! claims and completions that are sent again; expiry, to the millisecond where the clock is
//! injected; renewal; watching and notification; races of 64; results and labels byte for byte;
//! the operators' side; futures that are dropped in mid-way; closing and opening. Then random
//! histories: one operation after another against a [model](checks::histories) that knows the
//! contract but none of the code, and many at once, which must be linearizable.
//!
//! That the checks can fail is tested as well: this crate's own tests put one fault after another
//! into a small store, and expect each to be found, and each check to find at least one.

pub mod checks;
mod harness;
mod linear;
mod model;
mod rig;
mod steps;
mod still;
mod suite;

pub use harness::{ExactTime, Harness, Reopen, run};
pub use still::Still;
pub use suite::{Check, all, in_real_time};

//! The rules of Onlyonce, without I/O.
//!
//! This crate holds what every part of Onlyonce agrees on: what an idempotency [`Key`] is and
//! whose it is ([`Scope`]), what a [`Record`] can say, the decision table ([`decide`]), the
//! [`Store`] contract with the pure transitions behind it ([`Entry`]), and the versioned
//! [`codec`]. It opens no socket, starts no task and reads no clock of its own: time comes in
//! through [`Clock`] or as an argument.
//!
//! Most users want the `onlyonce` crate, which puts these rules to work as tower middleware.
//! Authors of stores want [`Store`], [`Entry`] and the `onlyonce-conformance` crate.

mod clock;
pub mod codec;
mod decide;
mod derive;
mod entry;
mod erased;
mod error;
mod fingerprint;
mod inspect;
mod invalidation;
mod key;
mod lease;
mod pepper;
mod policy;
mod profile;
mod record;
mod response;
mod scope;
mod status;
mod store;
mod watchers;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use decide::{Decision, OnUnknown, decide};
pub use entry::{ClaimStep, CompleteStep, Entry, EntryState, ResolveStep};
pub use erased::{AnyStore, SharedStore};
pub use error::{BoxError, Operation, StoreError, StoreErrorKind};
pub use fingerprint::{Algorithm, Fingerprint, FingerprintHasher};
pub use inspect::{
    Counts, Filter, Inspect, InspectFuture, Listed, Page, Resolution, Resolved, StateKind,
};
pub use invalidation::{InvalidationHub, InvalidationListener, Invalidations, Subscription};
pub use key::{Key, KeyError, KeyRule, Syntax};
pub use lease::{Effects, Fence, Lease, Nonce};
pub use pepper::{KeptSecret, Pepper, SecretError, check_secret, settle_secret};
pub use policy::{
    Anonymous, BodyFingerprint, Concurrent, FingerprintRule, OnStoreFailure, Policy, PolicyError,
    ScopeRule,
};
pub use profile::{Profile, UnknownProfile};
pub use record::{Completion, Done, Record, State};
pub use response::StoredResponse;
pub use scope::{RecordId, RecordIdError, Scope, Secret};
pub use status::StatusSet;
pub use store::{Attempt, Changes, Claim, Fenced, Renewal, Store};
pub use watchers::Watchers;

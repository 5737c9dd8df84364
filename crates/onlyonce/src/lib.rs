//! Makes HTTP requests safe to retry.
//!
//! A retried payment, order or webhook takes effect once and gets the first answer again. Put
//! [`IdempotencyLayer`] in front of a tower service, and every unsafe request that carries an
//! `Idempotency-Key` header is executed at most once for its key; a retry gets the recorded
//! response.
//!
//! # Example
//! ```
//! use axum::{Router, routing::post};
//! use onlyonce::IdempotencyLayer;
//! use onlyonce_memory::MemoryStore;
//!
//! let app: Router = Router::new()
//!     .route("/charges", post(async || "charged"))
//!     .layer(IdempotencyLayer::new(MemoryStore::new()));
//! # let _ = app;
//! ```
//!
//! # How it works
//! 1. The key is read from its header, its scope from the request (the authenticated
//!    [`Principal`], or the `Authorization` header), and the request is hashed to a fingerprint.
//! 2. One atomic step in the store makes this request the key's owner, or says what is known of
//!    the key: a recorded response is replayed, everything else is refused with a problem
//!    document ([`Problem`]) that says why and whether a retry makes sense.
//! 3. The owner's handler runs **detached** from the connection: a client that hangs up changes
//!    nothing. Its lease is renewed until its response is recorded. Only then is it answered.
//!
//! The handler sees its claim as [`Claimed`] in the request's extensions; layers outside see
//! what was done as [`Verdict`] in the response's. [`Engine::run`] gives the same guarantees to
//! functions.
//!
//! # What it needs
//! A tokio runtime, and a store: `onlyonce-memory` for one process, `onlyonce-disk` for one that
//! survives a crash. What is kept and for how long is a [`Policy`], which starts from a
//! [`Profile`].

mod claimed;
mod engine;
pub mod http;
mod outcome;
mod telemetry;

pub use claimed::Claimed;
pub use engine::{Engine, EngineBuilder, Ran, RunError, ScopedKey};
pub use http::{
    Control, EffectiveStatus, Idempotency, IdempotencyLayer, Principal, Problem, ProblemKind,
    RouteLabel, RoutePolicy, TraceId,
};
pub use onlyonce_core::{
    Anonymous, BodyFingerprint, Concurrent, Fence, Fingerprint, FingerprintHasher, FingerprintRule,
    Key, KeyError, KeyRule, OnStoreFailure, OnUnknown, Policy, PolicyError, Profile, RecordId,
    Scope, ScopeRule, Secret, SharedStore, StatusSet, Store, StoreError, Syntax,
};
pub use outcome::{Outcome, Verdict};
pub use telemetry::describe_metrics;

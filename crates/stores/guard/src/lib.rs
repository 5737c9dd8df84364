//! A guard around a store: time limits, a circuit breaker, retries, and metrics by operation.
//!
//! ```
//! use std::time::Duration;
//!
//! use onlyonce_guard::{Breaker, Guard};
//! use onlyonce_memory::MemoryStore;
//!
//! let store = Guard::builder()
//!     .timeout(Duration::from_millis(500))
//!     .breaker(Breaker::new().failures(5).open_for(Duration::from_secs(5)))
//!     .build(MemoryStore::new());
//! # let _ = store;
//! ```
//!
//! # The breaker
//! After so many failures in a row claims and watches are refused at once, with
//! [`Unavailable`](onlyonce_core::StoreErrorKind::Unavailable) and
//! [the time](onlyonce_core::StoreError::retry_after) until the store is tried again; nobody
//! waits for a store that is away, and it is not stormed while it comes back. When that time is
//! over one claim goes through as a probe. Its success closes the breaker, its failure opens it
//! anew; a probe that is given up leaves the place to the next one.
//!
//! Only a store that does not answer
//! ([`Unavailable`](onlyonce_core::StoreErrorKind::Unavailable),
//! [`Timeout`](onlyonce_core::StoreErrorKind::Timeout)) counts as failed. So does a call that its
//! caller gave up after half the time limit or more. A full store answers.
//!
//! **Renewals, completions and releases are never refused**: an execution has happened or is
//! happening, and the breaker must not make its outcome unknown. What becomes of them counts, and
//! a success closes the breaker. What operators do (`Inspect`) goes through as well, untimed.
//!
//! # Retries
//! The engine of `onlyonce` tries again by itself; [`retries`](Builder::retries) is for who calls a
//! store without it. Every operation can be sent again: claims by their nonce, the others by
//! their fence. Waits are drawn at random from a span that doubles from 10 ms to 250 ms.
//!
//! # Metrics
//! | name | labels | |
//! |---|---|---|
//! | `onlyonce_store_backend_duration_seconds` | `operation` | time of each call to the store itself, below any cache |
//! | `onlyonce_store_errors_total` | `operation`, `kind` | calls that failed |
//! | `onlyonce_store_refused_total` | `operation` | calls refused by the breaker |
//! | `onlyonce_store_breaker_state` | | 0 closed, 1 trying, 2 open |
//!
//! [`describe_metrics`] gives them help texts.

mod breaker;
mod store;
mod telemetry;

pub use breaker::{Breaker, BreakerState};
pub use store::{Builder, Guard};
pub use telemetry::describe_metrics;

//! Encryption at rest: results are scrubbed, compressed and sealed before they reach a store.
//!
//! ```
//! use onlyonce_memory::MemoryStore;
//! use onlyonce_sealed::{Compression, KeyRing, Sealed, SealingKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let older = SealingKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")?;
//! let ring = KeyRing::new("2026-11", SealingKey::random())?.with_key("2026-05", older)?;
//! let store = Sealed::builder()
//!     .keys(ring)
//!     .compression(Compression::Lz4)
//!     .build(MemoryStore::new());
//! // Later, without a pause: `store.keys().replace(another_ring)`.
//! # let _ = store;
//! # Ok(())
//! # }
//! ```
//!
//! # What is sealed
//! The result: a response's header fields, body and trailers. Not sealed is what a store works
//! with: the record's identifier and the request's fingerprint, which are hashes, the status, the
//! label (such as `POST /v1/charges`; it never holds a key) and times.
//!
//! Results are sealed with XChaCha20-Poly1305 under random nonces of 192 bits. The record's
//! identifier, the status and the name of the key are authenticated with it: a result that was
//! moved to another record does not open. Whoever can write to the store can still remove records,
//! and put back an older result of the very same record.
//!
//! What can't be opened is an error, never a miss: the request is not executed again.
//! [`Misconfigured`](onlyonce_core::StoreErrorKind::Misconfigured) names a key that is missing,
//! [`Corrupt`](onlyonce_core::StoreErrorKind::Corrupt) says that it was altered.
//!
//! # Switching it on, and changing keys
//! One key seals, all open. To change it: give every node the new key beside the old one, then make
//! the new one active, and drop the old one when the longest lifetime is over.
//! A store that has records in plain is read with [`accept_plain`](Builder::accept_plain); switch it
//! off when the last of them has expired, as it lets whoever can write to the store forge responses.
//!
//! # Lengths
//! Sealing hides what a response says, not how long it is. Compression makes the length depend on
//! the content: who can put text of their own into a response beside a secret, and see lengths in
//! the store, learns of the secret bit by bit. Leave it off where that is so.
//!
//! # Scrubbing
//! What a [scrub](Builder::scrub) takes out is not in the record: the first client gets it, replays
//! lack it. [`Fields`] does it for header fields and JSON pointers.
//!
//! # Metrics
//! | name | labels | |
//! |---|---|---|
//! | `onlyonce_sealed_opened_total` | `key` | results that were opened; when an old key's count stands still for the longest lifetime, it can go |
//! | `onlyonce_sealed_unreadable_total` | `reason` | `no-key`, `plain`, `altered`, `version`, `damaged` |
//!
//! [`describe_metrics`] gives them help texts.

mod envelope;
mod fields;
mod key;
mod store;
mod telemetry;

pub use fields::{Fields, FieldsError};
pub use key::{KeyError, KeyRing, Keys, SealingKey};
pub use store::{Builder, Compression, Sealed};
pub use telemetry::describe_metrics;

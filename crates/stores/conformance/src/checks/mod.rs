//! The checks: each an async function that panics when the store breaks the contract.
//!
//! [`conformance!`](crate::conformance) makes a test of each; they can also be called one by one.
#![expect(
    clippy::missing_panics_doc,
    reason = "panicking is how every one of these says no"
)]

pub mod cancellation;
pub mod completion;
pub mod concurrency;
pub mod decision;
pub mod expiry;
pub mod fencing;
pub mod histories;
pub mod inspection;
pub mod nonce;
pub mod payload;
pub mod renewal;
pub mod reopening;
pub mod watching;

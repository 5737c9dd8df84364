//! Real servers, and what can happen to them.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

mod connecting;
mod contents;
mod failover;
mod near;
mod replicas;
mod secret;
mod silence;
mod support;
mod traffic;
mod trips;

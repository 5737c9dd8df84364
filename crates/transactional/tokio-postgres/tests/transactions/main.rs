//! The suite of the transactional mode, with tokio-postgres, and what only this driver has.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod bank;
mod connections;
mod savepoints;
#[path = "../../../suite.rs"]
mod suite;

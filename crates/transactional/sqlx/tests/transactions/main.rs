//! The suite of the transactional mode, with sqlx.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod bank;
#[path = "../../../suite.rs"]
mod suite;

//! The sinks against real databases.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod contract;
mod outside;
mod sqlite;
